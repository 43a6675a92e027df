"""Run-time state in Valkey or Redis, for processes on any number of machines.

- All standings are in one hash, each field a number, who put it there, and a standing: ``SEQ LF WHO LF JSON``. A change
  is computed here, by the same `changed()` as everywhere, on what this process last saw; a script puts it in its place
  if that is still what is there, and otherwise gives back what is. So a change costs one round trip, and two processes
  cannot overwrite each other.
- An answer may be lost after the change was made. Changes are numbered, and before the next one the server is asked
  whether it was made; where not, it never will be, however late it comes. So nothing counts twice.
- Whoever changes something publishes it, and every process lays it into its own copy, which all reads are answered
  from. After a connection was lost the whole hash is read again.
- Times are the server's: what this machine's clock says is moved by how far the two are apart when something goes in
  or comes out, so processes whose clocks differ agree on when a cooldown ends.
- A server that comes back empty is told what this process knows.
- Every key expires, long after anybody could still need it. All keys share one hash tag: a cluster keeps them together,
  on the node that is to be named.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from types import TracebackType
from typing import Any, Final, Self, cast

import orjson
from redis import exceptions as failures
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ._audit import Audit
from ._engine import POLL, Engine, log, to_its_end
from ._errors import StoreError
from ._shared_state import NO_ROW, PART, Entry, Reduced, Row, SharedState, reduced
from ._standing import CLEAN, Standing
from ._texts import StoreUrl
from ._valkey_limits import ValkeyLimits

KEY_SECONDS: Final = 90 * 86_400
"""How long a key is kept after it was last written."""
LAST_SECONDS: Final = 86_400
"""How long it is known whether a change was made."""
MAX_TRIES: Final = 100
PING_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 0.2
CLOCKS_AGREE_SECONDS: Final = 0.05
"""Less than that is no difference, but the time that it takes to ask."""
CLOCK_LOOKS: Final = 5
"""The first takes a connection to be made, and any of them may find this process, or the server, busy."""
_SOCKET_SECONDS: Final = 1.0

_TIMES: Final = ("cooling_until", "cooled_at", "recovered_at", "disabled_at", "recheck_at", "demoted_at", "probe_until")
_NAMES: Final = frozenset(field.name for field in fields(Standing))

# KEYS: the standings, their number, the life, this process's last change. ARGV: seconds, channel, who, the number of
# the change, then domain, what was there, what is to be, for each. Gives back 1 and the number of the standings, or 0
# and what is there now; nothing is changed then. A change that was made, or is never to be, is not made again.
_PUT: Final = """
local last, made = string.match(redis.call('GET', KEYS[4]) or '0 0', '(%d+) (%d+)')
if tonumber(last) >= tonumber(ARGV[4]) then return {1, tonumber(made)} end
for i = 5, #ARGV, 3 do
    if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then
        local found = {0}
        for j = 5, #ARGV, 3 do found[#found + 1] = redis.call('HGET', KEYS[1], ARGV[j]) or '' end
        return found
    end
end
local seq = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[4], ARGV[4] .. ' ' .. seq, 'EX', 86400)
for i = 5, #ARGV, 3 do
    local value = seq .. '\\n' .. ARGV[3] .. '\\n' .. ARGV[i + 2]
    if ARGV[i + 2] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
    else redis.call('HSET', KEYS[1], ARGV[i], value) end
    redis.call('PUBLISH', ARGV[2], ARGV[i] .. '\\n' .. value)
