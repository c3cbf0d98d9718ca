"""A server that answers chat completions after a set time, in its own process: python slow_server.py MEAN SPREAD."""

import asyncio
import json
import random
import sys

REPLY = "听得出来，这段时间你很不容易。" * 35  # 525 characters, the paper's mean (Table 1)
USAGE = {"prompt_tokens": 900, "completion_tokens": 700, "total_tokens": 1600}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
BODY = {"id": "x", "object": "chat.completion", "created": 0, "model": "slow", "choices": [CHOICE], "usage": USAGE}
PAYLOAD = json.dumps(BODY).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(PAYLOAD)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: read a request, wait, answer; again."""
    mean, spread = map(float, sys.argv[1:3])
    draw = random.Random(writer.get_extra_info("peername")[1])
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            await asyncio.sleep(draw.uniform(mean - spread, mean + spread))
            writer.write(HEAD + PAYLOAD)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Print the port, then serve until the process is ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
