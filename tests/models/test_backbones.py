import json

import pytest
import torch
from original_files import (
    BAICHUAN,
    EARLY,
    FAMILIES,
    IDS,
    INNER,
    LAYERS,
    LLAMA,
    QWEN,
    WIDE,
    delta,
    every_family,
    llama_tensors,
    logits,
    write,
    write_delta,
)
from safetensors.torch import save_file
from tiny import llama
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cbtllm_utils import files
from cbtllm_utils.models import backbones


@every_family
@pytest.mark.parametrize("safe", [False, True])
def test_logits_are_those_of_the_original_code(tmp_path, family, safe):
    config, tensors, reference = FAMILIES[family]
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}  # early files carry them
    model = backbones.load_model(write(tmp_path, config, tensors | frequencies, safe), dtype=torch.float32)
    assert not model.training
    torch.testing.assert_close(logits(model), reference(tensors, IDS), atol=2e-4, rtol=1e-4)


@every_family
def test_cached_generation_equals_the_whole_forward(tmp_path, family):
    config, tensors, reference = FAMILIES[family]
    model = backbones.load_model(write(tmp_path, config, tensors), dtype=torch.float32)
    made = model.generate(IDS, attention_mask=torch.ones_like(IDS), do_sample=False, max_new_tokens=6, eos_token_id=99)
    whole = reference(tensors, made).argmax(-1)
    assert made[0, IDS.shape[1] :].tolist() == whole[0, IDS.shape[1] - 1 : -1].tolist()


@every_family
def test_saved_under_stock_names_it_loads_as_a_current_model(tmp_path, family):
    config, tensors, _ = FAMILIES[family]
    model = backbones.load_model(write(tmp_path / "original", config, tensors), dtype=torch.float32)
    model.save_pretrained(tmp_path / "stock")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "stock", dtype=torch.float32)
    torch.testing.assert_close(logits(again), logits(model))
    torch.testing.assert_close(logits(backbones.load_model(tmp_path / "stock", dtype=torch.float32)), logits(model))


def test_a_merged_directory_is_the_base_with_its_deltas(tmp_path):
    base = write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    model = backbones.load_model(base, [delta(tmp_path / "delta", 70, 1)[0]], dtype=torch.float32)
    model.save_pretrained(tmp_path / "merged")  # as transformers of today writes it, and, below, as that of early 2023
    early = write(tmp_path / "early", EARLY | {"vocab_size": 70}, model.state_dict())
    for folder in (tmp_path / "merged", early):
        assert torch.equal(logits(backbones.load_model(folder, dtype=torch.float32)), logits(model))


def test_the_context_ends_where_qwen_would_change_its_attention(tmp_path):
    # modeling_qwen.py: log-n attention and dynamic NTK act on positions from seq_length on, and on none before
    config, tensors, _ = FAMILIES["qwen"]
    model = backbones.load_model(write(tmp_path, config, tensors), dtype=torch.float32)
    assert model.config.max_position_embeddings == config["seq_length"] == 64
    assert model.config.rope_parameters["rope_theta"] == config["rotary_emb_base"]


def test_ids_of_early_llama_conversions_are_put_right(tmp_path):
    config = backbones.load_model(write(tmp_path, EARLY, FAMILIES["llama"][1])).config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, None)
    assert config.max_position_embeddings == 64


@pytest.mark.parametrize(
    ("family", "targets"), [("qwen", ["c_attn"]), ("baichuan", ["W_pack"]), ("llama", ["q_proj", "v_proj"])]
)
def test_lora_targets_are_llama_factorys(tmp_path, family, targets):
    config, tensors, _ = FAMILIES[family]
    assert backbones.lora_targets(backbones.load_model(write(tmp_path, config, tensors))) == targets


def test_lora_targets_of_an_unknown_family():
    with pytest.raises(files.InputError, match="name the layers"):
        backbones.lora_targets(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft uses its old name
@pytest.mark.parametrize("family", ["qwen", "baichuan"])
def test_one_lora_pair_adapts_q_k_and_v_and_merges_back(tmp_path, family):
    from peft import LoraConfig, get_peft_model

    config, tensors, reference = FAMILIES[family]
    model = backbones.load_model(write(tmp_path, config, tensors), dtype=torch.float32)
    (target,) = backbones.lora_targets(model)
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=[target], task_type="CAUSAL_LM"))
    assert sum(p.requires_grad for p in adapted.parameters()) == 2 * LAYERS
    changed = dict(tensors)
    for name, layer in adapted.named_modules():
        if name.endswith(target):
            torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
            own = next(n for n in changed if f".{name.split('.')[-3]}." in n and n.endswith(f"{target}.weight"))
            changed[own] = changed[own] + 2 * layer.lora_B["default"].weight.data @ layer.lora_A["default"].weight.data
    torch.testing.assert_close(logits(adapted), reference(changed, IDS), atol=5e-4, rtol=1e-3)
    torch.testing.assert_close(logits(adapted.merge_and_unload()), reference(changed, IDS), atol=5e-4, rtol=1e-3)


