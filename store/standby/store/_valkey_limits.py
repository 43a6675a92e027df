"""Limits that processes share through Valkey or Redis: windows of a minute, concurrency, and whose turn it is.

- A call that needs shared room costs one round trip; what comes while one is under way goes together in the next, in
  order. So a process never overtakes itself, and what it gives back is given back before it asks again.
- The server decides, in one script: all of what a call needs or nothing. A minute is any sixty seconds of its clock.
- What a process holds counts while the process says, every `BEAT_SECONDS`, that it is there. Who was killed holds
  nothing `ALIVE_SECONDS` later.
- Room goes to the process whose run has waited longest; the others are refused until it has taken it. A process that
  gives room back says so to those in line, and who is in line asks again every `ASK_AGAIN_SECONDS` in any case.
- Every process keeps its own account of what it holds and took. A server that is gone is not waited for: every process
  goes on by itself, with its share of each limit, and tells the server what it holds when it is back. So in the first
  minute without the server, what others took before is not known, and all together may take up to twice a limit; and
  up to that again while a server that lost its data is told, which takes a beat.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import orjson
from redis import exceptions as failures

from ._engine import LIMITS, log
from ._models import RateLimitPolicy
from ._shared_limits import Asked, Full

if TYPE_CHECKING:
    from ._valkey import ValkeyServer

ALIVE_SECONDS: Final = 10
BEAT_SECONDS: Final = 1.0
ASK_AGAIN_SECONDS: Final = 1.0
LINE_SECONDS: Final = 3 * ASK_AGAIN_SECONDS
"""A place in the line that is not taken again for so long is given up."""
RETRY_SECONDS: Final = 0.2
WINDOW_SECONDS: Final = 60.0

_BATCH: Final = files("standby.store").joinpath("_limits.lua").read_text()

Told = dict[str, Any]


@dataclass(slots=True, eq=False)
class _Part:
    """What this process took of one limit.

    Attributes:
        at: When, by the steady clock.
        member: Its name in the window of the last minute.
    """

    key: str
    policy: RateLimitPolicy
    at: float
    member: str

    @property
    def tokens(self) -> int:
        return int(self.member.rpartition(":")[2])


class _Account:
    """What this process holds, and took in the last minute, of one limit: the server has a copy."""

    __slots__ = ("out", "taken")

    def __init__(self) -> None:
        self.out = 0
        self.taken: deque[_Part] = deque()

    def add(self, part: _Part) -> None:
        self.forget(part.at)
        self.out += 1
        if _has_window(part.policy):
            self.taken.append(part)

    def forget(self, now: float) -> None:
        while self.taken and self.taken[0].at + WINDOW_SECONDS <= now:
            self.taken.popleft()


@dataclass(slots=True, eq=False)
class _Take:
    """Somebody asks, and waits for the answer."""

    parts: Sequence[_Part]
    since: float
    in_line: bool
    answer: asyncio.Future[_Grant | Full]


class _Grant:
    """Room for one call; see `Grant`."""

    __slots__ = ("_ended", "_limits", "_parts")

    def __init__(self, limits: ValkeyLimits, parts: Sequence[_Part]) -> None:
        self._limits = limits
        self._parts = parts
        self._ended = False

    def end(self, *, used: bool, tokens: int | None = None) -> None:
        if not self._ended:
            self._ended = True
            for part in self._parts:
                self._limits.give_back(part, used=used, tokens=tokens)


class ValkeyLimits:
    """See `SharedLimits`; it begins to take part when somebody listens.

    Args:
        server: The connections.
        prefix: What every key begins with.
        wait_seconds: How long a call waits at most for the server.
        alive_seconds: How long a process that says nothing is believed to be there.
        steady: A clock that nobody sets.
    """

    def __init__(
        self,
        server: ValkeyServer,
        prefix: str,
        *,
        wait_seconds: float,
        alive_seconds: float = ALIVE_SECONDS,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._prefix = f"{{{prefix}}}"
        self._wait_seconds = wait_seconds
        self._alive_seconds = alive_seconds
        self._steady = steady
        # Asked again after a lost answer it would take, or give back, what it took or gave back already; what is lost
        # is made good by telling the whole account.
        self._script = server.client_that_asks_once.register_script(_BATCH)
        self._me = secrets.token_hex(6)
        self._numbers = count(1)
        self._batches = count(1)
        self._accounts: dict[str, _Account] = {}
        self._pending: list[_Take | Told] = []
        self._life = ""
        self._processes = 0  # until that is heard
        self._restates = True
        self._alone = False
        self._closed = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._room: Callable[[Collection[str]], None] = _nothing
        self._share_changed: Callable[[], None] = _nothing

    @property
    def share(self) -> float | None:
        """What part of every limit this process may use; see `SharedLimits`."""
        if not self._alone:
            return 1.0
        return 1 / self._processes if self._processes else None

    def listen(self, room: Callable[[Collection[str]], None], share_changed: Callable[[], None]) -> None:
        """Begin to take part; see `SharedLimits`. To be called on the event loop."""
        self._room, self._share_changed = room, share_changed
        if not self._tasks and not self._closed:
            name = f"standby.store shares limits through {self._server.name}"
            self._tasks = [asyncio.create_task(work(), name=name) for work in (self._talk, self._hear)]

    async def close(self) -> None:
        """Hold nothing any more, and say so."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and not self._alone:
            with suppress(failures.RedisError, OSError):
                await self._server.client.zrem(f"{self._prefix}:processes", self._me)
        self._answer_alone(self._pending)

    # -- what calls ask ------------------------------------------------------------------------------------------

    async def take(self, asked: Sequence[Asked], waited_seconds: float, *, in_line: bool) -> _Grant | Full:
        """Room for one call, of all of these or of none; see `SharedLimits`."""
        now = self._steady()
        number = f"{self._me}:{next(self._numbers)}"
        parts = [_Part(each.key, each.policy, now, f"{number}:{each.tokens}") for each in asked]
        if self._alone or self._closed:
            for part in parts:  # all that is known here may be on its way already
                window = _has_window(part.policy)
                self._tell({"does": "hold", "limit": part.key, "member": part.member, "window": window})
            return self._granted(parts)
        take = _Take(parts, now - waited_seconds, in_line, asyncio.get_running_loop().create_future())
        self._tell(take)
        try:
            with anyio.move_on_after(self._wait_seconds):
                return await take.answer
        except BaseException:
            if _answered(take) and isinstance(grant := take.answer.result(), _Grant):
                grant.end(used=False)  # it came as the caller left
            raise
        if _answered(take):
            return take.answer.result()
        self._go_alone(failures.TimeoutError())
        return self._granted(parts)

    def give_back(self, part: _Part, *, used: bool, tokens: int | None) -> None:
        """A call is over; see `Grant.end`."""
        account = self._account(part.key)
        account.out -= 1
        told = {"does": "give_back", "limit": part.key, "member": part.member, "unused": not used}
        if not used:
            with suppress(ValueError):  # not counted, or forgotten: it was taken more than a minute ago
                account.taken.remove(part)
        elif tokens is not None and part.policy.tokens_per_minute is not None:
            part.member = told["settled"] = f"{part.member.rpartition(':')[0]}:{tokens}"
        self._tell(told)

    def leave(self, keys: Collection[str]) -> None:
        """Nobody here waits for these any more."""
        for key in keys:
            self._tell({"does": "leave", "limit": key})

    def _account(self, key: str) -> _Account:
        return self._accounts.setdefault(key, _Account())

    def _granted(self, parts: Sequence[_Part]) -> _Grant:
        for part in parts:
            self._account(part.key).add(part)
        return _Grant(self, parts)

    def _tell(self, what: _Take | Told) -> None:
        # What only repeats the account need not be told while that is going to be told as a whole.
        if isinstance(what, _Take) or not (self._restates or self._closed):
            self._pending.append(what)
            self._wake.set()

    # -- what the server is told ---------------------------------------------------------------------------------

    async def _talk(self) -> None:
        while not self._is_closed():  # asked, since a cancellation can be lost inside of a client library
            if not self._pending and not self._restates:
                self._wake.clear()
                with anyio.move_on_after(BEAT_SECONDS):
                    await self._wake.wait()
            batch, self._pending = self._pending, []
            try:
                await self._exchange(batch)
            except asyncio.CancelledError:
                self._pending = batch + self._pending
                raise
            except Exception as error:  # noqa: BLE001 - nobody may wait for ever, and what is no trouble is said with its trace
                if not isinstance(error, failures.RedisError | OSError):
                    log.exception("sharing limits through %s failed", self._server.name)
                self._go_alone(error)
                self._answer_alone(batch)
                await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, batch: Sequence[_Take | Told]) -> None:
        restates = self._restates
        # Who went away before it was sent is not asked for: where it was decided alone, that is told.
        batch = [each for each in batch if not (isinstance(each, _Take) and each.answer.done())]
        # From here on what changes is told one by one, after this.
        self._restates = False
        told = [self._restated(key) for key in self._accounts] if restates else []
        told += [self._told(each) for each in batch if isinstance(each, _Take) or not restates]
        takes = [each for each in batch if isinstance(each, _Take)]
        try:
            reply = await self._send(told, restates=restates)
        except BaseException:
            self._restates = True
            raise
        self._life = reply["life"]
        if "results" not in reply:  # it does not know us: it is new, or we were away for too long
            self._restates = True
            self._pending = [*takes, *(each for each in self._pending if isinstance(each, _Take))]
            return
        self._processes = int(reply["processes"])
        results = [result for each, result in zip(told, reply["results"], strict=True) if each["does"] == "take"]
        for take, result in zip(takes, results, strict=True):
            self._answered(take, result)
        if self._alone and not self._restates:
            self._alone = False
            self._server.leave_trouble(LIMITS)
            self._share_changed()

    async def _send(self, told: Sequence[Told], *, restates: bool) -> Told:
        names = list(dict.fromkeys(name for each in told for name in _limits_of(each)))
        keys = [f"{self._prefix}:processes", f"{self._prefix}:life", f"{self._prefix}:last_batch:{self._me}"]
        for name in names:
            keys += f"{self._prefix}:limit:{name}", f"{self._prefix}:taken:{name}"
        batch = {
            "me": self._me,
            "number": next(self._batches),
            "life": self._life,
            "new_life": secrets.token_hex(8),
            "restates": restates,
            "alive_seconds": self._alive_seconds,
            "line_seconds": LINE_SECONDS,
            "channel": f"{self._prefix}:room",
            "names": names,
            "ops": told,
        }
        return cast("Told", orjson.loads(await self._script(keys=keys, args=[orjson.dumps(batch)])))

    def _told(self, what: _Take | Told) -> Told:
        if not isinstance(what, _Take):
            return what
        parts = [
            {
                "limit": part.key,
                "member": part.member,
                "tokens": part.tokens,
                "requests_per_minute": part.policy.requests_per_minute,
                "tokens_per_minute": part.policy.tokens_per_minute,
                "concurrency": part.policy.concurrency,
            }
            for part in what.parts
        ]
        waited_seconds = self._steady() - what.since
        return {"does": "take", "parts": _set(parts), "waited_seconds": waited_seconds, "in_line": what.in_line}

    def _restated(self, key: str) -> Told:
        now, account = self._steady(), self._accounts[key]
        account.forget(now)
        taken = [(part.member, now - part.at) for part in account.taken]
        return {"does": "restate", "limit": key, "out": account.out, "taken": taken}

    def _answered(self, take: _Take, result: Any) -> None:
        if take.answer.done():
            # Nobody waits for it any more; where it was decided alone, the whole account is told anew.
            if result == 1 and not self._restates:
                self._granted(take.parts).end(used=False)
        elif result == 1:
            take.answer.set_result(self._granted(take.parts))
        else:
            seconds = {name: math.inf if after < 0 else after for name, after in result}
            take.answer.set_result(Full(seconds))

    # -- alone ---------------------------------------------------------------------------------------------------

    def _go_alone(self, error: BaseException) -> None:
        self._restates = True
        self._server.enter_trouble(LIMITS, error)
        if not self._alone:
            self._alone = True
            self._share_changed()

    def _answer_alone(self, batch: Sequence[_Take | Told]) -> None:
        for take in batch:
            if isinstance(take, _Take) and not take.answer.done():
                take.answer.set_result(self._granted(take.parts))

    def _is_closed(self) -> bool:
        return self._closed

    # -- what others tell ----------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        while not self._is_closed():  # as above
            try:
                async with self._server.subscribed(f"{self._prefix}:room") as messages:
                    self._room(list(self._accounts))  # what was said before is not heard
                    async for key in messages:
                        if self._is_closed():
                            return
                        if key is not None:
                            self._room((key,))
            except (failures.RedisError, OSError):
                pass  # that is said where the server is asked
            except Exception:  # noqa: BLE001 - said with its trace
                log.exception("hearing of room within limits on %s failed", self._server.name)
            await asyncio.sleep(RETRY_SECONDS)


def _answered(take: _Take) -> bool:
    return take.answer.done() and not take.answer.cancelled()


def _has_window(policy: RateLimitPolicy) -> bool:
    return policy.requests_per_minute is not None or policy.tokens_per_minute is not None


def _limits_of(told: Told) -> list[str]:
    return [part["limit"] for part in told["parts"]] if "parts" in told else [told["limit"]]


def _set(parts: Sequence[Told]) -> list[Told]:
    # A null of JSON is true in Lua.
    return [{name: value for name, value in part.items() if value is not None} for part in parts]


def _nothing(_: object = None) -> None:
    pass
