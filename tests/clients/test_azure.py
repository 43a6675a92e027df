"""Azure OpenAI: its addresses, its credentials, and what its dated versions know."""

import json

import anyio
import anyio.lowlevel
import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, ClientSettings, Request, client_maker
from standby.clients._azure import AzureOpenAIClient
from tests.clients.openai_streams import HEL, STOP, event

pytestmark = pytest.mark.anyio

RESOURCE = "https://name.openai.azure.com"
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]}
HELLO = {"role": "user", "content": "Hello!"}
FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
        },
    }
}


def azure(answer=None, **settings):
    """A client, and the list of what it sent."""
    sent = []

    def answered(request):
        sent.append(request)
        return answer or httpx.Response(200, json=ANSWER)

    settings = {"base_url": RESOURCE, "http": httpx.MockTransport(answered), **settings}
    return AzureOpenAIClient(**settings), sent


async def chat(client, endpoint="chat/completions", model="gpt-4o", drop=(), **body):
    return await client.send(Request(model, {"messages": [HELLO], **body}, endpoint, drop=drop))


@pytest.mark.parametrize(
    ("version", "endpoint", "url"),
    [
        (None, "chat/completions", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        (None, "embeddings", "/openai/deployments/gpt-4o/embeddings?api-version=2024-10-21"),
        (None, "rerank", "/openai/rerank?api-version=2024-10-21"),
        (
            *("2025-04-01-preview", "images/generations"),
            "/openai/deployments/gpt-4o/images/generations?api-version=2025-04-01-preview",
        ),
        ("2025-04-01-preview", "moderations", "/openai/moderations?api-version=2025-04-01-preview"),
        ("v1", "chat/completions", "/openai/v1/chat/completions"),
        ("preview", "embeddings", "/openai/v1/embeddings?api-version=preview"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "/", "/openai", "/openai/v1/"])
async def test_url(version, endpoint, url, suffix):
    """A dated version is asked of the deployment, where it has it; v1 has no dates, and the model in the body."""
    answer = httpx.Response(200, json=ANSWER | {"data": [], "results": []})
    settings = {} if version is None else {"api_version": version}
    client, sent = azure(answer, base_url=RESOURCE + suffix, **settings)
    await chat(client, endpoint)
    assert str(sent[0].url) == RESOURCE + url
    assert json.loads(sent[0].content)["model"] == "gpt-4o"


@pytest.mark.parametrize("model", ["", "../admin", "a/b", "a?b", "a b", "é", "x" * 129])
async def test_deployment__refused(model):
    """What cannot be the name of a deployment never becomes part of an address."""
    client, sent = azure()
    with pytest.raises(ClientError) as caught:
        await chat(client, model=model)
    assert (caught.value.code, caught.value.work, sent) == ("unsupported_model", "not_sent", [])


async def test_key():
    """The key has a header of its own, and is seen nowhere else."""
    client, sent = azure(api_key=SecretStr("azure-secret-1"))
    await chat(client)
    assert sent[0].headers["api-key"] == "azure-secret-1"
    assert "authorization" not in sent[0].headers
    assert "azure-secret" not in f"{client!r} {vars(client)}"


async def test_key__echoed():
    """A key that an answer repeats is taken out of the error."""
    answer = httpx.Response(401, json={"error": {"code": "401", "message": "Access denied: azure-secret-1"}})
    client, _ = azure(answer, api_key=SecretStr("azure-secret-1"))
    with pytest.raises(ClientError) as caught:
        await chat(client)
    assert caught.value.code == "auth_failed"
    assert "azure-secret" not in f"{caught.value!r} {caught.value.vendor}"


@pytest.mark.parametrize("is_async", [True, False])
async def test_token(is_async):
    """A token is asked for before each call, of a function or of one that must be awaited."""
    tokens = iter(["entra-token-1", "entra-token-2"])

    async def awaited():
        await anyio.lowlevel.checkpoint()
        return next(tokens)

    client, sent = azure(token=awaited if is_async else lambda: next(tokens))
    await chat(client)
    await chat(client)
    assert [request.headers["authorization"] for request in sent] == ["Bearer entra-token-1", "Bearer entra-token-2"]
    assert all("api-key" not in request.headers for request in sent)
    assert "entra-token" not in f"{client!r} {vars(client)}"


async def test_token__streamed():
    """A stream has it too, beside what it expects."""
    answer = httpx.Response(
        200, content=HEL + STOP + b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
    )
    client, sent = azure(answer, token=lambda: "entra-token-1")
    async with client.stream(Request("gpt-4o", {"messages": [HELLO]})) as stream:
        assert await stream.read()
    assert (sent[0].headers["authorization"], sent[0].headers["accept"]) == (
        "Bearer entra-token-1",
        "text/event-stream",
    )


@pytest.mark.parametrize("token", ["", "two\nlines secret-token", None])
async def test_token__none(token):
    """Where there is no token that can be sent nothing is sent, and it is not quoted."""
    client, sent = azure(token=lambda: token)
    with pytest.raises(ClientError) as caught:
        await chat(client)
    assert (caught.value.code, caught.value.scope, caught.value.work) == ("auth_failed", "credential", "not_sent")
    assert not sent
    assert "secret" not in f"{caught.value!r}"


def test_settings():
    """Its address must be given, and a key or a token, not both."""
    with pytest.raises(ValueError, match="base_url"):
        client_maker("azure_openai")(ClientSettings(name="it"))
    with pytest.raises(ValueError, match="either api_key or token"):
        AzureOpenAIClient(base_url=RESOURCE, api_key=SecretStr("azure-secret-1"), token=lambda: "t")
    made = client_maker("azure_openai")(ClientSettings(name="it", base_url=RESOURCE, api_version="v1"))
    assert repr(made) == "AzureOpenAIClient('https://name.openai.azure.com/openai/v1')"


async def test_dated_version():
    """The dated version of 2024 has the older bound and no developer, and refuses what came after it."""
    client, sent = azure()
    body = {"messages": [{"role": "developer", "content": "Be brief."}, HELLO], "max_completion_tokens": 64}
    await client.send(Request("gpt-4o", body))
    assert json.loads(sent[0].content) == {
        "messages": [{"role": "system", "content": "Be brief."}, HELLO],
        "max_tokens": 64,
        "model": "gpt-4o",
    }
    with pytest.raises(ClientError, match="reasoning"):
        await chat(client, reasoning_effort="low")
    assert (await chat(client, reasoning_effort="low", drop=["reasoning"])).dropped == ("reasoning",)


@pytest.mark.parametrize("version", ["v1", "preview", "2024-12-01-preview", "2025-04-01-preview"])
async def test_newer_version(version):
    """Newer ones know what OpenAI knows: the body goes through untouched."""
    client, sent = azure(api_version=version)
    body = b'{ "model":"gpt-4o", "messages":[], "max_completion_tokens":64, "reasoning_effort":"low" }'
    await client.send(Request("gpt-4o", body))
    assert sent[0].content == body


async def test_messages():
    """What is asked in Anthropic's Messages becomes a chat there."""
    client, sent = azure()
    body = {"model": "c", "max_tokens": 64, "messages": [HELLO]}
    response = await client.send(Request("gpt-4o", body, "messages"))
    assert str(sent[0].url) == f"{RESOURCE}/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert json.loads(sent[0].content) == {"model": "gpt-4o", "messages": [HELLO], "max_tokens": 64}
    assert response.data["content"][0]["text"] == "Hi."


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2024-10-21", "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        ("2025-01-01-preview", "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview"),
        ("2025-03-01-preview", "/openai/responses?api-version=2025-03-01-preview"),
        ("v1", "/openai/v1/responses"),
    ],
)
async def test_responses(version, path):
    """OpenAI's Responses go as they are to versions that have them, and as a chat to others."""
    native = path.startswith(("/openai/responses", "/openai/v1"))
    whole = {"status": "completed", "output": [{"type": "function_call"}]}
    client, sent = azure(httpx.Response(200, json=whole if native else ANSWER), api_version=version)
    response = await client.send(Request("gpt-4o", {"model": "c", "input": "Hello!"}, "responses"))
    assert str(sent[0].url) == RESOURCE + path
    told = {"input": "Hello!"} if native else {"messages": [HELLO]}
    assert json.loads(sent[0].content) == {"model": "gpt-4o", **told}
    assert response.data["status"] == "completed"


