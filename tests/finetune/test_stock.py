"""The adapter in its own and in the stock form, and the backbone with it merged in."""

import json
import re

import pytest
import torch
from chat_models import write as write_chat
from huggingface_hub import ModelCard
from original_files import BAICHUAN, FAMILIES, logits, write
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from small_run import pieces, tuned
from transformers import AutoModelForCausalLM, AutoTokenizer

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, stock
from cbtllm_utils.generate import answering
from cbtllm_utils.models import backbones, chat_templates, tokenizers

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

CASES = [
    ("qwen", "published"),
    ("qwen", "all-linear"),
    ("qwen", ["c_attn", "down_proj"]),
    ("baichuan", "published"),
    ("baichuan", "all-linear"),
]


@pytest.mark.parametrize(("family", "targets"), CASES)
def test_plain_peft_loads_the_adapter_on_stock_classes(tmp_path, family, targets):
    config, tensors, _ = FAMILIES[family]
    model = backbones.load_model(write(tmp_path / "base", config, tensors), dtype=torch.float32)
    model.save_pretrained(tmp_path / "stock")
    adapted, folder = tuned(model, tmp_path / "adapter", targets=targets)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    place = adapters.plain_form(folder)
    plain = PeftModel.from_pretrained(stock, str(place)).eval()
    torch.testing.assert_close(logits(plain), logits(adapted), atol=1e-4, rtol=1e-4)
    assert '"adapters/qwen-7b/stock"' in (folder / "README.md").read_text("utf-8")
    assert sum(p.numel() for n, p in plain.named_parameters() if "lora_B" in n) == sum(
        p.numel() for n, p in adapted.named_parameters() if "lora_B" in n
    )


@pytest.mark.parametrize("family", ["qwen", "baichuan"])
def test_a_layer_trained_whole_is_part_of_the_stock_form(tmp_path, family):
    config, tensors, _ = FAMILIES[family]
    model = backbones.load_model(write(tmp_path / "base", config, tensors), dtype=torch.float32)
    model.save_pretrained(tmp_path / "stock")
    whole = ["lm_head", "embed_tokens"]
    adapted, folder = tuned(model, tmp_path / "adapter", targets="all-linear", modules_to_save=whole)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    plain = PeftModel.from_pretrained(stock, str(folder / "stock")).eval()
    torch.testing.assert_close(logits(plain), logits(adapted), atol=1e-4, rtol=1e-4)


def test_where_no_layer_is_fused_one_naming_serves_all(tmp_path):
    config, tensors, _ = FAMILIES["llama"]
    model = backbones.load_model(write(tmp_path / "base", config, tensors), dtype=torch.float32)
    folder = tuned(model, tmp_path / "adapter")[1]
    assert not [place for place in folder.iterdir() if place.is_dir()] and adapters.plain_form(folder) == folder


def test_a_merged_backbone_is_a_model_of_its_own(tmp_path):
    base = write_chat(tmp_path / "base", "qwen3")
    (base / "LICENSE").write_text("do no harm")
    (base / "模型许可协议.pdf").write_bytes(b"%PDF")
    model, own = adapters.load("base", [], tmp_path, "fp32")
    adapted, folder = tuned(model, tmp_path / "adapter", template="chat")
    place = stock.write("base", [], tmp_path, tmp_path / "merged", "fp32", folder)
    plain = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    ids = torch.tensor([chat_templates.ids(own, "你好")])
    torch.testing.assert_close(plain(ids).logits, adapted(ids).logits, atol=1e-4, rtol=1e-4)
    again = AutoTokenizer.from_pretrained(place)
    assert (
        again.encode("<|im_start|>你好") == own.encode("<|im_start|>你好") and again.chat_template == own.chat_template
    )
    assert plain.generation_config.eos_token_id == [258, 256]
    assert (place / "LICENSE").read_text() == "do no harm" and (place / "模型许可协议.pdf").exists()
    readme = (place / "README.md").read_text(encoding="utf-8")
    assert "`LICENSE`, `模型许可协议.pdf`" in readme and "`LICENSE`" in (place / "LICENSE.md").read_text("utf-8")
    data = ModelCard(readme).data
    assert (data.library_name, data.license_name, data.base_model) == ("transformers", "backbone-and-psyqa", None)
    for text in ("12356", "made for a test", "PsyQA's agreement"):
        assert text in readme
    assert adapters.trained_form(place) == adapters.trained_form(folder) is not None
    loaded = backbones.load_model(place, dtype=torch.float32)
    wanted = {"max_new_tokens": 5, "temperature": 0}
    tokenizer = tokenizers.load_tokenizer(place)
    merged = adapters.attach(adapters.load("base", [], tmp_path, "fp32")[0], folder)
    assert answering.generate(loaded, tokenizer, ["好"], **wanted) == answering.generate(merged, own, ["好"], **wanted)


