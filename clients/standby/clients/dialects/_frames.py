"""How vendors cut a stream into events. Most send server-sent events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from standby.clients._sse import Event, EventDecoder, EventTooLarge, events_in

from ._protocols import NotAnAnswer

__all__ = ["EventFrames"]

_END = b"\n\n"


class EventFrames:
    """Server-sent events, as `_sse.py` finds them."""

    def __init__(self) -> None:
        self._decoder = EventDecoder()

    def feed(self, content: bytes) -> Sequence[Event]:
        """The events that are whole now.

        Raises:
            NotAnAnswer: An event is larger than is allowed.
        """
        try:
            return list(self._events(self._decoder.feed(content)))
        except EventTooLarge as error:
            raise NotAnAnswer(str(error)) from error

    def rest(self) -> Sequence[Event]:
        """The last event, where only the blank line after it is missing: some servers leave that out."""
        rest = self._decoder.rest().strip(b"\n") + _END
        return [event for event in self._events(rest) if _is_whole(event.data)]

    def _events(self, block: bytes) -> Iterator[Event]:
        """The events of whole blocks."""
        return events_in(block)


def _is_whole(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.strip() == b"[DONE]"
    return True
