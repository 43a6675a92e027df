"""Streams over real sockets, from providers that fail at every byte, stall, flood and forget how to end."""

import json
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio
import pytest

from standby.demo.faults import (
    Answer,
    Close,
    End,
    FaultServer,
    Hang,
    Raw,
    Reset,
    Send,
    Stream,
    Wait,
    chat_answer,
    chat_event,
    chat_events,
    chat_stream,
    error_answer,
    refused_port,
)
from standby.runner import Request, RunFailed, Runner, StreamInterrupted
from standby.store import Failed, MemoryCatalog

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
CAPACITY = 100


@pytest.fixture
def open_runner(open_pool):
    """Makes runners of one model, `chat`, with a candidate for each address; the first has the clocks of a test."""

    @asynccontextmanager
    async def opened(*urls, policy=None, timeouts=None):
        names = ["primary", "backup"][: len(urls)]
        patient = {"firstTokenSeconds": PATIENCE_SECONDS, "idleSeconds": PATIENCE_SECONDS}
        own = {"retryPolicy": {"maxAttempts": 1}, "rateLimitPolicy": {"concurrency": CAPACITY}}
        document = {
            "version": 1,
            "providers": {name: {"client": "openai", "base_url": url} for name, url in zip(names, urls, strict=True)},
            "runner_policies": {"own": {"failoverPolicy": {"ejectAfter": 0}, **(policy or {})}},
            "runtime_policies": {
                "primary": {**own, "timeouts": {**patient, **(timeouts or {})}},
                "backup": {**own, "timeouts": patient},
            },
            "models": {
                "chat": {
                    "runner_policy": "own",
                    "candidates": [
                        {"id": name, "provider": name, "model": "m", "priority": rank, "runtime_policy": name}
                        for rank, name in enumerate(names)
                    ],
                }
            },
        }
        async with open_pool() as connections:
            async with Runner(MemoryCatalog.from_mapping(document), http=connections) as runner:
                with anyio.fail_after(PATIENCE_SECONDS):
                    yield runner
                capacities = [candidate.capacity for candidate in runner.route("chat").candidates]
                assert [capacity.in_use for capacity in capacities] == [0] * len(names)
            assert connections.in_use == 0

    return opened


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


# -- every byte


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
FIRST_CONTENT = 3
LAST_FINISH = 8
TEXTS = ["", "", "", "Hel", "Hel", "Hel", "Hello", "Hello", "Hello", "Hello"]
BACKUP = chat_stream("I am", " the backup")


def came(framing, offset):
    """How much of the reference stream's body is in the first ``offset`` bytes of the answer."""
    left = offset - len(Stream([], framing).head)
    body = b""
    for piece in REFERENCE:
        frame = len(b"%x\r\n" % len(piece)) if framing == "chunked" else 0
        left -= frame
        body += piece[: max(0, left)]
        left -= len(piece) + (2 if frame else 0)
    return body


def expected(library, framing, how, offset):
    """What the caller has when the answer is cut there: who answers, and the text."""
    body = came(framing, offset)
    whole = sum(len(b"".join(REFERENCE[: place + 1])) <= len(body) for place in range(len(REFERENCE)))
    ends = [len(b"".join(REFERENCE[: place + 1])) for place in range(len(REFERENCE))]
    # Where the end of the connection is that of the body, the blank line after the event that ends it may be missing.
    # aiohttp takes a reset for such an end, too.
    orderly = framing == "close" and (how == "close" or library == "aiohttp")
    if whole > LAST_FINISH or (orderly and len(body) >= ends[LAST_FINISH] - 2):
        return "complete", "Hello"
    return ("interrupted", TEXTS[whole - 1]) if whole > FIRST_CONTENT else ("failed over", "I am the backup")


