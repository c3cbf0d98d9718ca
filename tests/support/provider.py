"""A provider on the loopback, as OpenAI's API speaks: chat completions by a script, files, batches, and every error."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-secret-0123456789"


class Server(ThreadingHTTPServer):
    """A provider on the loopback: answers by `script`, a function of (body, number of the call), and keeps bodies."""

    daemon_threads, request_queue_size = True, 128  # fifty connections at once are not refused

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.keys, self.paths, self.headers, self.lock = [], [], [], [], threading.Lock()
        self.script = lambda body, call: good(body)
        self.files, self.batches, self.beats = {}, {}, 1  # a batch has ended after so many looks at it
        self.end = "completed"  # or expired, cancelled: how it ends
        self.line = lambda call: answered(call["custom_id"], *good(call["body"])[:2])

    def taken(self, path, content):
        """(status, body, headers) for an uploaded file or a new batch."""
        if path.endswith("/files"):
            name = f"file-{len(self.files)}"
            self.files[name] = content.split(b"\r\n\r\n")[-1].rpartition(b"\r\n--")[0]  # multipart's last part
            return (
                200,
                {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "f", "purpose": "batch"},
                {},
            )
        asked = json.loads(content)
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "created_at": 0, "status": "validating"}
        batch |= {name: asked[name] for name in ("endpoint", "input_file_id", "completion_window", "metadata")}
        self.batches[batch["id"]] = (batch, 0)
        return 200, batch, {}

    def looked_at(self, name):
        """The batch, one look further; at the last its lines are answered by `line`: None, and no line comes back."""
        batch, looks = self.batches[name]
        calls = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if looks >= self.beats and batch["status"] not in ("completed", "failed", "expired"):
            lines = [line for line in map(self.line, calls) if line is not None]
            done = [line for line in lines if line["response"] and line["response"]["status_code"] == 200]
            ids = {"output_file_id": done, "error_file_id": [line for line in lines if line not in done]}
            batch |= {
                "status": self.end,
                "request_counts": {"total": len(calls), "completed": len(done), "failed": 0},
            }
            for field, some in ids.items():
                if some:
                    batch[field] = f"{name}-{field}"
                    self.files[batch[field]] = "\n".join(map(json.dumps, some)).encode()
        self.batches[name] = (batch, looks + 1)
        return batch


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        """Batches and files, as OpenAI's API gives them."""
        where = self.path.split("?")[0].split("/")
        if where[-1] == "content":
            self.answer(200, self.server.files[where[-2]], {"Content-Type": "application/octet-stream"})
        elif where[-1] == "batches":
            listed = [batch for batch, _ in self.server.batches.values()]
            self.answer(200, {"object": "list", "data": listed[::-1], "has_more": False}, {})
        else:
            self.answer(200, self.server.looked_at(where[-1]), {})

    def do_POST(self):
        if self.path.endswith(("/files", "/batches")):
            return self.answer(*self.server.taken(self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.paths.append(self.path)
            self.server.headers.append(dict(self.headers))
            call = len(self.server.asked)
        self.answer(*self.server.script(body, call))

    def answer(self, status, content, headers):
        """Send it; of a generator what it yields, piece by piece."""
        if not isinstance(content, (bytes, dict)):
            return self.drip(status, content)
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json", "Content-Length": len(payload)} | headers).items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(payload)
        except OSError:
            pass  # the client went away, as it may

    def drip(self, status, pieces):
        """A body in pieces, without a length: it ends where the connection does."""
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)
                self.wfile.flush()
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *arguments):
        pass


def good(body, text=None):
    """A completion as OpenAI's API sends it: the reply echoes the post."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text or "答" + body["messages"][-1]["content"]},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    return (
        200,
        {"id": "x", "object": "chat.completion", "created": 0, "model": "m-0613", "choices": [choice], "usage": usage},
        {},
    )


def bad(status, message="no", code=None, **headers):
    return (
        status,
        {"error": {"message": message, "code": code, "type": "t"}},
        {k.replace("_", "-"): v for k, v in headers.items()},
    )


def answered(mark, status, body):
    """A line of a batch's output."""
    return {
        "id": "r",
        "custom_id": mark,
        "response": {"status_code": status, "request_id": "q", "body": body},
        "error": None,
    }


def text_completion(body, text="\n慢慢来。 ", finish="length"):
    """As vLLM answers /v1/completions."""
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    content = {"id": "x", "object": "text_completion", "created": 0, "model": body["model"]}
    return 200, content | {"choices": [choice], "usage": usage}, {}
