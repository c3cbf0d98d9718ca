"""Convert the tokenizer of a folder by llama.cpp's own script: LLAMA_CPP FOLDER OUT [PRE].

The script knows a byte-level vocabulary by a checksum. That of a tiny model is in no list: PRE is what it is called.
"""

import runpy
import sys
from pathlib import Path

source, folder, out, *name = sys.argv[1:]
sys.path[:0] = [source, str(Path(source) / "gguf-py")]
from conversion.base import TextModel  # noqa: E402

if name:
    TextModel.get_vocab_base_pre = lambda self, tokenizer: name[0]
sys.argv = ["convert_hf_to_gguf.py", "--vocab-only", "--outfile", out, folder]
runpy.run_path(str(Path(source) / sys.argv[0]), run_name="__main__")
