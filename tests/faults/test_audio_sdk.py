"""The official `openai` SDK in front of the server: speech and transcripts, from providers that fail."""

import anyio
import httpx2
import openai
import orjson
import pytest
from openai.types.audio import Transcription, TranscriptionVerbose

from standby.demo.faults import Answer, Close, FaultServer, Hang, error_answer
from tests.faults.test_openai_sdk import sdk, serving

pytestmark = pytest.mark.anyio

SOUND = b"ID3\x04\x00" + bytes(range(256)) * 40
SPOKEN = Answer(body=SOUND, headers={"content-type": "audio/mpeg"}, chunked=True)
HELLO = {"text": "Hello.", "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}


def events(*data):
    content = b"".join(b"data: " + orjson.dumps(each) + b"\n\n" for each in data)
    return Answer(body=content, headers={"content-type": "text/event-stream"})


async def speak(client, **more):
    return await client.audio.speech.create(model="chat", voice="alloy", input="Hello.", **more)


async def transcribe(client, **more):
    return await client.audio.transcriptions.create(model="chat", file=("a.mp3", SOUND), **more)


async def test_speech():
    """The sound of the second candidate, where the first is down."""
    async with sdk(error_answer(503), SPOKEN) as client:
        assert (await speak(client)).content == SOUND


async def test_speech__as_it_is_spoken():
    """The first piece is heard before the last is spoken; whoever has heard enough ends the call."""
    spoken = Hang(len(SPOKEN.head) + 500, SPOKEN)
    async with FaultServer(spoken) as provider, serving([provider.url], None, None) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-app", max_retries=0) as client:
            speech = client.audio.speech.with_streaming_response
            async with speech.create(model="chat", voice="alloy", input="Hello.") as answer:
                assert answer.headers["content-type"] == "audio/mpeg"
                async for piece in answer.iter_bytes():
                    assert SOUND.startswith(piece)
                    break
            with anyio.fail_after(30):
                await provider.until_open_connections(0)


async def test_speech__cut():
    """Speech that breaks off is not ended as if it were whole."""
    async with sdk(Close(len(SPOKEN.head) + 3000, SPOKEN)) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            async with client.audio.speech.with_streaming_response.create(
                model="chat", voice="alloy", input="Hello."
            ) as answer:
                async for _ in answer.iter_bytes():
                    pass


async def test_speech__events():
    """Speech in events."""
    told = events({"type": "speech.audio.delta", "audio": "SUQz"}, {"type": "speech.audio.done"})
    async with sdk(told) as client:
        answer = await speak(client, stream_format="sse")
    assert answer.content == told.body


async def test_transcript():
    """The text of the second candidate, where the first is down."""
    async with sdk(error_answer(500), Answer(body=HELLO)) as client:
        heard = await transcribe(client)
    assert isinstance(heard, Transcription)
    assert heard.text == "Hello."


async def test_transcript__verbose():
    """With all that the provider has to say."""
    body = {**HELLO, "language": "english", "duration": 1.5, "words": [{"word": "Hello", "start": 0.0, "end": 0.5}]}
    del body["usage"]
    async with sdk(Answer(body=body)) as client:
        heard = await transcribe(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert isinstance(heard, TranscriptionVerbose)
    assert heard.words[0].word == "Hello"


@pytest.mark.parametrize("wanted", ["text", "srt", "vtt"])
async def test_transcript__text(wanted):
    """Text and subtitles as they are."""
    async with sdk(Answer(body="Grüße\n", headers={"content-type": "text/plain; charset=utf-8"})) as client:
        assert await transcribe(client, response_format=wanted) == "Grüße\n"


async def test_transcript__events():
    """What is understood, bit by bit."""
    told = events(
        {"type": "transcript.text.delta", "delta": "Hel"},
        {"type": "transcript.text.delta", "delta": "lo."},
        {"type": "transcript.text.done", "text": "Hello."},
    )
    async with sdk(error_answer(500), told) as client:
        heard = [event async for event in await transcribe(client, stream=True)]
    assert [event.type for event in heard] == ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"]
    assert heard[-1].text == "Hello."


async def test_transcript__events_that_break():
    """A break after the first words is raised as an error of the API."""
    async with sdk(events({"type": "transcript.text.delta", "delta": "Hel"})) as client:
        with pytest.raises(openai.APIError, match="The stream broke"):
            async for _ in await transcribe(client, stream=True):
                pass


async def test_translation():
    """And what was said, in English."""
    async with sdk(Answer(body={"text": "Hello."})) as client:
        with pytest.deprecated_call():  # by OpenAI
            heard = await client.audio.translations.create(model="chat", file=("a.mp3", SOUND))
    assert heard.text == "Hello."


@pytest.mark.parametrize("call", [speak, transcribe])
@pytest.mark.parametrize(
    ("status", "raised"),
    [(500, openai.InternalServerError), (429, openai.RateLimitError), (400, openai.BadRequestError)],
)
async def test_errors_are_the_sdks_own(call, status, raised):
    """Each status becomes the exception that it would be from OpenAI."""
    async with sdk(error_answer(status)) as client:
        with pytest.raises(raised, match="run run_"):
            await call(client)
