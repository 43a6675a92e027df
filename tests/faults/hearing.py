"""Streams over real sockets: what their providers say, and what a caller hears of it."""

import json
from dataclasses import dataclass, field

from standby.demo.faults import chat_events, chat_stream
from standby.runner import Request, StreamInterrupted

ROLE, HELLO, STOP, DONE = chat_events("Hello")
BACKUP = chat_stream("I am", " the backup")
SSE = {"content-type": "text/event-stream"}


def choice(index, finish_reason=None, **delta):
    chunk = {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


REFERENCE = [
    b": connected\n\n",
    choice(0, role="assistant", content=""),
    choice(1, role="assistant"),
    choice(0, content="Hel"),
    choice(1, content="Good"),
    b": ping\n\n",
    choice(0, content="lo"),
    choice(0, "stop"),
    choice(1, "length", content=" day"),
    b"data: [DONE]\n\n",
]


@dataclass
class Heard:
    """What the caller of one stream has."""

    texts: list[str] = field(default_factory=list)
    interrupted: StreamInterrupted | None = None
    record: object = None

    @property
    def text(self):
        return "".join(self.texts)


def text_in(data):
    """What the first choice says in a chunk."""
    return "".join(
        choice["delta"].get("content") or "" for choice in data.get("choices", []) if choice.get("index", 0) == 0
    )


async def hear(runner, body=None, at_first=None, **options):
    """Read one stream to its end."""
    heard = Heard()
    try:
        async with runner.stream(Request("chat", {"messages": [], **(body or {})}), **options) as stream:
            heard.record = stream.record
            async for chunk in stream:
                heard.texts.append(text_in(chunk.data))
                if at_first is not None and heard.text:
                    at_first()
    except StreamInterrupted as error:
        heard.interrupted = error
    return heard


def did(record):
    """The tries in short."""
    return [(tried.candidate, tried.outcome) for tried in record.tries]
