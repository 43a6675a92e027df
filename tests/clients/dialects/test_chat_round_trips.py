"""OpenAI's chat completions: what is written and read back is what it was, and OpenAI's own types take all of it.

A caller may be told more than OpenAI tells: what others have added is written too.
"""

from dataclasses import replace
from itertools import pairwise

import orjson
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter

from standby.clients._sse import data_in
from standby.clients.dialects import ANSWERS, FEATURES, Reasoning
from standby.clients.dialects._chat import CHAT
from standby.clients.dialects._chat_body import body_of
from tests.clients.canonical import assembled
from tests.clients.conversations import answers, conversations, deltas_of

PLAIN = TypeAdapter(CompletionCreateParamsNonStreaming)
STREAMED = TypeAdapter(CompletionCreateParamsStreaming)
EVERYTHING = {feature.name for feature in FEATURES} - {"tool_errors"}
TOLD = {**dict.fromkeys(ANSWERS, ""), "n": ""}
FINISHES = ("stop", "length", "content_filter", "refusal", "pause")

ASKED = CHAT.conversation({"messages": [{"role": "user", "content": "Hello!"}]})

told = answers(TOLD, finishes=FINISHES, signed_calls=True)
reasonings = st.builds(Reasoning, st.just("") | st.just("low"), st.integers(1, 9), st.none() | st.booleans())


def written(deltas, asked):
    writer = CHAT.writer(asked)
    return b"".join(map(writer.write, deltas)) + writer.end()


def read(raw, cuts):
    frames, reader = CHAT.frames(), CHAT.reader()
    places = [0, *sorted(cuts), len(raw)]
    events = [event for start, end in pairwise(places) for event in frames.feed(raw[start:end])]
    deltas = [delta for event in events for delta in reader.read(event)]
    assert (frames.rest(), reader.done) == ([], True)
    return deltas


def chunks(raw):
    *events, end = data_in(raw)
    assert end == b"[DONE]"
    return map(orjson.loads, events)


@given(conversations(CHAT.supports), st.booleans())
def test_request(conversation, stream):
    """A request as OpenAI has it."""
    data = orjson.loads(CHAT.written(conversation, "gpt-4o", stream=stream))
    (STREAMED if stream else PLAIN).validate_python(data)
    assert data["model"] == "gpt-4o"
    assert CHAT.conversation(data) == replace(conversation, include_usage=stream)


@given(conversations(EVERYTHING, reasoning=reasonings, signed_calls=True))
def test_request__with_what_others_added(conversation):
    """A request in which thoughts, marks and whatever else OpenAI has no place for are as others have them."""
    assert CHAT.conversation(body_of(conversation, "m", stream=False)) == conversation


@given(answers(CHAT.supports))
def test_answer(answer):
    """A whole answer as OpenAI has it."""
    data = orjson.loads(orjson.dumps(CHAT.answered(answer, ASKED)))
    ChatCompletion.model_validate(data)
    assert CHAT.read(data) == answer


@given(told)
def test_answer__with_what_others_added(answer):
    """A whole answer of another vendor: thoughts, signatures, stop sequences and the other ends are told too."""
    data = orjson.loads(orjson.dumps(CHAT.answered(answer, ASKED)))
    ChatCompletion.model_validate(data)
    assert CHAT.read(data) == answer


@given(told.flatmap(lambda answer: st.tuples(st.just(answer), deltas_of(answer))), st.booleans(), st.data())
def test_stream(answer_and_deltas, include_usage, data):
    """A stream assembles to the same answer, wherever its bytes are cut and whatever of it is said when."""
    answer, deltas = answer_and_deltas
    asked = replace(ASKED, include_usage=include_usage, logprobs=0)
    raw = written(deltas, asked)
    for content in chunks(raw):
        ChatCompletionChunk.model_validate(content)
    heard = read(raw, cuts=data.draw(st.lists(st.integers(1, len(raw)), max_size=3)))
    told = answer if include_usage else replace(answer, usage=None)
    assert assembled(heard) == told
