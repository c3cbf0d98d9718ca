"""Whether a reply is whole: why the server ended it, and whether its last sentence ends."""

import re

from cbtllm_utils.text import sections

NORMAL = (  # why a whole reply ends: OpenAI and most others; Anthropic, Bedrock; TGI, watsonx; Together; Cohere; AI21, …
    *("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "endoftext", "normal"),
    *("stopped_eos", "stopped_word", "stop_token", "end_id", "finish", "finished", "done"),
)
UNSTATED = ("", "unknown", "none", "null", "unspecified")  # the server gives no reason: the text decides
MID_SENTENCE = "in mid-sentence"
STOPS = "。！？!?….~～"
PAIRS = ("“”", "（）", "「」", "『』", "【】", "《》")
QUOTES = "”’」』\"'"  # close a sentence together with a stop inside them: a quoted word may be in mid-sentence
UNFINISHED = sections.UNFINISHED + "－–+=&/\\|<＜{[［「『【《》〈〔#@$￥%％·"
NUMBER = re.compile(
    r"(?:热线|电话|号码|拨打|拨|致电|急救|报警|援助|求助|[:：])[^。！？]{0,30}?(?<![\d-])(?:[19]\d{4}(?:-\d)?|(?:\d[- ]?){7,})$"
    r"|(?<![\d-])(?:110|119|120|\d{3,4}[- ]\d{3,4}[- ]\d{3,4})$"
)
PARTICLE = re.compile(r"[吧哦呢啦呀哟喔嘛]$")
WISH = re.compile(
    r"(?:^|[，,。！？!?\s])(?:你|您|我们|一起|继续)*"
    r"(?:加油|共勉|保重|晚安|抱抱[你您]?|拥抱你|爱你|谢谢|祝好|祝安|安好)$"
)
SIGN_OFF = re.compile(  # a line of its own that ends a letter without a stop: a wish, a signature, a date
    r"^(?:最后[，,]?)?(?:祝|愿|顺颂|此致|恭祝).*"
    r"(?:好|顺利|顺遂|平安|快乐|幸福|健康|安康|康复|如意|成功|开心|喜乐|自在|温暖|敬礼|似锦|此致|好运|如愿|可期|以待)$"
    r"|^(?:[—–-]{1,3}\s*)?(?:永远|一直|始终)?(?:爱|关心|支持|陪伴|牵挂)?[你您]的?\S{0,8}"
    r"(?:咨询师|心理师|治疗师|老师|朋友|伙伴|陪伴者|倾听者|树洞|团队|助手)(?:\s+\S{1,6})?$"
    r"|^\S{0,10}(?:敬上|谨上|谨启|谨复|咨询师)$|^[—–]{1,3}\s*\S{1,15}$|^此致$|^敬礼$|^\d{4}\s*年\s*\d{1,2}\s*月\s*\d{1,2}\s*日$"
)
ITEM = re.compile(
    r"(?:[-*•·●▪◦–]\s|\d{1,2}\s*[.．、)）]|[（(]\d{1,2}[)）]|[①-⑳]|[一二三四五六七八九十]、|第[一二三四五六七八九十]步?[，,、：:])"
)
DANGLING = re.compile(
    r"(?:[的地得和或与及把被让使在是而但从对向以并]|因为|所以|如果|包括|例如|比如|这个|那个|一个|一些)$"
)


def stated(finish_reason: str | None) -> str | None:
    """Return the reason for which a server ended a reply early, as it states it; None for a normal end, or unstated."""
    reason = str(finish_reason or "").strip()
    word = reason.lower().rpartition(".")[2].removeprefix("finish_reason_")
    return None if word in NORMAL + UNSTATED else reason


def cut_off(text: str, finish_reason: str | None) -> str | None:
    """Return why a cleaned reply is not whole, or None: the reason that the server states, or its last sentence."""
    return stated(finish_reason) or (MID_SENTENCE if text.strip() and not ends(text) else None)


def ends(text: str) -> bool:
    """Return whether the last sentence of a reply ends: in a stop, a closing mark, an emoji, or as letters do.

    Without a stop may end: a hotline's number, a wish or signature on a line of its own, 加油, a particle like 吧, an
    item of a list whose items have no stops. A bracket or quotation that is still open does not end.
    """
    *above, last = [line.strip() for line in text.strip().split("\n")]
    bare = re.sub(r"[*_`]+$", "", last).rstrip()
    if not bare or any(last.count(one) > last.count(other) for one, other in PAIRS):
        return False
    if bare[-1] in QUOTES:
        inner = bare.rstrip(QUOTES)
        return not inner[-1:].isalnum() and inner[-1:] not in UNFINISHED
    if not bare[-1].isalnum():
        return bare[-1] not in UNFINISHED
    if any(pattern.search(bare) for pattern in (NUMBER, PARTICLE, WISH)):
        return True
    before = next((line for line in reversed(above) if line), "，")
    if SIGN_OFF.search(bare):
        return before[-1] not in UNFINISHED and (not before[-1].isalnum() or bool(SIGN_OFF.search(before)))
    same_list = ITEM.match(bare) and ITEM.match(before) and before[-1] not in STOPS + UNFINISHED
    return bool(same_list) and not DANGLING.search(bare)
