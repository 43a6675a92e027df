"""Speech and transcripts: forms go out, and sound, text, JSON or events come back, as they are."""

import json

import httpx
import pytest
from openai.types.audio import Transcription, TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from standby.clients import ClientError, Form, Request

pytestmark = pytest.mark.anyio

SPEECH = "https://provider.test/v1/audio/speech"
TRANSCRIPTS = "https://provider.test/v1/audio/transcriptions"
SOUND = b"ID3\x04\x00 not quite an mp3 \n\n data: \xff"


def speech(**more):
    return Request("tts", {"model": "voice", "input": "Hello.", "voice": "alloy", **more}, "audio/speech")


def recording(endpoint="audio/transcriptions", drop=(), **fields):
    fields = {"model": "ears", "temperature": "0", **fields}
    sent = httpx.Request("POST", TRANSCRIPTS, data=fields, files={"file": ("a.mp3", SOUND, "audio/mpeg")})
    return Request("whisper", Form(sent.read(), sent.headers["content-type"]), endpoint, drop=drop)


def events(*data):
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in data)


async def failure(call):
    with pytest.raises(ClientError) as caught:
        await call
    return caught.value


async def read(client, request):
    async with client.stream(request) as stream:
        blocks = []
        while (block := await stream.read()) is not None:
            blocks.append(block)
        return stream, blocks


def in_pieces(*pieces, content_type, error=None, status=200):
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            for piece in pieces:
                yield piece
            if error is not None:
                raise error

    return httpx.Response(status, headers={"content-type": content_type}, stream=Stream())


# -- speech ------------------------------------------------------------------------------------------------------


async def test_speech(provider, client):
    """What is spoken comes back as its bytes and their type."""
    route = provider.post(SPEECH).respond(content=SOUND, content_type="audio/mpeg")
    response = await client.send(speech())
    assert (response.content, response.headers["content-type"], response.data) == (SOUND, "audio/mpeg", {})
    sent = route.calls[0].request
    assert json.loads(sent.content) == {"model": "tts", "input": "Hello.", "voice": "alloy"}
    assert (sent.headers["content-type"], sent.headers["accept"]) == ("application/json", "*/*")


async def test_speech__stream(provider, client):
    """The same piece by piece, as it is spoken: all of it is content."""
    provider.post(SPEECH).mock(return_value=in_pieces(b"ID3", b"\n\n", b"data: x", content_type="audio/mpeg"))
    stream, blocks = await read(client, speech())
    assert [(block.raw, block.content) for block in blocks] == [(b"ID3", True), (b"\n\n", True), (b"data: x", True)]
    assert (stream.content_type, stream.finished) == ("audio/mpeg", True)


async def test_speech__events(provider, client):
    """Speech may come as events too; the last one counts the tokens."""
    usage = {"input_tokens": 3, "output_tokens": 20, "total_tokens": 23}
    told = events({"type": "speech.audio.delta", "audio": "SUQz"}, {"type": "speech.audio.done", "usage": usage})
    route = provider.post(SPEECH).mock(return_value=in_pieces(told, content_type="text/event-stream; charset=utf-8"))
    stream, blocks = await read(client, speech(stream_format="sse"))
    assert b"".join(block.raw for block in blocks) == told
    assert [block.content for block in blocks] == [True, False]
    assert (stream.content_type, stream.usage.input_tokens, stream.usage.output_tokens) == ("text/event-stream", 3, 20)
    assert json.loads(route.calls[0].request.content)["stream_format"] == "sse"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"content": b"", "content_type": "audio/mpeg"}, "empty_response"),
        ({"html": "<title>Log in</title>"}, "invalid_response"),
        ({"json": {"text": "no sound"}}, "invalid_response"),
        ({"json": {"error": {"message": "no voice", "code": "rate_limit_exceeded"}}}, "rate_limit"),
        ({"json": {"error": {"message": "no"}}, "status_code": 400}, "bad_request"),
        ({"json": {"error": {"message": "no"}}, "status_code": 503}, "server_error"),
    ],
)
@pytest.mark.parametrize("call", ["plain", "stream"])
async def test_speech__failure(provider, client, answer, code, call):
    """What is no sound is a failure, whatever its status."""
    provider.post(SPEECH).respond(**answer)
    asked = client.send(speech()) if call == "plain" else read(client, speech())
    assert (await failure(asked)).code == code


