"""Streams: a break before the first content is failed over unseen, a break after it is told as what it is."""

import json
from typing import Any

import anyio

from standby.demo.faults import Answer, Close, FaultServer
from standby.runner import Request, Runner, StreamInterrupted
from standby.store import MemoryCatalog

HELLO = Request("chat", {"messages": [{"role": "user", "content": "Hello?"}]})


async def ask(runner: Runner) -> None:
    # Entering the block waits for the first content, and fails over until there is some.
    async with runner.stream(HELLO) as stream:
        print(f"{stream.record.candidate}: ", end="")
        try:
            async for chunk in stream:
                for choice in chunk.data["choices"]:
                    print(choice["delta"].get("content") or "", end="")
        except StreamInterrupted as broken:
            # Somebody has read the beginning: nobody else may go on as if it were the same answer.
            print(f" ... broke off after {broken.partial!r}", end="")
    print()
    for tried in stream.record.tries:
        print(f"  {tried.candidate}, try {tried.n}: {tried.outcome}, {tried.did or 'done'}")


async def main() -> None:
    role = event({"role": "assistant", "content": ""})
    whole = sse(role, event({"content": "Hel"}), event({"content": "lo!"}), event({}, "stop"), b"data: [DONE]\n\n")
    # Two servers stand in for two vendors. One cuts its streams after the role, before anything was said; the other
    # one cuts its second stream in the middle.
    cut_early = Close(len(whole.head) + len(role), whole)
    cut_late = Close(len(whole.head) + len(role) + len(event({"content": "Hel"})), whole)
    async with (
        FaultServer(cut_early) as first,
        FaultServer([whole, cut_late]) as second,
        Runner(catalog(first.url, second.url)) as runner,
    ):
        await ask(runner)
        await ask(runner)  # the primary's rank is lower now: the backup comes first


def catalog(first: str, second: str) -> MemoryCatalog:
    primary = {"id": "primary", "provider": "first", "model": "some-model", "priority": 10}
    try_once = {"runtimePolicyOverride": {"retryPolicy": {"maxAttempts": 1}}}
    return MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": {
                "first": {"client": "openai", "base_url": f"{first}/v1"},
                "second": {"client": "openai", "base_url": f"{second}/v1"},
            },
            "models": {
                "chat": {
                    "candidates": [
                        {**primary, **try_once},
                        {"id": "backup", "provider": "second", "model": "some-model", "priority": 20},
                    ]
                }
            },
        }
    )


def event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n".encode()


def sse(*events: bytes) -> Answer:
    return Answer(body=b"".join(events), headers={"content-type": "text/event-stream"})


if __name__ == "__main__":
    anyio.run(main)
