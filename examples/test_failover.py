"""Your own tests of what your policies do, under virtual time: an hour of outage in a few milliseconds.

Run it with ``pytest examples/test_failover.py``. Nothing here needs a network, a plugin or a wait.
"""

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from standby.runner import ClientFactory, Request, RunFailed, Runner
from standby.runner.testing import Fail, FaultScript, ScriptedClient, Slow, VirtualClock, VirtualLoop, answer
from standby.store import MemoryCatalog

ASKED = Request("chat", {"messages": [{"role": "user", "content": "Hello!"}]})
DOWN = Fail("server_error", "down for maintenance", status=503, retryable=True)


def catalog() -> MemoryCatalog:
    """The document whose policies are tested; your own would be `MemoryCatalog.from_file("gateway.yaml", ...)`."""
    document = {
        "version": 1,
        "providers": {"first": {"client": "first"}, "second": {"client": "second"}},
        "models": {
            "chat": {
                "candidates": [
                    {"id": "primary", "provider": "first", "model": "large", "priority": 10},
                    {"id": "backup", "provider": "second", "model": "small", "priority": 20},
                ]
            }
        },
    }
    return MemoryCatalog.from_mapping(document, clients=["first", "second"])


def under_virtual_time(
    first: ScriptedClient, second: ScriptedClient, test: Callable[[Runner], Awaitable[None]]
) -> None:
    """Run a test, and see that nothing is left behind."""

    async def main() -> None:
        clients: dict[str, ClientFactory] = {"first": lambda _: first, "second": lambda _: second}
        async with Runner(catalog(), clients=clients, clock=VirtualClock()) as runner:
            await test(runner)
            assert not any(runner.held.values())

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        loop.run(main())


def test_an_outage_is_not_noticed() -> None:
    """While the primary is down, from the second minute to the hour, the backup answers; later the primary again."""
    first, second = ScriptedClient(FaultScript((60, DOWN), (3600, answer()))), ScriptedClient()
    served: list[str] = []

    async def asked_every_minute(runner: Runner) -> None:
        for _ in range(100):
            served.append((await runner.run(ASKED)).candidate)
            await anyio.sleep(60)

    under_virtual_time(first, second, asked_every_minute)
    assert (served[0], served[1], served[-1]) == ("primary", "backup", "primary")


def test_the_primary_is_not_paid_for_again_and_again() -> None:
    """In an hour of outage with a call a second, it is asked a few times only: by the probes."""
    first, second = ScriptedClient(FaultScript((0, DOWN))), ScriptedClient()

    async def asked_every_second(runner: Runner) -> None:
        for _ in range(3600):
            await runner.run(ASKED)
            await anyio.sleep(1)

    under_virtual_time(first, second, asked_every_second)
    assert len(second.calls) == 3600
    assert len(first.calls) < 20


def test_the_rule_that_decided_is_in_the_record() -> None:
    """Assert on what was decided and why, not only on who answered."""

    async def once(runner: Runner) -> None:
        tried = (await runner.run(ASKED)).record.tries[1]
        assert (tried.candidate, tried.outcome, tried.did) == ("primary", "provider_5xx", "next")
        reason, rule = tried.rule
        assert (reason, rule and rule.value) == ("failover_allow_policy", "provider_5xx")

    under_virtual_time(ScriptedClient([DOWN]), ScriptedClient(), once)


def test_a_caller_does_not_wait_for_ever() -> None:
    """Both hang: the deadline ends the run, and the error says what each try came to."""
    slow = Slow(3600, answer())

    async def once(runner: Runner) -> None:
        with pytest.raises(RunFailed) as failed:
            await runner.run(ASKED, timeout_seconds=30)
        assert failed.value.ending == "deadline"

    under_virtual_time(ScriptedClient([slow]), ScriptedClient([slow]), once)
