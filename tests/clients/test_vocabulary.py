"""What vendors really say, and the word of the contract that each means."""

import pytest

from standby.clients._answers import failed_answer, vendor_error
from standby.clients._http_answer import HttpAnswer
from standby.clients._vocabulary import SAYINGS, TYPES, meaning


def judged(status, content):
    return failed_answer(HttpAnswer(status, {}, content), now=0.0, scrub=str)


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        # OpenAI
        (
            401,
            (
                b'{"error":{"message":"The OpenAI account associated with this API key has been deactivated.",'
                b'"type":"invalid_request_error","param":null,"code":"account_deactivated"}}'
            ),
            "auth_failed",
        ),
        (
            429,
            (
                b'{"error":{"message":"Your account is not active, please check your billing details on our website.",'
                b'"type":"billing_not_active","param":null,"code":"billing_not_active"}}'
            ),
            "insufficient_balance",
        ),
        (
            429,
            (
                b'{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota",'
                b'"code":"project_spend_limit_exceeded"}}'
            ),
            "insufficient_balance",
        ),
        (
            429,
            (
                b'{"error":{"message":"Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10000. You can increase'
                b' your rate limit by adding a payment method at https://platform.openai.com/account/billing.",'
                b'"type":"tokens","param":null,"code":"rate_limit_exceeded"}}'
            ),
            "rate_limit",
        ),
        (
            429,
            b'{"error":{"message":"Rate limit reached. Visit https://platform.openai.com/account/billing","type":"x"}}',
            "rate_limit",
        ),
        (
            403,
            b'{"error":{"message":"Project `p` does not have access to model `gpt-4`","code":"model_not_found"}}',
            "unsupported_model",
        ),
        (
            400,
            b'{"error":{"message":"Our servers are currently overloaded. Please try again later."}}',
            "overloaded",
        ),
        # Azure
        (
            400,
            b'{"error":{"message":"Filtered.","code":"BadRequest","innererror":{"code":"ResponsibleAIPolicyViolation"}}}',
            "content_filter",
        ),
        (
            429,
            (
                b'{"error":{"code":"429","message":"Requests have exceeded the token rate limit of your S0 pricing tier.'
                b' Please retry after 7 seconds. Go here: https://aka.ms/oai/quotaincrease to increase it."}}'
            ),
            "rate_limit",
        ),
        (
            404,
            b'{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}',
            "unsupported_model",
        ),
        (404, b'{"error":{"code":"404","message":"Resource not found"}}', "invalid_request"),
        # Groq
        (
            400,
            (
                b'{"error":{"message":"The model `x` has been decommissioned and is no longer supported.",'
                b'"type":"invalid_request_error","code":"model_decommissioned"}}'
            ),
            "unsupported_model",
        ),
        (498, b'{"error":{"message":"Flex tier capacity exceeded","code":"capacity_exceeded"}}', "overloaded"),
        # Mistral
        (
            400,
            b'{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}',
            "unsupported_model",
        ),
        (
            429,
            b'{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}',
            "rate_limit",
        ),
        (
            429,
            b'{"object":"error","message":"Service tier capacity exceeded for this model.","code":null}',
            "rate_limit",
        ),
        # DeepSeek
        (402, b'{"error":{"message":"Insufficient Balance","type":"unknown_error"}}', "insufficient_balance"),
        (
            400,
            b'{"error":{"message":"Model Not Exist","type":"invalid_request_error","code":"invalid_request_error"}}',
            "unsupported_model",
        ),
        (400, b'{"detail":"Content Exists Risk"}', "content_filter"),
        # OpenRouter
        (
            403,
            (
                b'{"error":{"code":403,"message":"openai/gpt-4 requires moderation on OpenRouter. Your input was flagged",'
                b'"metadata":{"reasons":["violence"],"flagged_input":"..."}}}'
            ),
            "content_filter",
        ),
        (400, b'{"error":{"message":"foo/bar is not a valid model ID","code":400}}', "unsupported_model"),
        (404, b'{"error":{"message":"No endpoints found that support tool use.","code":404}}', "unsupported_parameter"),
        (404, b'{"error":{"message":"No endpoints found for foo/bar.","code":404}}', "unsupported_model"),
        (
            400,
            b'{"error":{"code":400,"message":"No.","metadata":{"error_type":"context_length_exceeded"}}}',
            "context_length_exceeded",
        ),
        # xAI
        (
            400,
            b'{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***yz."}',
            "invalid_api_key",
        ),
        (
            403,
            (
                b'{"code":"The caller does not have permission","error":"Your newly created team has no licenses yet, and'
                b" doesn't have any credits yet.\"}"
            ),
            "insufficient_balance",
        ),
        # Google
        (
            429,
            (
                b'[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing'
                b' details.\\nPlease retry in 10.6s.","status":"RESOURCE_EXHAUSTED"}}]'
            ),
            "rate_limit",
        ),
        (
            400,
            (
                b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",'
                b'"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]'
            ),
            "invalid_api_key",
        ),
        (402, b'{"error":{"code":402,"message":"Pay.","status":"RESOURCE_EXHAUSTED"}}', "insufficient_balance"),
        # vLLM, llama.cpp, Ollama
        (
            400,
            (
                b'{"error":{"message":"You passed 1015 input tokens and requested 10 output tokens. However, the model\'s'
                b' context length is only 1024 tokens.","type":"BadRequestError","code":400}}'
            ),
            "context_length_exceeded",
        ),
        (404, b'{"error":{"message":"The model `x` does not exist.","type":"NotFoundError"}}', "unsupported_model"),
        (
            400,
            b'{"error":{"code":400,"type":"exceed_context_size_error","message":"request exceeds"}}',
            "context_length_exceeded",
        ),
        (404, b'{"error":"model \\"x\\" not found, try pulling it first"}', "unsupported_model"),
        (400, b'{"error":{"message":"gemma3:4b does not support tools","type":"api_error"}}', "unsupported_parameter"),
        # Together, Fireworks, Scaleway, Alibaba
        (402, b'{"error":{"message":"Payment required"}}', "insufficient_balance"),
        (
            412,
            b'{"error":{"message":"Account x is suspended, possibly due to reaching the monthly spending limit"}}',
            "insufficient_balance",
        ),
        (
            429,
            b'{"message":"You are exceeding your current quota for this model, calculated in requests per minute"}',
            "rate_limit",
        ),
        (
            400,
            b'{"error":{"code":"Arrearage","message":"Please make sure your account is in good standing."}}',
            "insufficient_balance",
        ),
        (429, b'{"error":{"code":"Throttling.RateQuota","message":"Requests rate limit exceeded."}}', "rate_limit"),
        # Words that only look like it
        (400, b'{"error":{"message":"Field `credit card number` is not allowed","code":null}}', "bad_request"),
        (400, b'{"error":{"message":"Unknown field","code":"invalid_request_error"}}', "bad_request"),
        (500, b'{"error":{"message":"The model crashed: file not found"}}', "server_error"),
    ],
)
def test_vendors(status, content, code):
    """Bodies as vendors send them."""
    assert judged(status, content).code == code


