"""What Google publishes of `generateContent`, and what we send and read: golden files, each with its page."""

import json

import orjson
import pytest
from google.genai import types

from standby.clients import _sse
from standby.clients.dialects import fitted
from standby.clients.dialects._gemini import GEMINI
from tests.clients.golden_files import golden, meant


@pytest.mark.parametrize("file", golden("gemini", "request"))
def test_request(file):
    """A conversation is written as the page has it, and nothing of it is refused."""
    conversation, dropped = fitted(meant(file["means"]), GEMINI, ())
    assert not dropped
    assert json.loads(GEMINI.written(conversation, file["model"], stream=False)) == file["request"]


@pytest.mark.parametrize("file", golden("gemini", "answer"))
def test_answer(file):
    """A whole answer means what is said of it; Google's own client reads it as well."""
    types.GenerateContentResponse.model_validate_json(json.dumps(file["answer"]))
    assert GEMINI.read(file["answer"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("gemini", "events"))
def test_stream(file):
    """And so does a stream."""
    reader = GEMINI.reader()
    read = []
    for event in file["events"]:
        types.GenerateContentResponse.model_validate_json(json.dumps(event))
        read += reader.read(_sse.Event(orjson.dumps(event), "message"))
    assert tuple(read) == meant(file["means"])
