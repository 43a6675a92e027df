"""A stream of Anthropic's Messages that is passed on: which of its events tell something, and what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ._answers import error_inside
from ._anthropic_wire import says_something, silence_is_explained
from ._errors import ClientError
from ._passed_stream import PassedStream
from ._protocols import Block
from ._sse import Event
from .dialects._messages_answer import usage_of

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""What ends a message for its caller."""

_ERROR: Final = b'"error"'
_TELLING: Final = BytesAhoCorasick(
    [b'"message_delta"', b'"message_stop"', b'"message_start"', _ERROR, b"event: error", b"event:error"],
    matchkind=MatchKind.LeftmostFirst,
)
"""What only an event that tells something has: its type. Inside of a text the quotes would be escaped."""

_SAYS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class MessagesStream(PassedStream):
    """One stream that is being read. It is complete when it says why the message ended."""

    _reason: object = None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, whatever may still come."""
        return self._done or self._reason is not None

    def ending(self) -> Block | None:
        """The end that does not come, where the answer is complete without it."""
        return Block(STOP, content=False)

    async def read(self) -> Block | None:
        """The next whole events, as they come, the end among them; `None` after it.

        Raises:
            ClientError: For every way in which a stream can fail, one that ends too early among them.
        """
        block = await super().read()
        if block is None and not self._done:
            self._done = True
            return self.ending()
        return block

    def _note(self, data: Mapping[str, Any]) -> bool:
        match data.get("type"):
            case "content_block_delta":
                delta = _object(data.get("delta"))
                return bool(delta.get(_SAYS.get(delta.get("type", ""), "")))
            case "content_block_start":
                return says_something(_object(data.get("content_block")))
            case "message_start":
                self.usage = usage_of(_object(data.get("message")).get("usage"), self.usage)
            case "message_delta":
                self.usage = usage_of(data.get("usage"), self.usage)
                self._reason = _object(data.get("delta")).get("stop_reason") or self._reason
            case "message_stop":
                self._done = True
            case _:
                pass
        return False

    def _places(self, raw: bytes) -> list[int]:
        return [end for _, _, end in _TELLING.find_matches_as_indexes(raw)]

    def _tells(self, event: Event) -> bool:  # noqa: ARG002 - what was found is in its type
        return True

    def _may_fail(self, event: Event) -> bool:
        return event.type == "error" or _ERROR in event.data

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        if event.type == "error" and not data.get("error"):
            data = {"error": data or event.data.decode(errors="replace") or "error"}
        return error_inside(self._answer.status, self._answer.headers, data, now=self._now, scrub=self._scrub)

    def _silence_is_explained(self) -> bool:
        return silence_is_explained((self._reason,), self.usage)


def _object(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