def test_a_license_of_the_backbone_under_the_name_of_ours_is_kept_and_psyqas_follows(tmp_path):
    base = write_chat(tmp_path / "base", "qwen3")
    (base / "LICENSE.md").write_text("# Theirs\ndo no harm\n")
    folder = tuned(adapters.load("base", [], tmp_path, "fp32")[0], tmp_path / "adapter", template="chat")[1]
    merged = stock.write("base", [], tmp_path, tmp_path / "merged", "fp32", folder)
    license_ = (merged / ModelCard((merged / "README.md").read_text("utf-8")).data.license_link).read_text("utf-8")
    assert license_.startswith("# Theirs\ndo no harm\n\n# License\nThat of the backbone (`LICENSE.md`)")
    assert "PsyQA's agreement" in license_
    plain = stock.write("base", [], tmp_path, tmp_path / "stock", "fp32")
    assert (plain / "LICENSE.md").read_text("utf-8") == "# Theirs\ndo no harm\n"


@pytest.mark.parametrize(
    ("bases", "tuned", "relation", "named"),
    [
        (["Qwen/Qwen-7B"], True, "finetune", "Qwen/Qwen-7B"),
        (["Qwen/Qwen-7B@3e8fd79"], False, None, "Qwen/Qwen-7B"),
        (["huggyllama/llama-7b", "hfl/chinese-llama-lora-7b"], False, "merge", None),
        (["backbones/llama-7b", "backbones/chinese-llama-lora-7b"], True, None, None),
    ],
)
def test_the_relation_to_the_base_is_one_of_the_hubs(bases, tuned, relation, named):
    data = ModelCard(stock.metadata(bases, tuned)).data
    assert data.to_dict().get("base_model_relation") == relation
    assert data.base_model == (named or (bases if relation else None))


def test_a_merged_backbone_of_2023_has_stock_names_and_its_own_tokenizer(tmp_path):

    config, tensors, _ = FAMILIES["baichuan"]
    write(tmp_path / "base", config, tensors)
    model = pieces()
    (tmp_path / "base" / "tokenizer.model").write_bytes(model)
    settings_ = {"add_bos_token": False, "auto_map": {"AutoTokenizer": ["tokenization_baichuan.Remote", None]}}
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(settings_))
    base = backbones.load_model(tmp_path / "base", dtype=torch.float32)
    adapted, folder = tuned(base, tmp_path / "adapter", targets="published")
    place = stock.write("base", [], tmp_path, tmp_path / "merged", "fp32", folder)
    plain = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    assert type(plain).__name__ == "LlamaForCausalLM" and plain.generation_config.eos_token_id == [2]
    torch.testing.assert_close(logits(plain), logits(adapted), atol=1e-3, rtol=1e-3)
    first, again = (tokenizers.load_tokenizer(folder) for folder in (tmp_path / "base", place))
    assert first.encode("你好吗") == again.encode("你好吗")
    assert "auto_map" not in (place / "tokenizer_config.json").read_text()
    said = (place / "README.md").read_text(encoding="utf-8")
    (count, equal) = re.search(
        r"Of its\s(\d+) pieces of several characters, (\d+) have the same tokens in both", said
    ).groups()
    assert int(count) == int(equal) > 0 and "of the run" not in said  # it has no posts
    assert config["architectures"] == BAICHUAN["architectures"]


def test_a_temperature_without_sampling_as_llama_2_has_it_is_kept_as_sampling(tmp_path):
    base = write_chat(tmp_path / "base", "llama3")
    said = json.loads((base / "generation_config.json").read_text()) | {"temperature": 0.6, "top_p": 0.9}
    (base / "generation_config.json").write_text(json.dumps(said))
    folder = tuned(adapters.load("base", [], tmp_path, "fp32")[0], tmp_path / "adapter")[1]
    place = stock.write("base", [], tmp_path, tmp_path / "merged", "fp32", folder)
    written = json.loads((place / "generation_config.json").read_text())
    assert {
        "temperature": 0.6,
        "top_p": 0.9,
        "do_sample": True,
        "eos_token_id": [260, 257, 261],
    }.items() <= written.items()


@pytest.mark.parametrize(
    "text, written",
    [
        (None, "It came without a card.\n"),
        ("---\nlanguage: zh\n---\n# An adapter\n---\nmore\n", "# An adapter\n---\nmore\n"),
        ("# Without metadata\n", "# Without metadata\n"),
    ],
)
def test_an_adapter_from_elsewhere_may_have_another_card_or_none(tmp_path, text, written):
    if text is not None:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert stock.adapter_card(tmp_path / "README.md") == written


