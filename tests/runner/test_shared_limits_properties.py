"""Two runners and one server that counts for both: runs that come, leave and end in any order, in virtual time."""

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from standby.runner import RunFailed
from standby.runner.testing import Slow
from tests.runner.elsewhere import NOTHING, Elsewhere, sharing

callers = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]),
    st.sampled_from([None, None, None, 0.25, 0.5, 1.25, 2.5]),
    st.sampled_from(["normal", "normal", "high", "low"]),
)
worlds = st.fixed_dictionaries(
    {
        "callers": st.lists(callers, min_size=3, max_size=8),
        "answer_seconds": st.sampled_from([0.0, 0.125, 0.5]),
        "concurrency": st.integers(1, 2),
        "requests": st.sampled_from([None, 3]),
        "candidates": st.sampled_from(["a", "ab"]),
        "hedge": st.sampled_from([{}, {"hedge": {"afterSeconds": 0.5}}]),
    }
)


async def play(world):
    """Let all ask; what was wrong at any moment, how long room was idle while somebody waited, and what is left."""
    elsewhere, wrong, waiting, ended = Elsewhere(world["answer_seconds"]), [], set(), {}
    limits = {"concurrency": world["concurrency"], "requestsPerMinute": world["requests"]}
    gates = [
        sharing(
            elsewhere,
            {name: [Slow(1.0)] for name in world["candidates"]},
            limits=limits,
            model={"queue": {"maxWaitSeconds": 300}, **world["hedge"]},
        )
        for _ in range(2)
    ]

    def under_way(name):
        return sum(gate.clients[name].in_flight for gate in gates)

    async def ask(number, gate, priority):
        waiting.add(number)
        try:
            ended[number] = (await gates[gate].ask(priority=priority)).candidate
        except RunFailed as failed:
            ended[number] = failed.ending
        finally:
            waiting.discard(number)

    async def caller(number, gate, begins, leaves_after, priority):
        await anyio.sleep(begins)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, number, gate, priority)
            if leaves_after is not None:
                await anyio.sleep(leaves_after)
                tasks.cancel_scope.cancel()

    async def watch():
        idle_seconds = 0.0
        while True:
            await anyio.sleep(2**-4)
            too_many = [name for name in world["candidates"] if under_way(name) > world["concurrency"]]
            wrong.extend(f"too many calls of {name} are under way" for name in too_many)
            busy = any(under_way(name) or elsewhere.out(f"chat/{name}") for name in world["candidates"])
            idle_seconds = idle_seconds + 2**-4 if waiting and not busy else 0.0
            # An answer on its way back and forth, for each that is asked for, and a second where a message was missed.
            if world["requests"] is None and idle_seconds > 1 + 4 * world["answer_seconds"] + 2**-3:
                wrong.append(f"{waiting} wait though nobody is called, at {anyio.current_time()}")

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as tasks:
            for number, parts in enumerate(world["callers"]):
                tasks.start_soon(caller, number, *parts)
        watching.cancel_scope.cancel()
    return wrong, ended, elsewhere.held, [held for gate in gates for held in gate.runner.held.values() if held]


@settings(max_examples=60)
@given(st.random_module(), worlds)
def test_two_runners_share_a_limit(seed, world):
    """It is never exceeded, no room is idle while somebody waits, all who stay are served, and all is given back."""
    clock = MockClock(autojump_threshold=0)
    wrong, ended, elsewhere, here = anyio.run(play, world, backend="trio", backend_options={"clock": clock})
    stay = {number for number, caller in enumerate(world["callers"]) if caller[2] is None}
    assert (wrong, elsewhere, here) == ([], NOTHING, [])
    assert {ended.get(number) for number in stay} <= set(world["candidates"])
