"""A stream of an OpenAI-compatible server: bytes in, blocks of whole events out, and what must be known of them.

Until the runner commits to the stream its events are taken apart one by one, since any of them may be the failure that
moves the run to another candidate. From then on the bytes are passed on as they came; a scan finds the few events that
tell something: a finish reason, a count of tokens, an error, the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ._answers import Scrub, error_inside, unusable
from ._breaks import MAX_SILENT_BYTES, StreamedAnswer, broken, drain
from ._errors import ClientError
from ._http_answer import request_id_of
from ._openai_wire import SUBSTANCE, Json, objects, silence_is_explained, usage_of
from ._protocols import Block, Usage
from ._sse import Event, EventDecoder, EventTooLarge, event_of

DONE: Final = b"[DONE]"

_END: Final = b"\n\n"
_LAST: Final = b"data: [DONE]\n\n"
_ERROR: Final = b'"error"'
_NOTHING: Final[Mapping[str, Any]] = {}


_TELLING: Final = re.compile(
    rb"""
      "finish_reason" \s* : \s* "[^"]        # not null, and not empty
    | "usage"         \s* : \s* \{
    | "error"         \s* : (?! \s* null\b )
    | "object"        \s* : \s* "error"
    | \[DONE\]
    | ^event
    """,
    re.VERBOSE | re.MULTILINE,
)
"""What only an event that tells something has. Inside of a text the quotes would be escaped."""

_FINISH, _USAGE = b'"finish_reason"', b'"usage"'
_LOOK_CLOSER: Final = BytesAhoCorasick(
    [
        *(_FINISH + b':"', _FINISH + b': "', _FINISH + b" ", _FINISH + b":  "),
        *(_USAGE + b":{", _USAGE + b": {", _USAGE + b" ", _USAGE + b":  "),
        *(_ERROR, DONE, b"\nevent"),
        *(b'"\ndata', b":\ndata", b": \ndata"),
    ],
    matchkind=MatchKind.LeftmostFirst,
)
"""Where an event may tell something. Of so few words, the leftmost first, vector instructions do the search: they look
through a chunk in a tenth of the time that the expression above takes."""


class OpenAIStream:
    """One stream that is being read.

    Args:
        answer: What is read from.
        choices: How many choices were asked for; each must finish.
        hide_usage: Whether the event that only counts tokens was asked for by us, and is not for the caller.
        may_end_without_finish: Whether a stream may simply end, as those of some servers do.
        now: When the answer came, in seconds since the epoch.
        scrub: Takes secrets out of a text.
        dropped: What was left out of the request.

    Attributes:
        usage: What the provider counted, as soon as it said so.
        dropped: What was left out of the request.
    """

    def __init__(
        self,
        answer: StreamedAnswer,
        *,
        choices: int,
        hide_usage: bool,
        may_end_without_finish: bool,
        now: float,
        scrub: Scrub,
        dropped: tuple[str, ...] = (),
    ) -> None:
        self.usage: Usage | None = None
        self.dropped = dropped
        self._answer = answer
        self._decoder = EventDecoder()
        self._choices = choices
        self._hide_usage = hide_usage
        self._may_end_without_finish = may_end_without_finish
        self._now = now
        self._scrub = scrub
        self._committed = False
        self._said_something = False
        self._silent_bytes = 0
        self._reasons: dict[object, str] = {}
        self._counted: Mapping[str, Any] = {}
        self._events = b""
        self._at = 0
        self._ended = False
        self._done = False
        self._over = False
        self._failure: ClientError | None = None

    @property
    def request_id(self) -> str:
        """The vendor's own id of the call, or an empty string."""
        return request_id_of(self._answer.headers)

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, whatever may still come."""
        return self._done or len(self._reasons) >= self._choices

    def ending(self) -> Block | None:
        """The end that does not come, where the answer is complete without it."""
        return Block(_LAST, content=False)

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
        elif event.data.strip() == DONE:
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

    def _next_event(self) -> Block | None:
        """One event, taken apart; `None` for one that is not for the caller, and for a failure."""
        events = self._events
        end = events.index(_END, self._at) + len(_END)
        raw = events[self._at : end]
        self._at = end
        if end == len(events):
            self._forget_events()
        event = event_of(raw)
        if event.data.strip() == DONE:
            self._finish()
            return Block(_LAST, content=False)
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
        return None if self._only_counts(data) else Block(raw, content)

    def _rest_scanned(self) -> Block | None:
        """All that has come, as it came; only the events that tell something are taken apart."""
        raw = self._events[self._at :]
        self._forget_events()
        if not (places := _places(raw)):
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
            if event.data.strip() == DONE:
                kept += raw[taken:start], _LAST
                self._finish()
                break
            if event.type != "error" and _TELLING.search(event.data) is None:
                continue
            data = self._judged(event)
            if data is not None:
                self._note(data)
            if data is None or self._only_counts(data):
                kept.append(raw[taken:start])
                taken = seen
            if data is None:
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
        if data is not None and event.type != "error" and _ERROR not in event.data:
            return data
        failure = self._error_in(event, data or _NOTHING)
        if failure is None and data is None:
            failure = self._unusable("invalid_response", "an event of the stream is no JSON object")
        if failure is not None:
            self._fail(failure)
            return None
        return data

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        if event.type == "error" and not data.get("error"):
            data = {"error": data or event.data.decode(errors="replace") or "error"}
        status, headers = self._answer.status, self._answer.headers
        return error_inside(status, headers, data, now=self._now, scrub=self._scrub)

    def _note(self, data: Mapping[str, Any]) -> bool:
        """Remember what an event tells; whether it has content."""
        if (counted := data.get("usage")) and (usage := usage_of(counted)):
            self.usage, self._counted = usage, data
        content = False
        for choice in objects(data.get("choices")) or ():
            if choice.get("text") or _has_substance(choice.get("delta")):
                content = True
            reason, index = choice.get("finish_reason"), choice.get("index")
            if reason and isinstance(reason, str) and not self.finished:
                self._reasons[index if isinstance(index, int) else 0] = reason
        return content

    def _only_counts(self, data: Mapping[str, Any]) -> bool:
        return self._hide_usage and not data.get("choices") and isinstance(data.get("usage"), dict)

    # -- the end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The stream says that it is over; what comes after that is not of it."""
        self._done = True
        self._forget_events()
        self._end()

    def _end(self) -> None:
        self._over = True
        if not self.finished and not self._may_end_without_finish:
            self._failure = broken(self._answer, None)
        elif not self._said_something:
            reasons = [{"finish_reason": reason} for reason in self._reasons.values()]
            if not silence_is_explained(reasons, self._counted):
                self._failure = self._unusable("empty_response", "the stream is complete and has nothing in it")

    def _fail(self, failure: ClientError) -> None:
        self._failure = failure
        self._forget_events()

    def _unusable(self, code: str, message: str) -> ClientError:
        return unusable(code, message, self._answer.status, self._answer.headers)


def _places(raw: bytes) -> list[int]:
    """Where, in whole events, to look closer: the end of what was found."""
    # Tabs between a key and its value are too rare to be worth a word of their own.
    if b"\t" in raw:
        found = [match.end() for match in _TELLING.finditer(raw)]
    else:
        found = [end for _, _, end in _LOOK_CLOSER.find_matches_as_indexes(raw)]
    return [1, *found] if raw.startswith(b"event") else found


def _has_substance(delta: Json) -> bool:
    if isinstance(delta, dict):
        for key, value in delta.items():
            if value and key in SUBSTANCE:
                return True
    return False


def _object(data: bytes) -> Mapping[str, Any] | None:
    """A JSON object; `None` for anything else."""
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
