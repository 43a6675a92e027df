"""Gemini's wire: what is written is read by the vendor's side as it was meant, and what that answers is read here."""

import json
from dataclasses import replace

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import ClientError
from standby.clients._sse import Event, events_in
from standby.clients.dialects import (
    Answer,
    Choice,
    Conversation,
    Image,
    Logprob,
    Message,
    NotAnAnswer,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    dialect_of,
    fitted,
)
from standby.clients.dialects._gemini import GEMINI
from tests.clients.canonical import assembled, canonical
from tests.clients.conversations import answers, conversations, few
from tests.vendors.gemini import NO_SIGNATURE, body_of, conversation_of, stream_of

MODEL = "gemini-3-pro-preview"
FORGETS = ("refusal", "file_name", "developer", "schema_name", "schema_strict")
GENERATED = GEMINI.supports.keys() - {"image_detail"}  # one for all images: golden files have it
FINISHES = ("stop", "length", "content_filter")


def signed_here(part):
    """A thought as Gemini's are: in words, and with a mark."""
    if not isinstance(part, Thinking):
        return part
    signature = part.signature and f"gemini:{part.signature}"
    return replace(part, text=part.text or "Hm.", signature=signature, redacted=False)


def of_gemini(said):
    """What was said, its thoughts Gemini's own."""
    if isinstance(said, Answer):
        return replace(said, choices=tuple(map(of_gemini, said.choices)))
    if isinstance(said, Conversation):
        return replace(said, messages=tuple(map(of_gemini, said.messages)))
    return replace(said, parts=tuple(map(signed_here, said.parts)))


def with_signed_calls(parts):
    """The signature of a thought right before a call is the call's, if that has none."""
    moved = []
    for part in parts:
        thought = moved[-1] if moved and isinstance(moved[-1], Thinking) else None
        if isinstance(part, ToolCall) and not part.signature and thought is not None:
            moved[-1:] = [replace(thought, signature="")] if thought.text else []
            moved.append(replace(part, signature=thought.signature.removeprefix("gemini:")))
        else:
            moved.append(part)
    return tuple(moved)


def as_gemini_has_it(conversation):
    """The same conversation where instructions come first, results have texts first, and strict are all tools or none."""
    instructions = [message for message in conversation.messages if message.role in ("system", "developer")]
    turns = [message for message in conversation.messages if message not in instructions]
    if instructions:
        parts = tuple(part for message in instructions for part in message.parts)
        turns.insert(0, Message("system", parts))
    free = conversation.tool_choice is None or conversation.tool_choice.kind == "auto"
    strict = True if free and any(tool.strict for tool in conversation.tools) else None
    return replace(
        conversation,
        messages=tuple(
            replace(
                message,
                parts=with_signed_calls(
                    replace(part, parts=tuple(sorted(part.parts, key=lambda each: not isinstance(each, Text))))
                    if isinstance(part, ToolResult)
                    else part
                    for part in message.parts
                ),
            )
            for message in turns
        ),
        tools=tuple(replace(tool, strict=strict) for tool in conversation.tools),
    )


def written(conversation, model=MODEL):
    return json.loads(GEMINI.written(conversation, model, stream=False))


def asked(*parts, **fields):
    return Conversation(messages=(Message("user", parts or (Text("Hi."),)),), **fields)


def streamed(content, size):
    """The deltas of a stream that comes in pieces."""
    frames, reader = GEMINI.frames(), GEMINI.reader()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    events = [event for piece in pieces for event in frames.feed(piece)] + list(frames.rest())
    return [delta for event in events for delta in reader.read(event)]


def read_event(data):
    return list(GEMINI.reader().read(Event(json.dumps(data).encode(), "message")))


