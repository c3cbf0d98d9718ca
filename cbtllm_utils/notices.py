"""The safety notices on every answer, form, card and report."""

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


def notice(language: str = "en") -> str:
    """Return the notice in a language: "en", "zh", or "psyqa" for the source of the posts."""
    return NOTICES[language]
