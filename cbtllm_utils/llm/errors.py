"""A provider's errors by what they mean for the run, in the provider's own words.

Providers agree neither on status codes nor on words: a 429 or a 500 may be an empty account, a 403 a post that was
refused, a 200 any error. So status, code, type and message are read together, in English and Chinese. An error that
nothing here recognizes counts as one of its own request, until several in a row agree.
"""

import contextlib
import json
import re
import ssl
from collections.abc import Iterator, Mapping

import httpx2
import openai

from cbtllm_utils import files
from cbtllm_utils.llm.endpoint import is_local, stated_proxy
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED, Failure
from cbtllm_utils.llm.key import printable
from cbtllm_utils.llm.pacing import stated_wait

WAIT, LIMITED, STOP = "wait", "wait, all of us", "stop"  # ask again; ask again and more slowly; the run cannot go on
SEVERAL = 5  # requests in a row without an answer, for one reason: it is true of every request
MOST_FAILURES = 20  # the same, for whatever reasons
MOST_READ = 4000  # characters of an error
LONGEST_WAIT = 900.0  # seconds; whoever says to come back later than that ends the run


class EndpointError(files.InputError):
    """An error that asking again cannot solve: a bad key, an unknown model, an exhausted account or budget.

    Args:
        message: What, where and what to do, on one line.
        failures: Request's id -> Failure, for the requests that had one of their own before asking ended.
    """

    def __init__(self, message: str, failures: Mapping[str | int, Failure] | None = None) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})


