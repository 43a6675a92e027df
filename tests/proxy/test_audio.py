"""Speech and transcripts: forms come in, sound and text go out, and what fails is failed over."""

from contextlib import asynccontextmanager

import httpx
import pytest

from standby.proxy import create_app
from standby.runner import Runner
from standby.store import MemoryCatalog, parse
from tests.proxy.conftest import asked_of, refused

pytestmark = pytest.mark.anyio

SOUND = b"ID3\x04 sound \xff"
RECORDING = {"file": ("a.mp3", SOUND, "audio/mpeg")}
SPEECH = {"model": "voice", "input": "Hello.", "voice": "alloy"}


@asynccontextmanager
async def serving(answers, *, clients=("openai", "openai"), **server):
    """An application with the model `voice`, whose candidates `a` and `b` answer as they are told."""
    names = ["a", "b"][: len(clients)]
    candidates = [
        {"id": name, "provider": name, "model": f"m-{name}", "priority": rank, "runtime_policy": "own"}
        for rank, name in enumerate(names)
    ]
    providers = {
        name: {"client": client, "base_url": f"http://{name}.test/v1", "api_key": "k"}
        for name, client in zip(names, clients, strict=True)
    }
    limits = {"tokensPerMinute": 100}
    policy = {"failoverPolicy": {"allowCategories": ["provider_5xx", "unsupported_model", "client_error"]}}
    document = parse(
        {
            "version": 1,
            "server": server,
            "providers": providers,
            "runner_policies": {"own": policy},
            "runtime_policies": {"own": {"retryPolicy": {"maxAttempts": 1}, "rateLimitPolicy": limits}},
            "models": {"voice": {"runner_policy": "own", "candidates": candidates, "queue": {"maxWaiting": 0}}},
        }
    )
    asked = []

    def handler(request):
        asked.append(request)
        return answers[request.url.host.partition(".")[0]](request)

    transport = httpx.MockTransport(handler)
    async with Runner(MemoryCatalog(document.snapshot()), http=transport) as runner:
        async with asked_of(create_app(runner, document.server)) as http:
            yield http, asked


def down(_):
    return httpx.Response(503, json={"error": {"message": "down"}})


def saying(content, content_type):
    return lambda _: httpx.Response(200, content=content, headers={"content-type": content_type})


async def transcribe(http, endpoint="transcriptions", **fields):
    return await http.post(f"/v1/audio/{endpoint}", data={"model": "voice", **fields}, files=RECORDING)


