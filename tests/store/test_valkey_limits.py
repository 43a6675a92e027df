"""Limits that processes share through Valkey: two, and sometimes three, processes' worth of them on one server."""

import asyncio
import math
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import pytest
from redis import exceptions as failures

from standby.store import Asked, Full, RateLimitPolicy, SharedLimits
from standby.store._valkey import ValkeyServer
from standby.store._valkey_limits import ValkeyLimits

pytestmark = pytest.mark.anyio

KEY = "credential:openai"
ONE_AT_A_TIME = RateLimitPolicy.model_validate({"concurrency": 1})
FIVE_A_MINUTE = RateLimitPolicy.model_validate({"requestsPerMinute": 5})
HUNDRED_TOKENS = RateLimitPolicy.model_validate({"tokensPerMinute": 100})
AT_ONCE_SECONDS = 60
"""Far below what would pass if nobody were told."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Process:
    """What one process knows of the limits.

    Attributes:
        told: The keys of which it was told that there may be room.
        shares: What its share was, each time it changed.
        time: What its steady clock says more than the machine's.
    """

    def __init__(self, server, **options):
        self.told = []
        self.shares = []
        self.limits = ValkeyLimits(server, "test", **{"wait_seconds": 20.0, **options})
        self.limits.listen(self.told.extend, lambda: self.shares.append(self.limits.share))

    async def take(self, policy, *, tokens=10, waited=0.0, in_line=False, key=KEY):
        return await self.limits.take([Asked(key, policy, tokens)], waited, in_line=in_line)

    async def until_told(self, key=KEY):
        with anyio.fail_after(AT_ONCE_SECONDS):
            while key not in self.told:  # noqa: ASYNC110 - it is told by another task
                await anyio.sleep(0.005)

    async def until_share(self, share):
        with anyio.fail_after(AT_ONCE_SECONDS):
            while self.limits.share != share:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.005)


@pytest.fixture
async def open_process(valkey_url):
    """Opens processes, and closes them."""
    async with AsyncExitStack() as stack:

        async def opened(url=valkey_url, **options):
            server = ValkeyServer(url)
            stack.push_async_callback(server.aclose)
            process = Process(server, **options)
            stack.push_async_callback(process.limits.close)
            await process.take(RateLimitPolicy(), key="hello")
            return process

        yield opened


@pytest.fixture
async def two(open_process):
    return await open_process(), await open_process()


async def test_they_are_shared_limits(two):
    """They have everything that the protocol names."""
    assert all(isinstance(process.limits, SharedLimits) for process in two)


async def test_a_minute_is_the_same_minute_for_all(two):
    """Five requests are five, whoever makes them; the sixth is told when the first is a minute old."""
    one, other = two
    grants = [await process.take(FIVE_A_MINUTE) for process in (one, other, one, other, one)]
    assert not any(isinstance(grant, Full) for grant in grants)
    refused = await other.take(FIVE_A_MINUTE)
    assert isinstance(refused, Full)
    assert 0 < refused.free_in_seconds[KEY] <= 60


async def test_nothing_is_exceeded_however_many_ask_at_once(two):
    """A hundred ask at once from each side; five are granted."""
    answers = []

    async def ask(process):
        answers.append(await process.take(FIVE_A_MINUTE))

    async with anyio.create_task_group() as tasks:
        for process in two * 100:
            tasks.start_soon(ask, process)
    assert sum(not isinstance(answer, Full) for answer in answers) == 5


async def test_calls_under_way_count_until_they_are_given_back(two):
    """Only a call that ends can tell when there is room."""
    one, other = two
    grant = await one.take(ONE_AT_A_TIME)
    assert await other.take(ONE_AT_A_TIME) == Full({KEY: math.inf})
    grant.end(used=True)
    await one.take(RateLimitPolicy(), key="after that")
    assert not isinstance(await other.take(ONE_AT_A_TIME), Full)


async def test_a_grant_that_was_not_used_counts_for_nothing(two):
    """Neither as a request, nor as under way."""
    one, other = two
    for _ in range(7):
        (await one.take(FIVE_A_MINUTE)).end(used=False)
    await one.take(RateLimitPolicy(), key="after that")
    assert [isinstance(await other.take(FIVE_A_MINUTE), Full) for _ in range(6)] == [False] * 5 + [True]


async def test_a_grant_is_given_back_once(two):
    """To end it again changes nothing."""
    one, other = two
    grant, held = await one.take(ONE_AT_A_TIME), None
    grant.end(used=True)
    held = await one.take(ONE_AT_A_TIME)
    grant.end(used=True)
    await one.take(RateLimitPolicy(), key="after that")
    assert not isinstance(held, Full)
    assert isinstance(await other.take(ONE_AT_A_TIME), Full)


@pytest.mark.parametrize(("used", "room"), [(10, True), (90, False)])
async def test_tokens_are_settled_for_all(two, used, room):
    """What one estimated at fifty is what the provider counted, for the others too."""
    one, other = two
    grant = await one.take(HUNDRED_TOKENS, tokens=50)
    grant.end(used=True, tokens=used)
    await one.take(RateLimitPolicy(), key="after that")
    assert isinstance(await other.take(HUNDRED_TOKENS, tokens=50), Full) is not room


async def test_all_limits_of_a_call_or_none(two):
    """Where one has no room the others keep theirs, and only the one is named."""
    one, other = two
    await one.take(ONE_AT_A_TIME, key="full")
    asked = [Asked("full", ONE_AT_A_TIME, 1), Asked("free", ONE_AT_A_TIME, 1)]
    assert await other.limits.take(asked, 0.0, in_line=False) == Full({"full": math.inf})
    assert not isinstance(await one.take(ONE_AT_A_TIME, key="free"), Full)


async def test_who_is_in_line_is_told_of_room(two):
    """And need not ask until then."""
    one, other = two
    grant = await one.take(ONE_AT_A_TIME)
    assert isinstance(await other.take(ONE_AT_A_TIME, in_line=True), Full)
    other.told.clear()
    grant.end(used=True)
    await other.until_told()
    assert not isinstance(await other.take(ONE_AT_A_TIME, in_line=True), Full)


async def test_whoever_has_waited_longest_goes_first(open_process):
    """Room that is kept for one process is refused to the others, whether they wait or have just come."""
    holder, early, late = [await open_process() for _ in range(3)]
    grant = await holder.take(ONE_AT_A_TIME)
    await early.take(ONE_AT_A_TIME, waited=30, in_line=True)
    await late.take(ONE_AT_A_TIME, waited=20, in_line=True)
    grant.end(used=True)
    await late.until_told()
    assert isinstance(await holder.take(ONE_AT_A_TIME), Full)
    assert isinstance(await late.take(ONE_AT_A_TIME, waited=20, in_line=True), Full)
    assert not isinstance(await early.take(ONE_AT_A_TIME, waited=30, in_line=True), Full)


async def test_whoever_leaves_the_line_holds_up_nobody(two):
    """The others are told that there is room, and have it."""
    one, other = two
    grant = await one.take(ONE_AT_A_TIME)
    await other.take(ONE_AT_A_TIME, waited=30, in_line=True)
    await one.take(ONE_AT_A_TIME, waited=20, in_line=True)
    grant.end(used=True)
    await one.until_told()
    one.told.clear()
    other.limits.leave([KEY])
    await one.until_told()
    assert not isinstance(await one.take(ONE_AT_A_TIME, waited=20), Full)


async def test_a_caller_that_is_cancelled_holds_nothing(two):
    """Whether it is cancelled before its question is sent or while it is on its way."""
    one, other = two
    got = []

    async def ask():
        got.append(await one.take(ONE_AT_A_TIME))

    for steps in range(8):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        while got:  # it was faster
            got.pop().end(used=False)
        await one.take(RateLimitPolicy(), key="after that")
        await one.take(RateLimitPolicy(), key="and after what followed from it")
        grant = await other.take(ONE_AT_A_TIME)
        assert not isinstance(grant, Full), steps
        grant.end(used=False)
        await other.take(RateLimitPolicy(), key="after that")


async def test_who_says_nothing_any_more_holds_nothing(open_process):
    """As a process does that was killed: its calls are over when it has been silent for long enough."""
    killed, other = await open_process(alive_seconds=0.3), await open_process()
    await killed.take(ONE_AT_A_TIME)
    assert isinstance(await other.take(ONE_AT_A_TIME), Full)
    for task in killed.limits._tasks:
        task.cancel()
    with anyio.fail_after(AT_ONCE_SECONDS):
        while isinstance(await other.take(ONE_AT_A_TIME), Full):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)


async def test_who_was_away_for_too_long_says_what_it_holds(open_process):
    """Its calls count again from the first word on."""
    paused, other = await open_process(alive_seconds=0.3), await open_process()
    await paused.take(ONE_AT_A_TIME)
    await paused.limits._server.client.zrem("{test}:processes", paused.limits._me)
    await paused.take(RateLimitPolicy(), key="back again")
    assert isinstance(await other.take(ONE_AT_A_TIME), Full)


async def test_a_server_that_lost_everything_is_told(two, valkey):
    """What is under way and what the last minute had, by everyone, within a beat."""
    one, other = two
    for process in (one, other):
        await process.take(FIVE_A_MINUTE)
        await process.take(ONE_AT_A_TIME, key=f"of {process.limits._me}")
    valkey.client().flushall()
    for process in (one, other):
        await process.take(RateLimitPolicy(), key="tells")
    assert [isinstance(await other.take(FIVE_A_MINUTE), Full) for _ in range(4)] == [False] * 3 + [True]
    assert isinstance(await other.take(ONE_AT_A_TIME, key=f"of {one.limits._me}"), Full)


@asynccontextmanager
async def stopped(valkey):
    """The server hangs: it holds its connections, and answers nothing."""
    os.kill(valkey._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey._process.pid, signal.SIGCONT)


async def test_without_the_server_each_has_its_share(open_process, valkey):
    """A half where there are two; what is asked is granted, since each holds to its share by itself."""
    one, _ = [await open_process(wait_seconds=0.05) for _ in range(2)]
    assert one.limits.share == 1
    await one.take(RateLimitPolicy(), key="now it knows of the other")
    async with stopped(valkey):
        assert not isinstance(await one.take(ONE_AT_A_TIME), Full)
        assert one.limits.share == 0.5
        assert not isinstance(await one.take(ONE_AT_A_TIME), Full)
    await one.until_share(1)
    assert one.shares[:2] == [0.5, 1]


async def test_what_was_done_without_the_server_counts_when_it_is_back(open_process, valkey):
    """Calls under way, and those of the last minute; what was given back meanwhile is free."""
    one, other = await open_process(wait_seconds=0.05), await open_process()
    before = await one.take(ONE_AT_A_TIME, key="given back meanwhile")
    async with stopped(valkey):
        await one.take(ONE_AT_A_TIME, key="taken meanwhile")
        for _ in range(3):
            (await one.take(FIVE_A_MINUTE)).end(used=True)
        before.end(used=True)
    await one.until_share(1)
    assert not isinstance(await other.take(ONE_AT_A_TIME, key="given back meanwhile"), Full)
    assert isinstance(await other.take(ONE_AT_A_TIME, key="taken meanwhile"), Full)
    assert [isinstance(await other.take(FIVE_A_MINUTE), Full) for _ in range(3)] == [False, False, True]


async def test_what_is_given_back_is_not_given_back_again_where_the_answer_was_lost(open_process, valkey, valkey_door):
    """The server heard it the first time: it is not asked again, but told the whole account when it answers again."""
    door, url = valkey_door
    await door.open()
    process = await open_process(url=url)
    two_at_a_time = RateLimitPolicy.model_validate({"concurrency": 2})
    first, _ = await process.take(two_at_a_time), await process.take(two_at_a_time)

    def out():
        return int(valkey.client().hget(f"{{test}}:limit:{KEY}", f"out:{process.limits._me}") or 0)

    door.delay_seconds = 3  # longer than anybody waits for an answer
    first.end(used=True)
    with anyio.fail_after(AT_ONCE_SECONDS):
        while out() == 2:  # noqa: ASYNC110 - the server does not tell
            await anyio.sleep(0.01)
    door.delay_seconds = 0
    await process.take(RateLimitPolicy(), key="after that")
    await process.until_share(1)
    assert out() == 1


async def test_what_was_taken_long_ago_is_free_whatever_became_of_its_keys(two, valkey):
    """The sums of the last minute are what is in the last minute."""
    one, other = two
    for _ in range(5):
        (await one.take(FIVE_A_MINUTE)).end(used=True)
    valkey.client().delete(f"{{test}}:taken:{KEY}")
    assert [isinstance(await other.take(FIVE_A_MINUTE), Full) for _ in range(6)] == [False] * 5 + [True]


async def test_a_question_that_comes_too_late_is_not_answered(two):
    """As when it was held up on a connection that was given up, and all was told anew meanwhile."""
    one, other = two
    sent, send = [], one.limits._script

    async def remembers(**arguments):
        sent.append(arguments)
        return await send(**arguments)

    one.limits._script = remembers
    (await one.take(ONE_AT_A_TIME)).end(used=True)
    await one.take(RateLimitPolicy(), key="after that")
    await send(**sent[0])
    assert not isinstance(await other.take(ONE_AT_A_TIME), Full)


class HeldUp:
    """The answers of the server come when ``goes_on`` is set; the questions have come by then."""

    def __init__(self, limits):
        self.goes_on, self.asked = anyio.Event(), 0
        self._send = limits._script
        limits._script = self

    async def until_asked(self):
        """Wait for the next question."""
        asked = self.asked
        with anyio.fail_after(AT_ONCE_SECONDS):
            while self.asked == asked:  # noqa: ASYNC110 - it is told by another task
                await anyio.sleep(0.005)

    async def __call__(self, **arguments):
        self.asked += 1
        reply = await self._send(**arguments)
        await self.goes_on.wait()
        return reply


async def test_what_is_granted_while_all_is_told_anew_is_told_as_well(open_process):
    """It was decided alone, and is not in what is under way."""
    one, other = await open_process(wait_seconds=0.05), await open_process()
    await one.take(RateLimitPolicy(), key="now it knows of the other")
    server = HeldUp(one.limits)
    await one.take(RateLimitPolicy(), key="nobody answers")
    server.goes_on.set()
    await one.until_share(1)
    server.goes_on = anyio.Event()
    one.limits._go_alone(TimeoutError())
    one.limits._wake.set()
    await server.until_asked()
    await one.take(ONE_AT_A_TIME)
    server.goes_on.set()
    await one.until_share(1)
    await one.take(RateLimitPolicy(), key="after that")
    assert isinstance(await other.take(ONE_AT_A_TIME), Full)


async def test_whoever_gave_up_before_it_was_asked_for_is_asked_for_once(open_process, valkey):
    """It was decided alone, and told with all the rest."""
    one, other = await open_process(wait_seconds=0.05), await open_process()
    await one.take(RateLimitPolicy(), key="now it knows of the other")
    server = HeldUp(one.limits)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.take, FIVE_A_MINUTE)
        await server.until_asked()
        for _ in range(3):
            tasks.start_soon(one.take, FIVE_A_MINUTE)
    server.goes_on.set()
    await one.until_share(1)
    await one.take(RateLimitPolicy(), key="after that")
    assert valkey.client().zcard(f"{{test}}:taken:{KEY}") == 4
    assert [isinstance(await other.take(FIVE_A_MINUTE), Full) for _ in range(2)] == [False, True]


async def test_a_subscription_that_says_nothing_any_more_is_made_anew(valkey_url):
    """What lies between may drop one connection alone, and tell nobody."""
    server = ValkeyServer(valkey_url)
    pubsub = server.client.pubsub

    def deaf():
        heard = pubsub()

        async def get_message(**_):
            await anyio.sleep(0.01)

        heard.get_message = get_message
        return heard

    server.client.pubsub = deaf
    with pytest.raises(failures.TimeoutError):
        async with server.subscribed("test") as messages:
            with anyio.fail_after(AT_ONCE_SECONDS):
                async for _ in messages:
                    pass
    await server.aclose()


async def test_to_close_ends_though_a_cancellation_is_lost(open_process):
    """A client library may swallow one; what is under way then is the last that is asked."""
    process, asked = await open_process(), anyio.Event()
    send = process.limits._script

    async def deaf(**arguments):
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return await send(**arguments)

    process.limits._script = deaf
    process.limits.leave([KEY])
    await asked.wait()
    with anyio.fail_after(AT_ONCE_SECONDS):
        await process.limits.close()


async def test_every_key_expires(two, valkey):
    """Long after anybody could still need it."""
    await two[0].take(FIVE_A_MINUTE)
    client = valkey.client()
    keys = list(client.keys("*"))
    assert len(keys) == 7  # the processes, the life, two last batches, the use of two limits, and one window
    assert all(client.ttl(key) > 0 for key in keys)
