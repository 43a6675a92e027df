"""`standby serve --workers`: a parent that serves nothing, and the processes that serve, all on one port.

Each worker has a socket of its own on that port (SO_REUSEPORT), so that none is held up by another, and one that dies
takes only its own connections with it. Linux shares new connections evenly among those that listen. BSD and macOS allow
such sockets too, but may send all to one of them. Where there is nothing of the kind several workers are refused.

No event loop and no thread is here, and hardly anything that could fail: the parent waits for signals, for what workers
say through their pipes, and for the time at which a worker that died is started again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Final

from standby.store import InvalidConfig, parse, read

from ._meter import new_board
from ._serve import SIGNALS, CannotListen, address_of, bound_socket, copy_beside, print_at_once, settings_of
from ._worker import Failure, Order, Reload, Report, Task

log = logging.getLogger("standby.proxy")

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
"""How long after its death a worker is started again: twice as long each time, up to this."""
STEADY_SECONDS: Final = 60.0
"""A worker that lived for so long died of something new."""


class CannotStart(Exception):
    """A worker could not start; the message says why."""


def supervise(
    config: str | os.PathLike[str],
    workers: int,
    command: Sequence[str],
    *,
    host: str | None = None,
    port: int | None = None,
    last_good: bool = False,
    say: Callable[[str], None] = print_at_once,
) -> None:
    """Serve the gateway that ``config`` describes in several processes, until SIGTERM or SIGINT.

    Then what is under way in each of them ends; a second SIGINT cancels it. A worker that dies is started again. Where
    one cannot start at the very beginning, nothing is served at all.

    Args:
        config: The configuration document's file.
        workers: How many processes.
        command: Starts a worker when the number of a pipe is added: it makes a `Parent` of it and awaits `work`.
        host: Overrides `server.host`.
        port: Overrides `server.port`.
        last_good: See `serve`.
        say: Is told the first line of output: where the workers listen, when all of them do.

    Raises:
        InvalidConfig: The document is wrong, or has the workers share nothing.
        CannotListen: The address cannot be bound.
        CannotStart: A worker says so, or died before all of them listened.
    """
    where = os.fspath(config)
    raw = read(config)
    document = parse(raw, where=where)
    settings = settings_of(document, where, host=host, port=port, workers=workers)
    with _port(settings.host, settings.port) as reserved, _signals() as signals:
        copy = copy_beside(config) if last_good else None
        plan = Plan(where, raw, document.store.url != "memory:", workers, command, settings.host, reserved, copy)
        Workers(plan, signals, say).run()


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers have in common.

    Attributes:
        config: The configuration document's file.
        raw: What it said at the beginning.
        keeps_catalog: Whether the catalog outlives a worker.
        workers: How many there are.
        command: See `supervise`.
        host: The host to bind.
        reserved: Holds the port when no worker does.
        last_good: The file of the last good copy, where workers may start from it.
    """

    config: str
    raw: Mapping[str, Any]
    keeps_catalog: bool
    workers: int
    command: Sequence[str]
    host: str
    reserved: socket.socket
    last_good: str | None = None

    def document(self, *, again: bool) -> Mapping[str, Any]:
        """The document for a worker that is started, for the first time or again.

        The others have the sections ``server`` and ``store`` of the beginning, so one that joins them has those too.
        The rest it takes from the file as they did, unless it finds what they serve in the store.

        Raises:
            InvalidConfig: The file cannot be read.
        """
        if not again or self.keeps_catalog:
            return self.raw
        own = {name: section for name, section in self.raw.items() if name in ("server", "store")}
        return {**{name: section for name, section in read(self.config).items() if name not in own}, **own}


@dataclass(slots=True)
class Worker:
    """A worker process.

    Attributes:
        number: Which of the workers it is, from 1.
        process: The process.
        pipe: Where it is talked to.
        began_at: When it was started, by the monotonic clock.
        listens: Whether it serves.
        why: Why it cannot start, if it said so.
    """

    number: int
    process: subprocess.Popen[bytes]
    pipe: Connection[Task | Order, Report]
    began_at: float
    listens: bool = False
    why: str = ""

    def tell(self, order: Order) -> None:
        """Tell it; where it is dead, its pipe says so by itself."""
        with suppress(OSError):
            self.pipe.send(order)

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