@pytest.mark.parametrize("saying", SAYINGS, ids=lambda saying: f"{saying.code}: {saying.source[:40]}")
def test_table(saying):
    """Every entry names its source, says something, and means a word of the contract."""
    assert saying.source
    assert saying.names or saying.text
    assert saying.code in set(TYPES.values()) | {entry.code for entry in SAYINGS}
    assert all(name == name.strip().lower() for name in saying.names)


def test_table__no_word_twice():
    """A word has one meaning."""
    names = [name for saying in SAYINGS for name in saying.names]
    assert len(names) == len(set(names))


def test_order():
    """Of several words the one that stands higher in the table decides: money before everything."""
    assert meaning(["rate_limit_exceeded", "insufficient_quota"], "", 429) == ("insufficient_balance", None)


def test_flex_tier_is_not_the_provider():
    """That one tier is full says nothing of the provider's others."""
    assert judged(498, b'{"error":{"code":"capacity_exceeded","message":"Full."}}').scope == "candidate"


@pytest.mark.parametrize(
    ("data", "message", "names"),
    [
        ({"error": {"message": "m", "code": "C", "type": "t"}}, "m", ("c", "t")),
        ({"error": "m", "code": "C"}, "m", ("c",)),
        ({"errors": [{"code": 7003, "message": "m"}]}, "m", ()),
        ({"detail": "m"}, "m", ()),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, '[{"loc":["body"],"msg":"m"}]', ()),
        ({"message": "m", "code": "c"}, "m", ("c",)),
        ([{"error": {"message": "m", "status": "S"}}], "m", ("s",)),
        ({"error": {"message": 5, "code": ["c"], "details": "d", "innererror": 1, "metadata": []}}, "", ()),
    ],
)
def test_forms(data, message, names):
    """Error objects come in many forms."""
    error = vendor_error(data)
    assert error is not None
    assert (error.message, error.names) == (message, names)


@pytest.mark.parametrize("data", [None, 5, "text", [], [1], {}, {"choices": []}])
def test_forms__none(data):
    """What says nothing of an error is none."""
    assert vendor_error(data) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"upstream connect error", "upstream connect error"),
        (b"<html><head><title>502 Bad Gateway</title></head><body>...</body></html>", "502 Bad Gateway"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
        (b'{"odd":1}', '{"odd":1}'),
    ],
)
def test_plain_text(content, message):
    """Where there is no error object the text is the message; of a page, its title."""
    error = judged(502, content)
    assert (error.message, error.vendor) == (message, None)


def test_vendor__is_bounded():
    """What is kept of an error object has an end, however deep and wide the object is."""
    deep = b'{"error":{"message":"m","x":' + b"[" * 500 + b"]" * 500 + b',"y":[' + b"0," * 5000 + b"0]}}"
    vendor = judged(500, deep).vendor
    assert vendor is not None
    assert len(str(vendor)) < 5000