end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[1]) end
return {1, seq}
"""

# KEYS: this process's last change. ARGV: seconds, the number of a change. Gives back the number of the standings that
# it made; 0 where it was not made, and then it never will be.
_MAKE_SURE: Final = """
local last, made = string.match(redis.call('GET', KEYS[1]) or '0 0', '(%d+) (%d+)')
if tonumber(last) >= tonumber(ARGV[2]) then return tonumber(made) end
redis.call('SET', KEYS[1], ARGV[2] .. ' 0', 'EX', ARGV[1])
return 0
"""


@dataclass(frozen=True, slots=True)
class _Put:
    """A change that is on its way: whether it was made is not known before the answer has come."""

    number: int
    batch: Sequence[Entry]
    done: Reduced
    changes: Mapping[str, Standing]


def _connected(url: str, *, tries_again: int) -> Any:
    scheme, _, rest = url.partition("://")
    return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        f"{scheme.replace('valkey', 'redis')}://{rest}",
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=_SOCKET_SECONDS,
        decode_responses=True,
        retry=Retry(NoBackoff(), tries_again),
    )


class ValkeyServer(Engine):
    """The connections to one server, and how far its clock is from ours.

    Attributes:
        client: For what may be asked twice, where the first answer was lost.
        client_that_asks_once: For what may not.
    """

    def __init__(self, url: str) -> None:
        super().__init__(StoreUrl(url).hidden)
        self.client = _connected(url, tries_again=1)  # for a pooled connection that a restart has closed
        self.client_that_asks_once = _connected(url, tries_again=0)
        self.ahead_seconds = 0.0

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.aclose()
        await self.client_that_asks_once.aclose()

    def is_trouble(self, error: BaseException) -> bool:
        """Whether the server is at fault, so that trying later may do."""
        return isinstance(error, failures.RedisError | OSError) and not isinstance(error, failures.NoPermissionError)

    def what_is_wrong(self, error: BaseException) -> str:
        """In words that follow the server's name."""
        match error:
            case failures.AuthenticationError():
                return "refuses the password"
            case failures.NoPermissionError():
                return "does not let this user do that"
            case failures.BusyLoadingError():
                return "is loading its data"
            case failures.ReadOnlyError():
                return "is a replica, which cannot be written"
            case failures.MovedError():
                moved = cast("Any", error)
                return f"is a node of a cluster in which {moved.host}:{moved.port} has these keys"
            case failures.TimeoutError():
                return "does not answer in time"
            case failures.ConnectionError() | OSError():
                return "cannot be reached"
            case failures.ResponseError() if "OOM" in str(error):
                return "has no memory left"
            case _:
                return f"cannot be used: {error}"

    async def look_at_the_clock(self, now: Callable[[], float]) -> None:
        """Learn how far the server's clock is ahead of ours, by the quickest of some answers."""
        ahead_seconds, quickest = 0.0, math.inf
        for _ in range(CLOCK_LOOKS):
            before = now()
            seconds, microseconds = await self.client.time()
            took = now() - before
            if took < quickest:
                quickest, ahead_seconds = took, seconds + microseconds / 1e6 - before - took / 2
        # A difference that may as well be the way of the answer is none.
        self.ahead_seconds = ahead_seconds if abs(ahead_seconds) > max(CLOCKS_AGREE_SECONDS, quickest / 2) else 0.0

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncGenerator[AsyncGenerator[str | None, None], None]:
        """What is published on ``channel``; `None` now and then, when the server was asked whether it is there."""
        heard: Any = self.client.pubsub()

        async def messages() -> AsyncGenerator[str | None, None]:
            asked = False
            while True:
                message = await heard.get_message(timeout=PING_SECONDS)
                if message is None:
                    # Asked on this connection: what lies between may drop it alone, and say so to nobody.
                    if asked:
                        raise failures.TimeoutError
                    await heard.subscribe(channel)
                asked = message is None
                yield str(message["data"]) if message is not None and message["type"] == "message" else None

        try:
            await heard.subscribe(channel)
            async with aclosing(messages()) as generator:
                yield generator
        finally:
            with suppress(failures.RedisError, OSError):
                await heard.aclose()


