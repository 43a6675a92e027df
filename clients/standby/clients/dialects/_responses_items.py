"""The items of an answer, as OpenAI's Responses API has them, and the answer that they are in.

https://developers.openai.com/api/reference/resources/responses
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from standby.clients._protocols import Usage

from ._chat_parts import written_signature
from ._values import Conversation, Finish, Logprob, Refusal, Text, Thinking, Tool, ToolCall, ToolChoice

Status = Literal["in_progress", "completed", "incomplete"]
Item = dict[str, Any]

VENDOR: Final = "openai"
"""Whose thoughts those are that nobody else sealed."""

_SIGNED: Final = "thinking."
_REDACTED: Final = "redacted_thinking."

_REASONS: Final[Mapping[Finish, Mapping[str, str]]] = {
    "length": {"reason": "max_output_tokens"},
    "content_filter": {"reason": "content_filter"},
    "refusal": {"reason": "content_filter"},
    "pause": {},
}
"""Why an answer is incomplete; what is not here completes it."""


def sealed(thought: Thinking) -> str | None:
    """What a caller sends back with a thought: whose it is only its vendor knows, so it says what it is."""
    if not thought.signature:
        return None
    return (_REDACTED if thought.redacted else _SIGNED) + thought.signature


def opened(encrypted: str) -> tuple[str, bool] | None:
    """The signature in what `sealed` wrote, and whether it is all there is; `None` for what somebody else wrote."""
    if encrypted.startswith(_SIGNED):
        return encrypted[len(_SIGNED) :], False
    if encrypted.startswith(_REDACTED):
        return encrypted[len(_REDACTED) :], True
    return None


def response_id(vendors: str) -> str:
    """The id of an answer: the vendor's own, in OpenAI's form."""
    return vendors if vendors.startswith("resp_") else f"resp_{vendors}"


def item_id(kind: Literal["msg", "rs", "fc"], vendors: str, index: int) -> str:
    """The id of an answer's item."""
    return f"{kind}_{vendors.removeprefix('resp_')}_{index}"


def status_of(finish: Finish) -> Status:
    """Whether an answer that ended so is complete."""
    return "incomplete" if finish in _REASONS else "completed"


def settled(finish: Finish, output: Iterable[Item]) -> Finish:
    """Why an answer ended, in view of what it says: to decline in words is an end like any other."""
    parts = (part for item in output if item["type"] == "message" for part in item["content"])
    declined = finish == "refusal" and any(part["type"] == "refusal" for part in parts)
    return "stop" if declined else finish


# -- items -------------------------------------------------------------------------------------------------------


def message(item: str, content: list[Item], status: Status) -> Item:
    """What the model says."""
    return {"id": item, "type": "message", "status": status, "role": "assistant", "content": content}


def part_of(said: Text | Refusal, logprobs: Sequence[Logprob] = ()) -> Item:
    """One part of what the model says."""
    if isinstance(said, Refusal):
        return {"type": "refusal", "refusal": said.text}
    likely = [_token(logprob) for logprob in logprobs]
    return {"type": "output_text", "text": said.text, "annotations": [], "logprobs": likely}


def reasoning(item: str, thought: Thinking) -> Item:
    """What the model thought."""
    summary = [{"type": "summary_text", "text": thought.text}] if thought.text else []
    return {"id": item, "type": "reasoning", "summary": summary, "encrypted_content": sealed(thought)}


def function_call(item: str, call: ToolCall, status: Status) -> Item:
    """A tool that the model asks for."""
    body: Item = {"id": item, "type": "function_call", "status": status}
    return {
        **body,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        **written_signature(call.signature),
    }


def _token(logprob: Logprob) -> Item:
    top = [_likely(token, value) for token, value in logprob.top]
    return {**_likely(logprob.token, logprob.logprob), "top_logprobs": top}


def _likely(token: str, logprob: float) -> Item:
    return {"token": token, "bytes": list(token.encode(errors="replace")), "logprob": logprob}


# -- the answer --------------------------------------------------------------------------------------------------


def response(
    asked: Conversation,
    *,
    vendors_id: str,
    model: str,
    created: int,
    output: Iterable[Item],
    finish: Finish | None,
    usage: Usage | None,
) -> Item:
    """The answer, with what was asked for repeated in it; ``finish`` is `None` as long as it is under way."""
    return {
        "id": response_id(vendors_id),
        "object": "response",
        "created_at": created,
        "status": "in_progress" if finish is None else status_of(finish),
        "background": False,
        "error": None,
        "incomplete_details": None if finish is None else _REASONS.get(finish),
        "model": model,
        "output": list(output),
        "previous_response_id": None,
        "store": False,
        "truncation": "disabled",
        "usage": None if usage is None else _usage(usage),
        **_repeated(asked),
    }


def _repeated(asked: Conversation) -> Item:
    effort = asked.reasoning.effort if asked.reasoning is not None else ""
    shown = asked.reasoning is not None and asked.reasoning.shown
    return {
        "max_output_tokens": asked.max_tokens,
        "metadata": dict(asked.metadata or {}),
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "reasoning": {"effort": effort or None, "summary": "auto" if shown else None},
        "safety_identifier": asked.user,
        "service_tier": asked.service_tier or "auto",
        "temperature": asked.temperature,
        "text": {"format": _format(asked), **({"verbosity": asked.verbosity} if asked.verbosity else {})},
        "tool_choice": _choice(asked.tool_choice),
        "tools": [_tool(tool) for tool in asked.tools],
        "top_logprobs": asked.logprobs or 0,
        "top_p": asked.top_p,
    }


def _format(asked: Conversation) -> Item:
    wanted = asked.response_format
    if wanted is None:
        return {"type": "text"}
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": dict(wanted.schema or {}),
        "strict": wanted.strict,
        "description": wanted.description or None,
    }


def _choice(choice: ToolChoice | None) -> str | Item:
    if choice is None:
        return "auto"
    return {"type": "function", "name": choice.name} if choice.kind == "tool" else choice.kind


def _tool(tool: Tool) -> Item:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _usage(usage: Usage) -> Item:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
