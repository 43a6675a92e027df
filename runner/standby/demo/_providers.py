"""The providers of the demonstration: they fail as providers fail, each in its own way; one does not.

What a provider does is a list of troubles, and a trouble has its time: a part of the whole demonstration, told by how
many of its requests have been sent. A slow machine then sees the same story as a fast one, only later.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ._vendors import ANTHROPIC, GEMINI, OPENAI, Vendor
from .faults import Answer, Behaviour, Close, End, Hang, Reset, Script, Send, Step, Wait

CHAT_MODEL: Final = "open-chat"
WORD_SECONDS: Final = 0.005
"""How long a stream thinks about each word."""
SEEN_WORD_SECONDS: Final = 0.1
"""The same with `--serve`: slow enough to be seen."""


@dataclass(slots=True)
class Progress:
    """How far the demonstration is.

    Attributes:
        total: Requests that will be sent.
        sent: Requests that have been sent.
        ended: Requests that have been answered, or have failed.
    """

    total: int
    sent: int = 0
    ended: int = 0

    @property
    def part(self) -> float:
        """From 0 to 1."""
        return self.sent / self.total


@dataclass(frozen=True, slots=True)
class ChatStream:
    """An answer as a stream: its beginning, the text word by word, and its end.

    Attributes:
        text: What it says.
        vendor: In whose form.
        model: The model that says so.
        think_seconds: How long the server thinks before the beginning, which is no content yet.
        word_seconds: How long it then thinks about each word.
        broken: How it ends after the beginning, where it does: closed, or open and silent.
    """

    text: str = ""
    vendor: Vendor = OPENAI
    model: str = CHAT_MODEL
    think_seconds: float = 0.01
    word_seconds: float = WORD_SECONDS
    broken: Literal["close", "hang"] | None = None

    def steps(self) -> Iterator[Step]:
        """One chunk after the other."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        yield Wait(self.think_seconds)
        yield Send(head + _framed(self.vendor.begun(self.model)))
        if self.broken is not None:
            yield End(self.broken)
            return
        for word in re.findall(r"\S+\s*", self.text):
            yield Wait(self.word_seconds)
            yield Send(_framed(self.vendor.word(word, self.model)))
        yield Send(_framed(self.vendor.over(self.text, self.model)) + _framed(b""))