class Workers:
    """All of them, from the first start to the last end."""

    def __init__(self, plan: Plan, signals: socket.socket, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._signals = signals
        self._say = say
        self._boards = tuple(new_board() for _ in range(plan.workers))
        self._alive: dict[int, Worker] = {}
        self._due = dict.fromkeys(range(1, plan.workers + 1), time.monotonic())
        self._delays = dict.fromkeys(self._due, 0.0)
        self._all_listened = False
        self._ends = False
        self._failure: str | None = None

    def run(self) -> None:
        """Keep them running until a signal says to end.

        Raises:
            CannotStart: See `supervise`.
        """
        while self._alive or self._due:
            self._start_who_is_due()
            who: dict[object, Worker] = {worker.pipe: worker for worker in self._alive.values()}
            pipes = [worker.pipe for worker in self._alive.values()]
            for ready in wait([self._signals, *pipes], self._seconds_until_due()):
                if ready is self._signals:
                    self._signalled(self._signals.recv(64))
                else:
                    self._hear(who[ready])
        if self._failure is not None:
            raise CannotStart(self._failure)

    # -- the beginning of one --------------------------------------------------------------------------------------

    def _seconds_until_due(self) -> float | None:
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def _start_who_is_due(self) -> None:
        for number in [number for number, at in self._due.items() if at <= time.monotonic()]:
            if self._due.pop(number, None) is None:
                return  # the one before it could not be started, so all is to end
            try:
                self._start(number)
            except (OSError, CannotListen, InvalidConfig) as error:
                self._lost(number, f"worker {number}", str(error))

    def _start(self, number: int) -> None:
        plan, again = self._plan, self._all_listened
        document = plan.document(again=again)
        port = plan.reserved.getsockname()[1]
        pipe, its = Pipe()
        # At first the port is listened on from the start: a second server that is started meanwhile by mistake must be
        # refused. Later nobody is to wait for a worker that is not there yet, when others are.
        with its, bound_socket(plan.host, port, shared=True, listens=not again) as listening:
            inherited = its.fileno(), listening.fileno(), *self._boards
            # A session of its own, as Ctrl-C is the parent's to hear: it says to each what that means.
            process = subprocess.Popen(  # noqa: S603 - our own command
                [*plan.command, str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,
            )
            worker = Worker(number, process, pipe, time.monotonic())
            self._alive[number] = worker
            task = Task(
                number=number,
                workers=plan.workers,
                config=plan.config,
                document=document,
                imports=not (again and plan.keeps_catalog),
                last_good=plan.last_good,
                listening=listening.fileno(),
                family=listening.family,
                boards=self._boards,
            )
        # Only now: while its end is open here too nobody says that it is dead, and a long document fills the pipe.
        with suppress(OSError):  # it is dead already, and its pipe will say so
            pipe.send(task)

    # -- what is heard ---------------------------------------------------------------------------------------------

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if not self._ends:
                self._end()
            elif number == signal.SIGINT:
                for worker in self._alive.values():
                    worker.tell("cut")

    def _hear(self, worker: Worker) -> None:
        try:
            report = worker.pipe.recv()
        except (OSError, EOFError):
            self._ended(worker)
            return
        if isinstance(report, Reload):
            for other in self._alive.values():
                if other is not worker:
                    other.tell(report)
        elif isinstance(report, Failure):
            worker.why = report.why
        else:
            worker.listens = True
            log.info("%s listens", worker)
            self._say_when_all_listen()

    def _say_when_all_listen(self) -> None:
        if not self._all_listened and sum(worker.listens for worker in self._alive.values()) == self._plan.workers:
            self._all_listened = True
            self._say(f"listening on {address_of(self._plan.reserved)}")

    # -- the end of one, and of all ----------------------------------------------------------------------------------

    def _ended(self, worker: Worker) -> None:
        worker.pipe.close()
        how = _in_words(worker.process.wait())
        del self._alive[worker.number]
        if time.monotonic() - worker.began_at >= STEADY_SECONDS:
            self._delays[worker.number] = 0.0
        if self._ends:
            log.info("%s ended: %s", worker, how)
        else:
            self._lost(worker.number, str(worker), worker.why or how)

    def _lost(self, number: int, who: str, why: str) -> None:
        """Start it again in a while. What keeps it from starting at the beginning ends all: an operator looks on."""
        if not self._all_listened:
            self._failure = f"{who} cannot start: {why}"
            self._end()
            return
        delay = min(LONGEST_DELAY_SECONDS, 2 * self._delays[number] or FIRST_DELAY_SECONDS)
        self._delays[number] = delay
        self._due[number] = time.monotonic() + delay
        log.warning("%s ended, and is started again in %g s: %s", who, delay, why)

    def _end(self) -> None:
        self._ends = True
        self._due.clear()
        for worker in self._alive.values():
            worker.tell("drain")
            if not worker.listens:
                worker.process.terminate()  # it does not listen to its pipe yet


def _in_words(code: int) -> str:
    try:
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


@contextmanager
def _port(host: str, port: int) -> Generator[socket.socket, None, None]:
    """Hold ``port``, which no other server has, for sockets that share it; port 0 picks a free one."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise CannotListen("several workers cannot share a port on this platform, which has no SO_REUSEPORT: use one")
    # Whoever shares a port may share ours: only a socket that does not share finds out that it is taken.
    with bound_socket(host, port) as alone:
        port = alone.getsockname()[1]
    with bound_socket(host, port, shared=True, listens=False) as reserved:
        yield reserved


@contextmanager
def _signals() -> Generator[socket.socket, None, None]:
    """A socket from which SIGTERM and SIGINT are read, a byte each, so that they are handled in turn with the rest."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        wakes_up = signal.set_wakeup_fd(writing.fileno())
        before = {number: signal.signal(number, _nothing) for number in SIGNALS}
        try:
            yield reading
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakes_up)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass
