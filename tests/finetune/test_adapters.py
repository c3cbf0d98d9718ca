"""Adapters on disk, their cards, and what does not fit."""

import dataclasses
import json
import math
import shutil

import chat_models
import peft
import pytest
import torch
import transformers
from chat_models import write as write_chat
from huggingface_hub import ModelCard
from original_files import FAMILIES, IDS, LAYERS, loaded, logits, qwen_logits, random_tensors
from safetensors.torch import load_file, save_file
from tiny import llama
from training_run import ROW, encoded, settings, summary, trained, written

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, card
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import backbones, prompt_forms
from cbtllm_utils.workflow import profiles


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model, log = trained(tmp_path_factory.mktemp("training"))
    return model, log, written(model, log, tmp_path_factory.mktemp("made") / "adapter")


def test_the_adapter_loads_with_plain_peft_and_merges(run):
    model, _, folder = run
    ids = torch.tensor([encoded(1)[0]["input_ids"]])
    expected = model.eval()(ids).logits
    with backbones.quiet():
        plain = peft.PeftModel.from_pretrained(llama(), str(folder)).eval()
    assert torch.equal(plain(ids).logits, expected)
    torch.testing.assert_close(adapters.attach(llama(), folder)(ids).logits, expected, atol=1e-5, rtol=1e-5)
    config = files.read_json(folder / "adapter_config.json")
    assert config["base_model_name_or_path"] == "stock/qwen-7b"  # where `make stock` writes it, below the run
    assert config["target_modules"] == sorted(config["target_modules"])


def test_the_matrices_of_equation_2():
    """The tiny model has two layers of seven linear ones; a fresh B is 0, A is not."""
    wanted = settings(rank=4, modules_to_save=["lm_head"])
    model = adapters.fresh(llama(), wanted)
    table = adapters.matrices(model).set_index("what")
    (frozen, *_), head = table.index, model.get_base_model().lm_head.original_module.weight
    assert frozen.startswith("W of layers.0.") and table["trained"].tolist() == ["no", "yes", "yes", "yes", "yes"]
    assert table["largest value"]["B"] == 0 and table["largest value"]["A"] > 0
    pairs = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    assert len(pairs) == 14
    assert table["weights"]["A and B of all layers"] == sum(4 * (p.in_features + p.out_features) for p in pairs)
    assert table["weights"]["layers trained whole"] == head.numel()


def test_no_folder_of_a_user_gets_into_an_adapter():
    adapted = adapters.fresh(llama(), settings(model="/home/someone/models/llama-7b"))
    assert adapted.peft_config["default"].base_model_name_or_path == "llama-7b"


def test_an_adapter_names_its_backbone_at_the_commit_as_peft_reads_it():
    named = adapters.fresh(llama(), settings(model="Qwen/Qwen3-0.6B@c1899de")).peft_config["default"]
    assert (named.base_model_name_or_path, named.revision) == ("Qwen/Qwen3-0.6B", "c1899de")


def test_layers_that_the_model_does_not_have():
    with pytest.raises(files.InputError, match=r"targets = .*c_attn"):
        adapters.fresh(llama(), settings(targets=["c_attn"]))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    other = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes))  # calls it embed_in
    with pytest.raises(files.InputError, match=r"modules_to_save: the model has no layer embed_tokens"):
        adapters.fresh(other, settings(modules_to_save=["embed_tokens"]))


def test_an_adapter_is_asked_in_the_form_in_which_it_was_trained(run):
    adapters.check_template(run[2], "triad-v0.2.0")
    with pytest.raises(files.InputError, match=r"template = card, but adapter was trained with triad-v0\.2\.0; ask"):
        adapters.check_template(run[2], "card")


