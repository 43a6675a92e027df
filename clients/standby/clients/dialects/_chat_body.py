"""A request to OpenAI's chat completions, written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ._chat_parts import content_of, written_call, written_mark, written_thoughts
from ._effort import effort_of
from ._values import (
    Conversation,
    Message,
    Reasoning,
    Refusal,
    ResponseFormat,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

__all__ = ["body_of"]

_UNCHANGED: Final = (
    *("parallel_tool_calls", "temperature", "top_p", "top_k", "seed", "n", "frequency_penalty", "presence_penalty"),
    *("logit_bias", "verbosity", "user", "metadata", "service_tier"),
)
"""What the values call as it is called here."""


def body_of(conversation: Conversation, model: str, *, stream: bool, in_full: bool = True) -> dict[str, Any]:
    """The body, with all that is asked; what OpenAI has no place for in the forms that others have given it.

    Args:
        conversation: What is asked.
        model: The server's name of the model.
        stream: Whether the answer is to come as a stream.
        in_full: Whether all that is known of thoughts is told, as OpenRouter has it; else words and an effort.
    """
    asked: dict[str, Any] = {
        "model": model,
        "messages": [written for message in conversation.messages for written in _messages(message, in_full=in_full)],
        "tools": [_tool(tool) for tool in conversation.tools],
        "tool_choice": _tool_choice(conversation.tool_choice),
        "response_format": _response_format(conversation.response_format),
        "stop": list(conversation.stop),
        "max_completion_tokens": conversation.max_tokens,
        **{name: getattr(conversation, name) for name in _UNCHANGED},
        **_logprobs(conversation.logprobs),
        **_reasoning(conversation.reasoning, in_full=in_full),
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return {key: value for key, value in asked.items() if value is not None and value != []}


def _messages(message: Message, *, in_full: bool) -> Iterator[dict[str, Any]]:
    """A turn; of the results of tools each is a message."""
    if message.role == "tool":
        for part in message.parts:
            if isinstance(part, ToolResult):
                yield _result(part)
        return
    body: dict[str, Any] = {"role": message.role}
    if message.name:
        body["name"] = message.name
    if message.role == "assistant":
        body |= _assistant(message, in_full=in_full)
    else:
        body["content"] = content_of(message.parts)
    yield body


def _assistant(message: Message, *, in_full: bool) -> dict[str, Any]:
    thoughts = [part for part in message.parts if isinstance(part, Thinking)]
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    content = content_of(part for part in message.parts if not isinstance(part, Refusal))
    refusal = "".join(part.text for part in message.parts if isinstance(part, Refusal))
    body: dict[str, Any] = {"content": content or (None if calls or refusal else "")}
    if refusal:
        body["refusal"] = refusal
    if thoughts and in_full:
        body["reasoning_details"] = written_thoughts(thoughts)
    elif thoughts:
        body["reasoning_content"] = "".join(each.text for each in thoughts)
    if calls:
        body["tool_calls"] = [written_call(call) for call in calls]
    return body


def _result(result: ToolResult) -> dict[str, Any]:
    body = {"role": "tool", "tool_call_id": result.id, "content": content_of(result.parts)}
    return body | written_mark(result.cache)


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function, **written_mark(tool.cache)}


def _tool_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None or choice.kind != "tool":
        return None if choice is None else choice.kind
    return {"type": "function", "function": {"name": choice.name}}


def _response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.kind != "json_schema":
        return None if wanted is None else {"type": wanted.kind}
    schema: dict[str, Any] = {"name": wanted.name or "answer"}  # which no other vendor asks for
    if wanted.description:
        schema["description"] = wanted.description
    if wanted.schema is not None:
        schema["schema"] = wanted.schema
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}


def _logprobs(alternatives: int | None) -> dict[str, Any]:
    if alternatives is None:
        return {}
    return {"logprobs": True, **({"top_logprobs": alternatives} if alternatives else {})}


def _reasoning(wanted: Reasoning | None, *, in_full: bool) -> dict[str, Any]:
    """How much to think: all that was said of it as OpenRouter has it, else an effort."""
    if wanted is None:
        return {}
    if not in_full:
        return {"reasoning_effort": effort_of(wanted) or None}
    exclude = None if wanted.shown is None else not wanted.shown
    more = {"effort": wanted.effort or None, "max_tokens": wanted.budget_tokens, "exclude": exclude}
    return {"reasoning": {key: value for key, value in more.items() if value is not None}}
