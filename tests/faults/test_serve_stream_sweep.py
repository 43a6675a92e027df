"""A stream through the server, its provider cut at every byte: failed over unseen, or ended with one error event."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from standby.demo.faults import Close, FaultServer, Raw, Reset
from standby.proxy import bound_socket, create_app, run_server
from standby.runner import open_gateway

pytestmark = pytest.mark.anyio

AT_ONCE = 16
DONE = b"data: [DONE]\n\n"


def event(delta, finish_reason=None):
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def answer(*texts):
    """The bytes of a streamed answer, one HTTP chunk an event, and where its first content and its finish end."""
    events = [event({"role": "assistant"}), *(event({"content": text}) for text in texts), event({}, "stop"), DONE]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = [head, *(b"%x\r\n%b\r\n" % (len(each), each) for each in events), b"0\r\n\r\n"]
    ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
    return b"".join(parts), ends


PRIMARY, PRIMARY_ENDS = answer("One", " two", " three.")
BACKUP, _ = answer("Four", " five.")
# The chunk's own line end may be missing: its event is complete all the same.
FIRST_CONTENT = PRIMARY_ENDS[2] - 2
FINISHED = PRIMARY_ENDS[5] - 2


def primary(_, __, ___, ____, body):
    """Does to each request what its `user` asks for."""
    kind, _, after_bytes = orjson.loads(body)["user"].partition(":")
    return {"close": Close, "reset": Reset}[kind](int(after_bytes), Raw(PRIMARY))


@asynccontextmanager
async def gateway():
    """A server in front of a primary that breaks and a backup that is well."""
    async with FaultServer(primary) as broken, FaultServer(Raw(BACKUP)) as well:
        candidates = [
            {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": "own"}
            for rank, name in enumerate(("primary", "backup"))
        ]
        document = {
            "version": 1,
            "providers": {
                "primary": {"client": "openai", "base_url": f"{broken.url}/v1"},
                "backup": {"client": "openai", "base_url": f"{well.url}/v1"},
            },
            "runner_policies": {"own": {"failoverPolicy": {"ejectAfter": 0}}},
            "runtime_policies": {"own": {"retryPolicy": {"maxAttempts": 1}}},
            "models": {"chat": {"runner_policy": "own", "candidates": candidates}},
        }
        listens = asyncio.Queue()
        async with open_gateway(document) as opened:
            app = create_app(opened.runner, opened.document.server)
            with bound_socket("127.0.0.1", 0) as listening:
                task = asyncio.create_task(run_server(app, listening, listens.put_nowait))
                try:
                    yield (await listens.get()).removeprefix("listening on ")
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)


async def streamed(session, url, fault):
    body = {"model": "chat", "messages": [], "stream": True, "user": fault}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        return response.status, response.headers.get("x-standby-candidate"), await response.read()


def text(content):
    events = [part.removeprefix(b"data: ") for part in content.split(b"\n\n") if part and part + b"\n\n" != DONE]
    chunks = [orjson.loads(each) for each in events]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if "choices" in chunk)
    return said, sum(1 for chunk in chunks if "error" in chunk)


@pytest.mark.parametrize("kind", ["close", "reset"])
async def test_a_provider_that_breaks_at_any_byte_is_never_spliced_nor_ended_as_if_complete(kind):
    """The caller has the backup's whole answer, or a beginning of the primary's and one error, or the whole of it."""
    offsets = iter(range(len(PRIMARY) + 1))
    seen = set()

    async def worker(session, url):
        for offset in offsets:
            status, candidate, content = await streamed(session, url, f"{kind}:{offset}")
            said, errors = text(content)
            assert status == 200, offset
            if candidate == "backup":
                assert (said, errors, content.endswith(DONE)) == ("Four five.", 0, True), offset
                # A reset may overtake what was sent before it; a close never does.
                assert kind == "reset" or offset < FIRST_CONTENT, offset
                seen.add("failed over")
            elif errors:
                assert (errors, content.count(b"[DONE]")) == (1, 0), offset
                assert said, offset
                assert "One two three.".startswith(said), offset
                assert offset >= FIRST_CONTENT, offset
                assert kind == "reset" or offset < FINISHED, offset
                seen.add("broken")
            else:
                assert (said, content.endswith(DONE)) == ("One two three.", True), offset
                assert offset >= FINISHED, offset
                seen.add("whole")

    async with gateway() as url, aiohttp.ClientSession() as session, asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(worker(session, url))
    assert seen >= {"failed over", "broken"}
