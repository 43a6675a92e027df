"""One conversation for each feature, and one answer for each thing that an answer can tell."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from standby.clients import Usage
from standby.clients.dialects import (
    Answer,
    CacheMark,
    Choice,
    Conversation,
    File,
    Image,
    Logprob,
    Message,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

PNG = base64.b64encode(b"\x89PNG").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
WAV = base64.b64encode(b"RIFF").decode()
SIGNATURE = base64.b64encode(b"signed by the vendor").decode()

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
QUESTION = Message("user", (Text("How warm is it in Paris?"),))
WEATHER = Tool("weather", "Tells the weather", SCHEMA)
CALLS = (
    ToolCall("call_paris", "weather", '{"city": "Paris"}'),
    ToolCall("call_rome", "weather", '{"city": "Rome"}'),
)


def _asked(**more: Any) -> Conversation:
    return Conversation(messages=(QUESTION,), **more)


def _of_parts(*parts: Any) -> Conversation:
    return Conversation(messages=(Message("user", (Text("What is this?"), *parts)),))


def _called(*results: ToolResult) -> Conversation:
    """The model called tools, and these are their results."""
    calls = CALLS[: len(results)]
    messages = (QUESTION, Message("assistant", calls), Message("tool", results))
    return Conversation(messages=messages, tools=(WEATHER,))


_WARM = ToolResult("call_paris", (Text("21 degrees"),))

CONVERSATIONS: dict[str, Conversation] = {
    "system": Conversation(messages=(Message("system", (Text("Be brief."),)), QUESTION)),
    "developer": Conversation(messages=(Message("developer", (Text("Be brief."),)), QUESTION)),
    "multi_turn": Conversation(messages=(QUESTION, Message("assistant", (Text("21 degrees."),)), QUESTION)),
    "names": Conversation(messages=(replace(QUESTION, name="anna"),)),
    "image_data": _of_parts(Image(data=PNG, media_type="image/png")),
    "image_url": _of_parts(Image(url="https://files.example/a.png")),
    "file_data": _of_parts(File(data=PDF, media_type="application/pdf", name="report.pdf")),
    "file_url": _of_parts(File(url="https://files.example/a.pdf", media_type="application/pdf")),
    "file_id": _of_parts(File(file_id="file-abc123")),
    "audio": _of_parts(File(data=WAV, media_type="audio/wav")),
    "image_detail": _of_parts(Image(data=PNG, media_type="image/png", detail="low")),
    "thinking": Conversation(
        messages=(QUESTION, Message("assistant", (Thinking("Hm.", SIGNATURE), Text("21 degrees."))), QUESTION)
    ),
    "cache": Conversation(messages=(Message("user", (Text("A long story.", CacheMark()), Text("Whose is it?"))),)),
    "tools": _asked(tools=(WEATHER,)),
    "parallel_calls": _called(_WARM, ToolResult("call_rome", (Text("24 degrees"),))),
    "tool_results": _called(_WARM),
    "tool_media": _called(replace(_WARM, parts=(Text("See:"), Image(data=PNG, media_type="image/png")))),
    "tool_errors": _called(replace(_WARM, is_error=True)),
    "tool_strict": _asked(tools=(replace(WEATHER, strict=True),)),
    "tool_choice": _asked(tools=(WEATHER,), tool_choice=ToolChoice("required")),
    "parallel_tool_calls": _asked(tools=(WEATHER,), parallel_tool_calls=False),
    "json_object": Conversation(
        messages=(Message("user", (Text("Tell the city in JSON."),)),), response_format=ResponseFormat("json_object")
    ),
    "json_schema": _asked(response_format=ResponseFormat("json_schema", "place", SCHEMA, True)),
    "stop": _asked(stop=("END",)),
    "temperature": _asked(temperature=0.5),
    "top_p": _asked(top_p=0.5),
    "top_k": _asked(top_k=20),
    "max_tokens": _asked(max_tokens=200),
    "seed": _asked(seed=7),
    "n": _asked(n=2),
    "frequency_penalty": _asked(frequency_penalty=0.5),
    "presence_penalty": _asked(presence_penalty=0.5),
    "logit_bias": _asked(logit_bias={"50256": -100}),
    "logprobs": _asked(logprobs=2),
    "reasoning": _asked(reasoning=Reasoning("high")),
    "verbosity": _asked(verbosity="low"),
    "user": _asked(user="u-123"),
    "metadata": _asked(metadata={"team": "blue"}),
    "service_tier": _asked(service_tier="priority"),
}
"""Each asks for its feature, and for nothing else that could be left away."""


def _told(*parts: Any, finish: Any = "stop", usage: Usage | None = None, **more: Any) -> Answer:
    return Answer("", "some-model", (Choice(parts, finish, **more),), usage, 1_700_000_000)


_HELLO = Text("Hello.")
_COUNTED = Usage(input_tokens=20, output_tokens=10)

ANSWERS_BY_NAME: dict[str, Answer] = {
    "answer_text": _told(_HELLO),
    "answer_tool_calls": _told(*CALLS, finish="tool_calls"),
    "answer_thinking": _told(Thinking("Hm."), _HELLO),
    "answer_signature": _told(Thinking("Hm.", SIGNATURE), _HELLO),
    "answer_refusal": _told(Refusal("I will not."), finish="refusal"),
    "answer_logprobs": _told(_HELLO, logprobs=(Logprob("Hello.", -0.25, (("Hello.", -0.25), ("Hi.", -2.5))),)),
    "answer_finish": _told(_HELLO, finish="length"),
    "answer_stop_sequence": _told(_HELLO, finish="stop_sequence", stop_sequence="END"),
    "answer_usage": _told(_HELLO, usage=_COUNTED),
    "answer_cached_tokens": _told(_HELLO, usage=replace(_COUNTED, cached_tokens=5)),
    "answer_cache_write_tokens": _told(_HELLO, usage=replace(_COUNTED, cache_write_tokens=6)),
    "answer_reasoning_tokens": _told(_HELLO, usage=replace(_COUNTED, reasoning_tokens=7)),
    "answer_id": replace(_told(_HELLO), id="id-1"),
}
"""Each tells its name's, and as little else as it can."""