def test_a_form_whose_text_has_changed_is_another_form(run, tmp_path, monkeypatch):
    """Until 0.4 the form `triad` was worded as in 2024: a name does not say what a model was trained on."""
    made = files.read_json(run[2] / "training.json")
    files.write_json(tmp_path / "training.json", made | {"prompt_form": prompt_forms.wording("triad-v0.2.0")})
    adapters.check_template(tmp_path, "triad-v0.2.0")
    form = prompt_forms.FORMS["triad-v0.2.0"]
    monkeypatch.setitem(prompt_forms.FORMS, "triad-v0.2.0", dataclasses.replace(form, text=form.text.rstrip(" ")))
    with pytest.raises(files.InputError, match=r'on prompts worded ".*Assistant: "; now they are .*Assistant:";'):
        adapters.check_template(tmp_path, "triad-v0.2.0")


@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_another_chat_template_of_the_same_name_is_another_form(tmp_path, family):
    own = chat_models.tokenizer(family)
    text = prompt_forms.wording("chat", own)
    assert text.count("{input}") == 1 and prompt_forms.prompt(ROW, "chat", own) == text.replace(
        "{input}", prompt_forms.passage(ROW)
    )
    made = {"settings": {"template": "chat"}, "prompt_form": text}
    files.write_json(tmp_path / "training.json", made)
    adapters.check_template(tmp_path, "chat", own)
    own.chat_template = own.chat_template.replace("'\\n'", "' '").replace("\\n", " ")
    with pytest.raises(files.InputError, match="train it again, or ask with the version"):
        adapters.check_template(tmp_path, "chat", own)


def test_the_form_of_the_released_weights_is_known():
    adapters.check_template("Hongbin37/CBT-LLM", "card")
    with pytest.raises(files.InputError, match=r"Hongbin37/CBT-LLM@0123abc was trained with card"):
        adapters.check_template("Hongbin37/CBT-LLM@0123abc", "triad-v0.2.0")


def test_a_folder_without_an_adapter_or_with_another_backbones(run, tmp_path):
    with pytest.raises(files.InputError, match="holds no adapter; run 04_lora_training"):
        adapters.attach(llama(), tmp_path)
    config = transformers.LlamaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with pytest.raises(files.InputError, match="does not fit this backbone"):
        adapters.attach(transformers.LlamaForCausalLM(config), run[2])


QWEN_LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")  # modeling_qwen.py


def of_qwens_own_code(folder, layers=QWEN_LAYERS, prefix="base_model.model.", whole=(), blocks=LAYERS):
    """Write an adapter as LLaMA-Factory does for Qwen-7B's own code, and return the weights that it stands for."""
    tensors, adapter = dict(FAMILIES["qwen"][1]), {}
    for place in (f"transformer.h.{number}.{layer}" for number in range(blocks) for layer in layers):
        rows, columns = tensors[f"{place}.weight"].shape
        pair = random_tensors({"A": (2, columns), "B": (rows, 2)}, seed=len(adapter))
        tensors[f"{place}.weight"] = tensors[f"{place}.weight"] + 3 * pair["B"] @ pair["A"]  # alpha / r = 6 / 2
        adapter |= {f"{prefix}{place}.lora_{name}.weight": pair[name] for name in "AB"}
    for name in whole:
        tensors[name] = random_tensors({name: tensors[name].shape}, seed=9)[name]
        adapter[prefix + name] = tensors[name]
    folder.mkdir()
    save_file(adapter, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 6, "lora_dropout": 0.1}
    config |= {"target_modules": sorted({layer.rpartition(".")[2] for layer in layers})}
    config |= {"modules_to_save": [name.split(".")[-2] for name in whole] or None, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return tensors


@pytest.mark.parametrize("prefix", ["base_model.model.", ""])
@pytest.mark.parametrize("layers", [QWEN_LAYERS[:1], QWEN_LAYERS])
@pytest.mark.parametrize("whole", [(), ("transformer.wte.weight", "lm_head.weight")])
def test_an_adapter_of_qwens_own_code_acts_here_as_there(tmp_path, prefix, layers, whole):
    """As computed by hand from modeling_qwen.py with W + 3 · B · A."""
    tensors = of_qwens_own_code(tmp_path / "adapter", layers, prefix, whole)
    merged = adapters.attach(loaded(tmp_path / "base", "qwen"), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), qwen_logits(tensors, IDS), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("family", ["baichuan", "llama"])
def test_without_the_prefix_of_peft_an_adapter_is_the_same(tmp_path, family):
    model = loaded(tmp_path / "base", family)
    adapted = adapters.fresh(model, settings(model="x", modules_to_save=["lm_head"])).eval()
    for name, value in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(value, std=0.2)
    expected = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    names = load_file(tmp_path / "adapter" / adapters.WEIGHTS)
    short = {name.removeprefix("base_model.model."): tensor for name, tensor in names.items()}
    save_file(short, tmp_path / "adapter" / adapters.WEIGHTS, {"format": "pt"})
    merged = adapters.attach(loaded(tmp_path / "base", family), tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {name.replace(".weight", ".default.weight"): tensor for name, tensor in t.items()},
        lambda t: {name.removeprefix("base_model.model."): tensor for name, tensor in t.items()},
    ],
    ids=["names as in memory", "no prefix"],
)
@pytest.mark.parametrize("pickle", [False, True])
def test_names_that_certainly_mean_the_same_are_translated(run, tmp_path, change, pickle):
    shutil.copytree(run[2], tmp_path / "adapter")
    tensors = change(load_file(tmp_path / "adapter" / adapters.WEIGHTS))
    if pickle:  # as peft wrote adapters until 2023
        (tmp_path / "adapter" / adapters.WEIGHTS).unlink()
        torch.save(tensors, tmp_path / "adapter/adapter_model.bin")
    else:
        save_file(tensors, tmp_path / "adapter" / adapters.WEIGHTS)
    ids = torch.tensor([encoded(1)[0]["input_ids"]])
    expected = adapters.attach(llama(), run[2])(ids).logits
    assert torch.equal(adapters.attach(llama(), tmp_path / "adapter")(ids).logits, expected)