@few
@given(conversations(GENERATED, signed_calls=True).map(of_gemini))
def test_conversation(conversation):
    """What the vendor reads is what was asked; nothing is dropped, and Google's own types take the body."""
    fit, dropped = fitted(conversation, GEMINI, ())
    body = written(fit)
    assert not dropped
    assert canonical(conversation_of(body)) == canonical(as_gemini_has_it(conversation), *FORGETS)
    for content in (*body["contents"], *([body["systemInstruction"]] if "systemInstruction" in body else ())):
        types.Content.model_validate_json(json.dumps(content))
    for tool in body.get("tools", ()):
        types.Tool.model_validate_json(json.dumps(tool))
    types.ToolConfig.model_validate_json(json.dumps(body.get("toolConfig", {})))
    types.GenerationConfig.model_validate_json(json.dumps(body.get("generationConfig", {})))
    assert body.get("serviceTier", "flex") in set(types.ServiceTier)


@few
@given(conversations(GENERATED, signed_calls=True).map(of_gemini))
def test_conversation__turns(conversation):
    """All results of one turn's calls are in the next turn, and the first call of a turn is signed."""
    contents = written(conversation)["contents"]
    for content, after in zip(contents, [*contents[1:], {"parts": []}], strict=True):
        calls = [part for part in content["parts"] if "functionCall" in part]
        results = [part["functionResponse"] for part in after["parts"] if "functionResponse" in part]
        if calls:
            assert [(part["functionCall"]["id"], part["functionCall"]["name"]) for part in calls] == [
                (result["id"], result["name"]) for result in results
            ]
            assert calls[0]["thoughtSignature"]


@few
@given(answers(GEMINI.supports, id_prefix="", finishes=FINISHES, signed_calls=True).map(of_gemini))
def test_answer(answer):
    """A whole answer is read as it was meant."""
    body = body_of(answer)
    types.GenerateContentResponse.model_validate_json(json.dumps(body))
    assert canonical(GEMINI.read(body)) == canonical(answer)


@few
@given(answers(GEMINI.supports, id_prefix="", finishes=FINISHES, signed_calls=True).map(of_gemini), st.integers(1, 400))
def test_stream(answer, size):
    """And so is a stream, in whatever pieces it comes."""
    assert canonical(assembled(streamed(stream_of(answer), size))) == canonical(answer)