@pytest.mark.parametrize("endpoint", ["chat/completions", "messages"])
async def test_first_event(endpoint):
    """A stream begins with what the filter found of the prompt, and no choice: that is no content, and no failure."""
    found = event({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    answer = httpx.Response(
        200, content=found + HEL + STOP + b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
    )
    client, _ = azure(answer)
    body = {"max_tokens": 64, "messages": [HELLO]}
    async with client.stream(Request("gpt-4o", body, endpoint)) as stream:
        blocks = []
        while (block := await stream.read()) is not None:
            blocks.append(block)
    assert any(block.content for block in blocks)
    assert stream.finished
    if endpoint == "chat/completions":
        assert (blocks[0].raw, blocks[0].content) == (found, False)


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "scope", "hint"),
    [
        # learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
        (400, FILTERED, {}, "content_filter", "request", None),
        # github.com/chatboxai/chatbox/issues/646
        (
            404,
            {
                "error": {
                    "code": "DeploymentNotFound",
                    "message": "The API deployment for this resource does not exist. If you created the deployment "
                    "within the last 5 minutes, please wait a moment and try again.",
                }
            },
            *({}, "unsupported_model", "candidate", None),
        ),
        # learn.microsoft.com/azure/ai-foundry/openai/how-to/provisioned-get-started
        (
            429,
            {"error": {"code": "429", "message": "Requests to the API have exceeded the token rate limit."}},
            *({"retry-after-ms": "1500", "retry-after": "2"}, "rate_limit", "credential_model", 1.5),
        ),
        # github.com/SciSharp/BotSharp/issues/386
        (
            401,
            {
                "error": {
                    "code": "401",
                    "message": "Access denied due to invalid subscription key or wrong API endpoint.",
                }
            },
            *({}, "auth_failed", "credential", None),
        ),
        # github.com/davrous/AzureAgentToM365/issues/3
        (
            401,
            {"error": {"code": "PermissionDenied", "message": "The principal lacks the required data action."}},
            *({}, "auth_failed", "credential", None),
        ),
        (
            500,
            {"error": {"code": "InternalServerError", "message": "It broke."}},
            {},
            "server_error",
            "candidate",
            None,
        ),
    ],
)
async def test_errors(status, body, headers, code, scope, hint):
    """Azure's words, each with its page, in the contract's; its id of the call comes with them."""
    client, _ = azure(httpx.Response(status, json=body, headers={"apim-request-id": "req-1", **headers}))
    with pytest.raises(ClientError) as caught:
        await chat(client)
    error = caught.value
    assert (error.code, error.status, error.scope, error.hint) == (code, status, scope, hint)
    assert (error.request_id, error.vendor) == ("req-1", body["error"])
