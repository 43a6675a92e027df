"""A stream in the caller's own dialect: bytes in, blocks of whole events out, and what must be known of them.

Until the runner commits to the stream its events are taken apart one by one, since any of them may be the failure that
moves the run to another candidate. From then on the bytes are passed on as they came; a scan finds the few events that
tell something: an end, a count of tokens, an error. What tells something, and of what, a dialect says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from ._answers import Scrub, unusable
from ._breaks import MAX_SILENT_BYTES, StreamedAnswer, broken, drain
from ._errors import ClientError
from ._http_answer import request_id_of
from ._protocols import EVENT_STREAM, Block, Usage
from ._sse import Event, EventDecoder, EventTooLarge, event_of

_DATA: Final = b"data: "
_END: Final = b"\n\n"
_NOTHING: Final[Mapping[str, Any]] = {}


class PassedStream:
    """One stream that is being read. What is left to say is what its events mean.

    Args:
        answer: What is read from.
        now: When the answer came, in seconds since the epoch.
        scrub: Takes secrets out of a text.
        may_end_without_finish: Whether a stream may simply end, as those of some servers do.
        dropped: What was left out of the request.

    Attributes:
        usage: What the provider counted, as soon as it said so.
        dropped: What was left out of the request.
        content_type: Of what is passed on.
    """

    LAST: bytes = b""
    """The event that says that the stream is over, where that is all it says."""

    content_type = EVENT_STREAM

    def __init__(
        self,
        answer: StreamedAnswer,
        *,
        now: float,
        scrub: Scrub,
        may_end_without_finish: bool = False,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.usage: Usage | None = None
        self.dropped = dropped
        self._answer = answer
        self._now = now
        self._scrub = scrub
        self._done = False
        self._may_end_without_finish = may_end_without_finish
        self._decoder = EventDecoder()
        self._committed = False
        self._said_something = False
        self._silent_bytes = 0
        self._events = b""
        self._at = 0
        self._ended = False
        self._over = False
        self._failure: ClientError | None = None

    # -- what a dialect says -----------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, whatever may still come."""
        return self._done

    def _note(self, data: Mapping[str, Any]) -> bool:
        """Remember what an event tells, the end too where an event with data is it; whether it has content."""
        raise NotImplementedError

    def _places(self, raw: bytes) -> list[int]:
        """Where, in whole events, to look closer: the end of what was found."""
        raise NotImplementedError

    def _tells(self, event: Event) -> bool:
        """Whether an event that was looked at must be taken apart."""
        raise NotImplementedError

    def _may_fail(self, event: Event) -> bool:
        """Whether an event may tell of an error."""
        raise NotImplementedError

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        """The error that an event tells of."""
        raise NotImplementedError

    def _is_for_caller(self, data: Mapping[str, Any]) -> bool:  # noqa: ARG002 - as said
        """Whether the caller asked for the event."""
        return True

    def _silence_is_explained(self) -> bool:
        """Whether it is clear why a complete answer has nothing in it."""
        raise NotImplementedError

    # -- what the runner asks ----------------------------------------------------------------------------------

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        return request_id_of(self._answer.headers)

    def ending(self) -> Block | None:
        """The end that does not come, where the answer is complete without it."""
        return Block(self.LAST, content=False) if self.LAST else None

    def commit(self) -> None:
        """From now on only look for what must be known."""
        self._committed = self._said_something = True

    async def read(self) -> Block | None:
        """The next whole events, as they come; `None` at the end of a stream that is complete.

        Raises:
            ClientError: For every way in which a stream can fail, one that ends too early among them. What came before
                the failure was returned.
        """
        while True:
            if self._events:
                block = self._rest_scanned() if self._committed else self._next_event()
                if block is not None:
                    return block
            elif self._failure is not None:
                raise self._failure
            elif self._over:
                await self._drain()
                return None
            elif self._ended:
                self._end()
            else:
                await self._receive()

    # -- bytes -> whole events ---------------------------------------------------------------------------------

    async def _receive(self) -> None:
        try:
            part = await self._answer.read_some()
            if part:
                self._events = self._decoder.feed(part)
                return
            self._events = self._last_event()
        except ClientError as error:
            if not self.finished:  # else the answer is whole, and how its connection ended is no news
                self._failure = broken(self._answer, error)
        except EventTooLarge as error:
            self._events = error.before
            self._failure = self._unusable("invalid_response", str(error))
        self._ended = True

    def _last_event(self) -> bytes:
        """The rest, where it is the event that ends the stream: some servers leave out the blank line after it.

        What else comes without its blank line was cut, however whole it may look.
        """
        rest = self._decoder.rest().strip(b"\n")
        if not rest or rest.startswith(b":"):
            return b""
        event = event_of(rest + _END)
        data = _object(event.data)
        if data is not None:
            self._failure = self._error_in(event, data)
            self._note(data)
        elif self._is_last(event):
            self._done = True
        else:
            self._failure = None if self.finished else broken(self._answer, None)
            return b""
        is_last = self.finished or self._may_end_without_finish
        return rest + _END if is_last and self._failure is None else b""

    async def _drain(self) -> None:
        if not self._ended:
            self._ended = True
            await drain(self._answer)

    # -- whole events -> what must be known --------------------------------------------------------------------

    def _is_last(self, event: Event) -> bool:
        return bool(self.LAST) and event.data.strip() == self.LAST[len(_DATA) : -len(_END)]

    def _next_event(self) -> Block | None:
        """One event, taken apart; `None` for one that is not for the caller, and for a failure."""
        events = self._events
        end = events.index(_END, self._at) + len(_END)
        raw = events[self._at : end]
        self._at = end
        if end == len(events):
            self._forget_events()
        event = event_of(raw)
        if self._is_last(event):
            self._finish()
            return Block(self.LAST, content=False)
        if not event.data and event.type != "error":
            return None  # a comment, or what some servers keep the connection alive with
        data = self._judged(event)
        if data is None:
            return None
        content = self._note(data)
        if content:
            self._said_something = True
        elif not self._said_something:
            self._silent_bytes += len(raw)
            if self._silent_bytes > MAX_SILENT_BYTES:
                self._fail(self._unusable("invalid_response", f"no content within {MAX_SILENT_BYTES} bytes"))
        if self._done:
            self._finish()
        return Block(raw, content) if self._is_for_caller(data) else None

    def _rest_scanned(self) -> Block | None:
        """All that has come, as it came; only the events that tell something are taken apart."""
        raw = self._events[self._at :]
        self._forget_events()
        if not (places := self._places(raw)):
            return Block(raw, content=True)
        kept: list[bytes] = []
        taken, seen = 0, 0
        for place in places:
            if place <= seen:
                continue  # in an event that was looked at
            before = raw.rfind(_END, seen, place)
            start = seen if before < 0 else before + len(_END)
            seen = raw.index(_END, place - 1) + len(_END)
            event = event_of(raw[start:seen])
            if self._is_last(event):
                kept += raw[taken:start], self.LAST
                self._finish()
                break
            if not self._tells(event):
                continue
            data = self._judged(event)
            if data is not None:
                self._note(data)
            if data is None or not self._is_for_caller(data):
                kept.append(raw[taken:start])
                taken = seen
            if data is None:
                break
            if self._done:
                kept.append(raw[taken:seen])
                self._finish()
                break
        else:
            kept.append(raw[taken:])
        raw = b"".join(kept)
        return Block(raw, content=True) if raw else None

    def _forget_events(self) -> None:
        self._events, self._at = b"", 0

    def _judged(self, event: Event) -> Mapping[str, Any] | None:
        """The event's object; `None`, with the failure noted, where it is none or tells of one."""
        data = _object(event.data)
        if data is not None and not self._may_fail(event):
            return data
        failure = self._error_in(event, data or _NOTHING)
        if failure is None and data is None:
            failure = self._unusable("invalid_response", "an event of the stream is no JSON object")
        if failure is not None:
            self._fail(failure)
            return None
        return data

    # -- the end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The stream says that it is over; what comes after that is not of it."""
        self._done = True
        self._forget_events()
        if self._failure is None:
            self._end()

    def _end(self) -> None:
        self._over = True
        if not self.finished and not self._may_end_without_finish:
            self._failure = broken(self._answer, None)
        elif not self._said_something and not self._silence_is_explained():
            self._failure = self._unusable("empty_response", "the stream is complete and has nothing in it")

    def _fail(self, failure: ClientError) -> None:
        self._failure = failure
        self._forget_events()

    def _unusable(self, code: str, message: str) -> ClientError:
        """A stream that does not keep its promise: ``invalid_response`` or ``empty_response``."""
        return unusable(code, message, self._answer.status, self._answer.headers)


def _object(data: bytes) -> Mapping[str, Any] | None:
    """A JSON object; `None` for anything else."""
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
