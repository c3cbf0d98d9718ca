"""A server on this machine that speaks as much of the hub's API as an upload needs, over HTTP, and keeps what comes."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """`with Hub() as hub`: hub.url; hub.created: bodies of repositories; hub.files: path -> content; hub.tokens."""

    def __enter__(self):
        self.created, self.files, self.tokens, hub = [], {}, set(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else self.chunks()
                hub.tokens.add(self.headers.get("Authorization"))
                if self.headers.get("Authorization") != "Bearer hf_good":
                    return self.say(401, {"error": "Invalid username or password."})
                if self.path == "/api/repos/create":
                    hub.created.append(json.loads(body))
                    return self.say(200, {"url": f"{hub.url}/someone/cbt", "name": "someone/cbt"})
                if "/preupload/" in self.path:
                    asked = json.loads(body)["files"]
                    modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
                    return self.say(200, {"files": modes})
                if "/commit/" in self.path:
                    for line in body.splitlines():
                        entry = json.loads(line)
                        if entry["key"] == "file":
                            hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    return self.say(
                        200, {"commitUrl": f"{hub.url}/someone/cbt/commit/{'a' * 40}", "commitOid": "a" * 40}
                    )
                return self.say(200, {})

            def do_GET(self):
                if "/tree/" in self.path or "/commits/" in self.path:
                    return self.say(200, [])
                return self.say(200, {"id": "someone/cbt", "sha": "a" * 40, "private": True, "siblings": []})

            def chunks(self):
                found = b""
                while size := int(self.rfile.readline() or b"0", 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                return found

            def say(self, status, content):
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
