"""Streams that fail, before the commit and after it: an error is told, an event is malformed, or all is cut."""

import pytest

from standby.clients import ClientError
from tests.clients.conftest import KEY
from tests.clients.openai_streams import (
    CHOICE_ERROR,
    COUNT,
    CUT,
    DONE,
    HEL,
    LO,
    NAMED_ERROR,
    ROLE,
    STOP,
    delta,
    event,
    failure,
    failure_after,
    heard,
    opened,
)

pytestmark = pytest.mark.anyio


# -- failures that are told


ERRORS = {
    "openai": (event({"error": {"message": "It broke.", "type": "server_error", "code": None}}), "server_error"),
    "overloaded": (event({"error": {"message": "Overloaded", "code": 529}}), "overloaded"),
    "text": (event({"error": "The model is overloaded."}), "overloaded"),
    "named": (NAMED_ERROR, "server_error"),
    "named, odd": (b"event:error\n" + event({"error": {"message": "x", "type": "overloaded_error"}}), "overloaded"),
    "named text": (b"event: error\ndata: the model fell over\n\n", "invalid_response"),
    "object": (event({"object": "error", "message": "x", "type": "InternalServerError", "code": 500}), "server_error"),
    "spaced": (b'data: { "error" : {"message": "x", "type": "server_error"} }\n\n', "server_error"),
    "lines": (b'data: {"error":\ndata: {"message": "x", "type": "server_error"}}\n\n', "server_error"),
    "choice": (CHOICE_ERROR, "server_error"),
    "both": (
        event({"error": {"code": 502, "message": "x"}, "choices": [{"delta": {"content": ""}}]}),
        "server_error",
    ),
    "finish": (delta("error"), "server_error"),
    "no room": (delta("insufficient_system_resource"), "overloaded"),
    "list": (event({"error": [{"message": "x", "type": "server_error"}]}), "invalid_response"),
}


@pytest.mark.parametrize(("told", "code"), ERRORS.values(), ids=ERRORS)
async def test_error_event(told, code):
    """An error inside a success is a failure with its own code, and what comes after it is of no interest."""
    error = await failure(ROLE, told, HEL, STOP, DONE)
    assert (error.code, error.status, error.retryable) == (code, 200, True)


@pytest.mark.parametrize(("told", "code"), ERRORS.values(), ids=ERRORS)
async def test_error_event__after_content(told, code):
    """It is the same after the commit; what came before is told, and the stream does not end as if it were complete."""
    assert (await failure_after(told + DONE)).code == code
    assert (await failure_after(told, LO, STOP, DONE)).code == code


async def test_error_event__in_one_piece():
    """What was said before the error is told also where both came together."""
    told, _ = ERRORS["openai"]
    before, after, error = await heard(opened(ROLE + HEL + LO + told + DONE))
    assert (before, after, error.code) == (ROLE + HEL, LO, "server_error")


async def test_error_event__without_blank_line():
    """An error is an error also where the server leaves right after it."""
    told, _ = ERRORS["openai"]
    assert (await failure(told[:-2])).code == "server_error"
    assert (await failure_after(told[:-1])).code == "server_error"


async def test_error_event__fields():
    """The vendor's words come through, without secrets; the hint and the id from the head."""
    told = event({"error": {"message": f"Limit reached for {KEY}", "type": "requests", "code": "rate_limit_exceeded"}})
    headers = {"x-request-id": "req_1", "retry-after": "7"}
    error = await failure(told, headers=headers, scrub=lambda text: text.replace(KEY, "***"))
    assert (error.code, error.message, error.hint) == ("rate_limit", "Limit reached for ***", 7.0)
    assert (error.scope, error.request_id) == ("credential_model", "req_1")


@pytest.mark.parametrize("told", [b'"error":null', b'"error": null', b'"error":false', b'"error":{}', b'"error":""'])
async def test_error_event__none(told):
    """An error that is empty is none."""
    plain = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],' + told + b"}\n\n"
    assert await heard(opened(plain, plain, STOP)) == (plain, plain + STOP, None)


async def test_error_event__in_a_text():
    """A model may talk about errors and ends."""
    said = delta(content='{"error": {"message": "x"}} "error": "x" [DONE]\nevent: error\ndata: "finish_reason":"stop"')
    assert await heard(opened(HEL, said + said, STOP)) == (HEL, said + said + STOP, None)


# -- failures that show


@pytest.mark.parametrize(
    "data", [b"{", b'{"choices": [}', b"<html>", b"\xff\xfe", b"[]", b'"x"', b"1", b"null", b'{"choices":\ndata: [}']
)
async def test_malformed(data):
    """An event that is no JSON object is no answer."""
    error = await failure(ROLE, b"data: " + data + b"\n\n", HEL, STOP)
    assert (error.code, error.retryable, error.work) == ("invalid_response", True, "billed")


async def test_malformed__after_content():
    """After the commit nobody looks, unless the event seems to tell something."""
    odd = b"data: {half a\n\n"
    assert await heard(opened(HEL, odd, STOP)) == (HEL, odd + STOP, None)
    assert (await failure_after(b'data: {"finish_reason":"stop"\n\n')).code == "invalid_response"


@pytest.mark.parametrize(
    ("below", "code"),
    [
        (CUT, "stream_read_error"),
        (ClientError("timeout", "nothing was read", retryable=True), "stream_read_error"),
        (ClientError("client_closed", "closed", scope="local"), "client_closed"),
        (ClientError("invalid_response", "too large", retryable=True), "invalid_response"),
    ],
)
async def test_cut(below, code):
    """What breaks the connection breaks the stream; what else fails keeps its name."""
    before = await failure(ROLE, below)
    after = await failure_after(below)
    assert (before.code, after.code) == (code, code)


async def test_cut__fields():
    """The stream's own code, with the network's words and cause; the work was done, and paid for."""
    error = await failure_after(CUT, headers={"x-request-id": "req_1"})
    assert (error.status, error.retryable, error.work, error.request_id) == (200, True, "billed", "req_1")
    assert (error.message, error.__cause__) == (CUT.message, CUT)


async def test_cut__on_our_side():
    """Whose fault it is stays known."""
    error = await failure_after(ClientError("network", "no memory", retryable=True, scope="local"))
    assert (error.code, error.scope) == ("stream_read_error", "local")


@pytest.mark.parametrize("ending", [CUT, b"", LO[:-10]])
async def test_cut__again(ending):
    """Who asks a broken stream again is told again."""
    stream = opened(HEL, ending)
    for error in [(await heard(stream))[2], (await heard(stream))[2]]:
        assert error.code == "stream_read_error"


@pytest.mark.parametrize("pieces", [[STOP, CUT], [STOP, DONE, CUT], [STOP + COUNT[:20], CUT]])
async def test_cut__after_the_answer(pieces):
    """How the connection of a complete answer ends is no news."""
    before, after, error = await heard(opened(HEL, *pieces))
    assert (before, error) == (HEL, None)
    assert after.startswith(STOP)