def test_deltas_merge_one_after_the_other_by_arithmetic(tmp_path):
    base = {n: t.half() for n, t in FAMILIES["llama"][1].items()}
    folders, expected = [], dict(base)
    for number, words in enumerate((70, 71), 1):
        folder, tensors = delta(tmp_path / f"delta{number}", words, number)
        folders.append(folder)
        for name in expected:
            stem = name.removesuffix(".weight")
            if name in tensors:
                expected[name] = tensors[name].half()
            elif f"{stem}.lora_A.weight" in tensors:
                a, b = tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"]
                expected[name] = (expected[name].float() + (b @ a) * 3).half()
    model = backbones.load_model(write(tmp_path / "base", EARLY, base), folders, dtype=torch.float16)
    merged = model.state_dict()
    assert merged["lm_head.weight"].shape == (71, WIDE) and model.config.vocab_size == 71
    for name, tensor in expected.items():
        assert torch.equal(merged[name], tensor), name


def broken(case, tensors):
    name = "model.layers.1.mlp.up_proj.weight"
    if case == "missing":
        return {n: t for n, t in tensors.items() if n != name}
    if case == "renamed":
        return {n if n != name else "model.layers.1.mlp.w2.weight": t for n, t in tensors.items()}
    if case == "unexpected":
        return tensors | {"model.layers.9.mlp.up_proj.weight": torch.ones(2)}
    return tensors | {name: torch.ones(INNER, WIDE + 1)}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", r"model\.layers\.1\.mlp\.up_proj\.weight is missing"),
        ("unexpected", r"model\.layers\.9\.mlp\.up_proj\.weight is not expected"),
        ("renamed", r"up_proj\.weight is missing; there is model\.layers\.1\.mlp\.w2\.weight instead"),
        ("shape", r"model\.layers\.1\.mlp\.up_proj\.weight is 48×33 where config.json implies 48×32"),
    ],
)
def test_a_damaged_checkpoint_is_named_by_its_tensor(tmp_path, case, said):
    config, tensors, _ = FAMILIES["baichuan"]
    with pytest.raises(files.InputError, match=said):
        backbones.load_model(write(tmp_path, config, broken(case, tensors)))


def test_a_current_model_with_a_missing_tensor_is_refused(tmp_path):
    LlamaForCausalLM(LlamaConfig(**LLAMA | {"max_position_embeddings": 64})).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save_file(broken("missing", llama_tensors(fused=False)), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(files.InputError, match=r"up_proj\.weight is missing"):
        backbones.load_model(tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (BAICHUAN | {"architectures": ["BaichuanForCausalLM"]}, "Baichuan2 normalizes .* 13B models use ALiBi"),
        (BAICHUAN | {"architectures": ["BaichuanForCausalLM"], "z_loss_weight": 0}, "not Baichuan-7B"),  # Baichuan2-7B
        (BAICHUAN | {"model_max_length": 4096, "architectures": ["BaichuanForCausalLM"]}, "not Baichuan-7B"),  # 13B
        (QWEN | {"rotary_pct": 0.5}, "no equal"),
        (QWEN | {"kv_channels": 16}, "no equal"),
        ({k: v for k, v in QWEN.items() if k != "seq_length"}, "'seq_length' is missing"),
    ],
)
def test_relatives_that_only_look_alike_are_refused(tmp_path, config, said):
    tensors = FAMILIES[config["model_type"]][1]
    with pytest.raises(files.InputError, match=said):
        backbones.load_model(write(tmp_path, config, tensors))


