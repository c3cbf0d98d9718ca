"""The README's results: every block between `<!-- from FILE -->` and `<!-- end -->` is that file's text."""

import re

from cbtllm_utils import files

BLOCK = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.S)


def refreshed(text: str) -> str:
    """The text with every block filled from its file. InputError when a file is missing."""

    def fill(block: re.Match[str]) -> str:
        place = files.path(block[2])
        if not place.is_file():
            raise files.InputError(f"README.md shows {block[2]}, which is not there; `make release` makes it")
        return f"{block[1]}\n{place.read_text(encoding='utf-8').strip()}\n\n{block[3]}"

    return BLOCK.sub(fill, text)
