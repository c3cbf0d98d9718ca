"""A run of untrained models that is small enough for every test: data set, stock backbone, adapter, merged model."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from original_files import FAMILIES, write
from training_run import settings, summary

from cbtllm_utils.cbt_qa import exports
from cbtllm_utils.finetune import adapters, stock
from cbtllm_utils.models import backbones

ITEM = {
    "question": "睡不着",
    "description": "怎么办",
    "reply": "你好",
    "topic": None,
    "risk": False,
    "flagged_by": None,
}
ITEM |= {"advice": False, "model": "m", "prompt": "p", "near_duplicate_of": None}
LOG = [{"step": 0, "heldout_loss": 4.0}, {"step": 1, "epoch": 1.0, "loss": 3.0, "learning_rate": 0.1}]
LOG += [{"step": 1, "heldout_loss": 2.0}]


def pieces() -> bytes:
    """Return a sentencepiece model of bytes and a few characters."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["你好吗 我睡不着 怎么办"] * 20),
        model_writer=made,
        model_type="bpe",
        vocab_size=275,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
        normalization_rule_name="identity",  # as LLaMA's and Baichuan's
        remove_extra_whitespaces=False,
    )
    return made.getvalue()


def tuned(model: torch.nn.Module, folder: Path, **values: object) -> tuple[torch.nn.Module, Path]:
    """Return the model with an adapter of random weights, and the folder that it was written to."""
    adapted = adapters.fresh(model, settings(model="backbones/x", **values)).eval()
    torch.manual_seed(1)
    for name, value in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(value, std=0.2)
    return adapted, adapters.write(adapted, folder, summary(LOG), "made for a test")


def make(run: Path) -> None:
    """Write Baichuan-7B's part of a run, of random weights."""
    items = [{"questionID": n} | ITEM | {"split": "test" if n == 3 else "train"} for n in (1, 2, 3)]
    exports.write_all(items, run / "cbt_qa", "none", "nothing", "no reader", "nobody", "made for a test")
    config, tensors, _ = FAMILIES["baichuan"]
    (run / "backbones").mkdir()
    base = write(run / "backbones" / "baichuan-7b", config, tensors)
    (base / "tokenizer.model").write_bytes(pieces())
    (base / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
    model = backbones.load_model(base, dtype=torch.float32)
    adapter = tuned(model, run / "adapters" / "baichuan-7b", targets="all-linear", modules_to_save=["lm_head"])[1]
    for folder, with_it in (("stock", None), ("merged", adapter)):
        stock.write("backbones/baichuan-7b", [], run, run / folder / "baichuan-7b", "fp32", with_it)
