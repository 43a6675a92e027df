"""Streams of Bedrock's Converse: binary events, found however they are cut, and each of them checked."""

from itertools import pairwise

import orjson
import pytest

from standby.clients._sse import Event
from standby.clients.dialects import Begun, Counted, Finished, NotAnAnswer, TextDelta
from standby.clients.dialects._converse import CONVERSE
from standby.clients.dialects._converse_stream import EventStreamFrames
from tests.vendors.bedrock import event, exception, frame

HI = event("contentBlockDelta", {"delta": {"text": "Hi."}, "contentBlockIndex": 0})


def events(raw, *cuts, frames=None):
    """The events of a stream, and how it broke if it did."""
    frames = frames or CONVERSE.frames()
    found = []
    try:
        for start, end in pairwise([0, *cuts, len(raw)]):
            found.extend(frames.feed(raw[start:end]))
    except NotAnAnswer as error:
        return found, str(error)
    return found, ""


def read(*said):
    reader = CONVERSE.reader()
    return [delta for kind, data in said for delta in reader.read(Event(orjson.dumps(data), kind))]


def test_frames__cut_anywhere():
    """However an event is cut, it is one."""
    whole, _ = events(HI)
    assert [each.type for each in whole] == ["contentBlockDelta"]
    for cut in range(1, len(HI)):
        assert events(HI, cut) == (whole, "")


@pytest.mark.parametrize("place", [3, 10, 30, -20, -1])
def test_frames__broken(place):
    """An event in which a byte is wrong is told of, and what came before it is not lost."""
    broken = bytearray(HI)
    broken[place] ^= 1
    found, message = events(HI + broken + HI)
    assert [each.type for each in found] == ["contentBlockDelta"]
    assert message.startswith("the stream has a broken event: Checksum mismatch")


@pytest.mark.parametrize("raw", [b"data: {}\n\n" * 3, b"\0" * 64, frame({}, b"{}")[:-4] + b"\0" * 4])
def test_frames__of_something_else(raw):
    """What is no such stream is told of."""
    assert events(raw)[1].startswith("the stream has a broken event")


def test_frames__header_of_an_unknown_kind():
    """A header that cannot be read breaks its event, whatever botocore raises."""
    raw = frame({"a": "b"}, b"{}").replace(b"\x01a\x07", b"\x01a\x63")
    assert events(raw)[1].startswith("the stream has a broken event")


def test_frames__bound():
    """An event that is larger than is allowed is refused before it is whole; many small ones are not."""
    frames = EventStreamFrames(max_event_bytes=len(HI) + 10)
    assert len(events(HI * 50, len(HI) * 25, frames=frames)[0]) == 50
    found, message = events(event("metadata", {"x": "y" * 500}), len(HI) + 20, frames=frames)
    assert (found, message) == ([], f"an event is larger than {len(HI) + 10} bytes")


def test_frames__cut_short():
    """An event whose end did not come is none."""
    frames = CONVERSE.frames()
    assert list(frames.feed(HI[:-1])) == []
    assert list(frames.rest()) == []


def test_frames__exception():
    """An exception is an event of the type error, with the exception's name in it."""
    found, _ = events(exception("throttlingException", "Too many tokens."))
    assert [(each.type, orjson.loads(each.data)) for each in found] == [
        ("error", {"error": {"message": "Too many tokens.", "type": "throttlingException"}})
    ]


def test_frames__error():
    """So is an error that is no exception of the service; one whose words are no JSON is quoted."""
    raw = frame({":message-type": "error", ":error-code": "InternalFailure", ":error-message": "Oh."}, b"")
    raw += frame({":message-type": "exception", ":exception-type": "x"}, b"<html>")
    assert [orjson.loads(each.data)["error"] for each in events(raw)[0]] == [
        {"message": "Oh.", "type": "InternalFailure"},
        {"message": "<html>", "type": "x"},
    ]


def test_reader():
    """A stream begins, says, ends and counts; what is of a kind not known yet says nothing."""
    reader = CONVERSE.reader()
    said = [
        ("messageStart", {"role": "assistant", "p": "abc"}),
        ("somethingNew", {"x": 1}),
        ("contentBlockDelta", {"delta": {"text": "Hi."}, "contentBlockIndex": 0}),
        ("contentBlockDelta", {"delta": {"citation": {"title": "A book"}}, "contentBlockIndex": 0}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
    deltas = [delta for kind, data in said for delta in reader.read(Event(orjson.dumps(data), kind))]
    assert deltas == [Begun("", ""), TextDelta("Hi."), Finished("stop")]
    assert not reader.done
    counted = Event(orjson.dumps({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}), "metadata")
    (last,) = reader.read(counted)
    assert isinstance(last, Counted)
    assert (last.usage.input_tokens, last.usage.output_tokens, reader.done) == (3, 4, True)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("messageStop", {"stopReason": "malformed_tool_use"}, "malformed_tool_use"),
        ("messageStop", {}, "stopReason is no text"),
        ("contentBlockDelta", {"delta": {"toolUse": {"input": "{"}}, "contentBlockIndex": 1}, "did not begin"),
        ("contentBlockDelta", {"delta": {"image": {}}}, "unknown kind: image"),
        ("contentBlockDelta", {}, "delta is no object"),
        ("contentBlockStart", {"start": {"image": {"format": "png"}}}, "unknown kind: image"),
        ("contentBlockDelta", [], "an event is no object"),
    ],
)
def test_reader__malformed(kind, data, message):
    """What is not of Converse is no answer."""
    with pytest.raises(NotAnAnswer, match=message):
        read((kind, data))


def test_reader__no_json():
    """Nor is what is no JSON."""
    with pytest.raises(NotAnAnswer, match="no JSON"):
        list(CONVERSE.reader().read(Event(b"<html>", "messageStart")))
