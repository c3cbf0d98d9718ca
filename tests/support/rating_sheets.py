"""Rating sheets of invented posts, with texts that try to be markup, scripts and formulas."""

import pandas as pd

from cbtllm_utils.human import blinding

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)><!-- &amp; {SCRIPT} {DATA} \u2028 👩‍👩‍👧 =1+1"
SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b"]


def sheets(
    items: int = 2, raters: int = 1, repeats: int = 0, length: int = 3, nasty: str = ""
) -> tuple[list[blinding.Sheet], pd.DataFrame]:
    """Return blinded sheets and their key; `nasty` ends every text, and `length` is half the characters of a reply."""
    posts = [{"questionID": n, "question": f"问题{n}{nasty}", "description": f"=描述{n}{nasty}"} for n in range(items)]
    answers = [
        {"system": system, "questionID": n, "reply": f"{'回复' * length}{n}{i}{nasty}"}
        for n in range(items)
        for i, system in enumerate(SYSTEMS)
    ]
    return blinding.make_sheets(blinding.sample(posts, answers, SYSTEMS, items, 42), raters, repeats, 42)