def test_a_delta_of_another_base_is_refused(tmp_path):
    base = write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    folder, tensors = delta(tmp_path / "delta", 70, 1)
    write_delta(folder, tensors | {"model.layers.7.self_attn.q_proj.lora_A.weight": torch.ones(2, 2)})
    with pytest.raises(files.InputError, match=r"layers\.7\.self_attn\.q_proj\.lora_A\.weight matches nothing"):
        backbones.load_model(base, [folder])
    write_delta(folder, tensors | {"lm_head.weight": torch.ones(70, 5)})
    with pytest.raises(files.InputError, match=r"lm_head\..*\[70, 5\].*\[70, 32\].*is it the delta of this base"):
        backbones.load_model(base, [folder])
    write_delta(folder, tensors)
    with pytest.raises(files.InputError, match=r"k_proj\.lora_A.* \(and 11 more\) matches nothing in the base"):
        backbones.load_model(write(tmp_path / "qwen", QWEN, FAMILIES["qwen"][1]), [folder])


@pytest.mark.parametrize("gone", ["lm_head.weight", "model.layers.0.mlp.up_proj.lora_B.weight"])
def test_a_delta_that_lacks_a_tensor_is_refused(tmp_path, gone):
    base = write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    folder, tensors = delta(tmp_path / "delta", 70, 1)
    write_delta(folder, {name: tensor for name, tensor in tensors.items() if name != gone})
    with pytest.raises(files.InputError, match=rf"{gone.removesuffix('.weight')}.* is missing; is it the delta"):
        backbones.load_model(base, [folder])


@pytest.mark.parametrize(
    ("extra", "said"), [({"use_dora": True}, r"lora_magnitude_vector.* is missing"), ({"r": None}, "delta: ")]
)
def test_a_delta_whose_configuration_does_not_fit_is_refused(tmp_path, extra, said):
    base = write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    with pytest.raises(files.InputError, match=said):
        backbones.load_model(base, [delta(tmp_path / "delta", 70, 1, **extra)[0]])


def test_a_folder_that_holds_no_delta_is_refused(tmp_path):
    base = write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    folder, _ = delta(tmp_path / "delta", 70, 1)
    (folder / "adapter_model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(files.InputError, match=r"delta/adapter_model\.bin: cannot be read"):
        backbones.load_model(base, [folder])
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(files.InputError, match=r"delta: no adapter_model\.safetensors and no adapter_model\.bin"):
        backbones.load_model(base, [folder])
    (folder / "adapter_config.json").unlink()
    with pytest.raises(files.InputError, match=r"adapter_config\.json: no such file"):
        backbones.load_model(base, [folder])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_in_place_of_a_file_is_named(tmp_path, name):
    write(tmp_path, BAICHUAN, {})
    for file in tmp_path.glob("*.bin"):
        file.unlink()
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(files.InputError, match=f"{name}: cannot be read"):
        backbones.load_model(tmp_path)


@pytest.mark.parametrize("safe", [True, False])
def test_a_file_that_was_cut_short_is_named(tmp_path, safe):
    config, tensors, _ = FAMILIES["baichuan"]
    folder = write(tmp_path, config, tensors, safe)
    file = sorted(folder.glob("*.safetensors" if safe else "*.bin"))[-1]
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(files.InputError, match=f"{file.name}: cannot be read .* fetch it again"):
        backbones.load_model(folder)
    file.unlink()
    said = "no model" if safe else r"No such file.*pytorch_model-00002-of-00002"
    with pytest.raises(files.InputError, match=said):
        backbones.load_model(folder)


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_pickle_runs_no_code(tmp_path, capsys):
    write(tmp_path, BAICHUAN, {})
    torch.save({"lm_head.weight": Payload()}, tmp_path / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(files.InputError, match="cannot be read"):
        backbones.load_model(tmp_path)
    assert "must not run" not in capsys.readouterr().out


def test_a_folder_without_weights_or_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(BAICHUAN))
    with pytest.raises(files.InputError, match=r"no model\*\.safetensors"):
        backbones.load_model(tmp_path)
    with pytest.raises(files.InputError, match=r"config\.json: no such file"):
        backbones.load_model(tmp_path / "nowhere")


def test_the_hash_of_a_model_knows_values_types_and_configuration_and_not_where_it_is():
    model, same = llama(), llama()
    same.config.name_or_path = "/home/alice/llama-7b"
    assert backbones.weights_hash(model) == backbones.weights_hash(same)
    others = [llama(seed=1), llama(rms_norm_eps=1e-3), llama().to(torch.float16)]
    assert len({backbones.weights_hash(other) for other in [model, *others]}) == 4
