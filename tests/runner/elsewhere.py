"""Limits that several runners of one test share, in memory and in virtual time.

It decides as the script of the store's own does (`standby/store/_limits.lua`), at once and in the order in which it is
asked; what takes its time is the answer. So whoever leaves before that may be granted what nobody wants, or be in line.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import anyio
import sniffio
import trio

from standby.runner import RunFailed
from standby.store import Asked, Full, RateLimitPolicy
from tests.runner.conftest import gateway

LINE_SECONDS = 3.0


@dataclass(eq=False)
class Grant:
    """Room for one call; it remembers what it was told."""

    process: Process
    asked: tuple[Asked, ...]
    at: float
    tokens: dict[str, int]
    ended: list[bool] = field(default_factory=list)
    counted: int | None = None

    def end(self, *, used, tokens=None):
        self.ended.append(used)
        self.counted = tokens
        for each in self.asked:
            if tokens is not None:
                self.tokens[each.key] = tokens
            self.process.elsewhere.tell_the_line(each.key, self.process)

    @property
    def out(self):
        return not self.ended

    @property
    def counts(self):
        """Whether it counts for the minute after it: all but what was not used."""
        return self.ended != [False]


class Elsewhere:
    """What runners share.

    Args:
        seconds: How long an answer is under way.

    Attributes:
        grants: All that was ever granted.
        line: Who waits for each key: since when, and until when that is believed.
        asked: How often each key was asked for.
        said: What each room message named, in their order.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.grants: list[Grant] = []
        self.line: dict[str, dict[Process, tuple[float, float]]] = defaultdict(dict)
        self.asked: Counter[str] = Counter()
        self.said: list[str] = []
        self.processes: list[Process] = []
        self.there = True

    def process(self) -> Process:
        """One more that shares."""
        self.processes.append(Process(self))
        return self.processes[-1]

    def be_there(self, there: bool) -> None:
        """The server is lost, or back: then it knows what everybody holds."""
        self.there = there
        self.line.clear()
        for process in self.processes:
            process.share_changed()

    def out(self, key: str) -> int:
        """How many calls are under way."""
        return sum(grant.out and any(each.key == key for each in grant.asked) for grant in self.grants)

    @property
    def held(self) -> dict[str, int]:
        """What is held, waited for, or was ended more often than once; nothing when nobody is there."""
        return {
            "out": sum(grant.out for grant in self.grants),
            "in line": sum(len(line) for line in self.line.values()),
            "ended twice": sum(len(grant.ended) > 1 for grant in self.grants),
        }

    # -- what the server does ------------------------------------------------------------------------------------

    def decide(self, process: Process, asked: tuple[Asked, ...], since: float, *, in_line: bool) -> Grant | Full:
        """All or nothing; whoever is in line longer, in another process, goes first."""
        now = anyio.current_time()
        self.asked.update(each.key for each in asked)
        lacking = {each.key: seconds for each in asked if (seconds := self.free_in(process, each, since, now)) > 0}
        if lacking and self.there:
            if in_line:
                for key, seconds in lacking.items():
                    believed = now + (0.0 if seconds == math.inf else seconds) + LINE_SECONDS
                    self.line[key][process] = since, believed
            return Full(lacking)
        grant = Grant(process, asked, now, {each.key: each.tokens for each in asked})
        self.grants.append(grant)
        for each in asked:
            self.line[each.key].pop(process, None)
            if each.policy.concurrency is None or self.out(each.key) < each.policy.concurrency:
                self.tell_the_line(each.key, process)
        return grant

    def free_in(self, process: Process, asked: Asked, since: float, now: float) -> float:
        """After how long there is room; 0 where there is, infinity where time alone does not tell."""
        first = min((at for other, at in self.in_line(asked.key) if other is not process), default=math.inf)
        if first < since or self.out(asked.key) >= (asked.policy.concurrency or math.inf):
            return math.inf
        taken = sorted((grant for grant in self.grants if self.counts(grant, asked.key, now)), key=lambda it: it.at)
        requests = len(taken) + 1 - (asked.policy.requests_per_minute or math.inf)
        limit = asked.policy.tokens_per_minute or math.inf
        tokens = sum(grant.tokens[asked.key] for grant in taken) + asked.tokens - limit
        free_at = now
        for grant in taken:
            if requests <= 0 and tokens <= 0:
                break
            requests, tokens, free_at = requests - 1, tokens - grant.tokens[asked.key], grant.at + 60.0
        return free_at - now

    def counts(self, grant: Grant, key: str, now: float) -> bool:
        """Whether it was taken of the last minute of ``key``."""
        return grant.counts and key in grant.tokens and now < grant.at + 60.0

    def in_line(self, key: str) -> list[tuple[Process, float]]:
        """Who is in line, and since when."""
        now = anyio.current_time()
        return [(process, since) for process, (since, until) in self.line[key].items() if until > now]

    def tell_the_line(self, key: str, teller: Process) -> None:
        """There may be room: whoever listens hears it, a step of the loop later."""
        if self.there and any(process is not teller for process, _ in self.in_line(key)):
            self.said.append(key)
            for process in self.processes:
                soon(lambda process=process: process.room((key,)))


