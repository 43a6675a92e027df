"""What can happen to one request: values that come down to bytes to send, times to wait, and an end."""

from __future__ import annotations

import gzip as gzip_codec
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol

_KNOWN_STATUSES: Final = frozenset(HTTPStatus)


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Stop answering: close the connection, reset it, or leave it open and say nothing more."""

    how: Literal["close", "reset", "hang"]


Step = Send | Wait | End


class Behaviour(Protocol):
    """What happens to one request. Where the steps run out without an `End`, the connection stays in use."""

    def steps(self) -> Iterable[Step]:
        """What to do, in order; taken one by one, so they may go on for ever."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, correct unless its fields say otherwise.

    Attributes:
        status: The HTTP status.
        body: Bytes as they are, text in UTF-8, anything else as JSON.
        headers: Added to those that the body needs; a name given here replaces one of those.
        delay_seconds: How long the server thinks before the first byte.
        chunked: Frame the body in chunks instead of by its length.
        gzip: Compress the body.
        cut_gzip_bytes: How many bytes of the compressed body are left out at its end, in correct framing.
        slice_bytes: Send the answer in slices of this size, its head too; 0 sends it at once.
        slice_seconds: How long to wait before each slice.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_seconds: float = 0.0
    chunked: bool = False
    gzip: bool = False
    cut_gzip_bytes: int = 0
    slice_bytes: int = 0
    slice_seconds: float = 0.0

    @property
    def head(self) -> bytes:
        """The status line and the headers, with the empty line after them."""
        return self._head(self._content())

    @property
    def wire(self) -> bytes:
        """Every byte of the answer."""
        content = self._content()
        return self._head(content) + (_in_chunks(content) if self.chunked else content)

    def steps(self) -> Iterator[Step]:
        """The answer, at once or slowly."""
        if self.delay_seconds > 0:
            yield Wait(self.delay_seconds)
        wire = self.wire
        size = self.slice_bytes or len(wire)
        for start in range(0, len(wire), size):
            if self.slice_seconds > 0:
                yield Wait(self.slice_seconds)
            yield Send(wire[start : start + size])

    def _content(self) -> bytes:
        match self.body:
            case bytes():
                content = self.body
            case str():
                content = self.body.encode()
            case _:
                content = json.dumps(self.body).encode()
        if self.gzip:
            content = gzip_codec.compress(content, mtime=0)
            content = content[: len(content) - self.cut_gzip_bytes]
        return content

    def _head(self, content: bytes) -> bytes:
        headers = {"content-type": "application/json"}
        if self.gzip:
            headers["content-encoding"] = "gzip"
        if self.chunked:
            headers["transfer-encoding"] = "chunked"
        else:
            headers["content-length"] = str(len(content))
        return _head(self.status, headers, self.headers)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that comes piece by piece, as server-sent events do; correct unless its fields say otherwise.

    ``Close(n, Stream(...))``, `Reset` and `Hang` cut it after any byte, its head's among them.

    Attributes:
        pieces: What the body is made of, each in a write and a chunk of its own; a number is a time to wait. They may
            go on for ever, and are asked for anew for each request.
        framing: What tells the end of the body: its last chunk, or that the connection is closed.
        ending: What comes after the pieces: the end of the body, or what cuts it there.
        status: The HTTP status.
        headers: Added to those that a stream needs; a name given here replaces one of those.
        delay_seconds: How long the server thinks before the first byte.
    """

    pieces: Iterable[bytes | float]
    framing: Literal["chunked", "close"] = "chunked"
    ending: Literal["complete", "close", "reset", "hang"] = "complete"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_seconds: float = 0.0

    @property
    def head(self) -> bytes:
        """The status line and the headers, with the empty line after them."""
        how = {"transfer-encoding": "chunked"} if self.framing == "chunked" else {"connection": "close"}
        return _head(self.status, {"content-type": "text/event-stream", **how}, self.headers)

    @property
    def wire(self) -> bytes:
        """Every byte of the answer, where its pieces have an end."""
        return b"".join(step.content for step in self.steps() if isinstance(step, Send))

    def steps(self) -> Iterator[Step]:
        """The head with the first piece, then the others as they are."""
        if self.delay_seconds > 0:
            yield Wait(self.delay_seconds)
        unsent = self.head
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield Send(unsent + self._framed(piece))
            else:
                yield from ([Send(unsent)] if unsent else [])
                yield Wait(piece)
            unsent = b""
        if self.ending == "complete" and self.framing == "chunked":
            unsent += b"0\r\n\r\n"
        if unsent:
            yield Send(unsent)
        if self.ending != "complete":
            yield End(self.ending)
        elif self.framing == "close":
            yield End("close")

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if piece and self.framing == "chunked" else piece


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that need not be HTTP; then the connection is closed."""

    content: bytes

    def steps(self) -> Iterator[Step]:
        """The bytes, then the end."""
        yield Send(self.content)
        yield End("close")


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection after so many bytes of another behaviour; 0 is before the first."""

    after_bytes: int = 0
    of: Behaviour = field(default_factory=Answer)

    def steps(self) -> Iterator[Step]:
        """The beginning, then the end."""
        yield from _until(self.after_bytes, self.of)
        yield End("close")


@dataclass(frozen=True, slots=True)
class Reset:
    """The same with a reset, as from a process that died or a middlebox that gave up."""

    after_bytes: int = 0
    of: Behaviour = field(default_factory=Answer)

    def steps(self) -> Iterator[Step]:
        """The beginning, then the end."""
        yield from _until(self.after_bytes, self.of)
        yield End("reset")


@dataclass(frozen=True, slots=True)
class Hang:
    """The same, and then nothing: the connection stays open until the other side gives up."""

    after_bytes: int = 0
    of: Behaviour = field(default_factory=Answer)

    def steps(self) -> Iterator[Step]:
        """The beginning, then silence."""
        yield from _until(self.after_bytes, self.of)
        yield End("hang")


def _head(status: int, own: Mapping[str, str], given: Mapping[str, str]) -> bytes:
    headers = {**own, **{name.lower(): value for name, value in given.items()}}
    phrase = HTTPStatus(status).phrase if status in _KNOWN_STATUSES else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _until(after_bytes: int, behaviour: Behaviour) -> Iterator[Step]:
    left = after_bytes
    if left <= 0:
        return
    for step in behaviour.steps():
        if isinstance(step, Send):
            yield Send(step.content[:left])
            left -= len(step.content)
            if left <= 0:
                return
        else:
            yield step


def _in_chunks(content: bytes, size: int = 1024) -> bytes:
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chat_answer(
    text: str | None = "Hello.",
    *,
    model: str = "fake-model",
    finish_reason: str = "stop",
    message: Mapping[str, Any] | None = None,
    **answer: Any,
) -> Answer:
    """An OpenAI chat completion that says ``text``; ``message`` replaces the whole message."""
    tokens = len((text or "").split())
    return Answer(
        body={
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 1700000000,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": dict(message) if message is not None else {"role": "assistant", "content": text},
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens},
        },
        **answer,
    )


def error_answer(
    status: int, message: str = "It failed.", *, code: str | None = None, kind: str | None = None, **answer: Any
) -> Answer:
    """An error as OpenAI words it; ``kind`` is its ``type``."""
    return Answer(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, **answer)


def chat_events(*texts: str, model: str = "fake-model", finish_reason: str | None = "stop") -> tuple[bytes, ...]:
    """The events of an OpenAI chat completion that says ``texts`` one after the other, and then that it is over.

    Without a ``finish_reason`` it says neither why nor that it ends.
    """
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in texts]
    if finish_reason is not None:
        deltas.append(({}, finish_reason))
    events = [
        chat_event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}], model=model)
        for delta, reason in deltas
    ]
    return (*events, b"data: [DONE]\n\n") if finish_reason is not None else tuple(events)


def chat_event(*, model: str = "fake-model", **fields: Any) -> bytes:
    """One event of an OpenAI chat completion, with these fields: ``choices``, ``usage`` or what else there is."""
    chunk = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": model,
        **fields,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def chat_stream(*texts: str, model: str = "fake-model", finish_reason: str | None = "stop", **stream: Any) -> Stream:
    """An OpenAI chat completion that says ``texts`` one after the other; the rest are the fields of `Stream`."""
    return Stream(chat_events(*texts, model=model, finish_reason=finish_reason), **stream)