@pytest.mark.parametrize(
    ("conversation", "feature"),
    [
        (asked(stop=("a", "b", "c", "d", "e", "f")), "stop"),
        (asked(temperature=2.1), "temperature"),
        (asked(n=9), "n"),
        (asked(seed=2**31), "seed"),
        (asked(seed=-(2**31) - 1), "seed"),
        (asked(service_tier="scale"), "service_tier"),
        (asked(reasoning=Reasoning("a bit")), "reasoning"),
        (asked(Image(url="https://a.example/b", detail="low"), Image(url="https://a.example/c")), "image_detail"),
        (asked(Image(url="https://a.example/b", detail="original")), "image_detail"),
        (Conversation(messages=(Message("system", (Text("Be kind."),)),)), "system"),
        (Conversation(messages=(Message("system", (Image(data="QQ=="),)), Message("user", (Text("Hi."),)))), "system"),
        (asked(ToolResult("call_1", (Text("15C"),))), "tool_results"),
        (asked(ToolCall("call_1", "now", "[1]")), "tool_results"),
        (asked(ToolCall("call_1", "now", "{")), "tool_results"),
        (asked(Thinking("Hm.", "QQ==")), "thinking"),
        (asked(Thinking("", "QQ==", redacted=True)), "thinking"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lacks(conversation, feature):
    """What is out of its range is refused by name, before anything is sent."""
    with pytest.raises(ClientError) as caught:
        fitted(conversation, GEMINI, ())
    assert (caught.value.code, caught.value.vendor) == ("unsupported_parameter", {"param": feature})


@pytest.mark.parametrize(
    "conversation",
    [
        asked(stop=("a", "b", "c", "d", "e"), temperature=2.0, n=8, seed=2**31 - 1),
        asked(seed=-(2**31), temperature=0.0),
        asked(
            Image(data="QQ==", media_type="image/png", detail="high"), Image(url="https://a.example/b", detail="high")
        ),
        asked(Thinking("Hm.")),
        asked(ToolCall("call_1", "now", "")),
    ],
)
def test_lacks__edges(conversation):
    """What is just within its range is sent."""
    assert fitted(conversation, GEMINI, ()) == (conversation, ())


def test_others_thoughts():
    """Another vendor's thoughts are left out, with the signatures of calls, where the request allows it."""
    said = Message("assistant", (Thinking("Hm.", "QQ=="), ToolCall("call_1", "now", "{}")))
    conversation = Conversation(messages=(Message("user", (Text("Hi."),)), said))
    fit, dropped = fitted(conversation, GEMINI, {"thinking"})
    assert dropped == ("thinking",)
    call = {"functionCall": {"id": "call_1", "name": "now", "args": {}}, "thoughtSignature": NO_SIGNATURE}
    assert written(fit)["contents"][1]["parts"] == [call]


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("gemini-3-flash-preview", True),
        ("gemini-3.1-pro", True),
        ("gemini-flash-latest", True),
        ("gemini-10-pro", True),
        ("projects/1/locations/eu/endpoints/2", True),
        ("gemini-2.5-pro", False),
        ("models/gemini-2.0-flash-001", False),
        ("gemini-1.5-flash", False),
        ("gemma-3-27b-it", False),
    ],
)
def test_generation(model, signed):
    """Models before Gemini 3 have budgets for levels, and want no signatures."""
    said = Message("assistant", (ToolCall("call_1", "now", "{}"),))
    body = written(Conversation(messages=(said,), reasoning=Reasoning("high")), model)
    assert ("thoughtSignature" in body["contents"][0]["parts"][0]) is signed
    expected = {"thinkingLevel": "HIGH"} if signed else {"thinkingBudget": 24576}
    assert body["generationConfig"]["thinkingConfig"] == expected


@pytest.mark.parametrize(
    ("effort", "level", "budget"),
    [
        ("none", "MINIMAL", 0),
        ("minimal", "MINIMAL", 1024),
        ("low", "LOW", 1024),
        ("medium", "MEDIUM", 8192),
        ("high", "HIGH", 24576),
        ("xhigh", "HIGH", 24576),
        ("max", "HIGH", 24576),
    ],
)
def test_effort(effort, level, budget):
    """Each effort is a level or a budget, as Google's own table has it; a budget that was named wins."""
    conversation = asked(reasoning=Reasoning(effort))
    assert written(conversation)["generationConfig"]["thinkingConfig"] == {"thinkingLevel": level}
    before = written(conversation, "gemini-2.5-flash")
    assert before["generationConfig"]["thinkingConfig"] == {"thinkingBudget": budget}
    named = written(asked(reasoning=Reasoning(effort, 7)))
    assert named["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 7}


LOOPED = Answer(
    "resp1",
    "gemini-3-pro",
    (
        Choice(
            (
                Thinking("Hm.", "gemini:QQ=="),
                Text("Let me see."),
                ToolCall("call_1", "now", "{}", "Qg=="),
                ToolCall("call_2", "now", "{}"),
            ),
            "tool_calls",
        ),
    ),
)


def sent_back(endpoint, answer):
    """A caller's next request: the answer as it came, and the results of its calls."""
    if endpoint == "chat/completions":
        results = [{"role": "tool", "tool_call_id": f"call_{number}", "content": "12"} for number in (1, 2)]
        said = [answer["choices"][0]["message"], *results]
        return {"model": "chat", "messages": [{"role": "user", "content": "Hi."}, *said]}
    if endpoint == "messages":
        results = [{"type": "tool_result", "tool_use_id": f"call_{number}", "content": "12"} for number in (1, 2)]
        said = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]
        return {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi."}, *said]}
    results = [{"type": "function_call_output", "call_id": f"call_{number}", "output": "12"} for number in (1, 2)]
    return {"model": "chat", "input": [{"role": "user", "content": "Hi."}, *answer["output"], *results]}


def streamed_messages(answer):
    """The content of the message that a stream of Anthropic's dialect tells."""
    writer = dialect_of("messages").writer(asked())
    reader = GEMINI.reader()
    deltas = reader.read(Event(json.dumps(body_of(answer)).encode(), "message"))
    written = b"".join(writer.write(delta) for delta in deltas) + writer.end()
    data = [json.loads(event.data) for event in events_in(written)]
    blocks = [event["content_block"] for event in data if event["type"] == "content_block_start"]
    for event in data:
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            for key in delta.keys() & {"text", "thinking", "signature"}:
                blocks[event["index"]][key] += delta[key]
    return {"content": blocks}


@pytest.mark.parametrize("endpoint", ["chat/completions", "messages", "responses", "messages, streamed"])
def test_thoughts_come_back(endpoint):
    """Whatever dialect a caller speaks: what it sends back of an answer has every signature where Gemini had put it."""
    endpoint, _, is_streamed = endpoint.partition(", ")
    dialect = dialect_of(endpoint)
    answer = streamed_messages(LOOPED) if is_streamed else dialect.answered(LOOPED, asked())
    body = json.loads(json.dumps(sent_back(endpoint, answer)))
    fit, dropped = fitted(dialect.conversation(body), GEMINI, ())
    assert not dropped
    assert written(fit)["contents"][1]["parts"] == [
        {"text": "Hm.", "thought": True},
        {"text": "Let me see.", "thoughtSignature": "QQ=="},
        {"functionCall": {"id": "call_1", "name": "now", "args": {}}, "thoughtSignature": "Qg=="},
        {"functionCall": {"id": "call_2", "name": "now", "args": {}}},
    ]


def test_nothing_is_asked():
    """What was not said is not sent."""
    assert written(asked(reasoning=Reasoning())) == {"contents": [{"role": "user", "parts": [{"text": "Hi."}]}]}


def test_logprobs_of_the_chosen_alone():
    """Where no alternatives are wanted their number is not sent."""
    assert written(asked(logprobs=0))["generationConfig"] == {"responseLogprobs": True}


def test_strict_calls_are_kept_to():
    """A choice of tools that keeps to their schemas by itself needs no other mode."""
    tools = (Tool("now", parameters={"type": "object"}, strict=True),)
    for choice, mode in (
        (ToolChoice("auto"), "VALIDATED"),
        (ToolChoice("required"), "ANY"),
        (ToolChoice("none"), "NONE"),
    ):
        body = written(asked(tools=tools, tool_choice=choice))
        assert body["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


def test_empty_texts_are_not_sent():
    """Google refuses empty texts, and turns without parts."""
    turns = (
        Message("user", (Text("Hi."), Text(""))),
        Message("assistant", (Text(""),)),
        Message("assistant", (Refusal("No."),)),
    )
    assert written(Conversation(messages=turns))["contents"] == [
        {"role": "user", "parts": [{"text": "Hi."}]},
        {"role": "model", "parts": [{"text": "No."}]},
    ]


def test_arguments_are_sent_as_they_are():
    """Arguments are not decoded on their way: no number changes."""
    said = Message("assistant", (ToolCall("call_1", "add", '{"a":123456789012345678901234567890,"b":1.50}'),))
    assert b'"args":{"a":123456789012345678901234567890,"b":1.50}' in GEMINI.written(
        Conversation(messages=(said,)), MODEL, stream=False
    )


# -- what is no answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("MALFORMED_FUNCTION_CALL", "invalid_response"),
        ("UNEXPECTED_TOOL_CALL", "invalid_response"),
        ("MALFORMED_RESPONSE", "invalid_response"),
        ("OTHER", "invalid_response"),
        ("FINISH_REASON_UNSPECIFIED", "invalid_response"),
        ("A_REASON_OF_TOMORROW", "invalid_response"),
        ("PUP_LIMITED_DISABLED", "auth_failed"),
        ("MISSING_THOUGHT_SIGNATURE", "bad_request"),
    ],
)
def test_failed(reason, code):
    """A candidate that ended for no good reason is a failure, plain and streamed, with what is told of it."""
    candidate = {"content": {"parts": [{"text": "Hi."}]}, "finishReason": reason, "finishMessage": "Malformed call: x("}
    for read in (GEMINI.read, read_event):
        with pytest.raises(NotAnAnswer, match=rf"{reason}: Malformed call: x\(") as caught:
            read({"candidates": [candidate]})
        assert caught.value.code == code


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "JAILBREAK"])
@pytest.mark.parametrize("more", [{}, {"candidates": []}])
def test_blocked_prompt(reason, more):
    """A prompt that was blocked is refused for its content, plain and streamed."""
    feedback = {"blockReason": reason, "safetyRatings": [], "blockReasonMessage": "Not that."}
    data = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}, **more}
    types.GenerateContentResponse.model_validate_json(json.dumps(data))
    for read in (GEMINI.read, read_event):
        with pytest.raises(NotAnAnswer, match=rf"the prompt was blocked: {reason}: Not that\.") as caught:
            read(data)
        assert caught.value.code == "content_filter"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"candidates": []},
        {"candidates": {}},
        {"candidates": ["a"]},
        {"candidates": [{"content": {"parts": [{"text": "Hi."}]}}]},
        {"candidates": [{"content": {"parts": "Hi."}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": 1}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"inlineData": {"data": "QQ=="}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"executableCode": {}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"args": {}}}]}, "finishReason": "STOP"}]},
        {
            "candidates": [
                {"content": {"parts": [{"functionCall": {"name": "a", "args": [1]}}]}, "finishReason": "STOP"}
            ]
        },
    ],
)
def test_no_answer(data):
    """What is not of Gemini's form is no answer, and so is what nobody asked for, such as an image."""
    with pytest.raises(NotAnAnswer):
        GEMINI.read(data)


def test_no_answer__event():
    """An event that is no JSON object is none."""
    for content in (b"[1]", b"{", b"1"):
        with pytest.raises(NotAnAnswer, match="no JSON object"):
            list(GEMINI.reader().read(Event(content, "message")))


def candidate(*parts, **more):
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **more}]}


