"""The safety notices on every answer, form, card and report."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown

NOTICES = {
    "en": (
        "This is research material, not a substitute for psychological treatment, and no model here may advise people "
        "in distress without professional supervision. If you think of suicide or self-harm, get help now: in China "
        "call 12356 (psychological aid) or 120 (emergency); elsewhere see https://findahelpline.com."
    ),
    "zh": (
        "本页内容仅供研究，不能替代专业心理治疗；未经专业人员督导，不得用这里的任何模型为求助者提供建议。"
        "如果你有伤害自己的念头，请立即联系身边可信任的人，拨打心理援助热线 12356 或急救电话 120。"
    ),
    "psyqa": (
        "PsyQA holds peer support from an online forum, not professional counseling; "
        "its data come from Yixinli (壹心理)."
    ),
}


SHORT = {
    "en": (
        "Research material: no text here is advice. If you think of suicide or self-harm, get help now: in China call "
        "12356 (psychological aid) or 120 (emergency); elsewhere see https://findahelpline.com."
    ),
    "zh": "仅供研究，以下文字都不是建议。如果你有伤害自己的念头，请立即拨打心理援助热线 12356 或急救电话 120。",
}


def notice(language: str = "en") -> str:
    """Return the notice in a language: "en", "zh", or "psyqa" for the source of the posts."""
    return NOTICES[language]


def whole() -> "Markdown":
    """Return all notices to show before the first post or reply of a notebook."""
    return quoted(NOTICES.values())


def short(before: str = "") -> "Markdown":
    """Return the short notice in both languages, to show directly above posts or replies.

    Args:
        before: A sentence on what the texts below speak of, shown first.
    """
    return quoted(filter(None, [before, *SHORT.values()]))


def quoted(texts: Iterable[str]) -> "Markdown":
    """Return texts as one quotation, a paragraph each."""
    from IPython.display import Markdown  # here, because commands that show nothing start faster without it

    return Markdown("\n>\n".join(f"> {text}" for text in texts))
