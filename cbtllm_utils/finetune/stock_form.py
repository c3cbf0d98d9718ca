"""The same adapter by the names of other classes: those that split q, k and v, and those of Qwen-7B's own code."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from cbtllm_utils import files
from cbtllm_utils.models.checkpoints import Tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
QWEN = {  # our names -> those of modeling_qwen.py; two layers of a block are called c_proj there
    "model.embed_tokens": "transformer.wte",
    "model.layers.": "transformer.h.",
    "self_attn.c_attn": "attn.c_attn",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.w1",
    "mlp.gate_proj": "mlp.w2",
    "mlp.down_proj": "mlp.c_proj",
}


def split(tensors: Tensors, fused: str) -> Tensors:
    """The adapter of a stock class: the fused layer's A serves q, k and v, each with its third of the rows of B.

    The function is the same to the last bit of B·A; of the weights, A is there three times.
    """
    found = {}
    for name, tensor in tensors.items():
        parts = tensor.chunk(3) if ".lora_B." in name else [tensor] * 3
        own = zip("qkv", parts, strict=True) if f".{fused}." in name else ()
        found |= {name.replace(f".{fused}.", f".{part}_proj."): rows.clone() for part, rows in own}
        found |= {} if f".{fused}." in name else {name: tensor}
    return found


def original(name: str) -> str:
    """A name of Qwen-7B's layers here as its own code has it."""
    for ours, theirs in QWEN.items():
        name = name.replace(ours, theirs)
    return name


def write(folder: Path, fused: str) -> None:
    """Nothing, after an adapter's folder was given `stock`, the same for the built-in classes, and for Qwen-7B
    `original`, the same for the code beside its weights: each a folder that plain peft loads."""
    tensors, config = load_file(folder / WEIGHTS), files.read_json(folder / CONFIG)
    targets = []  # names of layers, or, where peft was told all, of each layer with its place
    for target in config["target_modules"]:
        place, own = target[: -len(fused)], target.rpartition(".")[2] == fused
        targets += [f"{place}{part}_proj" for part in "qkv"] if own else [target]
    forms = {"stock": (split(tensors, fused), targets)}
    if fused == "c_attn":
        layers = {
            name.rpartition(".lora_")[0].split(".", 5)[-1] for name in tensors if ".lora_" in name
        }  # self_attn.c_attn, mlp.up_proj, …
        forms["original"] = ({original(n): t for n, t in tensors.items()}, [original(layer) for layer in layers])
    for name, (renamed, modules) in forms.items():
        (folder / name).mkdir()
        save_file(renamed, folder / name / WEIGHTS, {"format": "pt"})
        saved = [
            original(f"model.{layer}") if name == "original" else layer for layer in config["modules_to_save"] or []
        ]
        layers = {"target_modules": sorted(modules), "modules_to_save": [s.rpartition(".")[2] for s in saved] or None}
        files.write_json(folder / name / CONFIG, config | layers)
