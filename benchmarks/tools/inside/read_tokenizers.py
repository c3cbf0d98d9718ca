"""Read folders' tokenizers as a program does, and write what it makes of texts and chats: PLAN OUT READER.

The plan is a JSON object: name -> {"folder", "texts", "ids", "chats"}; ids are decoded. The reader is transformers,
vllm or llama_cpp, whose folders are GGUF files.
"""

import json
import sys
from pathlib import Path


def by_transformers(folder: str) -> object:
    """Return what AutoTokenizer makes of a folder, as `transformers serve` and LLaMA-Factory do."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def by_vllm(folder: str) -> object:
    """Return vLLM's tokenizer of a folder."""
    from vllm.tokenizers import get_tokenizer

    return get_tokenizer(folder)


class LlamaCpp:
    """The vocabulary of a GGUF file, with bos where the file says so; control tokens in a text stay text."""

    chat_template = None

    def __init__(self, file: str) -> None:
        from llama_cpp import Llama

        self.model = Llama(file, vocab_only=True, verbose=False)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self.model.tokenize(
            text.encode(), add_bos=self.model.metadata.get("tokenizer.ggml.add_bos_token") == "true"
        )

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Return the text of tokens, without the space that is put before a text."""
        text = self.model.detokenize(ids).decode(errors="replace")
        return text.removeprefix(" ") if self.model.metadata.get("tokenizer.ggml.model") == "llama" else text


plan, out, reader = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
found = {}
for name, wanted in json.loads(plan.read_text(encoding="utf-8")).items():
    read = {"transformers": by_transformers, "vllm": by_vllm, "llama_cpp": LlamaCpp}[reader]
    tokenizer = read(wanted["folder"])
    found[name] = {
        "ids": [list(tokenizer.encode(text)) for text in wanted["texts"]],
        "texts": [tokenizer.decode(ids, skip_special_tokens=True) for ids in wanted["ids"]],
    }
    if tokenizer.chat_template:
        asked = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        found[name]["chats"] = [tokenizer.apply_chat_template(chat, **asked) for chat in wanted["chats"]]
out.write_text(json.dumps(found))