class Process:
    """One runner's `SharedLimits`."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self.elsewhere = elsewhere
        self.room = self.share_changed = lambda *_: None
        self.left: list[str] = []

    @property
    def share(self):
        return 1.0 if self.elsewhere.there else 1 / len(self.elsewhere.processes)

    def listen(self, room, share_changed):
        self.room, self.share_changed = room, share_changed

    async def take(self, asked, waited_seconds, *, in_line):
        answer = self.elsewhere.decide(self, tuple(asked), anyio.current_time() - waited_seconds, in_line=in_line)
        try:
            await (anyio.sleep(self.elsewhere.seconds) if self.elsewhere.there else anyio.lowlevel.checkpoint())
        except BaseException:
            if isinstance(answer, Grant):
                answer.end(used=False)
            raise
        return answer

    def leave(self, keys):
        self.left += keys
        for key in keys:
            if self.elsewhere.line[key].pop(self, None) is not None:
                self.elsewhere.tell_the_line(key, self)

    async def hold(self, key, tokens=0, **policy):
        """Take room as another process would; it is expected to be there."""
        answer = await self.take([Asked(key, RateLimitPolicy.model_validate(policy), tokens)], 0.0, in_line=False)
        assert isinstance(answer, Grant)
        return answer


def soon(act):
    """Do it in one of the loop's next steps."""
    if sniffio.current_async_library() == "trio":
        trio.lowlevel.current_trio_token().run_sync_soon(act)
    else:
        asyncio.get_running_loop().call_soon(act)


# -- runners that share

ONE_AT_A_TIME = {"concurrency": 1}
ONE_A_MINUTE = {"requestsPerMinute": 1}
NOTHING = {"out": 0, "in line": 0, "ended twice": 0}
A_WHILE = 0.25
NO_QUEUE = {"queue": {"maxWaiting": 0}}
LONG_QUEUE = {"queue": {"maxWaitSeconds": 200}}


def sharing(elsewhere, scripts=None, **parts):
    """A gateway that shares."""
    scripts = {"a": []} if scripts is None else scripts
    return gateway(scripts, **{"shared": elsewhere.process(), "limits": ONE_AT_A_TIME, **parts})


async def ended_at(tasks, gate, name, ended, **options):
    """Ask in a task of its own; who answered, or why nobody did, and when, goes to ``ended``."""

    async def ask():
        try:
            came_to = (await gate.ask(**options)).candidate
        except RunFailed as failed:
            came_to = failed.ending
        ended.append((name, came_to, anyio.current_time()))

    tasks.start_soon(ask)
    await anyio.sleep(A_WHILE)


async def unannounced(seconds, use):
    """Cancel it then: a deadline would be known to the run beforehand."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use)
        await anyio.sleep(seconds)
        tasks.cancel_scope.cancel()