def test_an_adapter_put_on_another_backbone_of_the_same_shape_is_a_warning(run, tmp_path, capsys):
    for name in ("backbones/qwen-7b", "backbones/other", "backbones/d"):
        llama().save_pretrained(tmp_path / name)
    made = files.read_json(run[2] / "training.json")
    shutil.copytree(run[2], tmp_path / "adapter")
    files.write_json(tmp_path / "adapter/training.json", made | {"deltas": []})
    adapters.check("backbones/qwen-7b", [], tmp_path, tmp_path / "adapter")
    assert capsys.readouterr().err == ""
    adapters.check("backbones/other", [], tmp_path, tmp_path / "adapter")
    said = "warning: adapter was trained on backbones/qwen-7b; here it is applied to backbones/other\n"
    assert capsys.readouterr().err == said


def test_a_folder_with_a_second_adapter_is_refused(run, tmp_path):
    """`cp -r adapter adapters/qwen-7b` puts it into a folder that is there; ours would answer in its place."""
    llama().save_pretrained(tmp_path / "backbones/qwen-7b")
    shutil.copytree(run[2], tmp_path / "adapters/qwen-7b")
    for beside in ("stock", "checkpoint-200"):  # as notebook 04 writes, and what a trainer leaves beside its adapter
        shutil.copytree(run[2], tmp_path / "adapters/qwen-7b" / beside)
    given = "backbones/qwen-7b", [], tmp_path, tmp_path / "adapters/qwen-7b"
    adapters.check(*given)
    shutil.copytree(run[2], tmp_path / "adapters/qwen-7b/adapter")
    with pytest.raises(files.InputError, match=r"qwen-7b: holds a second adapter, adapter; .* Move"):
        adapters.check(*given)


def test_an_adapter_from_elsewhere_has_no_record(run, tmp_path):
    assert adapters.unrecorded(run[2]) is None and adapters.unrecorded(tmp_path / "none") is None
    shutil.copytree(run[2], tmp_path / "adapter", ignore=shutil.ignore_patterns("training.json"))
    assert "without training.json" in adapters.unrecorded(tmp_path / "adapter")


def rewritten(folder, change):
    """Change an adapter's tensors in its file."""
    place = folder / adapters.WEIGHTS
    save_file({n: t.clone() for n, t in change(load_file(place)).items()}, place, {"format": "pt"})


