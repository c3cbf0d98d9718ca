"""What each of two processes holds that share out a model: run by torchrun, rank 0 prints {case: numbers of each}.

The numbers: MiB of the weights, of the largest tensor, by how much the process's own memory grew at most while it read
its share, and whether this is, bit for bit, its half of what `load_model` reads.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from loading import KINDS, measured, write, write_delta
from tiny import llama
from torch import distributed

from cbtllm_utils.finetune import adapters
from cbtllm_utils.models import backbones


def shared(place, name, deltas=()):
    return adapters.backbone(str(place / name), [str(place / delta) for delta in deltas], place, "fp32", shares=2)


def case(place, name, deltas=()):
    kept = []
    gc.collect()  # what the case before held
    weights, most = measured("RssAnon", lambda: kept.append(shared(place, name, deltas)) or kept[0])
    expected = backbones.load_model(place / name, [place / delta for delta in deltas], dtype=torch.float32).state_dict()
    found, rank = kept[0].state_dict(), distributed.get_rank()
    # the first process holds the upper half of the rows, the second the lower
    same = [torch.equal(found[name].to_local(), expected[name].tensor_split(2)[rank]) for name in expected]
    numbers = [
        weights,
        max(t.numel() * 4 for t in expected.values()) / 2**20,
        most,
        all(same) and len(found) == len(same),
    ]
    both = [None, None]
    distributed.all_gather_object(both, numbers)
    return both


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
    result = {name: case(place, name) for name in ("tied", "baichuan", "current")}
    result |= {"delta": case(place, "llama", ["delta"])}
    if distributed.get_rank() == 0:
        print(json.dumps(result), flush=True)
    distributed.barrier()
