"""`standby demo --serve`: the gateway stays up, with providers that take turns in failing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standby.proxy import CannotListen, address_of, bound_socket, create_app, run_server
from standby.runner import open_gateway

from ._document import document
from ._providers import Progress
from ._servers import Servers
from .faults import Script

CHAT: Final = '{"model": "chat", "messages": [{"role": "user", "content": "Hello?"}]}'
STREAM: Final = '{"model": "chat", "stream": true, "messages": [{"role": "user", "content": "Hello?"}]}'
EMBED: Final = '{"model": "embed", "input": "Hello?"}'


async def keep_serving(port: int, folder: Path, console: Console, scripts: Mapping[str, Script] | None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Args:
        port: Where to listen; 0 picks a free one.
        folder: Where the store is kept.
        console: Where to say what happens.
        scripts: What some providers do instead of what they usually do, by name.
    """
    try:
        listening = bound_socket("127.0.0.1", port)
    except CannotListen as error:
        console.print(f"standby: {error}")
        return 1
    with listening:
        async with (
            Servers(Progress(1), serve=True, scripts=scripts) as servers,
            open_gateway(document(servers.urls, folder, port=port)) as gateway,
        ):
            app = Telling(create_app(gateway.runner, gateway.document.server), console)
            await run_server(app, listening, lambda said: _invite(console, said, address_of(listening)))
    return 0


def _invite(console: Console, said: str, address: str) -> None:
    lines = (
        said,
        "",
        "Ask, more than once: the providers take turns in failing.",
        f"  curl -i {address}/v1/chat/completions -d '{CHAT}'",
        f"  curl -N {address}/v1/chat/completions -d '{STREAM}'",
        f"  curl -i {address}/v1/embeddings -d '{EMBED}'",
        "",
        "In the answer's headers: x-standby-trail tells every try, what was decided and by which rule;",
        "x-standby-candidate who answered; x-standby-run-id is what to look the run up by:",
        f"  curl {address}/admin/runs/RUN_ID",
        f"  curl {address}/admin/candidates",
        "",
        "Ctrl-C ends it.",
        "",
    )
    for line in lines:
        console.print(Text(line), soft_wrap=True)


class Telling:
    """An application that also says each run in one line, from the headers of its answer."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began_at = time.monotonic()

        async def send_and_tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {name.decode(): value.decode() for name, value in message["headers"]}
                if "x-standby-trail" in headers:
                    self._tell(message["status"], headers, time.monotonic() - began_at)
            await send(message)

        await self._app(scope, receive, send_and_tell)

    def _tell(self, status: int, headers: Mapping[str, str], seconds: float) -> None:
        words = Text(f"{headers['x-standby-run-id']} ", "dim")
        words.append(trail_in_words(headers["x-standby-trail"]), "default" if status == 200 else "red")
        streams = headers.get("content-type", "").startswith("text/event-stream")
        words.append(f", {status}{', first content' if streams else ''} in {seconds:.2f} s")
        self._console.print(words, soft_wrap=True)


def trail_in_words(trail: str) -> str:
    """The header `x-standby-trail` with what matters most of every try."""
    tries: list[str] = []
    for member in trail.split(", "):
        candidate, *rest = member.split(";")
        fields = {name: value for name, _, value in (field.partition("=") for field in rest)}
        decision = f" ({fields['decision']})" if "decision" in fields else ""
        tries.append(f"{candidate} {fields['outcome']}{decision}")
    return ", ".join(tries)