class ValkeyState(SharedState):
    """Run-time state on one server, to be entered with ``async with``, on asyncio.

    Args:
        url: ``valkey://`` or ``redis://``, as ``valkey://:PASSWORD@HOST:PORT/DB``; with an ``s`` before the colon for
            TLS.
        prefix: What every key begins with: two gateways that share a server have their own.
        commit_wait_seconds: How long a run waits at most for a change to be kept.
        max_pending: How many changes wait at most to be kept, while the server is away.
        audit: Is told what somebody did on purpose, once it is kept.
        required: Whether a server that cannot be reached is an error at the start; where not, it is gone over to when
            it can be, and is told then what was learned meanwhile.
        clock: Seconds since the epoch.

    Attributes:
        limits: What the processes that use this server may do together.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "standby",
        commit_wait_seconds: float = 0.25,
        max_pending: int = 10_000,
        audit: Audit | None = None,
        required: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = ValkeyServer(url)
        super().__init__(self._server, commit_wait_seconds=commit_wait_seconds, max_pending=max_pending)
        self._audit = audit
        self._required = required
        self._clock = clock
        self._keys = [f"{{{prefix}}}:{name}" for name in ("standings", "seq", "life")]
        self._channel = f"{{{prefix}}}:changes"
        self._life = ""
        self._last_key = f"{{{prefix}}}:last:{secrets.token_hex(8)}"
        self._number = 0
        self._unsure: _Put | None = None
        self._script = self._server.client.register_script(_PUT)
        self._sure = self._server.client.register_script(_MAKE_SURE)
        self._raw: dict[str, str] = {}
        self.limits = ValkeyLimits(self._server, prefix, wait_seconds=commit_wait_seconds)
        self._closing = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect, and read what there is.

        Raises:
            StoreError: The server cannot be used. The message names it and says what to do.
        """
        try:
            await self._refresh()
        except (failures.RedisError, OSError) as error:
            refuses = isinstance(error, failures.AuthenticationError) or not self._server.is_trouble(error)
            if self._required or refuses:
                await self._server.aclose()
                raise StoreError(f"{self._server.words(error)}: start it, or correct store.state_url") from error
            for part in (POLL, PART):
                self._server.enter_trouble(part, error)
        self.writer.start()
        self._follower = asyncio.create_task(self._follow_always(), name=f"standby.store follows {self._server.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what is pending, with one last try, and disconnect."""
        await to_its_end(self._close())

    async def _close(self) -> None:
        self._closing.set()
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
        await self.writer.close()
        await self.limits.close()
        await self._server.aclose()

    # -- what others change --------------------------------------------------------------------------------------

    async def _follow_always(self) -> None:
        while not self._closing.is_set():
            try:
                await self._follow()
            except (failures.RedisError, OSError) as error:
                self._server.enter_trouble(POLL, error)
            except Exception as error:  # noqa: BLE001 - said with its trace
                log.exception("following the changes on %s failed", self._server.name)
                self._server.enter_trouble(POLL, error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _follow(self) -> None:
        async with self._server.subscribed(self._channel) as messages:
            # Subscribed first, and then read: what is changed in between is heard twice rather than never.
            await self._refresh()
            self._server.leave_trouble(POLL)
            async for message in messages:
                # Asked each time, though it is cancelled at the end: a cancellation can be lost inside of a library.
                if self._closing.is_set():
                    return
                if message is None:
                    continue
                domain, _, value = message.partition("\n")
                row = self._row(value)
                await self.learn({domain: row})
                if row.seq >= self._row(self._raw.get(domain, "")).seq:
                    self._raw[domain] = "" if value.endswith("\n") else value

    async def _refresh(self) -> None:
        """Read everything; where the server has lost what it had, tell it what is known here."""
        # Nothing of ours is written meanwhile: a change to what was read and is not yet known would be overlooked, and
        # what comes after it would be counted without it.
        async with self._server.one_writer:
            await self._read()

    async def _read(self) -> None:
        await self._server.look_at_the_clock(self._clock)
        if self._unsure is not None:
            await self._make_sure(self._unsure)
        pipeline = self._server.client.pipeline(transaction=True)
        pipeline.set(self._keys[2], secrets.token_hex(8), nx=True, ex=KEY_SECONDS)
        pipeline.hgetall(self._keys[0])
        pipeline.mget(self._keys[1:])
        _, found, (seq, life) = await pipeline.execute()
        known = {domain: row.standing for domain, row in self._seen.items() if row.standing != CLEAN}
        lost = bool(self._life) and life != self._life
        if lost:
            log.warning("%s has lost its data; it is told what is known here", self._server.name)
            self.forget_numbers()
        self._raw = cast("dict[str, str]", found)
        rows = {domain: self._row(value) for domain, value in self._raw.items()}
        missing = [domain for domain in known if domain not in rows]
        # What is missing was made clean while nobody listened here, unless the server has lost it.
        self._absorb(rows if lost else rows | {domain: Row(int(seq or 0), CLEAN) for domain in missing})
        if lost and missing:
            await self._put({domain: known[domain] for domain in missing})
        self._life = life  # not before it has been told

    # -- changing ------------------------------------------------------------------------------------------------

    async def _commit(self, batch: Sequence[Entry]) -> None:
        domains = sorted({change.domain for entry in batch for change in entry.changes})
        if not self._life:
            await self._refresh()  # it was not there at the start, and its clock is not known yet
        async with self._server.one_writer:
            if self._unsure is not None:
                await self._make_sure(self._unsure)
                batch = [entry for entry in batch if not entry.kept.is_set()]
            for _ in range(MAX_TRIES):
                before = {domain: self._row(self._raw.get(domain, "")).standing for domain in domains}
                done = reduced(before, batch)
                changes = {domain: after for domain, after in done.standings.items() if after != before[domain]}
                self._unsure = _Put(self._number + 1, batch, done, changes)
                rows = await self._put(changes)
                self._unsure = None
                if rows is not None:
                    break
            else:
                raise failures.ConnectionError("too many others change the same")
            self._keep(batch, rows, done)

    async def _make_sure(self, put: _Put) -> None:
        """Learn whether a change was made whose answer was lost; where not, it never will be."""
        seq = int(await self._sure(keys=[self._last_key], args=[LAST_SECONDS, put.number]))
        self._unsure = None
        if seq:
            # What others made of it since then may have been seen already.
            rows = {domain: Row(seq, after) for domain, after in put.changes.items()}
            newer = {domain: row for domain in rows if (row := self._seen.get(domain, NO_ROW)).seq > seq}
            self._keep(put.batch, rows | newer, put.done)

    def _keep(self, batch: Sequence[Entry], rows: Mapping[str, Row], done: Reduced) -> None:
        self._committed(batch, rows, done.refused)
        if done.audited and self._audit is not None:
            self._audit(done.audited)

    async def _put(self, changes: Mapping[str, Standing]) -> dict[str, Row] | None:
        """Put these in their places; `None`, with what is there learned, where somebody was faster."""
        if not changes:
            return {}
        values = {domain: self._value(after) for domain, after in changes.items()}
        who = secrets.token_hex(8)
        self._number += 1
        arguments: list[str | int] = [KEY_SECONDS, self._channel, who, self._number]
        for domain, value in values.items():
            arguments += domain, self._raw.get(domain, ""), value
        put, *found = cast("list[Any]", await self._script(keys=[*self._keys, self._last_key], args=arguments))
        if put:
            seq = int(found[0])
            self._raw |= {domain: f"{seq}\n{who}\n{value}" if value else "" for domain, value in values.items()}
            return {domain: Row(seq, after) for domain, after in changes.items()}
        self._raw |= dict(zip(values, found, strict=True))
        return None

    # -- what goes over the wire ---------------------------------------------------------------------------------

    def _value(self, standing: Standing) -> str:
        if standing == CLEAN:
            return ""
        moved = _moved(standing, self._server.ahead_seconds)
        # By name: processes of another version may have more of them, or fewer.
        return orjson.dumps({name: value for name, value in asdict(moved).items() if value}).decode()

    def _row(self, value: str) -> Row:
        if not value:
            return NO_ROW
        seq, _, written = value.split("\n", 2)
        if not written:
            return Row(int(seq), CLEAN)
        standing = Standing(**{name: value for name, value in orjson.loads(written).items() if name in _NAMES})
        return Row(int(seq), _moved(standing, -self._server.ahead_seconds))


def _moved(standing: Standing, seconds: float) -> Standing:
    """The standing with its times moved; a time that is not set stays so."""
    if not seconds:
        return standing
    return replace(
        standing, **{name: round(getattr(standing, name) + seconds, 6) for name in _TIMES if getattr(standing, name)}
    )
