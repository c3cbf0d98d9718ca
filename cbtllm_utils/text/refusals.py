"""The words of a model that refuses. They name why a reply lacks its components; they never decide alone."""

import re

QUOTED = re.compile(  # the client's thoughts, such as “我无法处理这个问题”
    r"“[^“”]*”|「[^「」]*」|『[^『』]*』|\"[^\"]*\""
)
CANNOT = (
    r"(?:无法|不能|不便|不方便|没法|没办法|没有办法|不可以|不应该?|不宜|不太?适合|不太?合适|不允许|不被允许|难以|恕难|恕不"
    r"|选择不|不具备|尚未学会|还没学会|谢绝|婉拒|不予|不提供|没资格|没有资格|没有能力|没有权限|无权)"
)
WILL_NOT = r"我[^。！？，,；“”\n]{0,6}(?:不会|不敢|不愿|不想|不讨论|不回答|不参与|拒绝|不是[^。！？，,\n]{0,4}能)"
DO = (
    r"(?:回答|回复|回应|答复|作答|解答|提供|帮[到助你您]|协助|讨论|谈论|谈这|聊这|处理|满足|继续|给[出到予你您]|参与|涉及"
    r"|生成|完成|支持|服务|咨询|建议|应对|对话|评论|执行|接受|响应|遵从|从命|胜任|介入|置评|交流|展开|治疗|诊断|发表|说)"
)
REFUSAL = re.compile(
    rf"(?<![你您他她们])(?:(?:{CANNOT}|{WILL_NOT})[^。！？，,；“”\n]{{0,16}}?{DO}|帮不[了到上][你您]|回答不了|无能为力|爱莫能助"
    rf"|无可奉告|(?<=我)拒绝|说不了什么|不是我能够?[^。！？，,]{{0,6}}{DO})"
    rf"|(?:抱歉|对不起|不好意思|遗憾|原谅|谅解|见谅)[^。！？\n]{{0,24}}我[^。！？，,\n]{{0,6}}{CANNOT}"
    r"|(?:超出|超过|不在|不属于)[^。！？\n]{0,14}(?:能力|范围|范畴|职责|权限|领域)"
    r"|(?:违反|不符合|有违)[^。！？\n]{0,14}(?:规定|政策|准则|规范|原则|法规|要求|条款)"
    r"|(?:换|聊聊?|谈谈?|问)(?:一?个|些|点)?(?:别的|其他的?|另外的?|话题|问题)"
    r"|(?:话题|内容|问题|请求)[^。！？\n]{0,8}(?:敏感|不当|不合适|违规|不适宜)"
    r"|作为(?:一个|一名|一款|您的|你的)?(?:AI|人工智能|大?语言模型|大模型|智能助手|聊天机器人)"
    r"|我(?:只|仅仅?)?是(?:一个|一名|一款)?(?:AI|人工智能|大?语言模型|程序|机器人)"
    r"|(?i:\b(?:can(?:'|’)?t|cannot|can not|unable to|not able to|don(?:'|’)?t feel able|in a position to|rather not|not something i can|won(?:'|’)?t|will not|not allowed to"
    r"|not permitted to|must decline|have to decline|decline to|not comfortable|not equipped|not qualified"
    r"|not appropriate|prefer not to|refuse to|not going to|couldn(?:'|’)?t)\b"
    r"|as an? (?:ai|language model|artificial|assistant)\b|i(?:'|’)?m (?:just )?an ai\b|\b(?:my|content|safety|usage) "
    r"(?:guidelines|policy|policies|programming)\b|sorry|apologi[sz]e|beyond (?:my|the scope)|outside (?:my|the scope))"
)
ANSWERS = {"key_thought", "challenge"}  # components that a refusal with a hotline and good wishes does not have


def refusal(text: str) -> str | None:
    """Return the words with which a text refuses, quotations left out, or None."""
    found = REFUSAL.search(QUOTED.sub("", text))
    return found[0] if found else None
