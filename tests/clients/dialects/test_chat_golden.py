"""OpenAI's chat completions as its reference has them, and what other servers have made of them: golden files."""

import json

import orjson
import pytest

from standby.clients._sse import Event
from standby.clients.dialects import fitted
from standby.clients.dialects._chat import CHAT
from tests.clients.golden_files import golden, meant


@pytest.mark.parametrize("file", [*golden("chat", "request"), *golden("chat", "read")])
def test_read(file):
    """What a request means."""
    assert CHAT.conversation(file.get("request") or file["read"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("chat", "request"))
def test_written(file):
    """And how that is written: as the page has it, with nothing refused and nothing left out."""
    conversation, dropped = fitted(meant(file["means"]), CHAT, ())
    assert not dropped
    assert json.loads(CHAT.written(conversation, "gpt-5.4", stream=False)) == file["request"]


@pytest.mark.parametrize("file", golden("chat", "answer"))
def test_answer(file):
    """What a whole answer means."""
    assert CHAT.read(file["answer"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("chat", "events"))
def test_stream(file):
    """What a stream means, event by event."""
    reader = CHAT.reader()
    events = [Event(orjson.dumps(event), "message") for event in file["events"]]
    assert tuple(delta for event in events for delta in reader.read(event)) == meant(file["means"])
    assert list(reader.read(Event(b"[DONE]", "message"))) == []
    assert reader.done