async def test_speech__break(provider, client):
    """Sound that breaks off is not complete; what came before was passed on."""
    cut = in_pieces(b"ID3", content_type="audio/mpeg", error=httpx.ReadError("reset"))
    provider.post(SPEECH).mock(return_value=cut)
    async with client.stream(speech()) as stream:
        assert (await stream.read()).raw == b"ID3"
        assert (await failure(stream.read())).code == "stream_read_error"
        assert not stream.finished
        assert stream.ending() is None


async def test_speech__events_that_are_none(provider, client):
    """A server that does not know how to tell of speech in events sends sound instead: that was not asked for."""
    provider.post(SPEECH).respond(content=SOUND, content_type="audio/mpeg")
    assert (await failure(read(client, speech(stream_format="sse")))).code == "invalid_response"


async def test_speech__dropped(provider, client):
    """What the provider cannot do is left out, and told."""
    route = provider.post(SPEECH).respond(content=SOUND, content_type="audio/mpeg")
    request = Request("tts", {"model": "x", "input": "Hi", "speed": 2}, "audio/speech", drop=("speed", "seed", "model"))
    assert (await client.send(request)).dropped == ("speed",)
    assert json.loads(route.calls[0].request.content) == {"model": "tts", "input": "Hi"}


# -- transcripts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["audio/transcriptions", "audio/translations"])
@pytest.mark.parametrize("text", ["Hello.", ""])
async def test_transcript(provider, client, endpoint, text):
    """The form goes out with the provider's name of the model; silence has no words."""
    answer = {"text": text, "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}}
    Transcription.model_validate(answer)
    route = provider.post(f"https://provider.test/v1/{endpoint}").respond(json=answer)
    request = recording(endpoint)
    response = await client.send(request)
    assert response.data == answer
    assert (response.usage.input_tokens, response.usage.output_tokens) == (14, 5)
    sent = route.calls[0].request
    assert sent.content == request.body.with_model("whisper")
    assert sent.headers["content-type"] == request.body.content_type
    assert sent.headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("wanted", "content", "content_type"),
    [
        ("text", b"Hello.\n", "text/plain; charset=utf-8"),
        ("srt", b"1\n00:00:00,000 --> 00:00:01,000\nHello.\n", "text/plain"),
        ("vtt", b"WEBVTT\n", "text/vtt"),
    ],
)
async def test_transcript__text(provider, client, wanted, content, content_type):
    """Text and subtitles come back as they are."""
    provider.post(TRANSCRIPTS).respond(content=content, content_type=content_type)
    response = await client.send(recording(response_format=wanted))
    assert (response.content, response.headers["content-type"], response.data) == (content, content_type, {})


@pytest.mark.parametrize(
    ("fields", "answer", "code"),
    [
        ({}, {"text": "Hello."}, "invalid_response"),
        ({}, {"json": {"words": []}}, "invalid_response"),
        ({"response_format": "text"}, {"html": "<title>Log in</title>"}, "invalid_response"),
        ({"response_format": "text"}, {"text": ""}, "empty_response"),
        (
            {"response_format": "srt"},
            {"json": {"error": {"message": "x", "code": "model_not_found"}}},
            "unsupported_model",
        ),
        ({}, {"json": {"error": {"message": "too long"}}, "status_code": 413}, "context_length_exceeded"),
    ],
)
async def test_transcript__failure(provider, client, fields, answer, code):
    """What is no transcript is a failure, whatever its status."""
    provider.post(TRANSCRIPTS).respond(**answer)
    assert (await failure(client.send(recording(**fields)))).code == code


