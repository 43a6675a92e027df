"""A provider that answers at once, in a process of its own, so that what is measured is the caller's side."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

from standby.runner.testing import answer

BODY = answer("All is well. " * 20).content
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: %d\r\n\r\n"
    % len(BODY)
) + BODY
DOWN_BODY = b'{"error": {"message": "down", "type": "server_error", "code": null}}'
DOWN = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(DOWN_BODY)
) + DOWN_BODY


class Provider(asyncio.Protocol):
    """Answers every request whose head and body have come; paths under `/down` fail."""

    def __init__(self) -> None:
        self.got = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += data
        while (end := self.got.find(b"\r\n\r\n")) >= 0:
            head = self.got[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self.got) < end + 4 + length:
                return
            self.transport.write(DOWN if b" /down" in head else ANSWER)
            self.got = self.got[end + 4 + length :]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def provider():
    """The address of a provider that runs as long as the block does."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.loopback"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    try:
        import uvloop

        run = uvloop.run
    except ModuleNotFoundError:
        run = asyncio.run
    with contextlib.suppress(KeyboardInterrupt):
        run(serve())
