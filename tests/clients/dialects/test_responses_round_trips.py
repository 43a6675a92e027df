"""OpenAI's Responses API: what a caller says is understood, and what it is told is what was answered."""

from dataclasses import replace

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from standby.clients.dialects import Answer, Choice, Text, dialect_of
from tests.clients.canonical import assembled, canonical
from tests.clients.conversations import answers, conversations, deltas_of
from tests.clients.dialects.responses_caller import MAY_ASK, MAY_BE_TOLD, Heard, asked, events_of, told

RESPONSES = dialect_of("responses")
ASKED = RESPONSES.conversation({"model": "m", "input": "Hello!"})
PARAMS = TypeAdapter(ResponseCreateParamsNonStreaming)

few = settings(max_examples=30, deadline=None)

said = answers(
    MAY_BE_TOLD, id_prefix="resp_", finishes=("stop", "length", "content_filter", "pause"), signed_calls=True
)


@few
@given(conversations(MAY_ASK, signed_calls=True))
def test_request(conversation):
    """What a caller asks is understood as it was meant."""
    body = asked(conversation)
    PARAMS.validate_python(body)
    understood = RESPONSES.conversation(orjson.loads(orjson.dumps(body)))
    meant = replace(conversation, include_usage=True)
    assert canonical(understood, "media_type_of_url") == canonical(meant, "media_type_of_url")


@few
@given(said)
def test_answer(answer):
    """A whole answer tells what was answered, as OpenAI's own types have it."""
    body = orjson.loads(orjson.dumps(RESPONSES.answered(answer, ASKED)))
    Response.model_validate(body)
    assert told(body) == answer


@few
@given(conversations(MAY_ASK))
def test_answer__repeats_what_was_asked(conversation):
    """What was asked is repeated in an answer, as OpenAI's own types have it."""
    answer = Answer("resp_1", "m", (Choice((Text("Hi."),), "stop"),))
    body = orjson.loads(orjson.dumps(RESPONSES.answered(answer, conversation)))
    Response.model_validate(body)
    wanted = asked(conversation)
    form = wanted.pop("text", {"format": {}})
    assert body["text"] == body["text"] | form | {"format": body["text"]["format"] | form["format"]}
    tools = [tool | {"description": tool["description"] or None} for tool in wanted.pop("tools", [])]
    assert body["tools"] == tools
    assert body["reasoning"] == {"effort": None, "summary": None} | wanted.pop("reasoning", {})
    assert body == body | {key: value for key, value in wanted.items() if key not in ("model", "input", "include")}


@few
@given(said.flatmap(lambda answer: st.tuples(st.just(answer), deltas_of(answer))))
def test_stream(answer_and_deltas):
    """A stream's events tell the same answer, piece by piece and once more as a whole."""
    answer, deltas = answer_and_deltas
    writer = RESPONSES.writer(ASKED)
    heard = Heard(events_of(b"".join(map(writer.write, deltas)) + writer.end()))
    assert assembled(heard.deltas) == answer
    assert told(heard.response) == answer
    assert heard.response == orjson.loads(orjson.dumps(RESPONSES.answered(answer, ASKED)))


@few
@given(said)
def test_what_is_sent_back(answer):
    """The output of an answer, sent back as input, is the turn that it was: thoughts with their signatures too."""
    body = orjson.loads(orjson.dumps(RESPONSES.answered(answer, ASKED)))
    turn = RESPONSES.conversation({"model": "m", "input": body["output"]}).messages
    assert [(message.role, message.parts) for message in turn] == [("assistant", answer.choices[0].parts)]
