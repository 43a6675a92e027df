"""Google's errors, in every shape in which they come: what each is called, and what follows from it.

The shapes are those of cloud.google.com/apis/design/errors and ai.google.dev/gemini-api/docs/troubleshooting.
"""

import json

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, GeminiClient, Request
from tests.vendors.gemini import error_of

pytestmark = pytest.mark.anyio

KEY = "AIzaSyTest-0123456789-0123456789"
REQUEST = Request("gemini-3-flash-preview", {"model": "chat", "messages": [{"role": "user", "content": "Hi."}]})
HIGH_DEMAND = "This model is currently experiencing high demand. Spikes in demand are usually temporary."
QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n* Quota exceeded for metric: "
    "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 5\nPlease retry in 33.5s."
)
PREPAID = (
    "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage billing."
)
NO_VERTEX_MODEL = (
    "Publisher Model `projects/p/locations/us-central1/publishers/google/models/gemini-9` was not found or your "
    "project does not have access to it. Please ensure you are using a valid model version."
)
NO_MODEL = "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."

SAID = [
    # status, message, reason; code, retryable, scope; the page
    (429, QUOTA, "", "rate_limit", True, "credential_model", "ai.google.dev/gemini-api/docs/rate-limits"),
    (429, "Resource has been exhausted (e.g. check quota).", "", "rate_limit", True, "credential_model",
     "github.com/googleapis/python-genai/issues/2065"),
    (429, "Quota exceeded for requests per day per user.", "RATE_LIMIT_EXCEEDED", "rate_limit", True,
     "credential_model", "github.com/google-gemini/gemini-cli/issues/10513"),
    (429, PREPAID, "", "insufficient_balance", False, "credential", "ai.google.dev/gemini-api/docs/billing"),
    (429, "Your project has exceeded its monthly spending cap.", "", "insufficient_balance", False, "credential",
     "ai.google.dev/gemini-api/docs/billing"),
    (400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID", "invalid_api_key", False, "credential",
     "ai.google.dev/gemini-api/docs/api-key"),
    (400, "User location is not supported for the API use.", "", "auth_failed", False, "credential",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
    (401, "Request had invalid authentication credentials. Expected OAuth 2 access token.", "ACCESS_TOKEN_EXPIRED",
     "auth_failed", False, "credential", "cloud.google.com/docs/authentication/troubleshoot-adc"),
    (403, "Your API key was reported as leaked. Please use another API key.", "", "auth_failed", False, "credential",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
    (403, "Vertex AI API has not been used in project 1 before or it is disabled.", "SERVICE_DISABLED", "auth_failed",
     False, "credential", "cloud.google.com/apis/design/errors"),
    (403, "This API method requires billing to be enabled.", "BILLING_DISABLED", "insufficient_balance", False,
     "credential", "cloud.google.com/billing/docs/how-to/modify-project"),
    (404, NO_MODEL, "", "unsupported_model", False, "candidate",
     "github.com/google-gemini/deprecated-generative-ai-python/issues/746"),
    (404, NO_VERTEX_MODEL, "", "unsupported_model", False, "candidate",
     "github.com/pollinations/pollinations/issues/6148"),
    (404, "This model models/gemini-2.0-flash is no longer available to new users.", "", "unsupported_model", False,
     "candidate", "ai.google.dev/gemini-api/docs/deprecations"),
    (400, "The input token count (3475108) exceeds the maximum number of tokens allowed (1048576).", "",
     "context_length_exceeded", False, "request", "github.com/google-gemini/gemini-cli/issues/4231"),
    (400, "Json mode is not enabled for models/gemini-pro", "", "unsupported_parameter", False, "request",
     "github.com/google-gemini/deprecated-generative-ai-python/issues/137"),
    (400, "Function calling with a response mime type: 'application/json' is unsupported", "", "unsupported_parameter",
     False, "request", "github.com/openai/openai-agents-python/issues/656"),
    (400, "Budget 0 is invalid. This model only works in thinking mode.", "", "unsupported_parameter", False,
     "request", "ai.google.dev/gemini-api/docs/thinking"),
    (400, "Thinking level is not supported for this model.", "", "unsupported_parameter", False, "request",
     "ai.google.dev/gemini-api/docs/thinking"),
    (400, "Please ensure that function call turn comes immediately after a user turn.", "", "bad_request", False,
     "request", "ai.google.dev/gemini-api/docs/function-calling"),
    (500, "An internal error has occurred. Please retry.", "", "server_error", True, "candidate",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
    (503, "The model is overloaded. Please try again later.", "", "overloaded", True, "candidate",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
    (503, HIGH_DEMAND, "", "overloaded", True, "candidate", "github.com/continuedev/continue/issues/10639"),
    (503, "The service is currently unavailable.", "", "server_error", True, "candidate",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
    (504, "Deadline expired before operation could complete.", "", "server_error", True, "candidate",
     "ai.google.dev/gemini-api/docs/troubleshooting"),
]  # fmt: skip


def client_of(*answers):
    """A client of a provider that gives these answers, one after the other."""
    return GeminiClient(api_key=SecretStr(KEY), http=httpx.MockTransport(lambda _, left=list(answers): left.pop(0)))


def events(*data, bare=b""):
    content = b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in data) + bare
    return httpx.Response(200, content=content, headers={"content-type": "text/event-stream"})


async def failure(client):
    with pytest.raises(ClientError) as caught:
        await client.send(REQUEST)
    return caught.value


async def streamed_failure(client):
    with pytest.raises(ClientError) as caught:
        async with client.stream(REQUEST) as stream:
            while await stream.read():
                pass
    return caught.value


@pytest.mark.parametrize(("status", "message", "reason", "code", "retryable", "scope", "page"), SAID)
async def test_error(status, message, reason, code, retryable, scope, page):
    """What Google says with a status, in an object or in an array, to a plain call and to a streamed one."""
    error = error_of(status, message, reason=reason)
    answers = [httpx.Response(status, json=body) for body in (error, [error], error, [error])]
    client = client_of(*answers)
    for failed in (failure, failure, streamed_failure, streamed_failure):
        caught = await failed(client)
        assert (caught.code, caught.status, caught.retryable, caught.scope) == (code, status, retryable, scope), page
        assert caught.message.startswith(message.partition("https://")[0].strip()[:60])


@pytest.mark.parametrize(("status", "message", "reason", "code", "retryable", "scope", "page"), SAID)
async def test_error__inside(status, message, reason, code, retryable, scope, page):
    """The same inside of a success: as the whole answer, as an event, and as JSON in the place of one."""
    error = error_of(status, message, reason=reason)
    whole = client_of(httpx.Response(200, json=error), httpx.Response(200, json=[error]))
    pieces = client_of(events(error), events(bare=json.dumps([error], indent=1).encode()))
    for caught in [await failure(whole) for _ in range(2)] + [await streamed_failure(pieces) for _ in range(2)]:
        assert (caught.code, caught.status, caught.retryable, caught.scope) == (code, 200, retryable, scope), page


@pytest.mark.parametrize("wrapped", [False, True])
async def test_retry_info(wrapped):
    """`RetryInfo` says how long to wait, in an array too."""
    error = error_of(429, QUOTA, retry_seconds=33.5)
    client = client_of(httpx.Response(429, json=[error] if wrapped else error))
    assert (await failure(client)).hint == 33.5


async def test_error__in_the_middle():
    """An error after the first content is told after it."""
    piece = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "index": 0}]}
    client = client_of(events(piece, error_of(503, HIGH_DEMAND)))
    async with client.stream(REQUEST) as stream:
        block = await stream.read()
        assert block is not None
        assert block.content
        assert b"Hi" in block.raw
        with pytest.raises(ClientError, match="high demand") as caught:
            await stream.read()
    assert caught.value.code == "overloaded"


async def test_blocked_prompt():
    """A blocked prompt is the request's own fault, whether it was to be answered whole or in pieces."""
    data = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}}
    for caught in (
        await failure(client_of(httpx.Response(200, json=data))),
        await streamed_failure(client_of(events(data))),
    ):
        assert (caught.code, caught.scope, caught.retryable, caught.work) == (
            "content_filter",
            "request",
            False,
            "rejected",
        )
        assert caught.message == "the prompt was blocked: PROHIBITED_CONTENT"


async def test_malformed_call():
    """A call that the model got wrong is a failure that another try may not have."""
    data = {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": f"Malformed: f({KEY})"}]}
    for caught in (
        await failure(client_of(httpx.Response(200, json=data))),
        await streamed_failure(client_of(events(data))),
    ):
        assert (caught.code, caught.scope, caught.retryable) == ("invalid_response", "candidate", True)
        assert KEY not in caught.message


async def test_cut():
    """A stream that ends before the model said why it ended was cut."""
    piece = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "index": 0}]}
    assert (await streamed_failure(client_of(events(piece)))).code == "stream_read_error"


async def test_nothing():
    """An answer that is complete and has nothing in it is none; one that was filtered is one."""
    nothing = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}]}
    assert (await failure(client_of(httpx.Response(200, json=nothing)))).code == "empty_response"
    assert (await streamed_failure(client_of(events(nothing)))).code == "empty_response"
    filtered = {"candidates": [{"finishReason": "SAFETY", "index": 0}]}
    response = await client_of(httpx.Response(200, json=filtered)).send(REQUEST)
    assert response.data["choices"][0]["finish_reason"] == "content_filter"
