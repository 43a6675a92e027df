"""The vendors' own words for what failed, and the one word of ours that each means: a table that names its sources.

A word is looked for in this order, and the first that is found decides:

1. the vendor's text, where it says more than any code (``outweighs``);
2. the vendor's codes and types, exactly (``names``), down the table;
3. a code or type that has ``quota``, ``credit``, ``billing`` or ``overloaded`` in it;
4. the vendor's text (``text``), down the table, where the status is one of ``statuses``.

Where nothing is found the status decides (`_answers.py`). The order of the table matters: what concerns money comes
first, because vendors answer it with any status, and waiting does not help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ._errors import Blame

_REQUEST_STATUSES: Final = frozenset({200, 400, 413, 422})
_CONTENT_STATUSES: Final = frozenset({200, 400, 403, 422, 451})
_KEY_STATUSES: Final = frozenset({200, 400, 401, 403})
_MODEL_STATUSES: Final = frozenset({200, 400, 404, 422})


@dataclass(frozen=True, slots=True)
class Saying:
    """What vendors say when they mean ``code``.

    Attributes:
        code: Our word.
        source: Where the vendor's words can be read.
        names: The vendor's codes and types, in lower case.
        text: A pattern for the vendor's message in lower case, on one line, with addresses taken out.
        statuses: Where the text counts; everywhere if `None`.
        scope: Whom it concerns, where that is not what the code usually means.
        outweighs: Whether the text says more than the names that come with it.
    """

    code: str
    source: str
    names: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None
    statuses: frozenset[int] | None = None
    scope: Blame | None = None
    outweighs: bool = False


def _saying(
    code: str,
    source: str,
    *names: str,
    text: str = "",
    statuses: frozenset[int] | None = None,
    scope: Blame | None = None,
    outweighs: bool = False,
) -> Saying:
    return Saying(code, source, frozenset(names), re.compile(text) if text else None, statuses, scope, outweighs)


SAYINGS: Final[tuple[Saying, ...]] = (
    # -- money: no status means this reliably
    _saying(
        "insufficient_balance",
        "OpenAI: platform.openai.com/docs/guides/error-codes",
        *("insufficient_quota", "credit_balance_exhausted", "organization_usage_limit_exceeded"),
        *("organization_spend_limit_exceeded", "project_spend_limit_exceeded"),
        text=r"exceeded your current quota, please check your plan",
    ),
    _saying(
        "insufficient_balance",
        "OpenAI: github.com/RamiAwar/dataline/issues/175, github.com/bajrangCoder/acode-plugin-chatgpt/issues/19",
        *("billing_not_active", "billing_hard_limit_reached"),
        text=r"billing hard limit|check your billing details",
    ),
    _saying(
        "insufficient_balance",
        "DeepSeek: api-docs.deepseek.com/quick_start/error_codes",
        text=r"insufficient (?:account )?balance",
    ),
    _saying("insufficient_balance", "OpenRouter: openrouter.ai/docs/errors", "payment_required"),
    _saying(
        "insufficient_balance",
        "xAI: github.com/continuedev/continue/issues/10373, github.com/continuedev/continue/issues/12670",
        text=r"spending limit|have any credits|run out of credits|used all available credits",
    ),
    _saying(
        "insufficient_balance",
        "Together, Fireworks: docs.together.ai/docs/error-codes, docs.fireworks.ai/guides/inference-error-codes",
        text=r"payment required|past invoices",
    ),
    _saying("insufficient_balance", "Anthropic: platform.claude.com/docs/en/api/errors", "billing_error"),
    _saying(
        "insufficient_balance",
        "Anthropic, with status 400: github.com/continuedev/continue/issues/5499, "
        "github.com/anthropics/claude-code/issues/2127",
        text=r"credit balance is too low|specified api usage limits",
    ),
    _saying("insufficient_balance", "Alibaba: help.aliyun.com/en/model-studio/error-code", "arrearage"),
    _saying(
        # The same RESOURCE_EXHAUSTED as for a limit that ends with the minute.
        "insufficient_balance",
        "Google: ai.google.dev/gemini-api/docs/billing, discuss.ai.google.dev/t/170539",
        text=r"prepayment credits are depleted|exceeded its (?:monthly )?spending cap",
        outweighs=True,
    ),
    # -- too busy, as a whole
    _saying("overloaded", "Anthropic: platform.claude.com/docs/en/api/errors", "overloaded_error"),
    _saying(
        "overloaded",
        "OpenAI: github.com/openai/codex/pull/11388, github.com/Wei-Shaw/sub2api/issues/6631",
        *("server_is_overloaded", "slow_down", "engine_overloaded"),
    ),
    _saying("overloaded", "OpenRouter: openrouter.ai/docs/api/reference/errors-and-debugging", "provider_overloaded"),
    _saying(
        "overloaded",
        "Groq, the flex tier alone: console.groq.com/docs/flex-processing",
        "capacity_exceeded",
        scope="candidate",
    ),
    _saying(
        "overloaded",
        "Google, one model alone: ai.google.dev/gemini-api/docs/troubleshooting, "
        "github.com/continuedev/continue/issues/10639",
        text=r"^the model is overloaded\. please try|model is currently experiencing high demand",
        scope="candidate",
    ),
    # -- too often
    _saying(
        "rate_limit",
        "OpenAI, Groq, OpenRouter: platform.openai.com/docs/guides/error-codes, console.groq.com/docs/rate-limits",
        "rate_limit_exceeded",
    ),
    _saying("rate_limit", "Anthropic: platform.claude.com/docs/en/api/errors", "rate_limit_error"),
    _saying("rate_limit", "Mistral: github.com/raycast/extensions/issues/31107", "rate_limited", "1300"),
    _saying(
        # Google says "check your plan and billing details" for a limit that ends with the minute.
        "rate_limit",
        "Google: github.com/n4ze3m/page-assist/issues/406, github.com/continuedev/continue/issues/9745",
        *("resource_exhausted", "ratelimitexceeded"),
    ),
    _saying(
        "rate_limit",
        "Alibaba: help.aliyun.com/en/model-studio/error-code",
        *("throttling", "throttling.ratequota", "throttling.burstrate"),
    ),
    _saying(
        # A service quota of AWS is a rate; it has nothing to do with money.
        "rate_limit",
        "Amazon: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html",
        *("throttlingexception", "servicequotaexceededexception", "modelnotreadyexception"),
    ),
    _saying("rate_limit", "vLLM: github.com/vllm-project/vllm (ErrorResponse.type)", "ratelimiterror"),
    # -- the key
    _saying(
        "invalid_api_key",
        "OpenAI; xAI, with status 400: platform.openai.com/docs/guides/error-codes, docs.x.ai/docs/key-information",
        "invalid_api_key",
        text=r"(?:incorrect|invalid) api[ _-]?key",
        statuses=_KEY_STATUSES,
    ),
    _saying(
        "invalid_api_key",
        "Google, with status 400: github.com/cequence-io/openai-scala-client/issues/109",
        "api_key_invalid",
        text=r"api key not valid",
        statuses=_KEY_STATUSES,
    ),
    _saying(
        # OpenAI says the same with 403: the request is fine, and another vendor may take it.
        "auth_failed",
        "Google, with status 400: ai.google.dev/gemini-api/docs/troubleshooting, "
        "github.com/google-gemini/gemini-cli/issues/24641",
        text=r"user location is not supported for the api use\.",
        statuses=_KEY_STATUSES,
    ),
    _saying(
        "auth_failed",
        "Anthropic, with status 400: github.com/anthropics/claude-code/issues/19028",
        text=r"organization has been disabled",
        statuses=_KEY_STATUSES,
    ),
    _saying("invalid_api_key", "Alibaba: help.aliyun.com/en/model-studio/error-code", "invalidapikey"),
    _saying(
        "invalid_api_key",
        "Amazon: github.com/langchain-ai/langchain/issues/19677, github.com/anomalyco/opencode/issues/47073",
        *("unrecognizedclientexception", "invalidclienttokenid"),
        text=r"make sure your api key is valid",
        statuses=_KEY_STATUSES,
    ),
    _saying(
        "auth_failed",
        "Amazon: docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html, "
        "docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html",
        *("expiredtokenexception", "invalidsignatureexception", "missingauthenticationtokenexception"),
        *("incompletesignature", "incompletesignatureexception", "requestexpired", "notauthorized"),
    ),
    _saying(
        # Amazon grants each model by itself, and a policy may name models.
        "auth_failed",
        "Amazon: repost.aws/knowledge-center/bedrock-invokemodel-api-error, github.com/BerriAI/litellm/pull/39166",
        "mpagreementbeingcreated",
        text=r"access to the model with the specified model id|is not authorized to perform: bedrock:"
        r"|model access is denied",
        statuses=frozenset({400, 403}),
        scope="credential_model",
    ),
    # -- too long
    _saying(
        "context_length_exceeded",
        "OpenAI, OpenRouter: github.com/langchain-ai/langchain/issues/24058, openrouter.ai/docs (APIErrorType)",
        *("context_length_exceeded", "string_above_max_length", "string_too_long", "payload_too_large"),
        text=r"maximum context length|context[ _](?:length|window|size)",
        statuses=_REQUEST_STATUSES | {403},
    ),
    _saying("context_length_exceeded", "Anthropic: platform.claude.com/docs/en/api/errors", "request_too_large"),
    _saying(
        "context_length_exceeded",
        "Anthropic: github.com/docker/docker-agent/issues/569",
        text=r"exceed context limit",
        statuses=_REQUEST_STATUSES,
    ),
    _saying(
        "context_length_exceeded",
        "llama.cpp: github.com/ggml-org/llama.cpp (tools/server)",
        "exceed_context_size_error",
    ),
    _saying(
        "context_length_exceeded",
        "vLLM: github.com/harbor-framework/harbor/pull/996",
        text=r"reduce the length of the|maximum input length|(?:prompt|input) is too long|too many (?:input )?tokens",
        statuses=_REQUEST_STATUSES,
    ),
    _saying(
        "context_length_exceeded",
        "Together, with status 403: docs.together.ai/docs/error-codes",
        text=r"token count \+ `?max_(?:new_)?tokens",
        statuses=_REQUEST_STATUSES | {403},
    ),
    _saying(
        "context_length_exceeded",
        "Alibaba: help.aliyun.com/en/model-studio/error-code",
        text=r"range of input length",
        statuses=_REQUEST_STATUSES,
    ),
    _saying(
        "context_length_exceeded",
        "Google: github.com/google-gemini/gemini-cli/issues/4231",
        text=r"input token count .{0,40}exceeds the maximum number of tokens",
        statuses=_REQUEST_STATUSES,
    ),
    # -- not allowed to be said
    _saying(
        "content_filter",
        "Azure: learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter",
        *("content_filter", "responsibleaipolicyviolation"),
        text=r"content management policy|content[ _-]filter",
        statuses=_CONTENT_STATUSES,
    ),
    _saying(
        "content_filter",
        "OpenAI: platform.openai.com/docs/guides/safety-best-practices",
        *("content_policy_violation", "moderation_blocked"),
        text=r"content policy|safety system|usage polic|was flagged|were flagged",
        statuses=_CONTENT_STATUSES,
    ),
    _saying(
        "content_filter",
        "OpenAI's Responses: developers.openai.com/api/reference/resources/responses",
        *("image_content_policy_violation", "bio_policy", "misalignment_policy_violation"),
    ),
    _saying(
        "content_filter",
        "OpenRouter: openrouter.ai/docs/errors",
        text=r"requires moderation|input was flagged|\bflagged for\b",
        statuses=_CONTENT_STATUSES,
    ),
    _saying(
        "content_filter",
        "DeepSeek, Alibaba: github.com/deepseek-ai/DeepSeek-V2/issues/30, help.aliyun.com/en/model-studio/error-code",
        *("data_inspection_failed", "datainspectionfailed"),
        text=r"content exists risk|inappropriate content",
        statuses=_CONTENT_STATUSES,
    ),
    # -- not possible with this model
    _saying(
        "unsupported_parameter",
        "OpenAI: github.com/microsoft/vscode-copilot-release/issues/9954",
        *("unsupported_parameter", "unsupported_value", "unknown_parameter"),
        text=r"unsupported (?:parameter|value)|not supported (?:with|by|for) this model",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_parameter",
        "Ollama: github.com/ollama/ollama/issues/14795",
        text=r"does not support (?:tool|image|vision|audio|function|stream|thinking|reasoning|chat|embed|insert)",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_parameter",
        "OpenRouter: openrouter.ai/docs/guides/routing/provider-selection",
        text=r"no endpoints found that support",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_parameter",
        "Amazon: github.com/langchain-ai/langchain-aws/issues/447, github.com/strands-agents/harness-sdk/issues/1241",
        text=r"model doesn.t support (?!on-demand)|is not supported on this model",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_parameter",
        "Google: github.com/google-gemini/deprecated-generative-ai-python/issues/137, "
        "github.com/openai/openai-agents-python/issues/656, ai.google.dev/gemini-api/docs/thinking",
        text=r"is not enabled for models/|with a response mime type: .{0,60} is unsupported"
        r"|^budget \d+ is invalid|thinking budget .{0,60}is (?:invalid|not)",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_parameter",
        "Anthropic: github.com/Metaculus/forecasting-tools/pull/308, "
        "github.com/agenticloops-ai/agentic-ai-engineering/issues/43",
        text=r"is deprecated for this model|does not support assistant message prefill",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        # Another vendor's thoughts, or none where there must be some: somebody else may take the conversation as it is.
        "unsupported_parameter",
        "Anthropic: github.com/anthropics/claude-code/issues/10627, github.com/lbjlaq/Antigravity-Manager/issues/139",
        text=r"invalid `signature` in `thinking` block|must start with a thinking block",
        statuses=_MODEL_STATUSES,
    ),
    # -- no such model here
    _saying(
        "unsupported_model",
        "Anthropic: github.com/mattermost/mattermost-plugin-agents/issues/257",
        text=r"^model: \S+\s*$",
        statuses=frozenset({404}),
    ),
    _saying(
        "unsupported_model",
        "OpenAI, Groq: platform.openai.com/docs/guides/error-codes, console.groq.com/docs/errors",
        *("model_not_found", "model_decommissioned", "model_not_available", "model_not_supported"),
        text=r"\bmodel\b.{0,150}?\b(?:does ?n[o']t exist|not exist|not found|decommissioned|no longer supported)"
        r"|not a chat model",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_model",
        "Azure: github.com/chatboxai/chatbox/issues/646, github.com/MicrosoftDocs/azure-docs/issues/114013",
        *("deploymentnotfound", "operationnotsupported", "unknown_model"),
        text=r"deployment for this resource does not exist",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_model",
        "Mistral: github.com/tmc/langchaingo/issues/1233",
        *("invalid_model", "1500"),
        text=r"invalid model\b",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_model",
        "DeepSeek, Ollama: github.com/ConardLi/easy-dataset/issues/9, github.com/ollama/ollama/blob/main/docs/api.md",
        text=r"model not exist|try pulling it",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_model",
        "OpenRouter, Together, Cloudflare: developers.cloudflare.com/workers-ai/platform/errors",
        text=r"not a valid model|unable to access (?:non-serverless )?model|no endpoints found for|no such model",
        statuses=_MODEL_STATUSES,
    ),
    _saying(
        "unsupported_model",
        "Google: github.com/google-gemini/deprecated-generative-ai-python/issues/746, "
        "github.com/pollinations/pollinations/issues/6148",
        text=r"\bmodels/\S{1,150} (?:is|was) (?:not found|no longer available)|publisher model .{0,200}not found",
        statuses=_MODEL_STATUSES,
    ),
    _saying("unsupported_model", "Alibaba: help.aliyun.com/en/model-studio/error-code", "modelnotfound"),
    _saying(
        # The apostrophe of "isn't" is a curly one.
        "unsupported_model",
        "Amazon: github.com/terricain/aioboto3/issues/352, github.com/cline/cline/issues/7673, "
        "docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html",
        *("resourcenotfoundexception", "ftuformnotfilled"),
        text=r"on-demand throughput isn.t supported|support on-demand throughput|model identifier is invalid",
        statuses=_MODEL_STATUSES,
    ),
    # -- the model itself failed
    _saying(
        "server_error",
        "Amazon, with status 424: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
        *("modelerrorexception", "modelstreamerrorexception"),
    ),
    # -- the contract's own words, wherever they stand
    _saying("insufficient_balance", "the contract", text=r"\bcredits?\b(?! cards?\b)|\bbilling\b"),
    _saying(
        # A quota that is counted by the minute is a rate limit, as Scaleway's and Google's are.
        "insufficient_balance",
        "the contract; scaleway.com/en/docs/generative-apis/api-cli/understanding-errors",
        text=r"^(?!.*\bper[ _-](?:second|minute|hour|day)).*\bquotas?\b",
    ),
    _saying("overloaded", "the contract", text=r"overloaded"),
)

TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("invalid_request_error", "invalid_request", "bad_request", "badrequesterror"), "bad_request"),
    **dict.fromkeys(("invalid_argument", "invalid_prompt", "unprocessable", "validation_error"), "bad_request"),
    **dict.fromkeys(
        ("invalid_image", "invalid_image_format", "invalid_image_mode", "invalid_image_url"), "bad_request"
    ),
    **dict.fromkeys(("invalid_base64_image", "image_too_large", "image_too_small", "image_parse_error"), "bad_request"),
    **dict.fromkeys(("image_file_too_large", "unsupported_image_media_type", "empty_image_file"), "bad_request"),
    **dict.fromkeys(("image_file_not_found", "failed_to_download_image", "data_residency_mismatch"), "bad_request"),
    **dict.fromkeys(("authentication_error", "authentication", "unauthorized", "unauthenticated"), "auth_failed"),
    **dict.fromkeys(("permission_error", "permission_denied", "forbidden"), "auth_failed"),
    **dict.fromkeys(("not_found_error", "not_found", "notfounderror"), "invalid_request"),
    **dict.fromkeys(("rate_limit", "too_many_requests", "requests", "tokens"), "rate_limit"),
    **dict.fromkeys(("timeout", "timeout_error", "request_timeout", "deadline_exceeded"), "timeout"),
    "vector_store_timeout": "timeout",
    **dict.fromkeys(("server_error", "api_error", "internal_error", "internal_server_error"), "server_error"),
    **dict.fromkeys(("internalservererror", "internal", "server", "bad_gateway", "unavailable"), "server_error"),
    **dict.fromkeys(("service_unavailable", "service_unavailable_error", "provider_unavailable"), "server_error"),
    "overloaded": "overloaded",
    **dict.fromkeys(("validationexception", "validationerror"), "bad_request"),
    **dict.fromkeys(("internalserverexception", "internalfailure", "serviceunavailableexception"), "server_error"),
    "accessdeniedexception": "auth_failed",
    "modeltimeoutexception": "timeout",
}
"""What a type means that says less than a status does: asked only where the status is a success, in an answer that
turned out to be an error. From OpenAI's, Anthropic's, Google's, OpenRouter's, vLLM's and Amazon's pages."""

_IN_NAMES: Final = (
    ("insufficient_balance", re.compile(r"quota|credit|billing")),
    ("overloaded", re.compile(r"overloaded")),
)
_ADDRESS: Final = re.compile(r"https?://\S+")

_BY_NAME: Final[Mapping[str, tuple[int, Saying]]] = {
    name: (rank, saying) for rank, saying in reversed(tuple(enumerate(SAYINGS))) for name in saying.names
}
_OUTWEIGHING: Final = tuple(saying for saying in SAYINGS if saying.outweighs)


def meaning(names: Iterable[str], text: str, status: int) -> tuple[str, Blame | None] | None:
    """Our word for what a vendor says, and whom it concerns where that is unusual; `None` where the table is silent.

    Args:
        names: The vendor's codes and types, in lower case.
        text: The vendor's message.
        status: The answer's status, or the one that the error object itself names.
    """
    names = tuple(names)
    text = " ".join(_ADDRESS.sub("", text.lower()).split())
    for saying in _OUTWEIGHING:
        if saying.text is not None and saying.text.search(text):
            return saying.code, saying.scope
    found = min((_BY_NAME[name] for name in names if name in _BY_NAME), key=lambda entry: entry[0], default=None)
    if found is not None:
        return found[1].code, found[1].scope
    for code, pattern in _IN_NAMES:
        if any(pattern.search(name) for name in names):
            return code, None
    for saying in SAYINGS:
        if saying.text is None or (saying.statuses is not None and status not in saying.statuses):
            continue
        if saying.text.search(text):
            return saying.code, saying.scope
    return None
