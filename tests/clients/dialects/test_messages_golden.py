"""What Anthropic publishes of its Messages, and what we send and read: golden files, each with its page."""

import json

import orjson
import pytest
from anthropic.types import Message as SdkMessage

from standby.clients import _sse
from standby.clients.dialects import fitted
from standby.clients.dialects._messages import MESSAGES, messages_for
from tests.clients.golden_files import golden, meant


@pytest.mark.parametrize("file", golden("messages", "request"))
def test_request(file):
    """A conversation is written as the page has it, and nothing of it is refused."""
    conversation, dropped = fitted(meant(file["means"]), messages_for(file["model"]), ())
    assert not dropped
    assert json.loads(MESSAGES.written(conversation, file["model"], stream=False)) == file["request"]


@pytest.mark.parametrize("file", [*golden("messages", "request"), *golden("messages", "asked")])
def test_request__of_a_caller(file):
    """What a caller says is read as it is meant; what no other vendor has is kept under its own name."""
    assert MESSAGES.conversation(file.get("request") or file["asked"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("messages", "answer"))
def test_answer(file):
    """A whole answer means what is said of it; Anthropic's own client reads it as well."""
    SdkMessage.model_validate_json(json.dumps(file["answer"]))
    assert MESSAGES.read(file["answer"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("messages", "events"))
def test_stream(file):
    """And so does a stream, to its end."""
    reader = MESSAGES.reader()
    read = [delta for event in file["events"] for delta in reader.read(_sse.Event(orjson.dumps(event), event["type"]))]
    assert tuple(read) == meant(file["means"])
    assert reader.done
