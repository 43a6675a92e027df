"""One of the processes of `standby serve --workers`: it serves what its parent, `_workers.py`, tells it to.

The two talk through a pipe. It tells the parent's death too, however that came: the other end of it is then closed.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

import anyio

from standby.runner import open_gateway
from standby.store import InvalidConfig, StoreError, read

from ._app import create_app
from ._follow import follow, take
from ._meter import Meter
from ._serve import Explain, run_server, tools_of

log = logging.getLogger("standby.proxy")

_SIGNALS: Final[Mapping[str, signal.Signals]] = {"drain": signal.SIGTERM, "cut": signal.SIGINT}
"""A worker ends as a server does that is alone and is sent these."""


@dataclass(frozen=True, slots=True)
class Reload:
    """An operator had a worker read the file anew, so all others are to do so too.

    Attributes:
        by: Who, for the audit.
        why: In words, for the audit.
    """

    by: str
    why: str


Order = Literal["drain", "cut"] | Reload
"""What a parent tells a worker after its task."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A worker cannot start.

    Attributes:
        why: For the operator.
    """

    why: str


Report = Literal["listens"] | Failure | Reload
"""What a worker tells its parent."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a parent tells a worker first.

    Attributes:
        number: Which of the workers it is, from 1.
        workers: How many there are.
        config: The configuration document's file, to follow.
        document: The document. Of its server and store sections all workers have the same, whatever the file says now.
        imports: Whether the document becomes the newest version of the catalog; where not, the newest one that is kept
            is served.
        last_good: The file of the last good copy, where it may be started from.
        listening: The number of the inherited socket to serve.
        family: That socket's address family.
        boards: The numbers of the inherited files in which the workers publish their readings, in their order.
    """

    number: int
    workers: int
    config: str
    document: Mapping[str, Any]
    imports: bool
    last_good: str | None
    listening: int
    family: int
    boards: tuple[int, ...]


class Orphan(Exception):
    """There is no parent at the other end."""


class Parent:
    """The process that started this one.

    Args:
        pipe: The number of the inherited pipe.

    Raises:
        Orphan: There is no such pipe, or nobody at its other end.
    """

    def __init__(self, pipe: int) -> None:
        try:
            os.set_inheritable(pipe, False)  # and see that there is one
            self._pipe: Connection[Report, Task | Order] = Connection(pipe)
            task = self._pipe.recv()
        except (OSError, EOFError, ValueError) as error:
            raise Orphan("a worker is started by standby serve --workers, and not by hand") from error
        assert isinstance(task, Task)  # noqa: S101 - what the parent sends first
        self.task = task

    def tell(self, report: Report) -> None:
        """Tell the parent; one that is gone needs to know nothing."""
        with suppress(OSError):
            self._pipe.send(report)

    async def heed(self, reload: Callable[[str, str], Awaitable[int]]) -> None:
        """Do what the parent says, until it is gone; then let what is under way end."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.wait_readable(self._pipe)
                try:
                    order = self._pipe.recv()
                except (OSError, EOFError):
                    log.warning("the parent process is gone: what is under way ends, and nothing else is served")
                    signal.raise_signal(signal.SIGTERM)
                    return
                if isinstance(order, Reload):
                    again = partial(reload, order.by, order.why)
                    tasks.start_soon(take, self.task.config, "is to be read anew", again)
                else:
                    assert not isinstance(order, Task)  # noqa: S101 - that comes first, and only once
                    signal.raise_signal(_SIGNALS[order])


async def work(parent: Parent, explain: Explain | None = None) -> bool:
    """Serve what the parent says, until it or a signal says to end; then let what is under way end.

    Args:
        parent: The process that started this one.
        explain: See `serve`.

    Returns:
        Whether anything was served: where not, the parent was told why.
    """
    try:
        await _serve(parent, explain)
    except (InvalidConfig, StoreError) as error:
        parent.tell(Failure(str(error)))
        return False
    except ModuleNotFoundError as missing:
        parent.tell(Failure(f"it needs the package {missing.name}: pip install 'standby[all]'"))
        return False
    return True


async def _serve(parent: Parent, explain: Explain | None) -> None:
    task = parent.task
    opened = open_gateway(
        task.document,
        processes=task.workers,
        where=task.config,
        imports=task.imports,
        last_good=task.last_good,
    )
    with _inherited(task) as listening:
        async with opened as gateway, anyio.create_task_group() as tasks:

            async def reload(by: str, why: str) -> int:
                return await gateway.reload(read(task.config), by=by, why=why)

            async def reload_all(by: str, why: str) -> int:
                version = await reload(by, why)
                parent.tell(Reload(by, why))
                return version

            # Where it does not import, it does not know which document of the file the others have taken.
            known = task.document if task.imports else None
            tasks.start_soon(follow, task.config, partial(reload, "file", "edited"), known)
            tasks.start_soon(parent.heed, reload)
            meter = Meter(gateway.runner, task.boards, task.number)
            tasks.start_soon(meter.keep_publishing)
            app = create_app(gateway.runner, gateway.document.server, tools_of(gateway, reload_all, explain, meter))
            await run_server(app, listening, lambda _: parent.tell("listens"))
            meter.publish()
            tasks.cancel_scope.cancel()


def _inherited(task: Task) -> socket.socket:
    """The socket, with its protocol named: see `bound_socket`."""
    listening = socket.socket(task.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=task.listening)
    os.set_inheritable(task.listening, False)
    return listening
