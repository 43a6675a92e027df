"""Anthropic's errors, each with the page that shows it: what they mean, plain and where a stream was asked for."""

import pytest

from standby.clients import ClientError
from tests.clients.anthropic_streams import client_of, failure, provider, request

pytestmark = pytest.mark.anyio

ERRORS_PAGE = "platform.claude.com/docs/en/api/errors"
REQUEST, MODEL = ("request", False, "rejected"), ("candidate", False, "rejected")
CREDENTIAL = ("credential", False, "rejected")
DOWN = ("candidate", True, "unknown")

TABLE = {
    "invalid": (
        400,
        "invalid_request_error",
        "messages: at least one message is required",
        "bad_request",
        REQUEST,
        ERRORS_PAGE,
    ),
    "key": (401, "authentication_error", "invalid x-api-key", "auth_failed", CREDENTIAL, ERRORS_PAGE),
    "billing": (
        402,
        "billing_error",
        "There's an issue with your billing.",
        "insufficient_balance",
        CREDENTIAL,
        ERRORS_PAGE,
    ),
    "permission": (403, "permission_error", "Your API key may not use it.", "auth_failed", CREDENTIAL, ERRORS_PAGE),
    "nothing there": (404, "not_found_error", "Not Found", "invalid_request", REQUEST, ERRORS_PAGE),
    "too large": (
        413,
        "request_too_large",
        "Request exceeds the maximum size",
        "context_length_exceeded",
        REQUEST,
        ERRORS_PAGE,
    ),
    "rate": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit",
        "rate_limit",
        ("credential_model", True, "rejected"),
        ERRORS_PAGE,
    ),
    "api": (500, "api_error", "Internal server error", "server_error", DOWN, ERRORS_PAGE),
    "timeout": (504, "timeout_error", "Request timed out", "server_error", DOWN, ERRORS_PAGE),
    "overloaded": (529, "overloaded_error", "Overloaded", "overloaded", ("provider", True, "rejected"), ERRORS_PAGE),
    "credit": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        "insufficient_balance",
        CREDENTIAL,
        "github.com/continuedev/continue/issues/5499",
    ),
    "spent": (
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2025-07-01 at 00:00 UTC.",
        "insufficient_balance",
        CREDENTIAL,
        "github.com/anthropics/claude-code/issues/2127",
    ),
    "disabled": (
        400,
        "invalid_request_error",
        "This organization has been disabled.",
        "auth_failed",
        CREDENTIAL,
        "github.com/anthropics/claude-code/issues/19028",
    ),
    "model": (
        404,
        "not_found_error",
        "model: claude-3-5-sonnet-20241022 ",
        "unsupported_model",
        MODEL,
        "github.com/mattermost/mattermost-plugin-agents/issues/257",
    ),
    "too long": (
        400,
        "invalid_request_error",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "context_length_exceeded",
        REQUEST,
        "github.com/anthropics/claude-code/issues/5346",
    ),
    "no room": (
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or `max_tokens` and try again",
        "context_length_exceeded",
        REQUEST,
        "github.com/docker/docker-agent/issues/569",
    ),
    "filter": (
        400,
        "invalid_request_error",
        "Output blocked by content filtering policy",
        "content_filter",
        REQUEST,
        "github.com/anthropics/claude-code/issues/58367",
    ),
    "temperature": (
        400,
        "invalid_request_error",
        "`temperature` is deprecated for this model.",
        "unsupported_parameter",
        REQUEST,
        "github.com/Metaculus/forecasting-tools/pull/308",
    ),
    "budget": (
        400,
        "invalid_request_error",
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and "output_config.effort".',
        "unsupported_parameter",
        REQUEST,
        "github.com/NousResearch/hermes-agent/issues/11137",
    ),
    "prefill": (
        400,
        "invalid_request_error",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "unsupported_parameter",
        REQUEST,
        "github.com/agenticloops-ai/agentic-ai-engineering/issues/43",
    ),
    "signature": (
        400,
        "invalid_request_error",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "unsupported_parameter",
        REQUEST,
        "github.com/anthropics/claude-code/issues/10627",
    ),
}


def told(kind, message):
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}


async def streamed_failure(client, asked):
    with pytest.raises(ClientError) as caught:
        async with client.stream(asked):
            pass
    return caught.value


@pytest.mark.parametrize(("status", "kind", "message", "code", "traits", "page"), TABLE.values(), ids=TABLE)
@pytest.mark.parametrize("ask", [failure, streamed_failure])
async def test_error(ask, status, kind, message, code, traits, page):
    """Code, whom it concerns, whether trying again may help, what was done; the vendor's words and its id of the call."""
    router = provider()
    headers = {"request-id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
    router.post("/messages").respond(status, json=told(kind, message), headers=headers)
    error = await ask(client_of(router), request())
    assert (error.code, error.status) == (code, status), page
    assert (error.scope, error.retryable, error.work) == traits, page
    assert (error.message, error.request_id) == (message.strip(), "req_011CSHoEeqs5C35K2UUqR7Fy")


@pytest.mark.parametrize(("status", "kind", "message", "code", "traits", "page"), TABLE.values(), ids=TABLE)
async def test_error__inside_of_a_success(status, kind, message, code, traits, page):
    """As gateways before Anthropic answer it: with the status 200, and the error all the same."""
    router = provider()
    router.post("/messages").respond(200, json=told(kind, message))
    error = await failure(client_of(router))
    inside = {"not_found_error": "invalid_request", "timeout_error": "timeout"}.get(kind, code)
    assert (error.code, error.status) == (inside, 200), page


HINTS_PAGE = "platform.claude.com/docs/en/api/rate-limits"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:30Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:50Z",
            },
            30.0,
        ),
    ],
)
async def test_how_long_to_stay_away(headers, seconds):
    """As the page on rate limits has it: `retry-after`, or when the limit that was hit is free again."""
    router = provider()
    router.post("/messages").respond(429, json=told("rate_limit_error", "x"), headers=headers)
    assert (await failure(client_of(router))).hint == seconds, HINTS_PAGE


async def test_anthropic_says_whether_to_try_again():
    """Its word counts more than what the status usually means."""
    router = provider()
    router.post("/messages").respond(529, json=told("overloaded_error", "x"), headers={"x-should-retry": "false"})
    assert not (await failure(client_of(router))).retryable
