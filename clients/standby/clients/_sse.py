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
_END: Final = b"\n\n"
_DATA: Final = b"data: "


class EventTooLarge(ValueError):
    """An event is larger than is allowed, or does not end.

    Attributes:
        before: The whole events that came with it, and before it.
    """

    def __init__(self, max_event_bytes: int, before: bytes = b"") -> None:
        super().__init__(f"an event is larger than {max_event_bytes} bytes")
        self.before = before


class Event(NamedTuple):
    """One event.

    Attributes:
        data: Its data; several lines are joined with LF.
        type: Its type; ``message`` where it names none.
    """

    data: bytes
    type: str


_NO_EVENT: Final = Event(b"", "")


class EventDecoder:
    """Finds where events end.

    Args:
        max_event_bytes: No event may be larger.
    """

    __slots__ = ("_after_cr", "_max_event_bytes", "_rest", "_started")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._started = False
        self._after_cr = False

    def feed(self, content: bytes) -> bytes:
        """Take what came; return the whole events that are complete now, one after the other, lines ended by LF.

        Raises:
            EventTooLarge: An event is larger than is allowed; nothing is to be had after that.
        """
        if b"\r" in content or self._after_cr:
            content = self._with_line_feeds(content)
        if not self._started:
            content = self._without_mark(content)
        end = content.rfind(_END) + len(_END)
        if end < len(_END):
            # No event ends within these bytes; one may where they meet what came before them.
            end = 1 if content.startswith(b"\n") and self._rest.endswith(b"\n") else 0
        whole = content[:end]
        if not end:
            self._rest += content
        elif self._rest:
            whole = bytes(self._rest + whole)
            self._rest = bytearray(content[end:])
        else:
            self._rest += content[end:]
        if len(whole) > self._max_event_bytes or len(self._rest) > self._max_event_bytes:
            self._check(whole)
        return whole

    def rest(self) -> bytes:
        """What came after the last whole event; the standard drops it where the stream ends."""
        return bytes(self._rest)

    def _check(self, whole: bytes) -> None:
        start = 0
        while end := whole.find(_END, start) + 1:
            if end - start > self._max_event_bytes:
                raise EventTooLarge(self._max_event_bytes, whole[:start])
            start = end + 1
        if len(self._rest) > self._max_event_bytes:
            raise EventTooLarge(self._max_event_bytes, whole)

    def _without_mark(self, content: bytes) -> bytes:
        """What comes after the byte order mark; nothing as long as that may still be coming."""
        if self._rest:
            content = bytes(self._rest) + content
            self._rest.clear()
        if len(content) < len(_BOM) and _BOM.startswith(content):
            self._rest += content
            return b""
        self._started = True
        return content.removeprefix(_BOM)

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
    for raw in block.split(_END):
        # Nearly every event of nearly every provider is one line of data.
        if raw.startswith(_DATA) and b"\n" not in raw:
            yield Event(raw[len(_DATA) :], "message")
        elif raw and (event := _event(raw)) is not None:
            yield event


def data_in(block: bytes) -> list[bytes]:
    """The data of the same events, for those who want nothing else."""
    found = block[len(_DATA) : -len(_END)].split(_END + _DATA)
    # Without other line feeds than those between them, all of them are one line of data.
    if block.startswith(_DATA) and block.count(b"\n") == len(_END) * len(found):
        return found
    return [event.data for event in events_in(block)]


def event_of(raw: bytes) -> Event:
    """The one event of ``raw``, which ends with a blank line; one without type and data where it has none."""
    if raw.startswith(_DATA) and raw.find(b"\n") == len(raw) - len(_END):
        return Event(raw[len(_DATA) : -len(_END)], "message")
    return _event(raw) or _NO_EVENT


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
    return Event(b"\n".join(data), kind or "message")
