"""PsyQA's nine topics, in English."""

ENGLISH = {
    "人际": "relationships",
    "婚姻": "marriage",
    "家庭": "family",
    "恋爱": "love",
    "情绪": "emotion",
    "成长": "growth",
    "治疗": "therapy",
    "职业": "career",
    "行为": "behavior",
}


def label(topic: str | None) -> str:
    """Return a topic as tables and figures show it: "family 家庭"; a topic that PsyQA does not have as it is."""
    if not topic:
        return "no topic"
    return f"{ENGLISH[topic]} {topic}" if topic in ENGLISH else topic
