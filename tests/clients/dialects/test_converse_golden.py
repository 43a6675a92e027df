"""What Amazon publishes of Converse, and what we send and read: golden files, each with its page."""

import json

import orjson
import pytest
from botocore import model, validate
from botocore.loaders import Loader

from standby.clients._sse import Event
from standby.clients.dialects import fitted
from standby.clients.dialects._converse import CONVERSE
from tests.clients.golden_files import golden, meant

SERVICE = model.ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")
EVENTS = SERVICE.operation_model("ConverseStream").output_shape.members["stream"]


def known(value, shape):
    """Whether Amazon's description of the service has all of it."""
    report = validate.ParamValidator().validate(value, shape)
    return report.generate_report() or "known"


@pytest.mark.parametrize("file", golden("bedrock", "request"))
def test_request(file):
    """A conversation is written as the page has it, and nothing of it is refused."""
    conversation, dropped = fitted(meant(file["means"]), CONVERSE, ())
    assert not dropped
    assert json.loads(CONVERSE.written(conversation, "m", stream=False)) == file["request"]


@pytest.mark.parametrize("file", golden("bedrock", "answer"))
def test_answer(file):
    """A whole answer means what is said of it."""
    shape = SERVICE.operation_model("Converse").output_shape
    assert known(file["answer"], shape) == "known"
    assert CONVERSE.read(file["answer"]) == meant(file["means"])


@pytest.mark.parametrize("file", golden("bedrock", "events"))
def test_stream(file):
    """And so does a stream."""
    reader = CONVERSE.reader()
    read = []
    for event in file["events"]:
        ((kind, said),) = event.items()
        assert known(said, EVENTS.members[kind]) == "known"
        read += reader.read(Event(orjson.dumps(said), kind))
    assert tuple(read) == meant(file["means"])
    assert reader.done