class ProviderError(Exception):
    """One try of a request without an answer.

    Args:
        kind: REFUSED, UNANSWERED, WAIT, LIMITED or STOP.
        reason: What the server said, on one line.
        seconds: How long it asks to wait, or None.
        advice: What a user can do, for STOP, and for what is true of every request where none was answered before.
        billed: Whether an answer came that cannot be used; it is paid for.
    """

    def __init__(
        self, kind: str, reason: str, seconds: float | None = None, advice: str = "", billed: bool = False
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.seconds, self.advice, self.billed = kind, reason, seconds, advice, billed
        self.again = reason  # why the request is asked again, for who reads


class TooSlow(ProviderError):
    """A try without an answer in time.

    Args:
        waited: Seconds.
        slower: Whether the server is slower than that, and not this request alone.
    """

    def __init__(self, waited: float, slower: bool) -> None:
        super().__init__(WAIT, f"no answer within {round(waited, 2):g} s; a slow server needs a longer `timeout`")
        self.waited, self.slower = waited, slower


class NothingListens(ProviderError):
    """A try that was refused at an address of this machine: no program listens there, or not yet."""

    def __init__(self, reason: str, url: httpx2.URL) -> None:
        super().__init__(WAIT, reason)
        self.advice = f"nothing listens at {url.host}:{url.port}: is the server started?"


class FieldsRefused(ProviderError):
    """A try that was refused for fields of its body, which the refusal names."""

    def __init__(self, said: ProviderError, fields: list[str]) -> None:
        super().__init__(UNANSWERED, said.reason)
        self.fields, self.again = fields, f"the server refuses {', '.join(fields)}"


def words(*patterns: str) -> re.Pattern:
    """Return one pattern for any of these, in upper or lower case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


TOO_LARGE = words(r"request.?too.?large|(prompt|payload|input|entity) (is )?too (large|long)|too large to process")
ALLOCATED = words(r"(?<!free )allocated quota exceeded")  # DashScope's limit per minute, under the code of a bill
RATE = words(
    r"rate.?limit|too.?many.?(requests|concurren)|too.?(frequent|fast)|throttl|requests?.limit|concurren",
    r"per.?min|/ ?min\b|per.?second|(?<![a-z])([rt]pm|qp[sm])(?![a-z])",
    r"限流|流控|频率|頻率|频繁|頻繁|速率|过快|過快|并发|併發|並發|每分钟|每分鐘|每秒",
    r"请求(数|次数)?[过太]多|請求(數|次數)?[過太]多",
)
BUSY = words(
    r"over.?load|over.?capacity|no capacity|\bbusy\b|resource.?exhausted|high.(load|demand|traffic)|(try again|retry) later",
    r"temporar\w+ (unavailable|down)|loading model|model.{0,20}(loading|starting)|warming up|pending requests",
    r"繁忙|忙碌|过载|過載|访问量|訪問量|负载|負載|稍后|稍後|排队|排隊",
)
PASSING = words(  # an error of the server's own, whatever the post
    r"internal (server )?error|time.?out|timed.out|(took|taking).{0,10}too.long",
    r"(service|server|filter|upstream|currently|temporarily)( is)? unavailable",
    r"超时|超時|逾時|(时间|時間|耗时|耗時).{0,4}(过长|過長|太长|太長)|内部错误|內部錯誤|不可用",
    r"(系统|系統|服务|服務|网络|網路|網絡)(异常|異常|错误|錯誤|不良)",
)
DAILY = words(
    r"per.?(day|week|month)|daily|weekly|monthly|(?<![a-z])[rt]pd(?![a-z])|今日|每日|每天|当日|當日|每月|本月|每周"
)
NO_MONEY = words(
    r"insufficient.{0,20}(quota|balance|credit|fund)|no resource package|payment.required|out of credit",
    r"(balance|credit|fund)s?.{0,30}(insufficient|too low|not enough|depleted)|exceeded.current.quota.error",
    r"arrear|overdue|recharge|top.?up|total request limit|欠费|欠費|余额|餘額|充值|儲值|资源包",
)
QUOTA = words(
    r"current quota|quota.{0,40}(exceed|exhaust|used|reach|surpass)|out of.{0,20}quota|(exceed|exhaust|reach)\w*.{0,30}\bquota\b",
    r"billing|spend.{0,10}limit|usage.?limit|(credit|token)s?.{0,20}exhaust|key limit|free.?tier|budget.{0,30}exceed",
    r"额度|額度|配额|配額|限额|限額|用完|用尽|耗尽|次数(已)?(达|超)",
)
ACCOUNT = words(
    r"(account|organi[sz]ation|project|api.?key).{0,40}(suspend|deactivat|disabled|banned|blocked|terminat|frozen)|access.?terminated",
    r"[账帐賬帳][户号戶號].{0,12}(封|冻|凍|停用|禁用|异常|異常|锁|鎖|注销|风险|風險|不存在)",
)
KEY = words(
    r"(invalid|incorrect|wrong|missing|expired|no).{0,12}(api.?key|token.?provided|access.?token|credential|authenticat)",
    r"(api.?key|(access|security).?token|credential)s?.{0,40}(invalid|incorrect|not valid|not found|no longer|expired|missing|required)",
    r"authenticat\w*.{0,20}(fail|error|required)|unauthori[sz]ed|login.?fail|certification.?fail",
    r"身份验证|身份驗證|鉴权|鑑權|认证失败|認證失敗|未认证|未認證|未登录|未登入|no.?auth(?!or)",
    r"(密钥|密鑰|金钥|金鑰|令牌|凭证|憑證|api.?key|access.?token).{0,12}(无效|無效|错误|錯誤|过期|過期|不存在|失效|不正)",
    r"(无效|無效|错误|錯誤|过期|過期|失效|不正[确確]).{0,6}(密钥|密鑰|金钥|金鑰|令牌|凭证|憑證|api.?key|access.?token)",
)
MODEL = words(
    r"(unknown|invalid|no such|unsupported|unrecognized).model|not a (valid|supported) model|no endpoints found",
    r"(model|deployment|engine)\b.{0,80}(does not|doesn.t|not).?(exist|found)|(model|deployment)_?not_?found",
    r"model.?not.?available|unable to access.{0,20}model|无可用渠道|無可用渠道",
    r"model\b.{0,80}(not supported|deprecated|retired|decommission)",
    r"模型.{0,40}(不存在|未找到|已下线|已下線|不支持|无效|無效)|(不存在|未找到|无效|無效).{0,10}模型",
)
PERMISSION = words(
    r"permission.?denied|access.?denied|(not|n't|no) (have |been )?(permission|access|authori[sz]ed|enabled|subscribed)",
    r"not allowed to|insufficient.permission|must be verified|request.forbidden|whitelist|allowlist|白名单|白名單|unsupported.country|not .{0,30}(country|region|territory)",
    r"(country|region|territory|location).{0,40}(not|un).?(supported|available)",
    r"没有权限|沒有權限|无权|無權|未开通|未開通|未授权|未授權|(地区|地區|区域).{0,6}不支持|不支持.{0,6}(地区|地區)",
)
TOO_LONG = words(
    r"context.?(length|size|window)|input.?length|max\w*.(input|prompt|model.len)|too.long|too.many.(input.)?tokens",
    r"inputs?.{0,20}must (have|be) (less|fewer|shorter)|inputs?\W.{0,40}must be <=|exceed\w*.{0,40}(token|length|character)s?.limit",
    r"exceed\w*.{0,30}max\w*.length|(reduce|shorten).{0,20}(length|prompt|input|message|size)|above.max.length",
    r"exceed\w*.{0,20}tokens?\b|tokens?\b.{0,20}exceed",
    r"超长|超長|过长|過長|太长|太長|(长度|長度|字数|字數|上下文|(?<!max_)token).{0,12}(超|过|過|限制)",
    r"超(出|过|過).{0,16}(长度|長度|字数|字數|上下文)",
)
MODERATED = words(
    r"content.?(filter|polic|management|exists.risk|moderation|safety|security|violation|check|block(?!s))|data.?inspection",
    r"moderat|\baudit|(?<!case.)sensitive|high.risk|invalid.prompt|flagged|unsafe|inappropriate|harmful|prohibited|responsible.?ai",
    r"usage.polic|safety.(system|filter|check|polic|reason|guideline)|violat\w*.{0,40}(polic|guideline|rule|terms)",
    r"敏感|不安全|法律法规|法律法規|审核|審核|违规|違規|违反|違反|违禁|違禁|不良|涉嫌|不合规|不合規|不合适|不適|内容安全|內容安全|风险|風險",
    r"不[当當](内容|言论|信息)|内容不[当當]|(内容|內容|文本)不合法|(内容|內容|文本|触发|觸發).{0,4}安全策略",
    r"guardrail|self.?harm|(prompt|input|output|content|text) (was |is |has been )?blocked|自杀|自殺|自残|自殘|关键词|關鍵詞",
)
OUT_OF_CREDIT = "the account or its quota is exhausted: top it up, or continue later"
PROXY_LOGIN = "the proxy asks for a name and a password: write them into its variable"
WRONG_PAGE = "a web page in place of an answer: check `endpoint` (most end in /v1)"
NAMED = (  # what stops a run, and what to do
    (ACCOUNT, "ask the provider about the account"),
    (KEY, "check OPENAI_API_KEY"),
    (MODEL, "check `model` (in notebook 05 `served`)"),
    (PERMISSION, "ask the provider for access, or name another endpoint"),
)
STOPPING = {
    401: "check OPENAI_API_KEY",
    402: OUT_OF_CREDIT,
    404: "check `endpoint` and `model`",
    405: "check `endpoint`",
    410: "check `endpoint` and `model`",
}
REFUSING = (413, 451)  # too large; unavailable for legal reasons, as StepFun says of moderation
SLOWER, AGAIN = (429, 503, 529), (408, 409, 425, 499)  # and all from 500 on
PAGE = re.compile(r"\s*<(!doctype|html|head|\?xml|title|body)", re.IGNORECASE)
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
MESSAGES = ("message", "msg", "error_msg", "error_message", "status_msg", "detail", "error", "error_description", "raw")
CODES = ("code", "type", "error_code", "status_code", "error_type", "status", "loc")


def explain(error: openai.APIError) -> ProviderError:
    """Return what an error of OpenAI's client means: a response, or a connection without one."""
    if isinstance(error, openai.APIStatusError):
        response = error.response
        return judge(response.status_code, response.text, stated_wait(response.headers, response.text[:MOST_READ]))
    if isinstance(error, openai.APITimeoutError):
        return ProviderError(WAIT, "no answer in time; a slow server needs a longer `timeout`")
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    proxy, _ = stated_proxy(error.request.url)
    asked = f" (asked through the proxy in {proxy})" if proxy else ""
    reason = printable(f"{type(causes[min(1, len(causes) - 1)]).__name__}: {causes[-1]}{asked}")
    if is_local(error.request.url.host) and any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return NothingListens(reason, error.request.url)
    certificate = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    passing = any(isinstance(cause, (httpx2.NetworkError, httpx2.RemoteProtocolError)) for cause in causes)
    return ProviderError(WAIT if passing and not certificate else UNANSWERED, reason)


def judge(status: int, content: str, seconds: float | None = None) -> ProviderError:
    """Return what a response without an answer means.

    Args:
        status: HTTP's, or 0; below 400, the status that the body states counts.
        content: The response's body.
        seconds: How long the server asks to wait, or None.
    """
    codes, said = what_was_said(content)
    named = dict.fromkeys(["HTTP", str(status), *codes] if status else codes)
    reason = printable(": ".join(filter(None, [" ".join(named), said])))
    if status < 400:
        status = next((int(code) for code in codes if re.fullmatch("[45][0-9][0-9]", code)), status)
    if not content.strip() and status < 400:  # DeepSeek's, after blank lines that kept the connection open
        return ProviderError(WAIT, f"{reason}: contains only spaces", seconds)
    text = " ".join([*codes, said])[:MOST_READ]
    kind, advice = judge_page(status) if PAGE.match(content) else judge_words(status, text, seconds)
    slower = status in SLOWER or any(pattern.search(text) for pattern in (RATE, ALLOCATED, BUSY))
    if kind == UNANSWERED and (slower or status in AGAIN or status >= 500 or PASSING.search(text)):
        kind = LIMITED if slower else WAIT
        if seconds is not None and seconds > LONGEST_WAIT:
            kind, advice = STOP, f"the provider asks us to wait {seconds / 3600:.1f} hours"
    return ProviderError(kind, reason, seconds, advice)


def judge_page(status: int) -> tuple[str, str]:
    """Return what a web page in place of an answer means, whose words are not the provider's."""
    if status in REFUSING:
        return REFUSED, ""
    if status == 407:
        return STOP, PROXY_LOGIN
    return UNANSWERED, WRONG_PAGE if status < 400 or status in STOPPING else ""


def judge_words(status: int, text: str, seconds: float | None) -> tuple[str, str]:
    """Return REFUSED, STOP with what to do, or UNANSWERED, from a status and what was said with it."""
    rate = RATE.search(text) or ALLOCATED.search(text)
    if status in REFUSING or TOO_LARGE.search(text):
        return REFUSED, ""
    if status == 407:
        return STOP, PROXY_LOGIN
    if NO_MONEY.search(text) and not ALLOCATED.search(text):
        return STOP, OUT_OF_CREDIT
    post = MODERATED.search(text) and status not in STOPPING  # the post, not the account, is denied access
    for pattern, advice in NAMED:
        if pattern.search(text) and not (post and pattern is PERMISSION):
            return STOP, advice
    if status in STOPPING:
        return STOP, STOPPING[status]
    passing = rate or BUSY.search(text) or PASSING.search(text)
    later = seconds is not None and seconds <= LONGEST_WAIT
    if (DAILY.search(text) or (QUOTA.search(text) and not passing)) and not later:
        return STOP, OUT_OF_CREDIT
    if (TOO_LONG.search(text) or MODERATED.search(text)) and not passing and status != 429:
        return REFUSED, ""
    return UNANSWERED, ""


def what_was_said(content: str) -> tuple[list[str], str]:
    """Return the codes and the words in the body of an error: JSON of any shape, a page's title, or the text itself."""
    if PAGE.match(content):
        title = TITLE.search(content)
        return [], " ".join((title[1] if title else re.sub(r"<[^>]*>", " ", content)).split())[:200]
    try:
        found = list(leaves(json.loads(content)))
    except (ValueError, RecursionError):
        return [], content
    codes = dict.fromkeys(text for name, text in found if name in CODES and len(text) <= 60 and text != "error")
    said = dict.fromkeys(text for name, text in found if name in MESSAGES and text not in codes)
    return list(codes), "; ".join(said) or ("" if codes else content)


def leaves(value: object, name: str = "", depth: int = 8) -> Iterator[tuple[str, str]]:
    """Yield name and text of every text and number in a JSON value, and of JSON that is written into a text."""
    if isinstance(value, str) and value.lstrip().startswith("{") and name in MESSAGES:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else ((name, inner) for inner in value)
        for inner_name, inner in pairs if depth else ():
            yield from leaves(inner, inner_name.lower(), depth - 1)
    elif value not in (None, "") and not isinstance(value, bool):
        yield name, str(value)


class Streak:
    """How many requests in a row got no answer, and how many of them for one reason.

    Posts that the provider refuses say nothing about the others and do not count.
    """

    def __init__(self) -> None:
        self.length, self.alike, self.reason = 0, 0, ""

    def end(self) -> None:
        """Note an answer."""
        self.length, self.alike, self.reason = 0, 0, ""

    def add(self, reason: str) -> str | None:
        """Note a request without an answer; return a line once so many in a row cannot each have its own cause."""
        same = re.sub(r"\S*\d\S*", "", reason)  # IDs and numbers differ
        self.length, self.alike = self.length + 1, self.alike + 1 if same == self.reason else 1
        self.reason = same
        if self.alike >= SEVERAL or self.length >= MOST_FAILURES:
            return f"{self.length} requests in a row got no answer; the last: {reason}"
        return None
