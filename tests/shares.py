"""What each of two processes holds that share out a model: run by torchrun, rank 0 prints {case: numbers}.

The numbers: MiB of the weights, of the largest tensor, by how much the process's own memory grew at most while it read
its share, and whether the shares together are, bit for bit, what `load_model` reads.
"""

import json
import sys
from pathlib import Path

import torch
from loading import KINDS, measured, write, write_delta
from tiny import llama
from torch import distributed

from cbtllm_utils import adapters, backbones


def shared(place, name, deltas=()):
    return adapters.backbone(str(place / name), [str(place / delta) for delta in deltas], place, "fp32", shares=2)


def whole(model):
    """The weights, each gathered from both processes."""
    return {name: getattr(weight, "full_tensor", lambda weight=weight: weight)() for name, weight in model.items()}


def case(place, name, deltas=()):
    kept = []
    weights, most = measured("RssAnon", lambda: kept.append(shared(place, name, deltas)) or kept[0])
    expected = backbones.load_model(place / name, [place / delta for delta in deltas], dtype=torch.float32).state_dict()
    found = whole(kept[0].state_dict())
    same = list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)
    return [weights, max(t.numel() * 4 for t in expected.values()) / 2**20, most, same]


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    distributed.init_process_group("gloo")
    if distributed.get_rank() == 0:
        for kind in KINDS:
            write(place / kind, kind)
        write_delta(place / "delta", 2500)
        llama(tie_word_embeddings=True).save_pretrained(place / "tied")
    distributed.barrier()
    shared(place, "tied")  # imports, kernels, pools: none of them is a model's
    result = {name: case(place, name) for name in ("tied", *KINDS)} | {"delta": case(place, "llama", ["delta"])}
    if distributed.get_rank() == 0:
        print(json.dumps(result), flush=True)
    distributed.barrier()
