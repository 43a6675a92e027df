"""Server-sent events, however the bytes are cut."""

from itertools import pairwise

import httpx_sse._decoders as reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients._sse import Event, EventDecoder, EventTooLarge, data_in, event_of, events_in


def decoded(*parts, **options):
    decoder = EventDecoder(**options)
    return [(event.type, event.data) for part in parts for event in events_in(decoder.feed(part))]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [("message", b"a")]),
        (b"data:a\n\n", [("message", b"a")]),
        (b"data:  a\n\n", [("message", b" a")]),
        (b"data: a\r\n\r\n", [("message", b"a")]),
        (b"data: a\r\r", [("message", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
        (b": a comment\n\ndata: a\n\n", [("message", b"a")]),
        (b": a comment\ndata: a\n\n", [("message", b"a")]),
        (b"data: a\ndata: b\n\n", [("message", b"a\nb")]),
        (b"data\n\n", [("message", b"")]),
        (b"event: error\ndata: a\n\n", [("error", b"a")]),
        (b"event: error\n\n", []),
        (b"id: 1\nretry: 5\ndata: a\n\n", [("message", b"a")]),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a\n", []),
        (b"dat", []),
    ],
)
def test_the_standards_forms(stream, events):
    """Line ends, spaces, comments, several lines of data, other fields, and what is not complete."""
    assert decoded(stream) == events
    assert decoded(*(stream[place : place + 1] for place in range(len(stream)))) == events


def test_an_event_is_there_as_soon_as_its_blank_line_is():
    """Nothing waits for the next read, whatever ends the lines."""
    for ending in (b"\n", b"\r", b"\r\n"):
        decoder = EventDecoder()
        assert decoder.feed(b"data: a" + ending) == b""
        assert decoder.feed(ending) == b"data: a\n\n"


def test_an_event_without_end_is_refused():
    """Memory is bounded."""
    decoder = EventDecoder(max_event_bytes=10)
    with pytest.raises(EventTooLarge, match="larger than 10 bytes"):
        decoder.feed(b"data: 0123456789")


def test_an_event_that_is_too_large_is_refused_with_its_end_as_well():
    """However it comes; what came whole before it is not lost."""
    for stream in (b"data: a\n\ndata: 0123456789\n\n", b"data: a\n\ndata: 0123456789"):
        with pytest.raises(EventTooLarge) as caught:
            EventDecoder(max_event_bytes=10).feed(stream)
        assert caught.value.before == b"data: a\n\n"
        with pytest.raises(EventTooLarge):
            decoded(*(stream[place : place + 1] for place in range(len(stream))), max_event_bytes=10)


def test_an_event_may_be_as_large_as_is_allowed():
    """And no larger."""
    assert decoded(b"data: 0123\n\n", max_event_bytes=11) == [("message", b"0123")]
    assert decoded(b"data: 0123\n", b"\n", max_event_bytes=11) == [("message", b"0123")]


def test_many_small_events_are_not_one_large_one():
    """The bound is on an event, not on a read."""
    assert len(decoded(b"data: a\n\n" * 100, max_event_bytes=10)) == 100


def test_a_character_that_is_cut_in_two_is_whole_again():
    """Bytes are put together before anybody decodes them."""
    stream = "data: é€😀\n\n".encode()
    for place in range(len(stream)):
        assert decoded(stream[:place], stream[place:]) == [("message", "é€😀".encode())]


pieces = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data",
        b"data:",
        b"data: ",
        b":",
        b"event: x",
        b"id: 1",
        b"a",
        b" ",
        "é".encode(),
    ]
)


@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_cut_anywhere_mean_what_another_decoder_says(stream, cuts):
    """The same events as `httpx-sse` finds, but for events without data: it tells of them, the standard does not."""
    stream = b"data: first\n\n" + stream + b"\n\n"
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    parts = [stream[start:end] for start, end in pairwise(places)]
    found = [event for event in decoded(*parts) if event[1]]
    assert found == [(event.event, event.data.encode()) for event in told_by_reference(stream) if event.data]


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_the_short_ways_find_the_same(stream):
    """The data alone, and one event alone."""
    block = EventDecoder().feed(b"data: first\n\n" + stream + b"\n\ndata: last\n\n")
    assert data_in(block) == [event.data for event in events_in(block)]
    for raw in block.split(b"\n\n"):
        assert event_of(raw + b"\n\n") == next(events_in(raw), Event(b"", ""))


@pytest.mark.parametrize(
    "block", [b"", b"\n\n", b": x\n\n", b"data: a\n\n", b"data:a\n\n", b"data: a\n\n" * 3, b"data: \n\n"]
)
def test_the_data_of_a_block(block):
    """Whether it is simple or not."""
    assert data_in(block) == [event.data for event in events_in(block)]


def told_by_reference(stream):
    decoder = reference.SSEDecoder()
    text = stream.decode().replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        event = decoder.decode(line)
        if event is not None and event.data is not None:
            yield event
