"""Measure the memory of loading: as a program, print {case: [size of the weights, peak]} in MiB."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import torch
from original_files import DELTA

from cbtllm_utils.models import backbones

WIDE, INNER, LAYERS, WORDS = 1024, 2816, 10, 2000  # 132 million weights, 252 MiB in fp16
SIZES = {"vocab_size": WORDS, "hidden_size": WIDE, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
SIZES |= {"num_attention_heads": 8, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "hidden_act": "silu"}
KINDS = {
    "baichuan": SIZES | {"architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan"},
    "llama": SIZES | {"architectures": ["LLaMAForCausalLM"], "model_type": "llama"},
    "current": SIZES | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float16"},
}


def tensors(kind):
    shapes = {"model.embed_tokens.weight": (WORDS, WIDE), "model.norm.weight": (WIDE,), "lm_head.weight": (WORDS, WIDE)}
    for h in (f"model.layers.{i}" for i in range(LAYERS)):
        shapes |= {f"{h}.{n}_layernorm.weight": (WIDE,) for n in ("input", "post_attention")}
        fused = {f"{h}.self_attn.W_pack.weight": (3 * WIDE, WIDE)}
        shapes |= fused if kind == "baichuan" else {f"{h}.self_attn.{p}_proj.weight": (WIDE, WIDE) for p in "qkv"}
        shapes |= {f"{h}.self_attn.o_proj.weight": (WIDE, WIDE), f"{h}.mlp.down_proj.weight": (WIDE, INNER)}
        shapes |= {f"{h}.mlp.{n}_proj.weight": (INNER, WIDE) for n in ("gate", "up")}
    return {name: torch.full(shape, 0.01, dtype=torch.float16) for name, shape in shapes.items()}


def write(folder, kind):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(KINDS[kind]))
    torch.save(tensors(kind), folder / "pytorch_model.bin")


def write_delta(folder, words):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(DELTA | {"r": 8, "lora_alpha": 32}))
    found = {name: torch.full((words, WIDE), 0.01) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    for name, tensor in tensors("llama").items():
        if "_proj" in name:
            stem, (rows, columns) = name.removesuffix(".weight"), tensor.shape
            found |= {f"{stem}.lora_A.weight": torch.full((8, columns), 0.01)}
            found |= {f"{stem}.lora_B.weight": torch.full((rows, 8), 0.01)}
    torch.save({f"base_model.model.{name}": tensor for name, tensor in found.items()}, folder / "adapter_model.bin")


def held(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def measured(key, load):
    """Return MiB of the model's weights, and the peak growth of /proc's `key` until every weight was read."""
    most, done, before = [0.0], threading.Event(), held(key)

    def watch():
        while not done.is_set():
            most[0] = max(most[0], held(key))
            time.sleep(0.002)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    model = load()
    for parameter in model.parameters():
        parameter.view(torch.uint8).max()  # A mapped page is in memory once it was read.
    done.set()
    thread.join()
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20, max(most[0], held(key)) - before


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    for kind in KINDS:
        write(place / kind, kind)
    for number, words in ((1, 2500), (2, 2501)):
        write_delta(place / f"delta{number}", words)
    backbones.load_model(place / "llama", dtype=torch.float16)  # imports, kernels, pools: none of them is the model's
    result = {
        kind: measured("VmRSS", lambda kind=kind: backbones.load_model(place / kind, dtype=torch.float16))
        for kind in KINDS
    }
    folders = [place / "delta1", place / "delta2"]
    # what the base's file takes is mapped from disk and given back at need: not counted where weights are made anew
    result["deltas"] = measured("RssAnon", lambda: backbones.load_model(place / "llama", folders, dtype=torch.float16))
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)