@pytest.mark.parametrize("endpoint", ["transcriptions", "translations"])
async def test_transcript(endpoint):
    """The form goes to the next candidate under its own name of the model, and the answer comes back as it was sent."""
    answers = {"a": down, "b": saying(b'{"text": "Hello."}', "application/json")}
    async with serving(answers) as (http, asked):
        answer = await transcribe(http, endpoint, language="en")
    assert (answer.status_code, answer.content) == (200, b'{"text": "Hello."}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-standby-trail"].endswith("b;n=1;outcome=ok")
    sent = asked[-1]
    assert str(sent.url) == f"http://b.test/v1/audio/{endpoint}"
    assert b'name="model"\r\n\r\nm-b\r\n' in sent.content
    assert SOUND in sent.content


@pytest.mark.parametrize(
    ("wanted", "content", "content_type"),
    [("text", b"Hello.\n", "text/plain; charset=utf-8"), ("vtt", b"WEBVTT\n", "text/vtt")],
)
async def test_transcript__text(wanted, content, content_type):
    """Text and subtitles keep the type that the provider gave them."""
    async with serving({"a": saying(content, content_type)}) as (http, _):
        answer = await transcribe(http, response_format=wanted)
    assert (answer.content, answer.headers["content-type"]) == (content, content_type)


HELLO = b'data: {"type":"transcript.text.delta","delta":"Hello."}\n\n'
DONE = b'data: {"type":"transcript.text.done","text":"Hello."}\n\n'


async def test_transcript__events():
    """What is understood comes as events, and nothing is added at their end."""
    answers = {"a": down, "b": saying(HELLO + DONE, "text/event-stream")}
    async with serving(answers) as (http, _):
        answer = await transcribe(http, stream="true")
    assert (answer.content, answer.headers["content-type"]) == (HELLO + DONE, "text/event-stream; charset=utf-8")
    assert answer.headers["x-standby-candidate"] == "b"


async def test_transcript__events_that_break():
    """A break after the first words is one event."""
    async with serving({"a": saying(HELLO, "text/event-stream")}) as (http, _):
        answer = await transcribe(http, stream="true")
    first, last = answer.content.removesuffix(b"\n\n").split(b"\n\n")
    assert first + b"\n\n" == HELLO
    assert last.startswith(b'data: {"error":{')
    assert b"stream_interrupted" in last


async def test_speech():
    """Speech keeps its type; who is down is failed over."""
    answers = {"a": down, "b": saying(SOUND, "audio/mpeg")}
    async with serving(answers) as (http, asked):
        answer = await http.post("/v1/audio/speech", json=SPEECH)
    assert (answer.content, answer.headers["content-type"]) == (SOUND, "audio/mpeg")
    assert answer.headers["x-standby-candidate"] == "b"
    assert b'"m-b"' in asked[-1].content


async def test_speech__events():
    """Speech in events has the last word itself."""
    events = b'data: {"type":"speech.audio.delta","audio":"SUQz"}\n\ndata: {"type":"speech.audio.done"}\n\n'
    async with serving({"a": saying(events, "text/event-stream")}) as (http, _):
        answer = await http.post("/v1/audio/speech", json={**SPEECH, "stream_format": "sse"})
    assert (answer.content, answer.headers["content-type"]) == (events, "text/event-stream; charset=utf-8")


async def test_speech__nobody():
    """Where nobody speaks the answer is an error, and no sound."""
    async with serving({"a": down, "b": saying(b"", "audio/mpeg")}) as (http, _):
        answer = await http.post("/v1/audio/speech", json=SPEECH)
    assert refused(answer) == (502, "all_candidates_failed", None)


@pytest.mark.parametrize("client", ["anthropic", "gemini"])
async def test_vendors_that_do_not_speak(client):
    """A candidate that has nothing like it refuses before anything is sent, and the next one is asked."""
    answers = {"b": saying(SOUND, "audio/mpeg")}
    async with serving(answers, clients=(client, "openai")) as (http, asked):
        spoken = await http.post("/v1/audio/speech", json=SPEECH)
        answers["b"] = saying(b'{"text": "Hello."}', "application/json")
        heard = await transcribe(http)
    assert [request.url.host for request in asked] == ["b.test", "b.test"]
    assert (spoken.status_code, heard.status_code) == (200, 200)
    assert spoken.headers["x-standby-trail"].startswith("a;n=1;outcome=unsupported_model")


async def test_tokens_are_not_estimated():
    """A recording of any size is within a limit on tokens, which counts what the provider counted."""
    counted = (
        b'{"text": "x", "usage": {"type": "tokens", "input_tokens": 70, "output_tokens": 40, "total_tokens": 110}}'
    )
    async with serving({"a": saying(counted, "application/json")}, clients=("openai",)) as (http, _):
        first = await http.post(
            "/v1/audio/transcriptions", data={"model": "voice"}, files={"file": ("a.wav", bytes(100_000))}
        )
        second = await transcribe(http)
    assert (first.status_code, second.status_code) == (200, 429)


@pytest.mark.parametrize(
    ("content", "content_type", "code", "param"),
    [
        (b"{}", "application/json", "invalid_form", None),
        (b"", "multipart/form-data; boundary=x", "invalid_form", None),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x", "invalid_form", None),
        (
            b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nsound\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "missing_model",
            "model",
        ),
    ],
)
async def test_bad_form(content, content_type, code, param):
    """What is no form, or names no model, is refused before anything is sent."""
    async with serving({}) as (http, asked):
        answer = await http.post("/v1/audio/transcriptions", content=content, headers={"content-type": content_type})
    assert refused(answer) == (400, code, param)
    assert not asked


async def test_bad_form__stream():
    """Whether to stream is yes or no."""
    async with serving({}) as (http, asked):
        answer = await transcribe(http, stream="maybe")
    assert refused(answer) == (400, "invalid_request", "stream")
    assert not asked


async def test_too_large():
    """A recording larger than the server takes is refused unread."""
    async with serving({}, maxBodyBytes=1000) as (http, asked):
        answer = await http.post(
            "/v1/audio/transcriptions", data={"model": "voice"}, files={"file": ("a.wav", bytes(2000))}
        )
    assert refused(answer) == (413, "request_too_large", None)
    assert not asked


async def test_unknown_model():
    """A model that is not there is not found."""
    async with serving({}) as (http, _):
        answer = await http.post("/v1/audio/transcriptions", data={"model": "ghost"}, files=RECORDING)
    assert refused(answer) == (404, "model_not_found", "model")
