"""A Hugging Face hub on this machine with one model in several formats: what `huggingface_hub` asks, and no more."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serve `files` as the model `nobody/model`; `requested` lists what was downloaded; `broken` files end early."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requested, self.broken = files, [], set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, body: bytes, headers: dict[str, str], status: int = 200, whole: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if whole else body[: len(body) // 2])

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/") and not path.endswith((COMMIT, "main", "nobody/model")):
            self.answer(b"", {"X-Error-Code": "RevisionNotFound"}, 404)
        elif path.startswith("/api/models/nobody/model/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.server.files.items()
            ]
            self.answer(json.dumps(entries).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/api/models/nobody/model"):
            siblings = [{"rfilename": name} for name in self.server.files]
            told = {"id": "nobody/model", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            self.answer(json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif (name := path.partition(f"/nobody/model/resolve/{COMMIT}/")[2]) in self.server.files:
            body = self.server.files[name]
            if self.command == "GET":
                self.server.requested.append(name)
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.answer(body, headers, whole=name not in self.server.broken)
        else:
            self.answer(b"", {"X-Error-Code": "EntryNotFound"}, 404)

    do_HEAD = do_GET


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """Yield a hub that serves these files until the block ends."""
    with Hub(files) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()
