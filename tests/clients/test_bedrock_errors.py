"""What Bedrock says when a call fails, and the word of the contract that each means.

Pages: [1] docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html,
[2] docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (Errors),
[3] docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (Response Syntax),
[4] repost.aws/knowledge-center/bedrock-invokemodel-api-error, and threads where users quote what they got.
"""

import json

import pytest

from standby.clients import ClientError
from standby.clients._answers import error_inside, failed_answer
from standby.clients._http_answer import HttpAnswer
from standby.clients.dialects._converse import CONVERSE
from tests.vendors.bedrock import REQUEST_ID, error_of, exception


def answered(status, headers, body):
    return failed_answer(HttpAnswer(status, headers, body), now=0.0, scrub=str)


ANSWERED = [
    # From [1] and [2].
    ("ThrottlingException", "Too many tokens, please wait before trying again.", "rate_limit", 429, True),
    ("ThrottlingException", "Too many tokens per day, please wait before trying again.", "rate_limit", 429, True),
    ("ServiceQuotaExceededException", "Your request exceeds the service quota.", "rate_limit", 400, True),
    ("ModelNotReadyException", "Model is not ready for inference.", "rate_limit", 429, True),
    ("AccessDeniedException", "Access denied.", "auth_failed", 403, False),
    ("ModelTimeoutException", "Model has timed out in processing the request.", "timeout", 408, True),
    ("ModelErrorException", "The system encountered an unexpected error.", "server_error", 424, True),
    ("ServiceUnavailableException", "Too many connections, please wait.", "server_error", 503, True),
    ("InternalServerException", "The system encountered an unexpected error.", "server_error", 500, True),
    ("ResourceNotFoundException", "Could not resolve the foundation model.", "unsupported_model", 404, False),
    ("ValidationException", "1 validation error detected.", "bad_request", 400, False),
    # github.com/aws-solutions-library-samples/accelerated-intelligent-document-processing-on-aws/issues/708
    (
        "ResourceNotFoundException",
        (
            "Access denied. This Model is marked by provider as Legacy and you have not been actively using the model in "
            "the last 30 days. Please upgrade to an active model on Amazon Bedrock"
        ),
        "unsupported_model",
        404,
        False,
    ),
    # github.com/anthropics/claude-code/issues/760, github.com/strands-agents/harness-sdk/pull/1663
    ("ValidationException", "Input is too long for requested model.", "context_length_exceeded", 400, False),
    (
        "ValidationException",
        "The model returned the following errors: prompt is too long: 903884 tokens > 200000 maximum",
        "context_length_exceeded",
        400,
        False,
    ),
    # github.com/terricain/aioboto3/issues/352, github.com/aws-samples/bedrock-chat/issues/508
    (
        "ValidationException",
        (
            "Invocation of model ID anthropic.claude-3-5-sonnet-20241022-v2:0 with on-demand throughput isn\u2019t supported. "
            "Retry your request with the ID or ARN of an inference profile that contains this model."
        ),
        "unsupported_model",
        400,
        False,
    ),
    (
        "ValidationException",
        "The provided model doesn't support on-demand throughput.",
        "unsupported_model",
        400,
        False,
    ),
    # github.com/cline/cline/issues/7673
    ("ValidationException", "The provided model identifier is invalid.", "unsupported_model", 400, False),
    # github.com/langchain-ai/langchain-aws/issues/447, github.com/strands-agents/harness-sdk/issues/1241
    ("ValidationException", "This model doesn't support tool use.", "unsupported_parameter", 400, False),
    (
        "ValidationException",
        "This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any and try again",
        "unsupported_parameter",
        400,
        False,
    ),
    # github.com/BerriAI/litellm/pull/32831
    ("ValidationException", "role 'system' is not supported on this model", "unsupported_parameter", 400, False),
    # github.com/langchain-ai/langchain/issues/19677
    (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        "invalid_api_key",
        403,
        False,
    ),
    # docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
    ("ExpiredTokenException", "The security token included in the request is expired", "auth_failed", 403, False),
    (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
        "auth_failed",
        403,
        False,
    ),
]