def test_a_remark_is_no_block():
    """What is remarked of a prompt that was answered all the same is no failure."""
    data = candidate({"text": "Hi."}) | {"promptFeedback": {"blockReason": "OTHER"}}
    assert GEMINI.read(data).choices[0].parts == (Text("Hi."),)


def test_a_signed_thought_keeps_its_signature():
    """The signature of a text is not that of the thought before it, if that has its own."""
    data = candidate(
        {"text": "Hm.", "thought": True, "thoughtSignature": "QQ=="}, {"text": "Hi.", "thoughtSignature": "Qg=="}
    )
    assert GEMINI.read(data).choices[0].parts == (
        Thinking("Hm.", "gemini:QQ=="),
        Thinking("", "gemini:Qg=="),
        Text("Hi."),
    )


def test_a_certain_token():
    """A logarithm of 0 is left out, as protobuf leaves out what is nothing."""
    data = candidate({"text": "Hi."}, logprobsResult={"chosenCandidates": [{"token": "Hi."}]})
    assert GEMINI.read(data).choices[0].logprobs == (Logprob("Hi.", 0.0),)


def test_a_reason_is_told_once():
    """Older models repeat why they ended."""
    answer = Answer("a", "gemini-1.0-pro", (Choice((Text("Hi."),), "stop"),))
    event = json.dumps(body_of(answer)).encode()
    reader = GEMINI.reader()
    deltas = [delta for _ in range(2) for delta in reader.read(Event(event, "message"))]
    assert sum(type(delta).__name__ == "Finished" for delta in deltas) == 1


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bare_error(wrapped, ending, size):
    """An error in the middle of a stream may be no event but JSON, on several lines, in an array or not."""
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    content = b'data: {"candidates": []}\n\n' + json.dumps([error] if wrapped else error, indent=2).encode() + ending
    frames = GEMINI.frames()
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    events = [event for piece in pieces for event in frames.feed(piece)] + list(frames.rest())
    assert [json.loads(event.data) for event in events] == [{"candidates": []}, error]


def test_bare_error__cut():
    """One that was cut is nothing; the stream has ended too early then."""
    frames = GEMINI.frames()
    assert [*frames.feed(b'{\n  "error": {'), *frames.rest()] == []
