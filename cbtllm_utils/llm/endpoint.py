"""The endpoint: OpenAI, any URL with its API (including both forms of Azure's), or a recording; and its proxy."""

import ipaddress
import logging
import os
import urllib.request

import httpx2
import openai

from cbtllm_utils import files
from cbtllm_utils.llm import key
from cbtllm_utils.llm.recorded import REPLAY, Recording, is_recording

AZURE = (".openai.azure.", ".cognitiveservices.azure.", ".services.ai.azure.")  # .com, .cn and .us
ROUTES = ("/chat/completions", "/completions")  # what a user may have copied with the base URL


def connect(
    endpoint: str, timeout: float, connections: int = 100, max_retries: int = 0, own_key: str | None = None
) -> openai.AsyncOpenAI:
    """Return OpenAI's client for an endpoint, with the key from OPENAI_API_KEY.

    Args:
        endpoint: `openai`, a base URL, or `replay:` and a recording. A URL's query is sent with every request, as
            Azure's older form needs it: https://NAME.openai.azure.com/openai/deployments/NAME?api-version=DATE.
        timeout: Seconds without a byte before a try is given up.
        connections: Kept open: with fewer than there are requests in flight, each would open one of its own.
        max_retries: Of OpenAI's client; 0 where `client.ask` tries again by itself.
        own_key: Of a server that this package started, in place of the user's.

    Raises:
        InputError: For an unknown endpoint, a missing recording, a key or a proxy that cannot be used.
    """
    common = {"max_retries": max_retries, "timeout": timeout}
    if is_recording(endpoint):
        recording = httpx2.AsyncClient(transport=Recording(endpoint.removeprefix(REPLAY)))
        return openai.AsyncOpenAI(api_key="none", base_url="http://recording/v1", http_client=recording, **common)
    url = base_url(endpoint)
    secret = own_key or key.read()
    for handler in logging.getLogger().handlers:
        handler.addFilter(key.HIDE_KEY)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    hooks = [without_bearer] if is_azure(url) else []
    transport = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy_for(url))
    return openai.AsyncOpenAI(
        api_key=secret,
        base_url=url.copy_with(query=None),
        default_query=dict(url.params),
        default_headers={"api-key": secret} if is_azure(url) else {},
        http_client=openai.DefaultAsyncHttpxClient(transport=transport, event_hooks={"request": hooks}),
        **common,
    )


def base_url(endpoint: str) -> httpx2.URL:
    """Return an endpoint's base URL.

    Raises:
        InputError: For anything but `openai` and an http(s) URL.
    """
    name = "https://api.openai.com/v1" if endpoint == "openai" else endpoint
    try:
        url = httpx2.URL(name)
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise files.InputError(f"endpoint {endpoint!r}: expected openai, an http(s) URL, or replay:PATH")
    path = url.path.rstrip("/")
    for route in ROUTES:
        path = path.removesuffix(route)
    return url.copy_with(path=path or "/")


def is_azure(url: httpx2.URL) -> bool:
    """Return whether a URL is Azure's, which takes the key in a header of its own.

    Not all that Azure hosts: models.inference.ai.azure.com is GitHub's, and takes the key as everybody does.
    """
    return any(name in url.host for name in AZURE) or "api-version" in url.params


async def without_bearer(request: httpx2.Request) -> None:
    """Remove the key from the header in which Azure expects the token of another kind of login."""
    request.headers.pop("Authorization", None)


def proxy_for(url: httpx2.URL) -> httpx2.Proxy | None:
    """Return the environment's proxy for a URL, or None.

    Raises:
        InputError: With the variable's name, for a proxy that cannot be used. Its value may hold a password.
    """
    name, value = stated_proxy(url)
    if not value:
        return None
    try:
        proxy = httpx2.Proxy(value if "://" in value else f"http://{value}")
        httpx2.AsyncHTTPTransport(proxy=proxy)
    except ImportError:
        raise files.InputError(f"{name}: a SOCKS proxy needs the package socksio; install it, or unset it") from None
    except (ValueError, httpx2.InvalidURL):
        kind = value.partition("://")[0] if "://" in value else "its value"
        advice = "write it as http://, https:// or socks5://, unset it, or add the server to NO_PROXY"
        raise files.InputError(f"{name}: {kind} is not a proxy that can be used; {advice}") from None
    return proxy


def stated_proxy(url: httpx2.URL) -> tuple[str, str]:
    """Return which variable states the proxy for a URL, and its value, or two empty texts.

    Servers on this machine and those in NO_PROXY need none.
    """
    if is_local(url.host) or urllib.request.proxy_bypass(url.host):
        return "", ""
    known = urllib.request.getproxies()
    scheme = next((scheme for scheme in (url.scheme, "all") if known.get(scheme)), None)
    if scheme is None:
        return "", ""
    names = (name for name in os.environ if name.lower() == f"{scheme}_proxy")
    return next(names, "the system's settings"), known[scheme]


def is_local(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
