"""The demonstration, put together: servers, gateway, load, screen, summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console

from standby.runner import Runner, open_gateway

from ._document import document
from ._load import send_all
from ._providers import Progress
from ._screen import View, candidates
from ._servers import Servers
from ._shows import Lines, Screen
from ._summary import summary
from ._tally import Tally
from .faults import Script

LOOK_SECONDS: Final = 0.125
"""How often the candidates are looked at, and the screen is drawn."""


async def demonstrate(
    requests: int, folder: Path, console: Console, *, live: bool, scripts: Mapping[str, Script] | None = None
) -> bool:
    """Send the requests, show what happens, sum it up, and return whether all of them were answered.

    Args:
        requests: How many to send.
        folder: Where the store is kept.
        console: Where it is shown.
        live: Whether that is a terminal, on which lines can be drawn anew.
        scripts: What some providers do instead of what they usually do, by name.
    """
    progress, tally = Progress(requests), Tally()
    async with (
        Servers(progress, scripts=scripts) as servers,
        open_gateway(document(servers.urls, folder)) as gateway,
    ):
        view = View(gateway.runner, progress, tally, servers)
        with Screen(view, console) if live else Lines(view, console) as show:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_look_around, gateway.runner, servers, tally, show)
                await send_all(gateway.runner, progress, lambda ended: show.happened(tally.add(ended)))
                tasks.cancel_scope.cancel()
        took_seconds = view.seconds
        console.print(candidates(view, console.width), "", sep="\n")
        console.print(summary(tally, requests, took_seconds, console.width))
    return tally.answered == requests


async def _look_around(runner: Runner, servers: Servers, tally: Tally, show: Screen | Lines) -> None:
    """Now and then: let the servers do what is due, see whose rank has changed, and draw."""
    while True:
        await servers.go_on()
        now = runner.now()
        for status in runner.statuses():
            show.happened(tally.tell(tally.story.of_rank(status.key, status.effective_priority, now)))
        show.draw()
        await anyio.sleep(LOOK_SECONDS)
