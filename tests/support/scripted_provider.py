"""A provider on the loopback that answers by the rules of a case (see `provider_cases.json`)."""

import contextlib
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POST = re.compile(r"样本(\d\d)，")  # how the posts of the cases begin: which one a request is about


class Provider(ThreadingHTTPServer):
    """Answers by the first rule that matches a request, else with the whole reply; counts requests by post."""

    daemon_threads = True

    def __init__(self, rules: list[dict], reply: str, cut: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rules, self.texts, self.lock = rules, {"{reply}": reply, "{reply_cut}": cut}, threading.Lock()
        self.by_post: dict[int, int] = {}
        self.times: list[float] = []

    def __enter__(self) -> "Provider":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        super().__exit__(*error)

    def rule(self, post: int) -> dict:
        """Count a request about a post and return the rule that answers it."""
        with self.lock:
            now = time.monotonic()
            self.times.append(now)
            self.by_post[post] = attempt = self.by_post.get(post, 0) + 1
            facts = {"post": post, "attempt": attempt, "request": len(self.times), "seconds": now - self.times[0]}
            recent = sum(now - earlier < 1 for earlier in self.times[:-1])
            return next((rule for rule in self.rules if applies(rule, facts, recent)), WHOLE)


def applies(rule: dict, facts: dict, recent: int) -> bool:
    """Return whether a rule answers a request; `recent` is how many came in the second before it."""
    when = rule.get("when", {})
    checks = {
        "posts": lambda value: facts["post"] in value,
        "attempts": lambda value: facts["attempt"] in value,
        "from_attempt": lambda value: facts["attempt"] >= value,
        "requests": lambda value: facts["request"] in value,
        "from_request": lambda value: facts["request"] >= value,
        "to_request": lambda value: facts["request"] <= value,
        "every": lambda value: facts["request"] % value == 0,
        "seconds_before": lambda value: facts["seconds"] <= value,
    }
    within = recent < rule["limit"]["requests_per_second"] if "limit" in rule else False
    return not within and all(checks[name](value) for name, value in when.items())


WHOLE = {
    "body": {
        "id": "{request_id}",
        "object": "chat.completion",
        "created": 1,
        "model": "{model}",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "{reply}"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 700, "total_tokens": 1200},
    }
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = POST.search(json.dumps(body, ensure_ascii=False))
        rule = self.server.rule(int(found[1]) if found else 0)
        time.sleep(rule.get("delay_seconds", 0))
        content = rule.get("body", rule.get("text", ""))
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        number = f"req_{len(self.server.times):06d}"
        for mark, value in (self.server.texts | {"{model}": body["model"], "{request_id}": number}).items():
            text = text.replace(
                mark, value if isinstance(content, str) else json.dumps(value, ensure_ascii=False)[1:-1]
            )
        self.answer(rule, text.encode(), "text/plain" if isinstance(content, str) else "application/json")

    def answer(self, rule: dict, data: bytes, kind: str) -> None:
        """Send a response, or as much of it as the rule says."""
        close = rule.get("close")
        if close == "before_headers":
            return self.drop()
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": len(data)} | rule.get("headers", {})
        with contextlib.suppress(OSError):  # who asked may have given up
            self.send_response(rule.get("status", 200))
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data if close is None else data[: len(data) // 2] if close == "mid_body" else b"")
        return self.drop() if close else None

    def drop(self) -> None:
        """Close the connection."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