def configured(folder, **values):
    """Change values of an adapter's configuration."""
    config = files.read_json(folder / adapters.CONFIG) | values
    (folder / adapters.CONFIG).write_text(json.dumps(config))


def truncated(folder):
    place = folder / adapters.WEIGHTS
    place.write_bytes(place.read_bytes()[:-100])


def pickled(folder):
    """Weights in a pickle that would run code: read with weights_only, it is refused."""
    (folder / adapters.WEIGHTS).unlink()
    torch.save({"base_model.model.lm_head": print}, folder / "adapter_model.bin")


DAMAGE = {  # of an adapter of all linear layers of two blocks, 7 pairs of A and B in each
    "other names": (
        lambda folder: rewritten(folder, lambda t: {n.replace("self_attn", "attention"): v for n, v in t.items()}),
        r"16 tensors are missing \(first model\.layers\.0\.self_attn\.k_proj\.lora_A\.weight\) and 16 tensors are "
        r"not part of this backbone \(first model\.layers\.0\.attention\.k_proj\.lora_A\.weight\); is it",
    ),
    "half of the layers": (
        lambda folder: rewritten(folder, lambda t: {n: v for n, v in t.items() if "layers.0" in n}),
        r"14 tensors are missing \(first model\.layers\.1\.",
    ),
    "more layers": (
        lambda folder: rewritten(folder, lambda t: t | {n.replace("s.1.", "s.2."): v for n, v in t.items()}),
        r"14 tensors are not part of this backbone \(first model\.layers\.2\.",
    ),
    "no tensor": (lambda folder: rewritten(folder, lambda t: {}), r"its adapter_model\.safetensors hold no tensors"),
    "of another rank": (lambda folder: configured(folder, r=8), r"does not fit this backbone \(.*size mismatch"),
    "a layer trained whole that is not there": (
        lambda folder: configured(folder, modules_to_save=["lm_head"]),
        r"lm_head\.weight' is missing from its weights",
    ),
    "DoRA without magnitudes": (
        lambda folder: configured(folder, use_dora=True),
        r"14 tensors are missing \(first .*lora_magnitude_vector",
    ),
    "not LoRA": (lambda folder: configured(folder, peft_type="IA3"), "of type IA3; only LoRA"),
    "no type": (lambda folder: (folder / adapters.CONFIG).write_text("{}"), "of type None; only LoRA"),
    "a cut file": (truncated, r"adapter_model\.safetensors: cannot be read \(.*; fetch it again"),
    "a pickle with code": (pickled, r"adapter_model\.bin: cannot be read \(.*; fetch it again"),
    "a configuration that is not JSON": (
        lambda folder: (folder / adapters.CONFIG).write_text("{"),
        r"adapter_config\.json: not JSON",
    ),
    "NaN": (lambda folder: rewritten(folder, lambda t: {n: v * torch.nan for n, v in t.items()}), "NaN or infinite"),
    "untrained": (
        lambda folder: rewritten(folder, lambda t: {n: v * ("lora_A" in n) for n, v in t.items()}),
        "every B is 0, so that it changes nothing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("weights", ["loaded", "unread"])
def test_an_adapter_that_would_train_nobody_is_refused(run, tmp_path, damage, weights):
    """Both before the backbone's weights are read and when the adapter is merged."""
    change, said = DAMAGE[damage]
    shutil.copytree(run[2], tmp_path / "adapter")
    change(tmp_path / "adapter")
    with pytest.raises(files.InputError, match=f"^adapter.*{said}|^{said}") as error:
        if weights == "loaded":
            adapters.attach(llama(), tmp_path / "adapter")
        else:
            llama().save_pretrained(tmp_path / "base")
            adapters.check("base", [], tmp_path, tmp_path / "adapter")
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_an_adapter_that_fits_is_checked_without_weights(run, tmp_path):
    llama().save_pretrained(tmp_path / "base")
    adapters.check("base", [], tmp_path, run[2])


def test_dora_is_merged_as_peft_computes_it(tmp_path):
    model = llama()
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], use_dora=True, task_type="CAUSAL_LM")
    with backbones.quiet():
        adapted = peft.get_peft_model(model, config).eval()
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.2)
    expected = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    torch.testing.assert_close(logits(adapters.attach(llama(), tmp_path / "adapter")), expected, atol=1e-4, rtol=1e-4)
    assert (logits(llama()) - expected).abs().max() > 0.01


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings(tmp_path):
    """2,601 beside 2,600: training never meets the last, answering would."""
    folder = write_chat(tmp_path / "base", "qwen3", vocab_size=2600)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"token {number}" for number in range(2600 - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    adapters.load("base", [], tmp_path, "fp32")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    tokenizer.save_pretrained(folder)
    with pytest.raises(files.InputError, match=r"^base: its tokenizer has 2,601 tokens .*'<\|extra\|>'.* 2,600 emb"):
        adapters.load("base", [], tmp_path, "fp32")


def test_the_summary_and_the_card_say_what_it_is(run):
    made, folder = summary(run[1]), run[2]
    assert (made["steps"], made["examples"]) == (12, 14)
    assert made["perplexity_after"] == pytest.approx(math.exp(made["heldout_loss_after"]))
    assert files.read_json(folder / "training.json") == json.loads(json.dumps(made))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for text in ("made for a test", "12356", "PsyQA", "backbones/qwen-7b", "Assistant: ", "| rank | 4 | 8 |", "`abc`"):
        assert text in readme
    differing = "template, rank, targets, learning_rate, batch, accumulation, cutoff, precision, gradient_checkpointing"
    found = set(readme.split(" of 21 differ: ")[1].split(".\n")[0].split(", "))
    assert found == set(differing.split(", "))
    assert "# qwen-7b (tiny): " in readme and "{" not in readme.replace("{input}", "")


@pytest.mark.parametrize(
    ("model", "deltas", "fused", "base", "named"),
    [
        ("Qwen/Qwen3-0.6B", [], False, ("Qwen/Qwen3-0.6B", None), "Qwen/Qwen3-0.6B"),
        ("Qwen/Qwen3-0.6B@c1899de", [], False, ("Qwen/Qwen3-0.6B", "c1899de"), "Qwen/Qwen3-0.6B"),
        ("Qwen/Qwen-7B", [], True, ("stock/qwen-7b", None), "Qwen/Qwen-7B"),
        ("data/weights/llama-7b", ["hfl/chinese-llama-lora-7b"], False, ("stock/qwen-7b", None), None),
        ("llama", [], False, ("stock/qwen-7b", None), None),
        ("backbones/qwen-7b", [], True, ("stock/qwen-7b", None), None),
    ],
)
def test_base_models_are_ids_on_the_hub_or_folders_of_the_run(run, model, deltas, fused, base, named):
    about = summary(run[1]) | {"model": model, "deltas": deltas}
    found = adapters.plain_base(about, fused)
    assert (found["base_model_name_or_path"], found["revision"]) == base
    data = ModelCard(card.text(about, "")).data
    assert data.base_model == named
    assert (data.base_model_relation if data.base_model else "adapter") == "adapter"
    assert (data.license, data.license_name, data.license_link) == ("other", "backbone-and-psyqa", "LICENSE.md")


def test_the_card_of_the_papers_settings_on_its_own_backbone(run):
    given = profiles.parameters(profiles.read("paper"), "runs/paper", "04_lora_training", "qwen-7b")
    chosen = TrainingSettings(**profiles.flat(given))
    readme = card.text(summary(run[1]) | {"model": "Qwen/Qwen-7B", "settings": chosen.hyperparameters()}, "")
    assert "prompt), none differs." in readme and "tiny" not in readme and "whole" not in readme.split("## ")[0]


def test_the_card_names_layers_trained_whole(run):
    readme = card.text(summary(run[1], modules_to_save=["lm_head"]), "")
    assert "with lm_head trained whole beside it," in readme and "| modules_to_save | lm_head | none |" in readme
