"""A stream of an OpenAI-compatible server, of chats and completions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ._answers import Scrub, error_inside
from ._breaks import StreamedAnswer
from ._errors import ClientError
from ._openai_wire import SUBSTANCE, Json, objects, silence_is_explained, usage_of
from ._passed_stream import PassedStream
from ._sse import Event

DONE: Final = b"[DONE]"

_ERROR: Final = b'"error"'
_NO_ROOM: Final = b'"insufficient_system_resource"'

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


class OpenAIStream(PassedStream):
    """One stream that is being read.

    Args:
        answer: What is read from.
        choices: How many choices were asked for; each must finish.
        hide_usage: Whether the event that only counts tokens was asked for by us, and is not for the caller.
        may_end_without_finish: Whether a stream may simply end, as those of some servers do.
        now: When the answer came, in seconds since the epoch.
        scrub: Takes secrets out of a text.
        dropped: What was left out of the request.
    """

    LAST = b"data: [DONE]\n\n"

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
        super().__init__(answer, now=now, scrub=scrub, may_end_without_finish=may_end_without_finish, dropped=dropped)
        self._choices = choices
        self._hide_usage = hide_usage
        self._reasons: dict[object, str] = {}
        self._counted: Mapping[str, Any] = {}

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, whatever may still come."""
        return self._done or len(self._reasons) >= self._choices

    def _note(self, data: Mapping[str, Any]) -> bool:
        """Remember what an event tells; whether it has content."""
        counted = usage_of(data["usage"]) if data.get("usage") else None
        if counted is not None:
            self._counted = data
        self.usage = counted or self.usage
        content = False
        for choice in objects(data.get("choices")) or ():
            if choice.get("text") or _has_substance(choice.get("delta")):
                content = True
            reason, index = choice.get("finish_reason"), choice.get("index")
            if reason and isinstance(reason, str) and not self.finished:
                self._reasons[index if isinstance(index, int) else 0] = reason
        return content

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        if event.type == "error" and not data.get("error"):
            data = {"error": data or event.data.decode(errors="replace") or "error"}
        status, headers = self._answer.status, self._answer.headers
        return error_inside(status, headers, data, now=self._now, scrub=self._scrub)

    def _places(self, raw: bytes) -> list[int]:
        # Tabs between a key and its value are too rare to be worth a word of their own.
        if b"\t" in raw:
            found = [match.end() for match in _TELLING.finditer(raw)]
        else:
            found = [end for _, _, end in _LOOK_CLOSER.find_matches_as_indexes(raw)]
        return [1, *found] if raw.startswith(b"event") else found

    def _tells(self, event: Event) -> bool:
        return event.type == "error" or _TELLING.search(event.data) is not None

    def _may_fail(self, event: Event) -> bool:
        return event.type == "error" or _ERROR in event.data or _NO_ROOM in event.data

    def _is_for_caller(self, data: Mapping[str, Any]) -> bool:
        return not self._hide_usage or bool(data.get("choices")) or not isinstance(data.get("usage"), dict)

    def _silence_is_explained(self) -> bool:
        reasons = [{"finish_reason": reason} for reason in self._reasons.values()]
        return silence_is_explained(reasons, self._counted)


def _has_substance(delta: Json) -> bool:
    if isinstance(delta, dict):
        for key, value in delta.items():
            if value and key in SUBSTANCE:
                return True
    return False
