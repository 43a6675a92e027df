"""Who counts and reads in this process; and, of several workers on one port, who tells what all of them have.

A scrape of a shared port reaches one worker, and the next one another. Were each to answer for itself, counters would
jump back and forth, and every jump back would be taken for a restart. So each worker publishes its readings every
second, in a file without a name that all of them inherit, and whoever is asked answers for all, worker by worker:

- What is told of a worker is what it published, even where it tells it itself: so it never grows smaller, whoever is
  asked, unless that worker was started again, which Prometheus knows how to read.
- A worker that is dead, or hangs, holds nobody up: its counts stay as it last told them, and what it said of the moment
  is left out.
"""

from __future__ import annotations

import logging
import os
import pickle
import struct
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import anyio

from standby.runner import Runner

from ._counts import Counts
from ._readings import METRICS, Readings, readings

log = logging.getLogger("standby.proxy")

PUBLISH_SECONDS: Final = 1.0
STALE_SECONDS: Final = 10.0
"""A worker that published nothing for so long tells nothing of the moment."""
TORN_TRIES: Final = 100
TORN_SECONDS: Final = 0.002
"""How often, and after how long, what is just being written is read again."""

_HEAD: Final = struct.Struct("<QI")  # the length and the checksum of what follows
_COUNTED: Final = frozenset(metric.name for metric in METRICS if metric.type != "gauge")


def new_board() -> int:
    """A file without a name for what a worker publishes; it is gone with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("standby-metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Meter:
    """Counts the runs of one runner from now on, and reads what stands.

    Args:
        runner: Whose.
        boards: The files in which the workers of this port publish, by their numbers from 1; none where this process
            is alone.
        number: Which of the workers this is.
    """

    def __init__(self, runner: Runner, boards: Sequence[int] = (), number: int = 1) -> None:
        self._runner = runner
        self._boards = boards
        self._number = number
        self._counts = Counts()
        runner.on_end(self._counts.add)

    async def read(self) -> Mapping[str, Readings]:
        """What all workers have, by their numbers; of a process that is alone, by an empty name."""
        if not self._boards:
            return {"": readings(self._runner, self._counts)}
        self.publish()
        return {str(number): await _published(board) for number, board in enumerate(self._boards, start=1)}

    def publish(self) -> None:
        """Let the other workers see what this one has; nothing where it is alone."""
        if self._boards:
            content = pickle.dumps((time.monotonic(), readings(self._runner, self._counts)))
            _write(self._boards[self._number - 1], _HEAD.pack(len(content), zlib.crc32(content)) + content)

    async def keep_publishing(self) -> None:
        """Publish, every second."""
        while True:
            try:
                self.publish()
            except OSError as error:  # no memory for it: that is no reason to end
                log.warning("the metrics of this worker cannot be published: %s", error.strerror)
            await anyio.sleep(PUBLISH_SECONDS)


def _write(board: int, content: bytes) -> None:
    at = 0
    while at < len(content):
        at += os.pwrite(board, content[at:], at)


async def _published(board: int) -> Readings:
    for _ in range(TORN_TRIES):
        content = os.pread(board, os.fstat(board).st_size, 0)
        if not content:
            break
        length, checksum = _HEAD.unpack_from(content)
        told = content[_HEAD.size : _HEAD.size + length]
        if zlib.crc32(told) == checksum:
            return _as_of(*pickle.loads(told))  # noqa: S301 - only this server's own processes have the file
        await anyio.sleep(TORN_SECONDS)
    return {"standby_worker_up": {(): 0}}


def _as_of(at: float, told: Readings) -> Readings:
    # The clock is the machine's: it is the same for all processes.
    if time.monotonic() - at <= STALE_SECONDS:
        return {**told, "standby_worker_up": {(): 1}}
    return {**{name: told[name] for name in _COUNTED}, "standby_worker_up": {(): 0}}
