"""How vendors cut a stream into events. Most send server-sent events."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from standby.clients._sse import Event, EventDecoder, EventTooLarge, event_of, events_in

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
            return list(events_in(self._decoder.feed(content)))
        except EventTooLarge as error:
            raise NotAnAnswer(str(error)) from error

    def rest(self) -> Sequence[Event]:
        """The last event, where only the blank line after it is missing: some servers leave that out."""
        event = event_of(self._decoder.rest().strip(b"\n") + _END)
        return [event] if _is_whole(event.data) else []


def _is_whole(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.strip() == b"[DONE]"
    return True