class Cut:
    """The reference stream up to an offset; it is cut at once, or when the caller has had what it can have."""

    def __init__(self, framing, how, offset, holds):
        self._content = Stream(REFERENCE, framing).wire[:offset]
        self._how = how
        self._holds = holds

    def steps(self):
        yield Send(self._content)
        while not self._holds():
            yield Wait(0.001)
        yield End(self._how)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_cut_at_every_byte(open_runner, library, framing, how):
    """Before the first content the backup answers, whole; after it the caller is told, with what it has had.

    A cut after the last choice's finish is none. Never are two answers spliced, and the primary's health hears of it.
    """
    had_content = set()
    size = len(Stream(REFERENCE, framing).wire)
    offsets = iter(range(0, size + 1, 1 if library == "aiohttp" else 7))

    def script(number, method, path, headers, body):
        if path.startswith("/backup"):
            return BACKUP
        offset = json.loads(body)["offset"]
        gated = expected(library, framing, how, offset)[0] != "failed over"
        # What was sent just before a reset may be lost with it: who is to have had content has had it before.
        return Cut(framing, how, offset, lambda: not gated or offset in had_content)

    wrong = []

    async def sweep(runner):
        for offset in offsets:
            heard = await hear(
                runner, {"offset": offset, "n": 2}, at_first=lambda offset=offset: had_content.add(offset)
            )
            record, broken = heard.record, heard.interrupted
            failed = record.tries[0].effects and isinstance(record.tries[0].effects[0], Failed)
            if record.candidate == "backup":
                came_to = ("failed over", heard.text)
                fine = failed and record.ending == "answered" and record.attempts == 2
            elif broken is not None:
                came_to = ("interrupted", heard.text)
                fine = failed and record.ending == "interrupted" and record.attempts == 1
                fine = (
                    fine and broken.partial == heard.text and record.tries[0].failure.info.code == "stream_read_error"
                )
            else:
                came_to = ("complete", heard.text)
                fine = not failed and record.ending == "answered" and record.attempts == 1
            if came_to != expected(library, framing, how, offset) or not fine:
                wrong.append((offset, came_to, expected(library, framing, how, offset), did(record)))

    async with FaultServer(script) as server:
        async with open_runner(f"{server.url}/primary", f"{server.url}/backup") as runner:
            async with anyio.create_task_group() as tasks:
                for _ in range(16):
                    tasks.start_soon(sweep, runner)
            await server.until_open_connections(CAPACITY)
    assert wrong == []
    assert next(offsets, None) is None


# -- failures before the first content


ROLE, HELLO, STOP, DONE = chat_events("Hello")
PINGS = [piece for _ in range(100_000) for piece in (0.01, b": ping\n\n", ROLE)]
SSE = {"content-type": "text/event-stream"}


