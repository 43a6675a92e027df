"""How to talk to a provider: the client protocol, its values, and the clients that come with Standby."""

from typing import TYPE_CHECKING

from ._answers import client_error_of
from ._body import Body, InvalidBody
from ._errors import Blame, ClientError, Work, redacted
from ._hints import retry_hint
from ._protocols import (
    EVENT_STREAM,
    Block,
    Chunk,
    ProviderClient,
    ProviderStream,
    Request,
    Response,
    StreamingClient,
    Usage,
)
from ._registry import ClientMaker, ClientSettings, client_maker

if TYPE_CHECKING:
    from ._adapt import SdkClient, adapt
    from ._anthropic import ANTHROPIC_BASE_URL, AnthropicClient
    from ._azure import AZURE_API_VERSION, AzureOpenAIClient
    from ._bedrock import BedrockClient
    from ._counting import COUNT_TOKENS, counts_tokens, estimated_count
    from ._form import Form
    from ._gemini import GEMINI_BASE_URL, GeminiClient
    from ._http import Host
    from ._openai import OPENAI_BASE_URL, OpenAIClient
    from ._pool import HttpPool
    from ._token import Token
    from .dialects._chat_server import ChatServer

__all__ = [
    "Blame",
    "Block",
    "Body",
    "Chunk",
    "ClientError",
    "ClientMaker",
    "ClientSettings",
    "EVENT_STREAM",
    "Form",
    "InvalidBody",
    "ProviderClient",
    "ProviderStream",
    "Request",
    "Response",
    "StreamingClient",
    "Usage",
    "Work",
    "client_error_of",
    "client_maker",
    "redacted",
    "retry_hint",
    "Host",
    "HttpPool",
    "Token",
    "OpenAIClient",
    "OPENAI_BASE_URL",
    "COUNT_TOKENS",
    "counts_tokens",
    "estimated_count",
    "ChatServer",
    "AzureOpenAIClient",
    "AZURE_API_VERSION",
    "AnthropicClient",
    "ANTHROPIC_BASE_URL",
    "BedrockClient",
    "GeminiClient",
    "GEMINI_BASE_URL",
    "SdkClient",
    "adapt",
]

_SPEAKING_HTTP = {
    "ANTHROPIC_BASE_URL": "_anthropic",
    "AnthropicClient": "_anthropic",
    "BedrockClient": "_bedrock",
    "COUNT_TOKENS": "_counting",
    "counts_tokens": "_counting",
    "estimated_count": "_counting",
    "AZURE_API_VERSION": "_azure",
    "AzureOpenAIClient": "_azure",
    "ChatServer": "dialects._chat_server",
    "Form": "_form",
    "GEMINI_BASE_URL": "_gemini",
    "GeminiClient": "_gemini",
    "Host": "_http",
    "HttpPool": "_pool",
    "OPENAI_BASE_URL": "_openai",
    "OpenAIClient": "_openai",
    "SdkClient": "_adapt",
    "adapt": "_adapt",
    "Token": "_token",
}


def __getattr__(name: str) -> object:
    """Import what speaks HTTP when it is first asked for: that takes half a second, and explaining needs none of it."""
    if name not in _SPEAKING_HTTP:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    value: object = getattr(import_module(f".{_SPEAKING_HTTP[name]}", __name__), name)
    globals()[name] = value
    return value
