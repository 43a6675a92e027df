"""A client for a provider that speaks no HTTP: a made-up one, with a line of text for a question, one for an answer.

A client is an object with two methods. `send` makes one call and returns the whole answer, or raises a `ClientError`
that says what failed, whom that concerns and whether trying again may help. That is all the runner needs to retry, fail
over, cool down and demote: it knows no HTTP, and this client knows no policy.
"""

from collections.abc import Mapping
from typing import Any

import anyio
import orjson
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from standby.clients import Body, ClientError, Request, Response
from standby.runner import ClientFactory, open_gateway


class ParrotClient:
    """Asks a parrot: ``SAY words`` gets ``OK words``, ``BUSY seconds`` or ``SICK``."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def send(self, request: Request) -> Response:
        words = Body.of(request.body).data["messages"][-1]["content"]
        try:
            async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
                await stream.send(f"SAY {words}\n".encode())
                line = await BufferedByteReceiveStream(stream).receive_until(b"\n", 1000)
        except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound) as error:
            raise ClientError("network", str(error), retryable=True) from error
        match line.decode().split(" ", 1):
            case ["OK", said]:
                return answer(said)
            case ["BUSY", seconds]:
                # The hint is how long it asks to be left alone; policies decide how far that is followed.
                raise ClientError("rate_limit", line.decode(), retryable=True, hint=float(seconds), work="rejected")
            case _:
                raise ClientError("server_error", line.decode(), retryable=True)

    async def aclose(self) -> None:
        """Nothing stays open between calls."""


def answer(words: str) -> Response:
    """The answer in the form that callers of this gateway know: a chat completion."""
    message = {"role": "assistant", "content": words}
    data = {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    return Response(200, {"content-type": "application/json"}, orjson.dumps(data), data)


async def main() -> None:
    answers = [b"BUSY 30\n", b"OK Pieces of eight!\n"]

    async def parrot(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answers.pop(0))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 - an attribute of a socket, no SQL
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, parrot)
        clients: dict[str, ClientFactory] = {"parrot": lambda _provider: ParrotClient(port)}
        async with open_gateway(config(), clients=clients) as gateway:
            result = await gateway.runner.run(Request("chat", {"messages": [{"role": "user", "content": "Speak!"}]}))
            print(f"{result.candidate}: {result.data['choices'][0]['message']['content']}")
            for status in gateway.runner.statuses():
                print(f"  {status.id} is {status.status} {status.cause}".rstrip())
        tasks.cancel_scope.cancel()


def config() -> Mapping[str, Any]:
    return {
        "version": 1,
        "providers": {"cage": {"client": "parrot"}, "ship": {"client": "parrot"}},
        "models": {
            "chat": {
                "candidates": [
                    {"id": "polly", "provider": "cage", "model": "grey", "priority": 10},
                    {"id": "flint", "provider": "ship", "model": "green", "priority": 20},
                ]
            }
        },
    }


if __name__ == "__main__":
    anyio.run(main)