@pytest.mark.parametrize(
    ("broken", "outcome"),
    [
        (error_answer(503, "Down."), "provider_5xx"),
        (error_answer(429, "Slow down.", headers=SSE), "rate_limit"),
        (Reset(), "network"),
        (Close(), "network"),
        (Close(30, chat_stream("Hello")), "network"),
        (Raw(b"220 mail.example ESMTP\r\n"), "network"),
        (Stream([ROLE, chat_event(error={"message": "It broke.", "type": "server_error"}), DONE]), "provider_5xx"),
        (Stream([ROLE, b'event: error\ndata: {"message": "Overloaded"}\n\n']), "provider_overloaded"),
        (Stream([ROLE, b"data: {half a\n\n", STOP, DONE]), "client_error"),
        (Stream([ROLE, b"\x00\xff\xfe garbage \r\n\r\n" * 100]), "stream_error"),
        (Stream([b"<html>Sign in</html>"], framing="close"), "stream_error"),
        (Stream([ROLE, STOP, DONE]), "client_error"),
        (Stream([ROLE]), "stream_error"),
        (Stream([], framing="close"), "stream_error"),
        (Stream([ROLE], ending="reset"), "network"),
        (Stream([b"not a size"], framing="close", headers={"transfer-encoding": "chunked"}), "network"),
        (chat_answer("Hello"), "client_error"),
        (Answer(body=ROLE, headers=SSE, gzip=True, cut_gzip_bytes=9), "stream_error"),
        (Stream([ROLE], ending="hang"), "timeout"),
        (Stream([], ending="hang"), "timeout"),
        (Hang(), "timeout"),
        (Stream(PINGS), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_before_the_first_content(open_runner, broken, outcome):
    """Whatever fails fails over, and the caller hears nothing of it; silence is cut by `firstTokenSeconds`."""
    async with FaultServer(broken) as primary, FaultServer(BACKUP) as backup:
        timeouts = {"firstTokenSeconds": 0.2} if outcome == "timeout" else None
        async with open_runner(primary.url, backup.url, timeouts=timeouts) as runner:
            heard = await hear(runner)
            assert (heard.text, heard.interrupted) == ("I am the backup", None)
            tried = heard.record.tries[0]
            # Whether a head that comes with what breaks it is seen is the library's business.
            assert tried.outcome in ({"network", "stream_error"} if outcome == "network" else {outcome})
            assert outcome != "timeout" or tried.failure.info.message.endswith("(firstTokenSeconds)")
            await primary.until_open_connections(1 if primary.requests and outcome in KEPT else 0)


KEPT = {"rate_limit", "provider_5xx", "client_error", "stream_error", "provider_overloaded"}
"""Failures after which a connection may be used again."""


async def test_nobody_listens(open_runner):
    """So does a port that refuses."""
    with refused_port() as port:
        async with FaultServer(BACKUP) as backup, open_runner(f"http://127.0.0.1:{port}", backup.url) as runner:
            assert did((await hear(runner)).record) == [("primary", "network"), ("backup", "ok")]


async def test_nobody_answers(open_runner):
    """Where all fail the run fails, before there is a stream."""
    async with FaultServer([Stream([ROLE]), error_answer(500)]) as server:
        async with open_runner(server.url, server.url) as runner:
            with pytest.raises(RunFailed) as caught:
                await hear(runner)
    assert did(caught.value.record) == [("primary", "stream_error"), ("backup", "provider_5xx")]


# -- failures after it


@pytest.mark.parametrize(
    ("pieces", "ending", "outcome"),
    [
        ([chat_event(error={"message": "It broke.", "type": "server_error"}), DONE], "complete", "provider_5xx"),
        ([b'event: error\ndata: {"message": "x", "code": 429}\n\n', DONE], "complete", "rate_limit"),
        ([], "complete", "stream_error"),
        ([], "close", "stream_error"),
        ([], "reset", "stream_error"),
        ([], "hang", "stream_error"),
        ([b"data: " + b"x" * 9_000_000], "hang", "client_error"),
    ],
    ids=["error", "named error", "end", "close", "reset", "hang", "huge"],
)
async def test_after_the_first_content(open_runner, pieces, ending, outcome):
    """Nobody can take over: the caller is told, with what it has had; silence is cut by `idleSeconds`."""
    had_content = False

    class Broken:
        def steps(self):
            steps = Stream([ROLE, HELLO, 0.0, *pieces], ending=ending).steps()
            for step in steps:
                while isinstance(step, Wait) and not had_content:
                    yield Wait(0.001)
                yield step

    def at_first():
        nonlocal had_content
        had_content = True

    async with FaultServer(Broken()) as primary, FaultServer(BACKUP) as backup:
        timeouts = {"idleSeconds": 0.2 if outcome == "stream_error" and ending == "hang" else PATIENCE_SECONDS}
        async with open_runner(primary.url, backup.url, timeouts=timeouts) as runner:
            heard = await hear(runner, at_first=at_first)
            assert (heard.text, heard.interrupted.partial, heard.record.ending) == ("Hello", "Hello", "interrupted")
            assert did(heard.record) == [("primary", outcome)]
            assert isinstance(heard.record.tries[0].effects[0], Failed)
            if ending == "hang":
                await primary.until_open_connections(0)
    assert backup.requests == 0


async def test_health_hears_of_a_break(open_runner):
    """A candidate whose streams break is left out, though each of them had content."""
    broken = Stream([ROLE, HELLO])
    async with FaultServer(broken) as primary, FaultServer(BACKUP) as backup:
        policy = {"failoverPolicy": {"ejectAfter": 2}}
        async with open_runner(primary.url, backup.url, policy=policy) as runner:
            for _ in range(2):
                assert (await hear(runner)).interrupted is not None
            assert (await hear(runner)).text == "I am the backup"


async def test_silence_after_the_answer(open_runner):
    """A server that has finished and does not hang up has answered."""
    async with FaultServer(Stream([ROLE, HELLO, STOP], ending="hang")) as server:
        async with open_runner(server.url, timeouts={"idleSeconds": 0.2}) as runner:
            heard = await hear(runner)
            assert (heard.text, heard.interrupted, heard.record.ending) == ("Hello", None, "answered")
            await server.until_open_connections(0)


# -- streams that are odd, and whole


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_one_byte_at_a_time(open_runner, framing):
    """However small the pieces: the events are whole."""
    wire = Stream(REFERENCE, framing).wire

    class Slow:
        def steps(self):
            for place in range(len(wire)):
                yield Send(wire[place : place + 1])
                yield Wait(0.0)
            yield from [End("close")] if framing == "close" else []

    async with FaultServer(Slow()) as server, open_runner(server.url) as runner:
        assert (await hear(runner, {"n": 2})).text == "Hello"


async def test_compressed_unasked(open_runner):
    """A server that compresses though it was asked not to is understood."""
    compressed = Answer(body=b"".join(REFERENCE), headers=SSE, gzip=True, chunked=True)
    async with FaultServer(compressed) as server, open_runner(server.url) as runner:
        assert (await hear(runner, {"n": 2})).text == "Hello"
    assert server.received[0].headers["accept-encoding"] == "identity"


async def test_connection_is_used_again(open_runner):
    """Stream after stream over one connection."""
    async with FaultServer(chat_stream("Hello")) as server, open_runner(server.url) as runner:
        for _ in range(5):
            assert (await hear(runner)).text == "Hello"
        assert (server.requests, server.connections) == (5, 1)


async def test_fifty_at_once(open_runner):
    """Each caller has its own stream, whole, though they come in turns, and some fail over."""
    several = 50

    def script(number, method, path, headers, body):
        words = [f"{json.loads(body)['caller']}/{place} " for place in range(20)]
        if path.startswith("/primary") and json.loads(body)["caller"] % 5 == 0:
            return Stream([ROLE, 0.001], ending="reset")
        return Stream([piece for event in chat_events(*words) for piece in (event, 0.001)])

    async with FaultServer(script) as server:
        async with open_runner(f"{server.url}/primary", f"{server.url}/backup") as runner:
            heard = {}

            async def listen(caller):
                heard[caller] = (await hear(runner, {"caller": caller})).text

            async with anyio.create_task_group() as tasks:
                for caller in range(several):
                    tasks.start_soon(listen, caller)
    assert heard == {caller: "".join(f"{caller}/{place} " for place in range(20)) for caller in range(several)}


# -- callers that leave, and callers that are slow


async def test_caller_leaves(open_runner):
    """A caller that breaks off closes the provider's connection; nobody's health changes."""
    async with FaultServer(Stream([ROLE, HELLO], ending="hang")) as server:
        async with open_runner(server.url, policy={"failoverPolicy": {"ejectAfter": 1}}) as runner:
            async with runner.stream(Request("chat", {"messages": []})) as stream:
                async for chunk in stream:
                    if text_in(chunk.data):
                        break
                assert server.open_connections == 1
            await server.until_open_connections(0)
            assert (stream.record.ending, runner.state.standings()) == ("abandoned", {})


@pytest.mark.parametrize("said", [[], [ROLE], [ROLE, HELLO]], ids=["nothing", "role", "content"])
async def test_caller_is_cancelled(open_runner, said):
    """So does one that is cancelled, before the first content and after it."""
    async with FaultServer(Stream(said, ending="hang")) as server, open_runner(server.url) as runner:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear, runner)
            await server.until_requests(1)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await server.until_open_connections(0)


class Endless:
    """A stream that never ends; it counts what it could send."""

    def __init__(self, text="x" * 2000):
        self.sent = 0
        self._event = chat_events(text)[1]

    def steps(self):
        for step in Stream(self._event for _ in count()).steps():
            self.sent += len(step.content)
            yield step
            if self.sent // 1_000_000 != (self.sent - len(step.content)) // 1_000_000:
                yield Wait(0.0)

    async def until_held_back(self):
        """Return when nothing more can be sent."""
        before = -1
        while self.sent != before:
            before = self.sent
            for _ in range(100):
                await anyio.lowlevel.checkpoint()


async def test_slow_reader(open_runner):
    """What the caller does not read the provider cannot send: nothing is kept for it but what sockets hold."""
    endless = Endless()
    async with FaultServer(endless) as server, open_runner(server.url) as runner:
        async with runner.stream(Request("chat", {"messages": []})) as stream:
            for _ in range(3):
                await stream.read()
                await endless.until_held_back()
                assert endless.sent < 32_000_000
            read = 0
            while read < 40_000_000:
                read += len((await stream.read()).raw)
            assert endless.sent > 40_000_000
        await server.until_open_connections(0)


async def test_memory(open_runner):
    """A stream takes as much memory as it did at its beginning, however long it is."""
    async with FaultServer(Endless()) as server, open_runner(server.url) as runner:
        async with runner.stream(Request("chat", {"messages": []})) as stream:
            tracemalloc.start()
            try:
                read = 0
                while read < 20_000_000:
                    read += len((await stream.read()).raw)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        await server.until_open_connections(0)
    assert peak < 4_000_000


async def test_memory__before_the_first_content(open_runner):
    """Nor does a flood without content fill it: the candidate is given up."""
    flood = Stream(piece for _ in count() for piece in (ROLE * 100, b": ping\n\n" * 1000))
    async with FaultServer([flood, BACKUP]) as server, open_runner(server.url, server.url) as runner:
        heard = await hear(runner)
    assert (heard.text, did(heard.record)) == ("I am the backup", [("primary", "client_error"), ("backup", "ok")])
