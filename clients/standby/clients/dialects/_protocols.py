"""What a codec is: the words of one vendor, read and written. Pure: values in, values out.

A `Wire` is what a provider speaks, a `Dialect` what a caller speaks. OpenAI's and Anthropic's are both, since both are
spoken on either side; Gemini's and Bedrock's are only ever a provider's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from standby.clients._sse import Event

from ._values import Answer, Conversation, Delta

__all__ = ["Dialect", "Frames", "InvalidRequest", "NotAnAnswer", "Reader", "Wire", "Writer"]


class InvalidRequest(ValueError):
    """What a caller sent is not of its dialect.

    Attributes:
        param: Where: ``messages[2].content``.
    """

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class NotAnAnswer(ValueError):
    """What a provider sent is not of its dialect, or tells of a failure in its own way; the message says what is wrong.

    Attributes:
        code: What that is called, in the vocabulary of the client error contract.
    """

    def __init__(self, message: str, code: str = "invalid_response") -> None:
        super().__init__(message)
        self.code = code


class Reader(Protocol):
    """Reads one stream of a provider."""

    def read(self, event: Event) -> Iterable[Delta]:
        """What the event says. Its data is a JSON object that tells of no error.

        Raises:
            NotAnAnswer: It is not of this dialect.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the provider has said that the stream is over: nothing of it comes any more."""
        ...


class Writer(Protocol):
    """Writes one stream to a caller, as server-sent events."""

    def write(self, delta: Delta) -> bytes:
        """Whole events; empty for what this dialect says later, or not at all."""
        ...

    def end(self) -> bytes:
        """What ends a stream that is complete."""
        ...


class Frames(Protocol):
    """Takes the bytes of a stream apart."""

    def feed(self, content: bytes) -> Iterable[Event]:
        """The events that are whole now.

        Raises:
            NotAnAnswer: An event is larger than is allowed, or is none. It may be raised when those before it were
                taken.
        """
        ...

    def rest(self) -> Iterable[Event]:
        """What is left at the end of the stream and is whole all the same."""
        ...


class Wire(Protocol):
    """What a provider speaks.

    Attributes:
        name: Its name in the table of features.
        supports: What it can do, by the feature's name: an empty text, or a remark for the table. What is not there it
            cannot do.
    """

    @property
    def name(self) -> str: ...

    @property
    def supports(self) -> Mapping[str, str]: ...

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        """Which features of this conversation it cannot do though it has them, and why: a value out of its range."""
        ...

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:
        """The body to send. Everything that is asked is in it: what is not supported was refused before."""
        ...

    def read(self, data: Mapping[str, Any]) -> Answer:
        """A whole answer, of a success that tells of no error.

        Raises:
            NotAnAnswer: It is not of this dialect.
        """
        ...

    def frames(self) -> Frames:
        """Takes a stream's bytes apart."""
        ...

    def reader(self) -> Reader:
        """Reads one stream."""
        ...


class Dialect(Protocol):
    """What a caller speaks."""

    def conversation(self, data: Mapping[str, Any]) -> Conversation:
        """What a request says.

        Raises:
            InvalidRequest: It is not of this dialect.
        """
        ...

    def answered(self, answer: Answer, conversation: Conversation) -> Mapping[str, Any]:
        """The body of a whole answer."""
        ...

    def writer(self, conversation: Conversation) -> Writer:
        """Writes one stream."""
        ...
