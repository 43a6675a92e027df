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

from .faults import Answer, Behaviour, Close, End, Hang, Reset, Script, Send, Step, Wait, chat_answer, error_answer

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
    """A chat completion as a stream: the role, the text word by word, why it ends, and that it is over.

    Attributes:
        text: What it says.
        model: The model that says so.
        think_seconds: How long the server thinks before the role, which is no content yet.
        word_seconds: How long it then thinks about each word.
        broken: How it ends after the role, where it does: closed, or open and silent.
    """

    text: str = ""
    model: str = "fake-model"
    think_seconds: float = 0.01
    word_seconds: float = WORD_SECONDS
    broken: Literal["close", "hang"] | None = None

    def steps(self) -> Iterator[Step]:
        """One chunk after the other."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        yield Wait(self.think_seconds)
        yield Send(head + self._chunk({"role": "assistant", "content": ""}))
        if self.broken is not None:
            yield End(self.broken)
            return
        for word in re.findall(r"\S+\s*", self.text):
            yield Wait(self.word_seconds)
            yield Send(self._chunk({"content": word}))
        yield Send(self._chunk({}, "stop") + _framed(b"data: [DONE]\n\n") + _framed(b""))

    def _chunk(self, delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
        chunk = {
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }
        return _framed(f"data: {json.dumps(chunk)}\n\n".encode())


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
    """

    name: str
    think_seconds: float
    troubles: tuple[Trouble, ...] = ()
    in_turn: tuple[Behaviour | Either | None, ...] = (None,)


REVOKED: Final = error_answer(
    401, "The API key was revoked.", code="invalid_api_key", kind="invalid_request_error", delay_seconds=0.01
)
LIMITED: Final = error_answer(
    429, "Rate limit reached.", code="rate_limit_exceeded", kind="requests", headers={"retry-after": "2"}
)
CRASHED: Final = error_answer(500, "The server had an error.", kind="server_error", delay_seconds=0.01)
OVERLOADED: Final = error_answer(529, "The servers are overloaded.", kind="overloaded_error", delay_seconds=0.01)
HANGS: Final = Either(Hang(), ChatStream(broken="hang"))
CUTS_STREAMS: Final = Either(None, ChatStream(broken="close"))
CUT_SHORT: Final = Either(
    Close(after_bytes=120, of=chat_answer("This sentence will never be")), ChatStream(broken="close")
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
            Trouble("cuts streams", CUTS_STREAMS, 0.03, 0.06),
            Trouble("429: wait 2 s", LIMITED, 0.10, 0.14),
            Trouble("429: wait 2 s", LIMITED, 0.55, 0.59),
        ),
        (None, LIMITED, None),
    ),
    FakeProvider(
        "cedar",
        0.04,
        (
            Trouble("cuts streams", CUTS_STREAMS, 0.03, 0.03),
            Trouble("hangs", HANGS, 0.28, 0.45),
            Trouble("cuts streams", CUTS_STREAMS, 0.85, 0.90),
        ),
        (HANGS, None, CUT_SHORT, None),
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
            behaviour = _concerning(asked, trouble.behaviour)
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
        behaviour = _concerning(asked, provider.in_turn[(number - 1) % len(provider.in_turn)])
        return answer_of(provider, path, asked, SEEN_WORD_SECONDS) if behaviour is None else behaviour

    return script


def answer_of(
    provider: FakeProvider, path: str, asked: Mapping[str, Any], word_seconds: float = WORD_SECONDS
) -> Behaviour:
    """What a provider that is well answers: a chat completion, whole or as a stream, or an embedding."""
    if not path.endswith("/embeddings"):
        if asked.get("stream"):
            text = f"Hello from {provider.name}, word by word."
            return ChatStream(text, asked["model"], provider.think_seconds, word_seconds)
        text = f"Hello from {provider.name}."
        return chat_answer(text, model=asked["model"], delay_seconds=provider.think_seconds)
    return Answer(
        body={
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.75]}],
            "model": asked["model"],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        },
        delay_seconds=provider.think_seconds,
    )


def _concerning(asked: Mapping[str, Any], behaviour: Behaviour | Either | None) -> Behaviour | None:
    if not isinstance(behaviour, Either):
        return behaviour
    return behaviour.streamed if asked.get("stream") else behaviour.plain


def _framed(content: bytes) -> bytes:
    """One chunk of the transfer; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)
