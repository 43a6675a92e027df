"""The body goes out as it came in, but for the model's name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import Body, InvalidBody

ODD_TEXTS = ['"model": "x"', '\\"model\\":\\"x\\"', "\\", '"', "model", 'a"model":"b', "\u2028", "\x7f", "é", "😀"]
texts = st.text(max_size=8) | st.sampled_from(ODD_TEXTS)
keys = texts | st.just("model")
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=5)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(objects, layouts, texts)
def test_with_model__bytes(value, layout, model):
    """Of the bytes of any object, nothing changes but the model."""
    content = json.dumps(value, **layout).encode()
    assert json.loads(Body(content).with_model(model)) == {**value, "model": model}


@given(objects, texts)
def test_with_model__mapping(value, model):
    """The same of a mapping."""
    assert json.loads(Body(value).with_model(model)) == {**value, "model": model}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"model":"a","n":1}', b'{"model":"b","n":1}'),
        (b'{ "n" : 1.50e+1,\n\t"model" :  "a" }', b'{ "n" : 1.50e+1,\n\t"model" :  "b" }'),
        (
            b'{"seed":123456789012345678901234567890,"model":"a"}',
            b'{"seed":123456789012345678901234567890,"model":"b"}',
        ),
        (b'{"model":"a\\"b","x":"\\"model\\":\\"c\\""}', b'{"model":"b","x":"\\"model\\":\\"c\\""}'),
        (b'{"x":"\xc3\xa9\xf0\x9f\x98\x80","model":"a"}', b'{"x":"\xc3\xa9\xf0\x9f\x98\x80","model":"b"}'),
        (b'{"x":1,"x":2,"model":"a"}', b'{"x":1,"x":2,"model":"b"}'),
        (
            b'{"t":[{"model":"a"}],"n":123456789012345678901234567890,"model": "a"}',
            b'{"t":[{"model":"a"}],"n":123456789012345678901234567890,"model": "b"}',
        ),
        (b'{"\\u006dodel":"a","x":"\\u00e9"}', b'{"\\u006dodel":"b","x":"\\u00e9"}'),
        (b'{"model":"x","model":"a"}', b'{"model":"b","model":"b"}'),
    ],
)
def test_with_model__untouched(content, expected):
    """Number formats, white space, big integers, escapes, repeated keys: every other byte stays as it is."""
    assert Body(content).with_model("b") == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"n":1}', {"n": 1, "model": "b"}),
        (b'{"model":null}', {"model": "b"}),
        (b'{"model":["a"]}', {"model": "b"}),
        (b'{"tool":{"model":"a"}}', {"tool": {"model": "a"}, "model": "b"}),
        (b'{"tool":{"model":"a"},"model":"a"}', {"tool": {"model": "a"}, "model": "b"}),
        (b'{"\\u006dodel":"a"}', {"model": "b"}),
    ],
)
def test_with_model__hard_to_find(content, expected):
    """Where the name is missing, is no text, is nested too, or its key is escaped, the outer one is set all the same."""
    assert json.loads(Body(content).with_model("b")) == expected


def test_with_model__quoted():
    """The provider's name of the model is written as JSON."""
    assert Body(b'{"model":"a"}').with_model('b"\\') == b'{"model":"b\\"\\\\"}'


def test_of__body():
    """A body is taken as it is: all tries of a run share what was found in it; all else is made into one."""
    body = Body(b'{"model":"a"}')
    assert Body.of(body) is body
    assert Body.of(b'{"model":"a"}').data == Body.of({"model": "a"}).data == {"model": "a"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"1", b"true", b'{"a":NaN}', b'{"a":"\xff"}'])
def test_body__invalid(content):
    """Bytes that are not a JSON object are refused where they come in."""
    with pytest.raises(InvalidBody):
        Body(content)
