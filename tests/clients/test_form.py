"""The body of a call that brings a file."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import Body, Form, InvalidBody
from standby.clients._form import parts_of
from standby.runner._run import estimated_tokens


def form_of(fields, files=None):
    """A form, written by httpx."""
    sent = httpx.Request("POST", "http://provider.test/", data=fields, files=files or {"file": ("a.mp3", b"\x00sound")})
    return sent.read(), sent.headers["content-type"]


def read_back(content, content_type):
    """Its fields and files, by Starlette's way of reading one."""
    import anyio
    from starlette.requests import Request

    async def receive():
        return {"type": "http.request", "body": content}

    async def read():
        scope = {"type": "http", "headers": [(b"content-type", content_type.encode())]}
        async with Request(scope, receive).form() as form:
            return [
                (name, value if isinstance(value, str) else await value.read()) for name, value in form.multi_items()
            ]

    return anyio.run(read)


def test_fields():
    """The fields that are no files are its data; whether to stream is a boolean, as in JSON."""
    form = Form(*form_of({"model": "whisper", "language": "de", "stream": "true", "prompt": "Grüße\r\n--"}))
    assert form.data == {"model": "whisper", "language": "de", "stream": True, "prompt": "Grüße\r\n--"}
    assert Body.of(form) is form


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "m", "größer"])
def test_with_model(model):
    """The model's name is replaced where it stands, and nothing else changes."""
    content, content_type = form_of({"temperature": "0", "model": "whisper", "prompt": "whisper"})
    sent = Form(content, content_type).with_model(model)
    assert sent == content.replace(b'name="model"\r\n\r\nwhisper', b'name="model"\r\n\r\n' + model.encode())
    assert Form(sent, content_type).data["model"] == model


def test_with_model__repeated():
    """A model that is named twice is replaced twice: whichever the provider heeds."""
    content, content_type = form_of({"model": ["a", "b"]})
    assert read_back(Form(content, content_type).with_model("c"), content_type)[:2] == [("model", "c"), ("model", "c")]


def test_with_model__a_file():
    """A file that is called as the field is no name of a model."""
    content, content_type = form_of({}, {"model": ("model", b"weights")})
    with pytest.raises(InvalidBody, match="no field `model`"):
        Form(content, content_type).with_model("m")


def test_without():
    """Fields are left out by their name, each with all that is its own; files stay."""
    content, content_type = form_of({"a": "1", "model": "m", "b[]": ["2", "3"], "file": "4"})
    left = Form(content, content_type).without(["a", "b[]", "file", "c"])
    assert read_back(left.encoded(), content_type) == [("model", "m"), ("file", b"\x00sound")]
    assert left.data == {"model": "m"}


def test_parts():
    """The parts are known by what they are: name, file, type, value."""
    content, content_type = form_of({"model": "m", "empty": ""}, {"file": ("ä.mp3", b"sound", "audio/mpeg")})
    assert [(*part[:3], content[part.value]) for part in parts_of(content, content_type)] == [
        ("model", None, "", b"m"),
        ("empty", None, "", b""),
        ("file", "ä.mp3", "audio/mpeg", b"sound"),
    ]


def test_tokens():
    """What is no JSON counts for no tokens before the provider has counted."""
    assert estimated_tokens(Form(*form_of({"model": "m"}, {"file": ("a.mp3", bytes(10_000))}))) == 0


texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    fields=st.dictionaries(st.text("abcdefg[]_", min_size=1, max_size=8), texts, max_size=5),
    sound=st.one_of(st.binary(max_size=300), st.sampled_from([b"\r\n--", b"\r\n\r\n--x", b"--\r\n"])),
    model=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)
def test_any_form(fields, sound, model):
    """Whatever is in it, what is sent is the same form with another name of the model."""
    content, content_type = form_of({**fields, "model": "x"}, {"file": ("a.mp3", sound)})
    form = Form(content, content_type)
    assert form.data == {**fields, "model": "x"}
    sent = form.with_model(model)
    assert read_back(sent, content_type) == [*fields.items(), ("model", model), ("file", sound)]


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("multipart/form-data", "no multipart/form-data with a boundary"),
        ("application/json; boundary=x", "no multipart/form-data with a boundary"),
        ("", "no multipart/form-data with a boundary"),
        ("multipart/form-data; boundary=other", "not a form"),
        (f"multipart/form-data; boundary={'x' * 300}", "not a form"),
    ],
)
def test_not_a_form__type(content_type, message):
    """A type that says where the fields begin is needed."""
    with pytest.raises(InvalidBody, match=message):
        Form(form_of({"model": "m"})[0], content_type)


def test_not_a_form__cut():
    """A form that is cut is told from one that is whole, wherever it is cut."""
    content, content_type = form_of({"model": "m"})
    for size in range(len(content) - 4):
        with pytest.raises(InvalidBody):
            Form(content[:size], content_type)


@pytest.mark.parametrize("head", [b"", b"content-disposition: form-data\r\n", b"x: y\r\n", b": y\r\n", b"\xff: y\r\n"])
def test_not_a_form__head(head):
    """A part without a name is none of a form."""
    with pytest.raises(InvalidBody, match="not a form"):
        Form(b"--x\r\n" + head + b"\r\nvalue\r\n--x--\r\n", "multipart/form-data; boundary=x")


def test_not_a_form__too_many_fields():
    """A form with more fields than any call has is not read to its end."""
    content, content_type = form_of({"model": "m", "x": ["1"] * 1000})
    with pytest.raises(InvalidBody, match="more than 1000 fields"):
        Form(content, content_type)
