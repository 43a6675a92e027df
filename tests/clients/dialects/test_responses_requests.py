"""Requests to OpenAI's Responses API: what asks for nothing, what nobody else can do, and what is no request."""

import pytest

from standby.clients.dialects import (
    Conversation,
    InvalidRequest,
    Message,
    Reasoning,
    Text,
    Thinking,
    ToolChoice,
    dialect_of,
)

TOOL = {"type": "function", "name": "f", "parameters": None, "strict": None}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "ok"}
HELLO = Message("user", (Text("Hello!"),))


def read(**asked):
    return dialect_of("responses").conversation({"model": "m", "input": "Hello!", **asked})


def item(**its):
    return read(input=[{"role": "user", "content": "Hello!"}, its])


@pytest.mark.parametrize(
    "asked",
    [
        {"store": False},
        {"store": None},
        {"background": False},
        {"parallel_tool_calls": True},
        {"service_tier": "auto"},
        {"truncation": "disabled"},
        {"tool_choice": "auto"},
        {"tool_choice": "none"},
        {"tools": []},
        {"include": ["reasoning.encrypted_content"]},
        {"include": None},
        {"top_logprobs": 0},
        {"metadata": {}},
        {"instructions": ""},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}},
        {"reasoning": {"effort": None, "summary": None, "context": "auto", "mode": "standard"}},
        {"previous_response_id": None, "conversation": None, "prompt": None},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
    ],
    ids=str,
)
def test_what_is_as_if_left_out(asked):
    """A parameter at the value that it has when it is left out asks for nothing."""
    assert read(**asked) == Conversation(messages=(HELLO,), include_usage=True)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"include": ["file_search_call.results"]}, "include.file_search_call.results"),
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
        ({"tools": [{"type": "mcp", "server_label": "s"}]}, "tools.mcp"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools.custom"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.function.defer_loading"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.file_search"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.allowed_tools"),
        ({"text": {"something_new": 1}}, "text.something_new"),
        ({"something_new": 1}, "something_new"),
    ],
    ids=str,
)
def test_what_nobody_else_can_do(asked, name):
    """What only OpenAI's own servers can do is kept by its name, to be refused or dropped, and nothing else is."""
    assert list(read(**asked).extra) == [name]


@pytest.mark.parametrize(
    ("its", "name"),
    [
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, "input.web_search_call"),
        ({"type": "item_reference", "id": "msg_1"}, "input.item_reference"),
        ({"id": "msg_1"}, "input.item_reference"),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": ""}, "input.custom_tool_call_output"),
        ({"role": "assistant", "content": "Hi.", "phase": "commentary"}, "message.phase"),
        ({**CALL, "namespace": "n"}, "function_call.namespace"),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "file-1", "detail": "auto"}]},
            "input_image.file_id",
        ),
        (
            {"role": "user", "content": [{"type": "input_file", "file_id": "file-1", "detail": "high"}]},
            "input_file.detail",
        ),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input.input_audio"),
    ],
    ids=str,
)
def test_what_nobody_else_understands(its, name):
    """An item that only OpenAI's own servers understand is kept by its name, and nothing else is."""
    assert list(item(**its).extra) == [name]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": ["Hello!"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": ""}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"text": "Hello!"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:what"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id"),
        ({"input": [{**CALL, "arguments": "what?"}]}, "input[0].arguments"),
        ({"input": [{**RESULT, "output": 1}]}, "input[0].output"),
        ({"input": [{**RESULT, "output": [{"type": "refusal", "refusal": "No."}]}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": [{}]}]}, "input[0].summary[0].text"),
        ({"instructions": 1}, "instructions"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning.effort"),
        ({"include": [1]}, "include[0]"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
    ids=str,
)
def test_what_is_no_request(asked, param):
    """What is not of the dialect is refused by its place."""
    with pytest.raises(InvalidRequest) as caught:
        read(**asked)
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param} must ")


@pytest.mark.parametrize("key", ["previous_response_id", "conversation", "prompt"])
def test_no_input(key):
    """What the vendor keeps may take the place of an input: such a request is not wrong, but only the vendor's to answer."""
    conversation = read(input=None, **{key: "id"})
    assert (conversation.messages, list(conversation.extra)) == ((), [key])


def test_items_of_one_turn():
    """What the model says in several items is one turn, and so are the results of its calls."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]}
    turns = read(input=[said, CALL, {**CALL, "call_id": "d"}, RESULT, {**RESULT, "call_id": "d"}]).messages
    assert [(turn.role, len(turn.parts)) for turn in turns] == [("assistant", 3), ("tool", 2)]


def test_instructions():
    """Instructions come first, as what the system says."""
    assert read(instructions="Be brief.").messages == (Message("system", (Text("Be brief."),)), HELLO)


@pytest.mark.parametrize(
    ("encrypted", "thought"),
    [
        (None, Thinking("One.\n\nTwo.")),
        ("thinking.c2ln", Thinking("One.\n\nTwo.", "c2ln")),
        ("redacted_thinking.c2ln", Thinking("One.\n\nTwo.", "c2ln", redacted=True)),
        ("gAAAA", Thinking("One.\n\nTwo.", "openai:gAAAA")),
    ],
)
def test_thoughts(encrypted, thought):
    """A thought comes back as it was told; one that OpenAI's own servers sealed is theirs."""
    summary = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    asked = item(type="reasoning", id="rs_1", summary=summary, encrypted_content=encrypted)
    assert asked.messages[1:] == (Message("assistant", (thought,)),)


@pytest.mark.parametrize(("encrypted", "signature"), [("gAAAA", "openai:gAAAA"), (None, "openai:rs_1")])
def test_thoughts__hidden(encrypted, signature):
    """What only OpenAI's own servers can read, or keep under its id, is a thought all the same, and nobody else's."""
    asked = item(type="reasoning", id="rs_1", summary=[], encrypted_content=encrypted)
    assert asked.messages[1:] == (Message("assistant", (Thinking("", signature, redacted=True),)),)


def test_thoughts__in_full():
    """The thoughts themselves are better than a summary of them."""
    content, summary = ([{"type": kind, "text": kind}] for kind in ("reasoning_text", "summary_text"))
    asked = item(type="reasoning", id="rs_1", content=content, summary=summary)
    assert asked.messages[1:] == (Message("assistant", (Thinking("reasoning_text"),)),)


@pytest.mark.parametrize("key", ["summary", "generate_summary"])
@pytest.mark.parametrize("how", ["auto", "concise", "detailed"])
def test_summary(key, how):
    """A summary of the thoughts is wanted, however long."""
    assert read(reasoning={key: how}).reasoning == Reasoning(shown=True)


@pytest.mark.parametrize(
    ("asked", "alternatives"),
    [
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, 3),
        ({"top_logprobs": 3}, 3),
    ],
)
def test_logprobs(asked, alternatives):
    """How likely tokens are is told to whoever includes it, or says how many alternatives are wanted."""
    assert read(**asked).logprobs == alternatives


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ("auto", None),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("tool", "f")),
    ],
    ids=str,
)
def test_tool_choice(asked, choice):
    """With tools, to forbid them asks for something as well."""
    assert read(tools=[TOOL], tool_choice=asked).tool_choice == choice


@pytest.mark.parametrize(
    ("asked", "user"),
    [({"user": "a"}, "a"), ({"safety_identifier": "b"}, "b"), ({"user": "a", "safety_identifier": "b"}, "b")],
)
def test_user(asked, user):
    """The newer name of the caller's own user wins."""
    assert read(**asked).user == user
