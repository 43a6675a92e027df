"""Bedrock's Converse: what is written and read back is what it was, and AWS's own tools write and read the same."""

import base64
import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import orjson
from botocore import model, parsers, serialize, validate
from botocore.eventstream import EventStream
from botocore.loaders import Loader
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.clients.dialects import Reasoning, fitted
from standby.clients.dialects._converse import CONVERSE
from tests.clients.canonical import assembled, canonical
from tests.clients.conversations import answers, conversations, names
from tests.vendors import bedrock

FORGETS = ("developer", "refusal", "file_name", "schema_strict")
"""The system speaks for the developer, a refusal is a text, a name is changed, a schema is always kept to."""

SERVICE = model.ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")
few = settings(max_examples=50)
BLOBS = {"bytes", "redactedContent"}


def can_be_said(conversation):
    """Without what has a test of its own: no tools, though there are some, and recordings in the results of tools."""
    choice = conversation.tool_choice
    return (choice is None or choice.kind != "none") and "audio" not in CONVERSE.lacks(conversation)


texts = st.text(alphabet="ab 1:/@", max_size=6)
efforts = st.sampled_from(["low", "medium", "high", "xhigh", "max"])
shown = st.none() | st.booleans()
reasonings = (
    st.just(Reasoning("none"))
    | st.builds(Reasoning, st.just("") | efforts, st.integers(1024, 9999), shown)
    | st.builds(Reasoning, st.just("") | efforts, st.none(), shown)
)
asked = conversations(
    CONVERSE.supports,
    media_in_results=True,
    reasoning=reasonings,
    metadata=st.dictionaries(names, texts, min_size=1, max_size=2),
    service_tier=st.sampled_from(["default", "flex", "priority", "reserved"]),
).filter(can_be_said)
told = answers(CONVERSE.supports, finishes=("stop", "length", "content_filter"))


def written(conversation):
    conversation, dropped = fitted(conversation, CONVERSE, ())
    assert dropped == ()
    return orjson.loads(CONVERSE.written(conversation, "m", stream=False))


def operation(name):
    return SERVICE.operation_model(name)


def of_botocore(value):
    """The JSON of a request as botocore's callers have it: bytes where JSON has base64."""
    if isinstance(value, list):
        return [of_botocore(each) for each in value]
    if isinstance(value, dict):
        return {
            key: base64.b64decode(each, validate=True) if key in BLOBS and isinstance(each, str) else of_botocore(each)
            for key, each in value.items()
        }
    return value


def read(raw, cuts):
    frames, reader = CONVERSE.frames(), CONVERSE.reader()
    places = [0, *sorted(cuts), len(raw)]
    events = [event for start, end in pairwise(places) for event in frames.feed(raw[start:end])]
    deltas = [delta for event in events for delta in reader.read(event)]
    assert (list(frames.rest()), reader.done) == ([], True)
    return deltas


@few
@given(asked)
def test_request(conversation):
    """Amazon's side reads what was asked."""
    body = written(conversation)
    assert canonical(bedrock.conversation_of(body), *FORGETS) == canonical(conversation, *FORGETS)


@few
@given(st.sampled_from(["Converse", "ConverseStream"]), asked)
def test_request__as_aws_writes_it(name, conversation):
    """Botocore takes the same request, finds no fault with it, and writes the same body."""
    body = written(conversation)
    shape = operation(name).input_shape
    params = {"modelId": "m", **of_botocore(body)}
    report = validate.ParamValidator().validate(params, shape)
    assert not report.has_errors(), report.generate_report()
    theirs = serialize.create_serializer("rest-json").serialize_to_request(params, operation(name))
    assert json.loads(theirs["body"]) == body
    assert theirs["url_path"] == f"/model/m/converse{'-stream' if name == 'ConverseStream' else ''}"


@few
@given(told)
def test_answer(answer):
    """A whole answer tells what Amazon's side told. It has no id, names no model and says no time."""
    answer = replace(answer, model="", created=0)
    assert canonical(CONVERSE.read(bedrock.body_of(answer)), "whose_signature") == canonical(answer)


@few
@given(told)
def test_answer__as_aws_reads_it(answer):
    """What our fake answers botocore reads as an answer, all of it."""
    body = bedrock.body_of(answer)
    response = {"status_code": 200, "headers": {}, "body": json.dumps(body).encode()}
    theirs = parsers.create_parser("rest-json").parse(response, operation("Converse").output_shape)
    del theirs["ResponseMetadata"]
    assert theirs == of_botocore(body)


@few
@given(told, st.data())
def test_stream(answer, data):
    """And so does a stream, cut into pieces anyhow."""
    answer = replace(answer, model="", created=0)
    raw = bedrock.stream_of(answer)
    cuts = data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6))
    assert canonical(assembled(read(raw, cuts)), "whose_signature") == canonical(answer)


@few
@given(told)
def test_stream__as_aws_reads_it(answer):
    """What our fake streams botocore reads as a stream: its sums are right, and each of its events is known."""
    raw = SimpleNamespace(stream=lambda: [bedrock.stream_of(answer)], close=lambda: None)
    shape = operation("ConverseStream").output_shape.members["stream"]
    theirs = EventStream(raw, shape, parsers.create_parser("rest-json")._event_stream_parser, "ConverseStream")
    assert list(theirs) == [{kind: of_botocore(said)} for kind, said in bedrock.events_of(answer)]