LAYERS_ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def trained_there(tmp_path, family, **options):
    """Write an adapter for the stock directory with random matrices; return it as plain peft reads it there.

    The second is the model with the original's layer of q, k and v together. peft sorts patterns when it writes them.
    """
    config, tensors, _ = FAMILIES[family]
    model = backbones.load_model(write(tmp_path / "base", config, tensors), dtype=torch.float32)
    model.save_pretrained(tmp_path / "stock")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    there = get_peft_model(stock, LoraConfig(r=4, lora_alpha=6, **options)).eval()
    torch.manual_seed(1)
    for name, value in there.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(value, std=0.2)
    there.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return PeftModel.from_pretrained(there.unload(), tmp_path / "adapter").eval(), model


@pytest.mark.filterwarnings("ignore:.* keys did not match any targeted module:RuntimeWarning:peft")
@pytest.mark.parametrize("family", ["qwen", "baichuan"])
@pytest.mark.parametrize("layers", [["q_proj", "v_proj"], ["k_proj"], LAYERS_ALL])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 60, "self_attn.*": 1}, "rank_pattern": {"layers.0.self_attn.[kv]_proj": 2}},
        {"alpha_pattern": {"k_proj|v_proj": 60}, "rank_pattern": {"v_proj": 9}, "use_rslora": True},
    ],
    ids=["alpha / r", "alpha / root of r", "patterns", "patterns and root of r"],
)
def test_an_adapter_of_q_k_and_v_from_the_stock_directory_acts_here_as_there(tmp_path, family, layers, options):
    """As LLaMA-Factory trains it there: three pairs, each with an A of its own, or only some of them."""
    there, model = trained_there(tmp_path, family, target_modules=layers, modules_to_save=["lm_head"], **options)
    expected = logits(there)
    assert (logits(model) - expected).abs().max() > 0.1
    adapted = adapters.fitted(model, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(adapted), expected, atol=1e-4, rtol=1e-4)
    merged = adapters.attach(backbones.load_model(tmp_path / "base", dtype=torch.float32), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "layers",
    [{"target_modules": ["q_proj"], "layers_to_transform": [1]}, {"target_modules": ["layers.1.self_attn.q_proj"]}],
)
def test_an_adapter_of_some_blocks_acts_here_as_there(tmp_path, layers):
    there, model = trained_there(tmp_path, "qwen", **layers)
    torch.testing.assert_close(
        logits(adapters.attach(model, tmp_path / "adapter")), logits(there), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("targets", "lost", "said"),
    [
        (
            "qkv",
            r"k_proj\.lora_B",
            r"'.*layers\.0\.self_attn\.k_proj\.lora_B\.weight' is missing from its weights; is it",
        ),
        ("qkv", r"1\.self_attn\.v_proj\.lora_A", r"'.*layers\.1\.self_attn\.v_proj\.lora_A\.weight' is missing"),
        ("qkv", r"layers\.1", r"'.*layers\.1\.self_attn\.q_proj\.lora_A\.weight' is missing"),
        ("qv", "", r"4 tensors are not part of this backbone \(first model\.layers\.0\.self_attn\.k_proj\.lora_A"),
    ],
    ids=["B of k", "A of v in one block", "a block", "k not named"],
)
def test_a_part_of_an_adapter_of_q_k_and_v_is_refused_by_the_fused_layer_too(tmp_path, targets, lost, said):
    _, model = trained_there(tmp_path, "qwen", target_modules=["q_proj", "k_proj", "v_proj"])
    weights = load_file(tmp_path / "adapter" / adapters.WEIGHTS)
    left = {name: tensor for name, tensor in weights.items() if not lost or not re.search(lost, name)}
    save_file(left, tmp_path / "adapter" / adapters.WEIGHTS, {"format": "pt"})
    config = files.read_json(tmp_path / "adapter" / adapters.CONFIG)
    named = config | {"target_modules": [f"{letter}_proj" for letter in targets]}
    files.write_json(tmp_path / "adapter" / adapters.CONFIG, named)
    with pytest.raises(files.InputError, match=f"^adapter: {said}"):
        adapters.fitted(model, tmp_path / "adapter")
    with pytest.raises(files.InputError, match=r"^adapter: .*_proj\.lora"):
        adapters.check("base", [], tmp_path, tmp_path / "adapter")


def test_the_stock_form_of_an_adapter_is_read_back_into_the_fused_layer(tmp_path):
    config, tensors, _ = FAMILIES["qwen"]
    base = write(tmp_path / "base", config, tensors)
    adapted, folder = tuned(backbones.load_model(base, dtype=torch.float32), tmp_path / "adapter", targets="all-linear")
    again = adapters.attach(backbones.load_model(base, dtype=torch.float32), folder / "stock")
    torch.testing.assert_close(logits(again), logits(adapted), atol=1e-4, rtol=1e-4)
