"""LLaMA-Factory's side of the check: read tokenized examples, or let a model answer. Run by its environment's Python.

llama_factory.py examples OUT RECIPE FOLDER …    the examples that it takes from each folder, as JSON
llama_factory.py replies OUT ASKED               greedy replies of models to prompts; ASKED is a JSON file
"""

import json
import sys
from pathlib import Path

import torch
import yaml
from llamafactory.chat import ChatModel
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer


def examples(recipe: str, folders: list[str]) -> dict:
    """Return input_ids and labels by folder and split, as `run_sft` of llamafactory/train/sft/workflow.py gets them."""
    found = {}
    for folder in folders:
        values = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
        values |= {"tokenized_path": folder, "output_dir": "not-written"}  # It refuses one that holds an adapter.
        model, data, training, *_ = get_train_args(values)
        tokenizer = load_tokenizer(model)
        template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data)
        splits = get_dataset(template, model, data, training, stage="sft", **tokenizer)
        found[folder] = {name: [[row["input_ids"], row["labels"]] for row in split] for name, split in splits.items()}
    return found


def replies(models: list[dict], prompts: list[dict], tokens: int) -> list[dict]:
    """Return for each model the ids that it adds to a prompt's ids, and its reply to the text of the prompt.

    Args:
        models: What `ChatModel` takes: where the model is, and an adapter.
        prompts: Their token ids, and their text, which the template `empty` hands on as it is.
        tokens: Most tokens of a reply.
    """
    found = []
    for one in models:
        chat = ChatModel(one | {"template": "empty", "infer_dtype": "float32", "trust_remote_code": False})
        model, tokenizer = chat.engine.model, chat.engine.tokenizer
        greedy = {"do_sample": False, "max_new_tokens": tokens}
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        added, said = [], []
        for prompt in prompts:
            ids = torch.tensor([prompt["ids"]])
            whole = model.generate(inputs=ids, attention_mask=torch.ones_like(ids), **greedy, **ends)
            added.append(whole[0, ids.shape[1] :].tolist())
            answer = chat.chat([{"role": "user", "content": prompt["text"]}], **greedy)
            said.append(answer[0].response_text)
        found.append({"ids": added, "texts": said})
    return found


if __name__ == "__main__":
    what, out, *rest = sys.argv[1:]
    made = examples(rest[0], rest[1:]) if what == "examples" else replies(**json.loads(Path(rest[0]).read_text()))
    Path(out).write_text(json.dumps(made))
