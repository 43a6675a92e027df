"""Several workers on one port: whoever is scraped tells what all of them have, and nothing ever jumps back."""

import os
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager

import anyio
import pytest

from standby.proxy._meter import STALE_SECONDS, Meter, new_board
from standby.proxy._metrics import exposition
from standby.runner import Request
from tests.proxy.conftest import CHAT, serving
from tests.proxy.test_metrics import told_in

pytestmark = pytest.mark.anyio


class Workers:
    """Two meters of two runners, as two processes have them."""

    def __init__(self, runners, boards):
        self.runners = runners
        self.boards = boards
        self.meters = [Meter(runner, boards, number) for number, runner in enumerate(runners, start=1)]

    async def run(self, number):
        await self.runners[number - 1].run(Request("chat", CHAT))

    async def told_by(self, number):
        content, _ = exposition(await self.meters[number - 1].read(), "")
        return told_in(content.decode(), "worker")


@asynccontextmanager
async def two_workers():
    with ExitStack() as stack:
        boards = [new_board() for _ in range(2)]
        for board in boards:
            stack.callback(os.close, board)
        async with serving({"primary": []}) as one, serving({"primary": []}) as other:
            yield Workers([one.runner, other.runner], boards)


async def test_each_workers_numbers_have_its_label():
    """Whoever is asked."""
    async with two_workers() as workers:
        await workers.run(1)
        await workers.run(2)
        await workers.run(2)
        for meter in workers.meters:
            meter.publish()
        for number in (1, 2):
            told = await workers.told_by(number)
            assert told["runs_total"] == {"chat answered 1": 1, "chat answered 2": 2}
            assert told["candidate_status"]["chat primary usable 1"] == 1
            assert told["worker_up"] == {"1": 1, "2": 1}


async def test_a_counter_never_jumps_back():
    """What a worker told of itself, the next one that is asked knows of it: it was published before it was told."""
    async with two_workers() as workers:
        for meter in workers.meters:
            meter.publish()
        await workers.run(1)
        told = [(await workers.told_by(number))["runs_total"]["chat answered 1"] for number in (1, 2)]
    assert told == [1, 1]


async def test_a_worker_publishes_every_second():
    """So others tell of it what it had then, though nobody asks it."""
    async with two_workers() as workers, anyio.create_task_group() as tasks:
        tasks.start_soon(workers.meters[0].keep_publishing)
        await anyio.sleep(0.5)
        await workers.run(1)
        before = await workers.told_by(2)
        await anyio.sleep(1)
        after = await workers.told_by(2)
        tasks.cancel_scope.cancel()
    assert "runs_total" not in before
    assert after["runs_total"] == {"chat answered 1": 1}


async def test_a_worker_that_is_silent_keeps_its_counts(monkeypatch):
    """It is dead, or hangs: what it counted stays, so nothing jumps back; what it said of the moment is not true now."""
    async with two_workers() as workers:
        await workers.run(1)
        workers.meters[0].publish()
        now = time.monotonic() + STALE_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: now)
        told = await workers.told_by(2)
    assert told["runs_total"] == {"chat answered 1": 1}
    assert told["worker_up"] == {"1": 0, "2": 1}
    assert told["runs_in_progress"] == {"2": 0}


async def test_a_worker_that_has_said_nothing_yet():
    """It is not up, and nothing else is known of it."""
    async with two_workers() as workers:
        told = await workers.told_by(1)
    assert told["worker_up"] == {"1": 1, "2": 0}
    assert told["catalog_version"] == {"1": 1}


async def test_a_worker_that_died_while_it_wrote():
    """What is half written is nobody's numbers, and holds up nobody for ever."""
    async with two_workers() as workers:
        workers.meters[1].publish()
        os.pwrite(workers.boards[1], b"torn", 40)
        told = await workers.told_by(1)
    assert told["worker_up"] == {"1": 1, "2": 0}


async def test_fewer_numbers_than_before():
    """What is longer, and was published before, is not read as a part of what is shorter."""
    async with two_workers() as workers:
        await workers.run(1)
        workers.meters[0].publish()
        longer = os.fstat(workers.boards[0]).st_size
        async with serving({"primary": []}) as again:
            Meter(again.runner, workers.boards, 1).publish()  # as one that is started again
        assert os.fstat(workers.boards[0]).st_size == longer
        told = await workers.told_by(2)
    assert "runs_total" not in told
    assert told["worker_up"] == {"1": 1, "2": 1}


@pytest.mark.parametrize("platform", ["Linux", "another"])
def test_a_board_has_no_name(platform, monkeypatch, tmp_path):
    """So it is gone with the last process that has it, also where it must be a file; and nothing is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if platform == "another":
        monkeypatch.delattr(os, "memfd_create")
    board = new_board()
    os.pwrite(board, b"told", 0)
    assert os.pread(board, 100, 0) == b"told"
    assert list(tmp_path.iterdir()) == []
    os.close(board)
