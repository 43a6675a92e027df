"""The table of `docs/providers.md`, cell by cell: each feature with each client, on the wire of its vendor.

Where a client can do it the vendor is asked for it, or its answer is told, plain and as a stream. Where it cannot, the
request is refused by the feature's name before anything is sent, or sent without it where that is allowed.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import distribution
from itertools import product

import httpx
import pytest
from pydantic import SecretStr

from standby.clients import ClientError, ClientSettings, Request
from standby.clients._registry import client_maker
from standby.clients.dialects import ANSWERS, FEATURES, Conversation, Refusal, Text, Thinking, ToolCall, ToolResult
from standby.clients.dialects._chat import Chat
from standby.clients.dialects._chat_server import OPENAI, nine_letters
from standby.clients.dialects._messages import MESSAGES
from standby.clients.wires import OWN_WIRES, WIRES_LIKE_OPENAI
from tests.clients.canonical import assembled, canonical
from tests.clients.examples import ANSWERS_BY_NAME, CONVERSATIONS
from tests.clients.examples import QUESTION as ASKED
from tests.vendors.kinds import VENDORS

BY_NAME = {feature.name: feature for feature in FEATURES}
CLIENTS = {**OWN_WIRES, **WIRES_LIKE_OPENAI}
CALLERS = {
    "chat/completions": Chat(
        replace(OPENAI, name="", thinks_in_full=True)
    ),  # with signatures, as callers may have them
    "messages": MESSAGES,
}
"""What a caller may speak, of the dialects that are written here too."""
SETTINGS = {
    "bedrock": {"region": "eu-central-1"},
    "azure_openai": {"base_url": "https://name.openai.azure.com"},
}
"""What a client needs beside a key."""
QUESTION = Conversation(messages=(ASKED,))
QUESTIONS = {
    "answer_logprobs": replace(QUESTION, logprobs=2),
    **dict.fromkeys(
        ("answer_usage", "answer_cached_tokens", "answer_cache_write_tokens", "answer_reasoning_tokens"),
        replace(QUESTION, include_usage=True),
    ),
}
SAYS_NOTHING_OF = {("messages", "answer_logprobs")}
"""Dialects in which an answer cannot tell a thing."""
OWN = {**dict.fromkeys(("openai", *WIRES_LIKE_OPENAI), "chat/completions"), "anthropic": "messages"}
"""What a client passes on as it is."""
SIGNED_BY = {"anthropic": "anthropic", "gemini": "gemini", "bedrock": "anthropic", "openrouter": "openrouter"}
"""Who takes no thoughts but its own, and whose name it knows them by, in front of their signature."""
FORGETS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(WIRES_LIKE_OPENAI, ("developer", "schema_name", "media_type_of_url")),
    "openai": ("schema_name",),
    "deepseek": ("developer", "thought_signature"),
    "anthropic": ("developer", "media_type_of_url", "schema_name", "schema_strict"),
    "gemini": ("developer", "media_type_of_url", "file_name", "schema_name", "schema_strict"),
    "bedrock": ("developer", "file_name", "schema_strict"),
}
"""What each vendor has no word for though it loses nothing by it; see `canonical`."""

VENDOR_OF = {name: VENDORS[wire.name if wire.name in VENDORS else "openai"] for name, wire in CLIENTS.items()}


def example(name, client):
    """The example of a feature, as this vendor can be asked for it."""
    conversation = CONVERSATIONS[name]
    if (name, client) == ("service_tier", "anthropic"):
        return replace(conversation, service_tier="default")
    if name == "thinking":
        question, said, again = conversation.messages
        thought, text = said.parts
        signed = replace(thought, signature=f"{SIGNED_BY.get(client, 'anthropic')}:{thought.signature}")
        return replace(conversation, messages=(question, replace(said, parts=(signed, text)), again))
    return conversation


@cache
def words_for(name, client):
    """How a caller asks this client for a feature: an endpoint and a body, in other words than the vendor's if there are any.

    `None` where no dialect has a word for it but the vendor's own has not either.
    """
    conversation = example(name, client)
    for endpoint in sorted(CALLERS, key=lambda endpoint: endpoint == OWN.get(client)):
        dialect = CALLERS[endpoint]
        body = dialect.written(conversation, "some-model", stream=False)
        asked = dialect.conversation(json.loads(body))
        if BY_NAME[name].asked(asked) and (name != "thinking" or asked.messages == conversation.messages):
            return endpoint, body
    return None


class Seen:
    """A client, and what its vendor has heard of it; the vendor answers what it is told to."""

    def __init__(self, client, answer):
        self.requests = []
        self.vendor = VENDOR_OF[client]
        self._answer = answer
        settings = ClientSettings(
            name=client,
            api_key=SecretStr("sk-test-0123456789"),
            http=httpx.MockTransport(self._answered),
            **SETTINGS.get(client, {}),
        )
        self.client = client_maker(client)(settings)

    def _answered(self, request):
        self.requests.append(request)
        if self.vendor.asks_for_stream(request.url.path, request.content):
            headers = {"content-type": self.vendor.stream_type}
            return httpx.Response(200, headers=headers, content=self.vendor.stream(self._answer))
        return httpx.Response(200, json=json.loads(self.vendor.answer(self._answer)))

    async def ask(self, endpoint, body, *, stream, drop=()):
        """What the caller gets, and what was left out of what it asked."""
        request = Request(self.vendor.model, body, endpoint, drop=drop)
        if not stream:
            response = await self.client.send(request)
            return response.content, response.dropped
        async with self.client.stream(request) as read:
            blocks = [block.raw async for block in _blocks(read)]
            return b"".join(blocks), read.dropped


async def _blocks(stream):
    while (block := await stream.read()) is not None:
        yield block


@pytest.fixture
def anyio_backend():
    """One event loop is enough: nothing here waits."""
    return "asyncio"


pytestmark = pytest.mark.anyio
CELLS = [(client, name) for client in CLIENTS for name in BY_NAME]
CAN = [(client, name) for client, name in CELLS if name in CLIENTS[client].supports]
CANNOT = [cell for cell in CELLS if cell not in CAN]
TELLS = [(client, name) for client, wire in CLIENTS.items() for name in ANSWERS if name in wire.supports]
TELLS_NOT = [
    (client, name)
    for client, wire in CLIENTS.items()
    for name in ANSWERS
    if name not in wire.supports and VENDOR_OF[client].name != "openai"  # whose form others fill with more
]


def test_every_client_of_ours_has_a_column():
    """A client without one would do nobody knows what."""
    ours = {entry.name for entry in distribution("standby").entry_points if entry.group == "standby.clients"}
    assert set(CLIENTS) == ours


@pytest.mark.parametrize("client", CLIENTS)
def test_a_column_names_nothing_else(client):
    """What a wire says it can do is in the table."""
    assert CLIENTS[client].supports.keys() <= BY_NAME.keys() | ANSWERS.keys()


@pytest.mark.parametrize(("client", "name"), CAN)
async def test_what_a_client_can_do_its_vendor_is_asked(client, name):
    """The vendor understands the same: the turns as they were, and the feature with its value."""
    endpoint, body = words_for(name, client)
    for stream in (False, True):
        seen = Seen(client, TWICE if name == "n" else HELLO)
        _, dropped = await seen.ask(endpoint, body, stream=stream)
        assert dropped == ()
        assert_same(name, example(name, client), seen.vendor.conversation_of(seen.requests[0].content), client)


def assert_same(name, asked, heard, client):
    """What was heard is what was asked, as far as this is about one feature."""
    forgets = "whose_signature", *FORGETS[client]
    if client == "mistral":  # which has ids of nine letters
        asked = renamed(asked, nine_letters)
    asked, heard = canonical(asked, *forgets), canonical(heard, *forgets)
    assert heard.messages == asked.messages
    assert heard.tools == asked.tools
    if name == "reasoning":  # which some measure otherwise
        assert heard.reasoning.effort == "high"
    elif hasattr(asked, name):
        assert getattr(heard, name) == getattr(asked, name)
    elif name.startswith("json"):
        assert heard.response_format == asked.response_format


def renamed(conversation, name):
    """The conversation with other ids of calls."""

    def other(part):
        return replace(part, id=name(part.id)) if isinstance(part, ToolCall | ToolResult) else part

    messages = (replace(each, parts=tuple(map(other, each.parts))) for each in conversation.messages)
    return replace(conversation, messages=tuple(messages))


@pytest.mark.parametrize(("client", "name"), CANNOT)
async def test_what_a_client_cannot_do_is_refused_or_left_out(client, name):
    """Refused by name, and nothing is sent; where it may be left out the rest is sent, and that is told."""
    endpoint, body = words_for(name, client)
    can_go = BY_NAME[name].without is not None
    cannot = [each for each, feature in BY_NAME.items() if feature.asked(example(name, client))]
    cannot = [each for each in cannot if each not in CLIENTS[client].supports]
    for stream in (False, True):
        seen = Seen(client, HELLO)
        for drop in ((), () if can_go else (name,)):
            with pytest.raises(ClientError, match=rf"cannot do what is asked: .*\b{name}\b") as refused:
                await seen.ask(endpoint, body, stream=stream, drop=drop)
            assert (refused.value.code, refused.value.vendor["param"] in cannot) == ("unsupported_parameter", True)
        assert seen.requests == []
        if can_go:
            _, dropped = await seen.ask(endpoint, body, stream=stream, drop=cannot)
            assert name in dropped
            assert set(dropped) <= set(cannot)
            assert not BY_NAME[name].asked(seen.vendor.conversation_of(seen.requests[0].content))


HELLO = ANSWERS_BY_NAME["answer_text"]
TWICE = replace(HELLO, choices=HELLO.choices * 2)


def told(name, answer):
    """What an answer tells of one thing."""
    [choice] = answer.choices
    parts = {"answer_text": Text, "answer_tool_calls": ToolCall, "answer_refusal": Refusal}
    match name:
        case "answer_thinking":
            return [part.text for part in choice.parts if isinstance(part, Thinking)]
        case "answer_signature":
            signed = (part for part in choice.parts if isinstance(part, Thinking))
            return [part.signature.rpartition(":")[2] for part in signed if part.signature]
        case "answer_logprobs":
            return choice.logprobs
        case "answer_finish":
            return choice.finish
        case "answer_stop_sequence":
            return choice.stop_sequence
        case "answer_id":
            return answer.id.removeprefix("chatcmpl-").removeprefix("msg_")
        case "answer_usage":
            return answer.usage and (answer.usage.input_tokens, answer.usage.output_tokens)
        case _ if name in parts:
            return [part for part in choice.parts if isinstance(part, parts[name])]
        case _:
            return getattr(answer.usage, name.removeprefix("answer_"), 0)


def read(endpoint, content, *, stream):
    """The answer that a caller of this dialect reads."""
    wire = CALLERS[endpoint]
    if not stream:
        return canonical(wire.read(json.loads(content)))
    frames, reader = wire.frames(), wire.reader()
    events = [*frames.feed(content), *frames.rest()]
    return canonical(assembled(delta for event in events if event.data for delta in reader.read(event)))


@pytest.mark.parametrize(("client", "name"), TELLS)
async def test_what_a_client_tells_its_caller_hears(client, name):
    """In the words of every dialect that has some for it."""
    answer = canonical(ANSWERS_BY_NAME[name])
    seen = Seen(client, answer)
    for endpoint, stream in product(CALLERS, (False, True)):
        if (endpoint, name) in SAYS_NOTHING_OF:
            continue
        body = CALLERS[endpoint].written(QUESTIONS.get(name, QUESTION), "some-model", stream=stream)
        content, _ = await seen.ask(endpoint, body, stream=stream)
        assert told(name, read(endpoint, content, stream=stream)) == told(name, answer)


@pytest.mark.parametrize(("client", "name"), TELLS_NOT)
def test_what_a_client_does_not_tell_its_vendor_has_no_word_for(client, name):
    """There is nothing in the vendor's answer that is not read."""
    wire, vendor = CLIENTS[client], VENDOR_OF[client]
    try:
        content = vendor.answer(ANSWERS_BY_NAME[name])
    except (KeyError, AttributeError):
        return  # it cannot even be written
    assert not told(name, wire.read(json.loads(content)))