@dataclass(frozen=True, slots=True)
class Either:
    """What happens to a plain request, and what to one for a stream; `None` is an answer."""

    plain: Behaviour | None
    streamed: Behaviour | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a provider does instead of answering.

    Attributes:
        words: What it is called on the screen.
        behaviour: What happens to a request; one that it does not concern is answered.
        begins: From which part of the whole on.
        ends: Up to which part, but not before it has happened often enough: no trouble passes unseen.
        every: Which of the provider's requests it happens to: all, every second, every third …
        at_least: How often is often enough.
    """

    words: str
    behaviour: Behaviour | Either
    begins: float = 0.0
    ends: float = math.inf
    every: int = 1
    at_least: int = 1


@dataclass(frozen=True, slots=True)
class FakeProvider:
    """One provider of the demonstration.

    Attributes:
        name: Its name in the configuration.
        think_seconds: How long it takes to answer.
        troubles: What it does instead, while requests are sent; the first that holds.
        in_turn: With `--serve`: what happens to one request after the other, over and over; `None` is an answer.
        vendor: Whose API it speaks.
    """

    name: str
    think_seconds: float
    troubles: tuple[Trouble, ...] = ()
    in_turn: tuple[Behaviour | Either | None, ...] = (None,)
    vendor: Vendor = OPENAI


def _failure(vendor: Vendor, status: int, message: str, kind: str, **answer: Any) -> Answer:
    """An error, as ``vendor`` words it."""
    return Answer(status, vendor.failed(status, message, kind), **answer)


def _limited(vendor: Vendor, kind: str) -> Answer:
    return _failure(vendor, 429, "Rate limit reached.", kind, headers={"retry-after": "2"})


def _cuts_streams(vendor: Vendor, plain: Behaviour | None = None) -> Either:
    return Either(plain, ChatStream(vendor=vendor, broken="close"))


REVOKED: Final = _failure(OPENAI, 401, "The API key was revoked.", "invalid_api_key", delay_seconds=0.01)
LIMITED: Final = _limited(ANTHROPIC, "rate_limit_error")
CRASHED: Final = _failure(OPENAI, 500, "The server had an error.", "server_error", delay_seconds=0.01)
OVERLOADED: Final = _failure(OPENAI, 529, "The servers are overloaded.", "overloaded_error", delay_seconds=0.01)
HANGS: Final = Either(Hang(), ChatStream(vendor=GEMINI, broken="hang"))
CUT_SHORT: Final = _cuts_streams(
    GEMINI, Close(after_bytes=120, of=Answer(body=GEMINI.said("This sentence will never be", CHAT_MODEL)))
)

REFUSING: Final = "fir"
"""The provider that nobody listens for, until `REOPENS_AT`."""
REOPENS_AT: Final = 0.45
BACKUP: Final = "oak"

PROVIDERS: Final = (
    FakeProvider("alder", 0.03, (Trouble("401: key revoked", REVOKED),), (REVOKED,)),
    FakeProvider(
        "birch",
        0.03,
        (
            Trouble("cuts streams", _cuts_streams(ANTHROPIC), 0.03, 0.06),
            Trouble("429: wait 2 s", LIMITED, 0.10, 0.14),
            Trouble("429: wait 2 s", LIMITED, 0.55, 0.59),
        ),
        (None, LIMITED, None),
        ANTHROPIC,
    ),
    FakeProvider(
        "cedar",
        0.04,
        (
            Trouble("cuts streams", _cuts_streams(GEMINI), 0.03, 0.03),
            Trouble("hangs", HANGS, 0.28, 0.45),
            Trouble("cuts streams", _cuts_streams(GEMINI), 0.85, 0.90),
        ),
        (HANGS, None, CUT_SHORT, None),
        GEMINI,
    ),
    FakeProvider(REFUSING, 0.02),
    FakeProvider(
        "hazel",
        0.02,
        (
            Trouble("500 to all", CRASHED, 0.12, 0.30, at_least=2),
            Trouble("529: overloaded", OVERLOADED, 0.72, 0.76),
            Trouble("a 500 at times", CRASHED, every=5),
        ),
        (CRASHED, None, None),
    ),
    FakeProvider("maple", 0.03, (Trouble("resets", Reset(), 0.40, 0.55),), (None, Reset(), None)),
    FakeProvider(BACKUP, 0.06),
)

VENDORS: Final = {provider.name: provider.vendor for provider in PROVIDERS}


class Playing:
    """One provider's script while requests are sent; knows what the provider does at present."""

    def __init__(self, provider: FakeProvider, progress: Progress) -> None:
        self._provider = provider
        self._progress = progress
        self._happened = Counter[int]()

    def __call__(
        self,
        number: int,
        method: str,  # noqa: ARG002 - what a script is told; the path and the body are all that matters here
        path: str,
        headers: Mapping[str, str],  # noqa: ARG002
        body: bytes,
    ) -> Behaviour:
        asked: dict[str, Any] = json.loads(body)
        for index, trouble in self._present():
            behaviour = _concerning(self._provider.vendor.wants_stream(path, asked), trouble.behaviour)
            if behaviour is not None and number % trouble.every == 0:
                self._happened[index] += 1
                return behaviour
        return answer_of(self._provider, path, asked)

    @property
    def words(self) -> str:
        """What the provider does now."""
        present = self._present()
        return present[0][1].words if present else "answers"

    def _present(self) -> list[tuple[int, Trouble]]:
        part = self._progress.part
        return [
            (index, trouble)
            for index, trouble in enumerate(self._provider.troubles)
            if trouble.begins <= part and (part < trouble.ends or self._happened[index] < trouble.at_least)
        ]


def taking_turns(provider: FakeProvider) -> Script:
    """One provider's script with `--serve`: whoever asks again sees something else."""

    def script(number: int, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Behaviour:  # noqa: ARG001
        asked: dict[str, Any] = json.loads(body)
        turn = provider.in_turn[(number - 1) % len(provider.in_turn)]
        behaviour = _concerning(provider.vendor.wants_stream(path, asked), turn)
        return answer_of(provider, path, asked, SEEN_WORD_SECONDS) if behaviour is None else behaviour

    return script


def answer_of(
    provider: FakeProvider, path: str, asked: Mapping[str, Any], word_seconds: float = WORD_SECONDS
) -> Behaviour:
    """What a provider that is well answers: a text, whole or as a stream, or an embedding."""
    vendor = provider.vendor
    if not path.endswith("/embeddings"):
        if vendor.wants_stream(path, asked):
            text = f"Hello from {provider.name}, word by word."
            return ChatStream(text, vendor, CHAT_MODEL, provider.think_seconds, word_seconds)
        text = f"Hello from {provider.name}."
        return Answer(body=vendor.said(text, CHAT_MODEL), delay_seconds=provider.think_seconds)
    return Answer(
        body={
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.75]}],
            "model": asked["model"],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        },
        delay_seconds=provider.think_seconds,
    )


def _concerning(streamed: bool, behaviour: Behaviour | Either | None) -> Behaviour | None:
    if not isinstance(behaviour, Either):
        return behaviour
    return behaviour.streamed if streamed else behaviour.plain


def _framed(content: bytes) -> bytes:
    """One chunk of the transfer; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)