@pytest.mark.parametrize(("name", "message", "code", "status", "retryable"), ANSWERED)
def test_answered(name, message, code, status, retryable):
    """An exception that only a header names is known; the vendor's words, status and id of the call are kept."""
    failure = answered(*error_of(name, message))
    assert (failure.code, failure.status, failure.retryable) == (code, status, retryable)
    assert (failure.message, failure.request_id, failure.hint) == (message, REQUEST_ID, None)


@pytest.mark.parametrize(
    ("message", "scope"),
    [
        # From [4].
        ("You don't have access to the model with the specified model ID.", "credential_model"),
        # github.com/BerriAI/litellm/pull/39166
        (
            (
                "User: arn:aws:iam::123456789012:user/x is not authorized to perform: bedrock:InvokeModel on resource: "
                "arn:aws:bedrock:us-east-1::foundation-model/m because no identity-based policy allows the action"
            ),
            "credential_model",
        ),
        # github.com/ministryofjustice/modernisation-platform-environments/pull/18323
        (
            (
                "Model access is denied due to IAM user or service role is not authorized to perform the required AWS "
                "Marketplace actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access."
            ),
            "credential_model",
        ),
        ("Access denied.", "credential"),
    ],
)
def test_access_denied__scope(message, scope):
    """Amazon grants its models one by one: what it refuses for a model says nothing of the credential's others."""
    failure = answered(*error_of("AccessDeniedException", message))
    assert (failure.code, failure.scope, failure.work) == ("auth_failed", scope, "rejected")


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        # github.com/anomalyco/opencode/issues/47073, github.com/farion1231/cc-switch/issues/1679
        (
            403,
            {"Message": "Authentication failed: Please make sure your API Key is valid."},
            "invalid_api_key",
            "Authentication failed: Please make sure your API Key is valid.",
        ),
        (
            403,
            {"Message": "Invalid API Key format: Must start with pre-defined prefix"},
            "invalid_api_key",
            "Invalid API Key format: Must start with pre-defined prefix",
        ),
        # smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html (Operation error serialization)
        (400, {"__type": "aws.protocoltests.restjson#ThrottlingException", "message": "x"}, "rate_limit", "x"),
        (400, {"__type": "ThrottlingException:http://internal.amazon.com/coral/x/", "message": "x"}, "rate_limit", "x"),
        (400, {"__type": "RequestExpired", "message": "x"}, "auth_failed", "x"),
    ],
)
def test_answered__other_forms(status, body, code, message):
    """Amazon's front doors write their errors in other forms: each is read."""
    failure = answered(status, {}, json.dumps(body).encode())
    assert (failure.code, failure.message) == (code, message)


@pytest.mark.parametrize(
    ("name", "message", "code", "retryable"),
    [
        # From [3].
        ("throttlingException", "Too many requests, please wait before trying again.", "rate_limit", True),
        ("modelStreamErrorException", "Model produced invalid sequence as part of ToolUse.", "server_error", True),
        ("internalServerException", "The system encountered an unexpected error.", "server_error", True),
        ("serviceUnavailableException", "Bedrock is unable to process your request.", "server_error", True),
        ("validationException", "The model returned the following errors: x", "bad_request", False),
        # github.com/aws-samples/bedrock-chat/issues/95
        ("validationException", "Input is too long for requested model.", "context_length_exceeded", False),
        # docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
        ("modelTimeoutException", "Model has timed out.", "timeout", True),
        ("accessDeniedException", "Access denied.", "auth_failed", False),
        ("oneOfNextYearException", "Who knows?", "oneofnextyearexception", True),
    ],
)
def test_streamed(name, message, code, retryable):
    """An exception inside of a stream is known by its name, though the status was a success."""
    (event,) = CONVERSE.frames().feed(exception(name, message))
    failure = error_inside(200, {"x-amzn-requestid": REQUEST_ID}, json.loads(event.data), now=0.0, scrub=str)
    assert isinstance(failure, ClientError)
    assert (event.type, failure.code, failure.retryable) == ("error", code, retryable)
    assert (failure.message, failure.status, failure.request_id) == (message, 200, REQUEST_ID)
