"""The contract of client errors, row by row: what a failed call is called, and what follows from it."""

import httpx
import pytest

from standby.clients import ClientError, Request

pytestmark = pytest.mark.anyio

REQUEST = Request(model="gpt", body=b'{"model":"m","messages":[]}')


async def failure(client, request=REQUEST):
    with pytest.raises(ClientError) as caught:
        await client.send(request)
    return caught.value


def facts(error):
    return error.code, error.status, error.retryable, error.work, error.scope


def error_object(message="", code=None, kind=None):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat(message, finish_reason="stop"):
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


@pytest.mark.parametrize(
    ("error", "code", "work", "scope"),
    [
        (httpx.ConnectError("refused"), "network", "not_sent", "candidate"),
        (httpx.ProxyError("refused"), "network", "not_sent", "candidate"),
        (httpx.ConnectTimeout("slow"), "timeout", "not_sent", "candidate"),
        (httpx.ReadTimeout("slow"), "timeout", "unknown", "candidate"),
        (httpx.WriteTimeout("slow"), "timeout", "unknown", "candidate"),
        (httpx.PoolTimeout("full"), "pool_timeout", "not_sent", "local"),
        (httpx.ReadError("reset"), "network", "unknown", "candidate"),
        (httpx.RemoteProtocolError("closed early"), "network", "unknown", "candidate"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_no_answer(provider, client, error, code, work, scope):
    """Where no answer came the status is 0, and another try may help."""
    provider.post("/chat/completions").mock(side_effect=error)
    assert facts(await failure(client)) == (code, 0, True, work, scope)


@pytest.mark.parametrize(
    ("status", "code", "retryable", "work", "scope"),
    [
        (400, "bad_request", False, "rejected", "request"),
        (401, "auth_failed", False, "rejected", "credential"),
        (402, "insufficient_balance", False, "rejected", "credential"),
        (403, "auth_failed", False, "rejected", "credential"),
        (404, "invalid_request", False, "rejected", "request"),
        (405, "invalid_request", False, "rejected", "request"),
        (408, "timeout", True, "unknown", "candidate"),
        (409, "conflict", True, "rejected", "candidate"),
        (410, "invalid_request", False, "rejected", "request"),
        (411, "invalid_request", False, "rejected", "request"),
        (413, "context_length_exceeded", False, "rejected", "request"),
        (415, "invalid_request", False, "rejected", "request"),
        (418, "invalid_request", False, "rejected", "request"),
        (422, "invalid_request", False, "rejected", "request"),
        (423, "conflict", True, "rejected", "candidate"),
        (425, "conflict", True, "rejected", "candidate"),
        (429, "rate_limit", True, "rejected", "credential_model"),
        (449, "conflict", True, "rejected", "candidate"),
        (451, "invalid_request", False, "rejected", "request"),
        (500, "server_error", True, "unknown", "candidate"),
        (501, "server_error", False, "rejected", "candidate"),
        (502, "server_error", True, "unknown", "candidate"),
        (503, "server_error", True, "unknown", "candidate"),
        (504, "server_error", True, "unknown", "candidate"),
        (505, "server_error", False, "rejected", "candidate"),
        *((status, "server_error", True, "unknown", "candidate") for status in [*range(520, 528), 530, 599]),
        (529, "overloaded", True, "rejected", "provider"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html><title>No</title></html>", b'{"error":{"message":"No."}}'])
async def test_status(provider, client, status, code, retryable, work, scope, body):
    """Where the vendor says nothing more, the status decides; the body may be of any kind."""
    provider.post("/chat/completions").respond(status, content=body)
    assert facts(await failure(client)) == (code, status, retryable, work, scope)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirect(provider, client, status):
    """A redirect is not followed: the request and its key are meant for this server."""
    elsewhere = provider.post("https://elsewhere.test/").respond(200, json=chat({"content": "hello"}))
    provider.post("/chat/completions").respond(status, headers={"location": "https://elsewhere.test/"})
    assert facts(await failure(client)) == ("invalid_response", status, False, "rejected", "candidate")
    assert not elsewhere.called


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    "error",
    [
        error_object(
            "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"
        ),
        error_object("Billing hard limit has been reached", "billing_hard_limit_reached"),
        error_object("Your credit balance is too low to access the API."),
        error_object("Please set up billing."),
        error_object("You are out of quota."),
        error_object("Insufficient Balance"),
        error_object("No.", None, "insufficient_quota"),
        error_object("No.", "monthly_quota_reached"),
    ],
    ids=lambda error: error["error"]["code"] or error["error"]["message"],
)
async def test_money(provider, client, status, error):
    """Quota, credit or billing, in code or text, with any status: the credential is out of money."""
    provider.post("/chat/completions").respond(status, json=error)
    assert facts(await failure(client)) == ("insufficient_balance", status, False, "rejected", "credential")


@pytest.mark.parametrize("status", [200, 400, 429, 500, 503, 529])
@pytest.mark.parametrize(
    "error",
    [
        error_object("Overloaded", None, "overloaded_error"),
        error_object("The engine is currently overloaded, please try again later"),
        error_object("Please wait.", "server_is_overloaded"),
        error_object("Please wait.", "slow_down"),
    ],
    ids=lambda error: error["error"]["code"] or error["error"]["message"],
)
async def test_overloaded(provider, client, status, error):
    """`overloaded` in code, type or text, with any status: the provider has too much to do."""
    provider.post("/chat/completions").respond(status, json=error)
    assert facts(await failure(client)) == ("overloaded", status, True, "rejected", "provider")


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(
    "error",
    [
        error_object("", "context_length_exceeded"),
        error_object("This model's maximum context length is 8192 tokens. However, you requested 8204 tokens."),
        error_object("request (9412 tokens) exceeds the available context size (8192 tokens)"),
    ],
    ids=lambda error: error["error"]["code"] or error["error"]["message"][:20],
)
async def test_too_long(provider, client, status, error):
    """A request that is too long for the model."""
    provider.post("/chat/completions").respond(status, json=error)
    assert facts(await failure(client)) == ("context_length_exceeded", status, False, "rejected", "request")


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(
    "error",
    [
        error_object("", "content_filter"),
        error_object("", "content_policy_violation"),
        error_object("The response was filtered due to the prompt triggering our content management policy."),
        error_object("Your input was flagged."),
    ],
    ids=lambda error: error["error"]["code"] or error["error"]["message"][:20],
)
async def test_content(provider, client, status, error):
    """A request that may not be answered for what is in it."""
    provider.post("/chat/completions").respond(status, json=error)
    assert facts(await failure(client)) == ("content_filter", status, False, "rejected", "request")


async def test_unsupported_parameter(provider, client):
    """A parameter that the model does not know."""
    provider.post("/chat/completions").respond(
        400, json=error_object("Unsupported parameter: 'max_tokens'", "unsupported_parameter")
    )
    assert facts(await failure(client)) == ("unsupported_parameter", 400, False, "rejected", "request")


async def test_unsupported_parameter__ours(provider, client):
    """A feature that this client does not have: nothing is sent."""
    route = provider.post("/chat/completions")
    error = await failure(client, Request(model="gpt", body={"stream": True}))
    assert facts(error) == ("unsupported_parameter", 400, False, "rejected", "request")
    assert not route.called


@pytest.mark.parametrize("status", [401, 403])
async def test_invalid_api_key(provider, client, status):
    """`invalid_api_key` where the vendor says so."""
    provider.post("/chat/completions").respond(status, json=error_object("", "invalid_api_key"))
    assert facts(await failure(client)) == ("invalid_api_key", status, False, "rejected", "credential")


@pytest.mark.parametrize(
    "error",
    [
        error_object("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found"),
        error_object("The API deployment for this resource does not exist.", "DeploymentNotFound"),
        error_object("model 'llama' not found"),
    ],
    ids=lambda error: error["error"]["code"] or error["error"]["message"][:20],
)
async def test_unsupported_model(provider, client, error):
    """404 for the model or the deployment; any other 404 is a request to the wrong place."""
    provider.post("/chat/completions").respond(404, json=error)
    assert facts(await failure(client)) == ("unsupported_model", 404, False, "rejected", "candidate")


@pytest.mark.parametrize(
    ("said", "retryable"), [("true", True), ("false", False), (" TRUE ", True), ("perhaps", None), ("", None)]
)
@pytest.mark.parametrize(("status", "otherwise"), [(400, False), (503, True), (302, False)])
async def test_x_should_retry(provider, client, said, retryable, status, otherwise):
    """`x-should-retry` is the provider's own word on another try."""
    provider.post("/chat/completions").respond(status, headers={"x-should-retry": said})
    assert (await failure(client)).retryable is (otherwise if retryable is None else retryable)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>Welcome</html>", b'{"choices":[', b"[]", b"null", b'"hello"', b"data: {}\n\n", b"\xff\xfe"),
        *(b"{}", b'{"choices":null}', b'{"choices":[]}', b'{"choices":{}}', b'{"choices":["x"]}', b'{"choices":[{}]}'),
        *(b'{"choices":[{"message":null}]}', b'{"choices":[{"message":"x"}]}', b'{"error":null}'),
    ],
)
async def test_invalid_response(provider, client, content):
    """A success that is not JSON, has not the promised shape, or no choices, is no answer; it may have been paid for."""
    provider.post("/chat/completions").respond(200, content=content)
    assert facts(await failure(client)) == ("invalid_response", 200, True, "billed", "candidate")


@pytest.mark.parametrize(
    "body",
    [
        chat({"role": "assistant", "content": ""}),
        chat({"role": "assistant", "content": None}),
        chat({"role": "assistant", "content": None, "tool_calls": [], "refusal": None}, "tool_calls"),
        chat({"role": "assistant", "content": "", "reasoning_content": ""}, "length"),
        chat({}),
    ],
)
async def test_empty_response(provider, client, body):
    """Finished with neither text, tool call, refusal nor reasoning: that is no answer either."""
    provider.post("/chat/completions").respond(200, json=body)
    assert facts(await failure(client)) == ("empty_response", 200, True, "billed", "candidate")


@pytest.mark.parametrize(
    "body",
    [
        chat({"content": "", "refusal": "I cannot help with that."}),
        chat({"content": None}, "content_filter"),
        chat({"content": None, "tool_calls": [{"id": "1", "type": "function"}]}, "tool_calls"),
        chat({"content": None, "function_call": {"name": "f"}}, "function_call"),
        chat({"content": "", "reasoning_content": "Let me think."}, "length"),
        chat({"content": None, "reasoning": "Let me think."}),
        chat({"content": None, "audio": {"id": "1"}}),
        chat({"content": [{"type": "text", "text": "hello"}]}),
        chat({"content": ""}, "length") | {"usage": {"completion_tokens_details": {"reasoning_tokens": 64}}},
        chat({"content": " "}),
    ],
)
async def test_answers(provider, client, body):
    """Refusals, filtered answers, tool calls and thoughts are answers."""
    provider.post("/chat/completions").respond(200, json=body)
    assert (await client.send(REQUEST)).data == body


@pytest.mark.parametrize(
    ("error", "code", "retryable", "work", "scope"),
    [
        (error_object("", None, "invalid_request_error"), "bad_request", False, "rejected", "request"),
        (error_object("", None, "authentication_error"), "auth_failed", False, "rejected", "credential"),
        (error_object("", None, "server_error"), "server_error", True, "unknown", "candidate"),
        (error_object("", "rate_limit_exceeded", "tokens"), "rate_limit", True, "rejected", "credential_model"),
        (error_object("", "context_length_exceeded"), "context_length_exceeded", False, "rejected", "request"),
        (error_object("", None, "timeout"), "timeout", True, "unknown", "candidate"),
        (error_object("Overloaded"), "overloaded", True, "rejected", "provider"),
        (error_object("No.", "a_word_of_their_own"), "a_word_of_their_own", True, "unknown", "candidate"),
        (error_object("Something happened."), "invalid_response", True, "billed", "candidate"),
        ({"error": "model 'x' not found"}, "unsupported_model", False, "rejected", "candidate"),
        ({"error": {"code": 429, "message": "Slow."}}, "rate_limit", True, "rejected", "credential_model"),
        ({"error": {"code": "502", "message": "Down."}}, "server_error", True, "unknown", "candidate"),
        ({"error": {"code": 402, "message": "Pay."}}, "insufficient_balance", False, "rejected", "credential"),
        ({"object": "error", "message": "x", "type": "BadRequestError"}, "bad_request", False, "rejected", "request"),
        (
            chat({"content": "hel"}) | error_object("", None, "server_error"),
            "server_error",
            True,
            "unknown",
            "candidate",
        ),
        (
            {"choices": [{"error": {"code": 502, "message": "Down."}, "message": {"content": "hel"}}]},
            *("server_error", True, "unknown", "candidate"),
        ),
    ],
)
async def test_error_in_a_success(provider, client, error, code, retryable, work, scope):
    """An error object inside a 200 is what its own code or type says; the status stays the answer's."""
    provider.post("/chat/completions").respond(200, json=error)
    assert facts(await failure(client)) == (code, 200, retryable, work, scope)


async def test_message(provider, client):
    """The message is the vendor's own, trimmed, at most 2,000 characters."""
    provider.post("/chat/completions").respond(500, json=error_object("  " + "word " * 1000))
    message = (await failure(client)).message
    assert message.startswith("word word")
    assert len(message) == 2000


@pytest.mark.parametrize(
    "secret", ["sk-test-0123456789abcdef", "sk-abc***************6789", "AIzaSyA1234567890abcdefghijklmnopqrs"]
)
async def test_message__without_keys(provider, client, secret):
    """What looks like a key is taken out, the caller's own wherever it stands."""
    body = error_object(f"Incorrect API key provided: {secret}.", "invalid_api_key")
    body["error"]["details"] = [{"you_sent": secret}]
    provider.post("/chat/completions").respond(401, json=body)
    error = await failure(client)
    assert secret not in f"{error} {error!r} {error.args} {error.vendor}"
    assert error.message.startswith("Incorrect API key provided")


async def test_vendor(provider, client):
    """The vendor's error object is kept, for whoever translates it."""
    body = error_object("Slow.", "rate_limit_exceeded", "tokens")
    provider.post("/chat/completions").respond(429, json=body)
    assert (await failure(client)).vendor == body["error"]


async def test_request_id(provider, client):
    """The vendor's own id of the call is kept, on failures too."""
    provider.post("/chat/completions").respond(500, headers={"X-Request-Id": "req_1"})
    assert (await failure(client)).request_id == "req_1"


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (500, {"retry-after": "7"}, 7.0),
        (429, {"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        (503, {"x-ratelimit-reset-tokens": "1s"}, 1.0),
        (400, {"x-ratelimit-reset-tokens": "6m0s"}, None),
        (500, {"x-ratelimit-reset-tokens": "6m0s"}, None),
        (429, {"retry-after": "Tue, 14 Nov 2023 22:13:25 GMT"}, 5.0),
        (429, {}, None),
    ],
)
async def test_hint(provider, client, status, headers, hint):
    """How long the provider asks to be left alone; reset headers count where a limit was hit."""
    provider.post("/chat/completions").respond(status, headers=headers)
    assert (await failure(client)).hint == hint