HELLO = [
    {"type": "transcript.text.delta", "delta": "Hel"},
    {"type": "transcript.text.delta", "delta": "lo."},
    {
        "type": "transcript.text.done",
        "text": "Hello.",
        "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    },
]


@pytest.mark.parametrize("committed", [False, True])
async def test_transcript__events(provider, client, committed):
    """What is understood is passed on as it comes; the last event ends it, whether or not more is said after it."""
    TranscriptionTextDeltaEvent.model_validate(HELLO[0])
    TranscriptionTextDoneEvent.model_validate(HELLO[2])
    told = events(*HELLO)
    provider.post(TRANSCRIPTS).mock(
        return_value=in_pieces(told[:50], told[50:], b"data: [DONE]\n\n", content_type="text/event-stream")
    )
    async with client.stream(recording(stream="true")) as stream:
        if committed:
            stream.commit()
        raw = b""
        while (block := await stream.read()) is not None:
            raw += block.raw
        assert raw == told
        assert stream.usage.total_tokens == 3


async def test_transcript__events_of_silence(provider, client):
    """A recording in which nobody speaks has an end all the same."""
    told = events({"type": "transcript.text.done", "text": ""})
    provider.post(TRANSCRIPTS).mock(return_value=in_pieces(told, content_type="text/event-stream"))
    _, blocks = await read(client, recording(stream="true"))
    assert b"".join(block.raw for block in blocks) == told


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (events(*HELLO[:2]), "stream_read_error"),
        (events(HELLO[0], {"type": "error", "error": {"message": "x", "code": "rate_limit_exceeded"}}), "rate_limit"),
        (b'event: error\ndata: {"message": "x", "code": "server_error"}\n\n', "server_error"),
        (events({"type": "error", "code": "server_error", "message": "x"}), "server_error"),
        (b"", "stream_read_error"),
    ],
)
@pytest.mark.parametrize("committed", [False, True])
async def test_transcript__events_that_fail(provider, client, told, code, committed):
    """A stream that breaks, or tells of an error, is a failure, before the commit and after it."""
    provider.post(TRANSCRIPTS).mock(return_value=in_pieces(told, content_type="text/event-stream"))
    with pytest.raises(ClientError) as caught:
        async with client.stream(recording(stream="true")) as stream:
            if committed:
                stream.commit()
            while await stream.read() is not None:
                pass
    assert caught.value.code == code


async def test_transcript__whole_answer_to_a_stream(provider, client):
    """A server that cannot stream a transcript has not done what was asked."""
    provider.post(TRANSCRIPTS).respond(json={"text": "Hello."})
    assert (await failure(read(client, recording(stream="true")))).code == "invalid_response"


async def test_transcript__dropped(provider, client):
    """A field that the provider cannot do is left out, and told."""
    route = provider.post(TRANSCRIPTS).respond(json={"text": "Hello."})
    response = await client.send(recording(drop=("temperature", "seed")))
    assert response.dropped == ("temperature",)
    assert b"temperature" not in route.calls[0].request.content


# -- what cannot be sent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "stream", "code"),
    [
        (Request("m", {"file": "x"}, "audio/transcriptions"), False, "bad_request"),
        (Request("m", b"nonsense", "audio/speech"), False, "bad_request"),
        (Request("m", recording().body, "audio/speech"), False, "bad_request"),
        (recording(stream="true"), False, "unsupported_parameter"),
        (recording(), True, "unsupported_parameter"),
        (speech(stream_format="sse"), False, "unsupported_parameter"),
    ],
)
async def test_refused(provider, client, request_, stream, code):
    """A body of the wrong type, and a call that could not be answered as asked, are not sent."""
    error = await failure(read(client, request_) if stream else client.send(request_))
    assert (error.code, error.scope) == (code, "request")
    assert not provider.calls
