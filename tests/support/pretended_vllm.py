"""A program with vLLM's command line and routes, and a child as its engine, for tests of how it is started and stopped.

    python pretended_vllm.py [--help] [--broken] [--fails] [--ends] MODEL --host HOST --port PORT …

It answers /v1/completions with the prompt's token ids, whose last is followed by a stop token of the request.
"""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        options = dict(zip(sys.argv, sys.argv[1:], strict=False))
        most = int(options.get("--max-model-len", 4096))
        self.answer({"version": "0.0.1", "data": [{"id": "model", "max_model_len": most}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "--ends" in sys.argv:
            print("RuntimeError: no memory is left in /secret/place/of/a/machine", flush=True)
            os._exit(1)
        print(f"asked {json.dumps(body)}", flush=True)
        tokens = [*body["prompt"], *body["stop_token_ids"][:1]]
        choice = {"index": 0, "text": "", "finish_reason": "stop", "token_ids": tokens}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(tokens)}
        self.answer({"model": body["model"], "choices": [choice], "usage": usage, "asked": body})

    def answer(self, content):
        payload = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


def main():
    options = dict(zip(sys.argv, sys.argv[1:], strict=False))
    if "--fails" in sys.argv:
        print("INFO loading /secret/place/of/a/machine\nTraceback\nValueError: no GPU below /secret/place/nvidia")
        sys.exit(1)
    if "--help" in sys.argv:
        sys.exit("--broken" in sys.argv and "RuntimeError: operator torchvision::nms does not exist")
    engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pids = {"server": os.getpid(), "engine": engine.pid, "arguments": sys.argv, "environment": dict(os.environ)}
    print(f"device_config=cpu, {json.dumps(pids)}", flush=True)
    server = ThreadingHTTPServer((options["--host"], int(options["--port"])), Handler)
    threading.Thread(target=server.serve_forever).start()


if __name__ == "__main__":
    main()
