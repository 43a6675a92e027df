"""`standby demo`: an ordinary function that runs the event loop itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ._sigterm import Sigterm, Terminated

if TYPE_CHECKING:
    from .faults import Script

INTERRUPTED: Final = 130
"""The exit code of a process that Ctrl-C ended."""
TERMINATED: Final = 143
"""The same for SIGTERM."""

INTRODUCTION: Final = (
    "[bold]Standby demo[/bold]: {}, seven providers on real sockets, six of them fail.\n"
    "birch speaks Anthropic's API, cedar Gemini's; the others, and callers, OpenAI's."
)


def run_demo(
    requests: int = 300, serve: bool = False, port: int = 0, *, scripts: Mapping[str, Script] | None = None
) -> int:
    """Show how requests are answered while providers fail: real sockets, a real store, nothing to configure.

    Args:
        requests: How many to send.
        serve: Send none, but keep the gateway up for the user's own, until Ctrl-C.
        port: Where it then listens; 0 picks a free one.
        scripts: What some of the providers do instead of what they usually do, by name.

    Returns:
        The exit code: 0 if every request was answered completely, 1 if not, 130 after Ctrl-C, 143 after SIGTERM;
        0 where one of these ended the serving, 1 where the port could not be had.

    Raises:
        ValueError: Fewer than one request.
    """
    if requests < 1:
        raise ValueError("requests must be at least 1")
    sigterm = Sigterm()
    try:
        with sigterm.handled(), TemporaryDirectory(prefix="standby-demo-") as folder, _quiet_log():
            return _performed(requests, Path(folder), port if serve else None, scripts, sigterm)
    except KeyboardInterrupt:
        print("Interrupted; everything is closed.")
        return INTERRUPTED
    except Terminated:
        print("Terminated; everything is closed.")
        return TERMINATED


def _performed(
    requests: int, folder: Path, port: int | None, scripts: Mapping[str, Script] | None, sigterm: Sigterm
) -> int:
    """Run the demonstration; with a port, serve instead."""
    from rich.console import Console  # noqa: PLC0415 - what is needed takes long to import, and is needed only here

    console = Console(highlight=False)
    if not console.encoding.startswith("utf") and (reconfigure := getattr(sys.stdout, "reconfigure", None)):
        reconfigure(errors="replace")  # for an arrow rather a question mark than an end
    live = console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
    console.print(INTRODUCTION.format(f"{requests} requests" if port is None else "a gateway"))

    import anyio  # noqa: PLC0415 - as above

    from ._document import key_in_environment  # noqa: PLC0415 - as above

    async def perform() -> int:
        if port is not None:
            from ._serving import keep_serving  # noqa: PLC0415 - as above

            return await keep_serving(port, folder, console, scripts)
        from ._run import demonstrate  # noqa: PLC0415 - as above

        return 0 if await demonstrate(requests, folder, console, live=live, scripts=scripts) else 1

    with key_in_environment():
        return anyio.run(sigterm.cancels, perform)


@contextmanager
def _quiet_log() -> Generator[None]:
    """Let the log say errors only: what it warns of is what the demonstration shows."""
    log, handler = logging.getLogger("standby"), logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
