"""`standby serve` in one process, on one port, until it is told to stop; for several see `_workers.py`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import anyio
import orjson
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from standby.runner import Gateway, open_gateway
from standby.store import Document, InvalidConfig, ServerSettings, parse, read, unfit_to_serve

from ._admin import Tools
from ._answers import error_answer, error_content
from ._app import create_app
from ._asked import path_of, run_id_of
from ._follow import follow
from ._head import Protocol
from ._meter import Meter
from ._refusals import Refusal

log = logging.getLogger("standby.proxy")

DRAIN_SECONDS: Final = 600
"""How long runs that are under way may take to end after SIGTERM: as long as a run may take by default."""
BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than callers and balancers keep an idle connection: one that the server closes may just be sent a request."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

Explain = Callable[[Gateway, Mapping[str, Any]], Mapping[str, Any]]
"""Answers `POST /admin/explain`; a question that makes no sense is a `ValueError`."""


class CannotListen(Exception):
    """The address cannot be bound; the message says why."""


def print_at_once(line: str) -> None:
    """Print where it is seen at once: whoever started the server may wait for the line at the end of a pipe."""
    print(line, flush=True)


async def serve(
    config: str | os.PathLike[str],
    *,
    host: str | None = None,
    port: int | None = None,
    last_good: bool = False,
    explain: Explain | None = None,
    say: Callable[[str], None] = print_at_once,
) -> None:
    """Serve the gateway that ``config`` describes until SIGTERM or SIGINT, then let what is under way end.

    In this process alone, whatever `server.workers` says. A change of the file becomes the catalog's next version; its
    server and store sections are read at the start only.

    Args:
        config: The configuration document's file.
        host: Overrides `server.host`.
        port: Overrides `server.port`.
        last_good: Whether a copy of the catalog is kept beside the file, and a start without the stores is no error.
        explain: Answers `POST /admin/explain`.
        say: Is told the first line of output: where the server listens.

    Raises:
        InvalidConfig: The document is wrong.
        StoreError: A store that it names cannot be opened.
        CannotListen: The address cannot be bound.
    """
    where = os.fspath(config)
    raw = read(config)
    settings = settings_of(parse(raw, where=where), where, host=host, port=port, workers=1)
    # The address first: a second server that was started by mistake must not put its document into a shared store.
    with bound_socket(settings.host, settings.port) as listening:
        opened = open_gateway(raw, where=where, last_good=copy_beside(config) if last_good else None)
        async with opened as gateway, anyio.create_task_group() as tasks:

            async def reload(by: str, why: str) -> int:
                return await gateway.reload(read(config), by=by, why=why)

            tasks.start_soon(follow, config, partial(reload, "file", "edited"), raw)
            app = create_app(gateway.runner, settings, tools_of(gateway, reload, explain))
            await run_server(app, listening, say)
            tasks.cancel_scope.cancel()


def copy_beside(config: str | os.PathLike[str]) -> str:
    """Where the copy of the catalog is that was served last."""
    return f"{os.fspath(config)}.last-good.yaml"


def tools_of(
    gateway: Gateway, reload: Callable[[str, str], Awaitable[int]], explain: Explain | None, meter: Meter | None = None
) -> Tools:
    """What the application of an open gateway needs beside its runner."""
    return Tools(reload, None if explain is None else lambda asked: explain(gateway, asked), meter)


def settings_of(document: Document, where: str, *, host: str | None, port: int | None, workers: int) -> ServerSettings:
    """The document's `server` section under what overrides it.

    Raises:
        InvalidConfig: It would let everybody in, or have workers that share nothing.
    """
    settings = document.server
    port = settings.port if port is None else port
    settings = settings.model_copy(update={"host": host or settings.host, "port": port, "workers": workers})
    if findings := unfit_to_serve(settings, document.store):
        raise InvalidConfig(findings, where)
    return settings


def bound_socket(host: str, port: int, *, shared: bool = False, listens: bool = True) -> socket.socket:
    """A socket that listens on ``host`` and ``port``; port 0 picks a free one.

    Args:
        host: A name or an address of this machine.
        port: The port.
        shared: Whether other sockets that are shared too may have the same port.
        listens: Whether it listens already. One that does not holds the port and is sent no connection.

    Raises:
        CannotListen: The address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets at once only where the protocol is named; else each answer takes 40 ms longer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host.strip("[]"), port))
        if listens:
            listening.listen(BACKLOG)  # two sockets may be bound to one address; only one may listen, if not shared
    except (OSError, OverflowError, UnicodeError) as error:
        listening.close()
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise CannotListen(f"cannot listen on {host} port {port}: {why}") from error
    return listening


async def run_server(app: ASGIApp, listening: socket.socket, say: Callable[[str], None]) -> None:
    """Serve ``app`` on a bound socket until SIGTERM or SIGINT, then let what is under way end.

    Where that takes too long, a second SIGINT comes or the caller is cancelled, what is under way is cancelled.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,  # the host's own
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
        # Whoever forwards for others must not make them look like this machine; the admin API depends on it.
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, lambda: say(f"listening on {address_of(listening)}"))
    config.app = _told_when_cut(app, lambda: server.should_exit)
    try:
        await server.serve([listening])
    finally:
        with anyio.CancelScope(shield=True):
            await server.cut()


def address_of(listening: socket.socket) -> str:
    """The address of a bound socket, as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _told_when_cut(app: ASGIApp, stops: Callable[[], bool]) -> ASGIApp:
    """``app``, whose calls that are cancelled as the server stops are answered all the same."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not stops():
                raise
            path, refusal = path_of(scope), Refusal(503, "service_unavailable_error", "stopping", "The gateway stops.")
            run_id = run_id_of(Request(scope))
            try:
                await error_answer(path, refusal, run_id)(scope, receive, send)
            except RuntimeError:  # the answer has begun; of a stream this is the last event
                event = b"data: " + orjson.dumps(error_content(path, refusal, run_id)) + b"\n\n"
                with suppress(RuntimeError):
                    await send({"type": "http.response.body", "body": event, "more_body": False})

    return answer


class _Server(uvicorn.Server):
    """Says when it listens, and leaves nothing behind."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listens()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if calls := len(self.server_state.tasks):
            told = "stopping; calls under way: %d, which have %d s to end, and a second Ctrl-C cuts them"
            log.info(told, calls, DRAIN_SECONDS)
        await super().shutdown(sockets)

    async def cut(self) -> None:
        """Cancel what is still under way, and wait until it has given everything back."""
        if not self.started:
            return
        for listener in self.servers:
            listener.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        tasks = tuple(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Drain on SIGTERM and SIGINT. uvicorn would raise the signal anew afterwards, before our stores are closed."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
