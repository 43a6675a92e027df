"""A stream of Messages in process: the events that Anthropic sends, and a client of a provider that is respx."""

import httpx
import pytest
import respx
from pydantic import SecretStr

from standby.clients import AnthropicClient, ClientError, Request
from standby.clients._anthropic_stream import MessagesStream
from tests.clients.conftest import NOW
from tests.clients.openai_streams import Scripted
from tests.vendors.anthropic import sent

KEY = "sk-ant-api03-0123456789abcdef"

USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 1}
HEAD = {"id": "msg_01", "type": "message", "role": "assistant", "model": "claude", "content": []}
START = sent("message_start", message={**HEAD, "stop_reason": None, "stop_sequence": None, "usage": USAGE})
PING = sent("ping")
BLOCK = sent("content_block_start", index=0, content_block={"type": "text", "text": ""})
HEL = sent("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"})
LO = sent("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo"})
BLOCK_STOP = sent("content_block_stop", index=0)
END = {"stop_reason": "end_turn", "stop_sequence": None}
WHY = sent("message_delta", delta=END, usage={"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}})
STOP = sent("message_stop")
WHOLE = [START, PING, BLOCK, HEL, LO, BLOCK_STOP, WHY, STOP]
ERROR = sent("error", error={"type": "overloaded_error", "message": "Overloaded"})


def opened(*pieces, headers=None, scrub=str):
    return MessagesStream(Scripted(*pieces, headers=headers), now=NOW, scrub=scrub)


def provider():
    """Anthropic's side: what it answers."""
    return respx.MockRouter(base_url="https://anthropic.test/v1", assert_all_called=False)


def client_of(router, **settings):
    http = httpx.MockTransport(router.async_handler)
    given = {"api_key": SecretStr(KEY), "base_url": "https://anthropic.test", **settings}
    return AnthropicClient(http=http, clock=lambda: NOW, **given)


def request(body=None, endpoint="messages", model="claude-opus-4-6", **fields):
    asked = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello!"}]}
    return Request(model, asked if body is None else body, endpoint, **fields)


async def failure(client, asked=None):
    with pytest.raises(ClientError) as caught:
        await client.send(request() if asked is None else asked)
    return caught.value
