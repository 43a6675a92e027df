"""The scope of a try: what anyio's does, as far as it is needed, on both backends."""

import asyncio
import math

import anyio
import pytest

from standby.runner._scope import AGAIN_SECONDS, kept_scope, scope_of
from standby.runner.testing import VirtualLoop

pytestmark = pytest.mark.anyio


async def nap(seconds):
    await anyio.sleep(seconds)
    return "slept"


async def test_what_is_done_in_time_is_left_alone():
    """And nothing comes after it."""
    scope = scope_of(5)
    with scope:
        assert await nap(4) == "slept"
    await anyio.sleep(10)
    assert (scope.cancel_called, scope.cancelled_caught) == (False, False)


async def test_what_takes_too_long_is_cut():
    """At the deadline, and nobody outside hears of it."""
    began = anyio.current_time()
    scope = scope_of(5)
    with scope:
        await nap(60)
    assert (scope.cancel_called, scope.cancelled_caught) == (True, True)
    assert anyio.current_time() - began == pytest.approx(5)
    await nap(1)


async def test_another_task_may_end_it():
    """Without any deadline."""
    scope = scope_of(math.inf)

    async def end():
        await anyio.sleep(3)
        scope.cancel()
        scope.cancel()

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        with scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
    assert anyio.current_time() - began == pytest.approx(3)
    await nap(1)


@pytest.mark.parametrize(("inner", "outer"), [(5, 3), (3, 5), (4, 4)])
async def test_whichever_is_over_first_is_the_one(inner, outer):
    """A scope of anyio's around it keeps its meaning; where both are over at once, so does the outer one."""
    scope = scope_of(inner)
    with anyio.move_on_after(outer) as around:
        with scope:
            await anyio.sleep_forever()
    assert scope.cancelled_caught is (inner < outer)
    assert around.cancelled_caught is (outer <= inner)
    await nap(1)


async def test_a_failure_inside_is_that_failure():
    """Though it comes of being cut."""
    scope = scope_of(1)
    with pytest.raises(ValueError, match="cleaned up"):
        with scope:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("cleaned up")
    assert (scope.cancel_called, scope.cancelled_caught) == (True, False)
    await nap(1)


async def test_a_kept_scope_is_entered_again_with_another_deadline():
    """Each time as if it were new: later, sooner, and after it cut something."""
    scope = kept_scope()
    came_to = []
    for seconds, takes in ((5, 4), (9, 8), (2, 1), (2, 3), (3, 2), (3, 4)):
        with scope.within(seconds):
            await nap(takes)
        came_to.append(scope.cancelled_caught)
        await anyio.sleep(20)
    scope.close()
    assert came_to == [False, False, False, True, False, True]
    await nap(60)


async def test_shielded_clean_up_is_let_finish():
    """A connection is closed in peace, as anyio's own scope would let it."""
    scope = scope_of(1)
    closed = False
    with scope:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(AGAIN_SECONDS - 1)
                closed = True
    assert closed
    assert scope.cancelled_caught


# -- asyncio alone: what its tasks make difficult


def on_asyncio(test):
    """Run under virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(test)


def test_what_goes_on_in_spite_of_it_is_cancelled_again():
    """A client that takes a cancellation for something else does not keep its run."""

    async def test():
        began = anyio.current_time()
        scope = scope_of(1)
        with scope:
            try:
                await anyio.sleep(60)
            except asyncio.CancelledError:
                await anyio.sleep(60)
        return scope.cancelled_caught, anyio.current_time() - began, asyncio.current_task().cancelling()

    assert on_asyncio(test()) == (True, pytest.approx(1 + AGAIN_SECONDS), 0)


def test_an_answer_that_has_come_is_kept():
    """Where the deadline passes in the very moment in which what was awaited is there."""

    async def test():
        answer = asyncio.get_running_loop().create_future()
        scope = scope_of(math.inf)

        def both():
            answer.set_result("heard")
            scope.cancel()

        asyncio.get_running_loop().call_later(1, both)
        heard = None
        with scope:
            heard = await answer
        return heard, scope.cancelled_caught, asyncio.current_task().cancelling()

    assert on_asyncio(test()) == ("heard", False, 0)


def test_a_time_out_of_asyncio_around_it_keeps_its_meaning():
    """Where that is over first, the scope is not what ended it."""

    async def test():
        scope = scope_of(2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                with scope:
                    await anyio.sleep_forever()
        return scope.cancelled_caught, asyncio.current_task().cancelling()

    assert on_asyncio(test()) == (False, 0)


def test_a_time_out_of_asyncio_inside_of_it_keeps_its_meaning():
    """Where the scope is over first, it is no time-out."""

    async def test():
        scope = scope_of(1)
        with scope:
            async with asyncio.timeout(2):
                await anyio.sleep_forever()
        return scope.cancelled_caught, asyncio.current_task().cancelling()

    assert on_asyncio(test()) == (True, 0)


def test_a_task_that_is_cancelled_is_cancelled():
    """By whoever it was."""

    async def test():
        async def run():
            with scope_of(60):
                await anyio.sleep_forever()

        task = asyncio.create_task(run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert on_asyncio(test()) is True
