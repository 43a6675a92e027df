"""OpenAI's Responses API, as its reference has it."""

import orjson
import pytest

from standby.clients.dialects import dialect_of
from tests.clients.dialects.responses_caller import events_of
from tests.clients.golden_files import golden, meant

RESPONSES = dialect_of("responses")
ASKED = RESPONSES.conversation({"model": "m", "input": "Hello!"})


def as_json(value):
    return orjson.loads(orjson.dumps(value))


@pytest.mark.parametrize("file", golden("responses", "request"))
def test_request(file):
    """A request of the reference."""
    assert RESPONSES.conversation(file["request"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("responses", "answer"))
def test_answer(file):
    """A whole answer of the reference; ours may have more in it."""
    written = as_json(RESPONSES.answered(meant(file["means"]), ASKED))
    assert written == written | file["answer"]


@pytest.mark.parametrize("file", golden("responses", "events"))
def test_stream(file):
    """The events of the reference, one by one; the answers in ours may have more in them."""
    writer = RESPONSES.writer(ASKED)
    written = events_of(b"".join(map(writer.write, meant(file["means"]))) + writer.end())
    for event, published in zip(written, file["events"], strict=True):
        if "response" in event:
            event["response"] = {key: event["response"][key] for key in published["response"]}
        assert event == published
