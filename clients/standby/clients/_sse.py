"""Server-sent events out of bytes, however the bytes were cut on their way. Sans-IO: bytes in, blocks of events out.

The rules are those of the HTML standard, "9.2.6 Interpreting an event stream": lines end with LF, CRLF or CR; a blank
line ends an event; one byte order mark at the very start is dropped; a line that begins with a colon is a comment; one
space after a field's colon belongs to it; several ``data`` lines are joined with LF.

What comes out is a `Block`: the whole events that one read completed. Its bytes are ready to be passed on as they are,
and its events are taken apart only when somebody asks, since most blocks are only passed on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event is larger than is allowed, or does not end."""


class Event(NamedTuple):
    """One event.

    Attributes:
        data: Its data; several lines are joined with LF.
        type: Its type; ``message`` where it names none.
        raw: The event as it came, without the blank line that ends it, its lines ended by LF.
    """

    data: bytes
    type: str
    raw: bytes


class EventDecoder:
    """Finds where events end.

    Args:
        max_event_bytes: No event may be larger.
    """

    __slots__ = ("_after_cr", "_max_event_bytes", "_rest", "_started")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest: bytes = b""
        self._started = False
        self._after_cr = False

    def feed(self, content: bytes) -> bytes:
        """Take what came; return the whole events that are complete now, one after the other, lines ended by LF.

        Raises:
            EventTooLarge: The event that is coming is larger than is allowed.
        """
        if b"\r" in content or self._after_cr:
            content = self._with_line_feeds(content)
        content = self._rest + content if self._rest else content
        if not self._started:
            if len(content) < len(_BOM) and _BOM.startswith(content):
                self._rest = content
                return b""
            self._started = True
            content = content.removeprefix(_BOM)
        end = content.rfind(b"\n\n") + 2
        if end == 1:
            end = 0
        self._rest = content[end:]
        if len(self._rest) > self._max_event_bytes:
            raise EventTooLarge(f"an event is larger than {self._max_event_bytes} bytes")
        return content[:end]

    def rest(self) -> bytes:
        """What came after the last whole event; the standard drops it where the stream ends."""
        return self._rest

    def _with_line_feeds(self, content: bytes) -> bytes:
        """CR and CRLF as LF; a CR ends its line at once, and an LF that comes after it in the next read ends none."""
        if self._after_cr and content.startswith(b"\n"):
            content = content[1:]
            self._after_cr = False
            if not content:
                return content
        self._after_cr = content.endswith(b"\r")
        return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def events_in(block: bytes) -> Iterator[Event]:
    """The events of what `EventDecoder.feed` returned; comments and events without data are passed over."""
    for raw in block.split(b"\n\n"):
        # Nearly every event of nearly every provider is one line of data.
        if raw.startswith(b"data: ") and b"\n" not in raw:
            yield Event(raw[6:], "message", raw)
        elif raw and (event := _event(raw)) is not None:
            yield event


def _event(raw: bytes) -> Event | None:
    data: list[bytes] = []
    kind = ""
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode(errors="replace")
    if not data:
        return None
    return Event(b"\n".join(data), kind or "message", raw.strip(b"\n"))
