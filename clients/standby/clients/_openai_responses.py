"""A stream of OpenAI's Responses that is passed on: which of its events tell something, and what.

The last event has the whole answer: that it is complete, or why it is not; and that it failed, which is no answer.
https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ._answers import error_inside
from ._errors import ClientError
from ._openai_wire import response_problem, usage_of
from ._passed_stream import PassedStream
from ._sse import Event
from .dialects._reading import as_object

__all__ = ["ResponsesStream"]

_ERROR: Final = b'"error"'
_FAILED: Final = b"response.failed"
_LOOK_CLOSER: Final = BytesAhoCorasick(
    [b"response.completed", b"response.incomplete", _FAILED, _ERROR, b"event: error", b"event:error"],
    matchkind=MatchKind.LeftmostFirst,
)
"""Where an event may tell something. A text may have some of these words in it: it is then looked at in vain."""

_NOT_YET: Final = frozenset({"message", "reasoning"})
"""Items whose deltas are their content. Of others, which are tools, it is content that the model asks for them."""


class ResponsesStream(PassedStream):
    """One stream that is being read. It is complete when it says so, or why it is not."""

    _answer_said: Mapping[str, Any] | None = None

    def _note(self, data: Mapping[str, Any]) -> bool:
        match data.get("type"):
            case "response.completed" | "response.incomplete":
                self._answer_said = response = as_object(data.get("response"))
                self.usage = usage_of(response.get("usage"))
                self._done = True
            case "response.output_item.added":
                return as_object(data.get("item")).get("type", "message") not in _NOT_YET
            case str(kind) if kind.endswith(".delta"):
                return bool(data.get("delta"))
            case _:
                pass
        return False

    def _places(self, raw: bytes) -> list[int]:
        return [end for _, _, end in _LOOK_CLOSER.find_matches_as_indexes(raw)]

    def _tells(self, event: Event) -> bool:
        return bool(event.data) or event.type == "error"

    def _may_fail(self, event: Event) -> bool:
        return event.type == "error" or _ERROR in event.data or _FAILED in event.data

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        status, headers = self._answer.status, self._answer.headers
        told = data
        if data.get("type") == "response.failed":
            told = as_object(data.get("response"))
            if not told.get("error"):
                return self._unusable("invalid_response", "the answer says that it failed, and not why")
        elif "error" in (event.type, data.get("type")) and not data.get("error"):
            # Its `type` is that of the event, and not the error's.
            told = {"error": {key: data[key] for key in ("code", "message", "param") if data.get(key)} or "error"}
        return error_inside(status, headers, told, now=self._now, scrub=self._scrub)

    def _silence_is_explained(self) -> bool:
        return self._answer_said is not None and response_problem(self._answer_said) is None
