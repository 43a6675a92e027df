"""Anthropic's side of Messages: what a request means, and how answers, streams and errors are written.

From platform.claude.com/docs/en/api/messages, docs/en/build-with-claude/streaming and docs/en/api/errors; nothing here is
taken from our own codec.
"""

import base64
import json

from standby.clients.dialects import (
    CacheMark,
    Conversation,
    File,
    Image,
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

STOP_REASONS = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "pause": "pause_turn",
}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
REQUEST_ID = "req_anthropic_1"


# -- requests ----------------------------------------------------------------------------------------------------


def conversation_of(body):
    """What a request asks."""
    system = tuple(map(_part, body.get("system", ())))
    messages = [Message("system", system)] if system else []
    for message in body["messages"]:
        content = message["content"]
        parts = (Text(content),) if isinstance(content, str) else tuple(map(_part, content))
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        others = tuple(part for part in parts if not isinstance(part, ToolResult))
        messages += [Message("tool", results)] if results else []
        messages += [Message(message["role"], others)] if others else []
    choice = body.get("tool_choice") or {}
    return Conversation(
        messages=tuple(messages),
        tools=tuple(map(_tool, body.get("tools", ()))),
        tool_choice=_choice(choice),
        parallel_tool_calls=False if choice.get("disable_parallel_tool_use") else None,
        response_format=_format(body.get("output_config", {}).get("format")),
        stop=tuple(body.get("stop_sequences", ())),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        max_tokens=body["max_tokens"],
        reasoning=_reasoning(body),
        user=body.get("metadata", {}).get("user_id"),
        service_tier={"standard_only": "default", "auto": None}[body.get("service_tier", "auto")],
    )


def _part(block):
    control = block.get("cache_control")
    mark = {} if control is None else {"cache": CacheMark(control.get("ttl", ""))}
    match block["type"]:
        case "text":
            return Text(block["text"], **mark)
        case "image":
            return Image(**_source(block["source"]), **mark)
        case "document":
            return File(**_source(block["source"]), name=block.get("title", ""), **mark)
        case "thinking":
            return Thinking(block["thinking"], block["signature"])
        case "redacted_thinking":
            return Thinking("", block["data"], redacted=True)
        case "tool_use":
            return ToolCall(block["id"], block["name"], json.dumps(block["input"]), **mark)
        case "tool_result":
            content = block.get("content", ())
            parts = (Text(content),) if isinstance(content, str) else tuple(map(_part, content))
            return ToolResult(block["tool_use_id"], parts, block.get("is_error", False), **mark)


def _source(source):
    match source["type"]:
        case "base64":
            return {"data": source["data"], "media_type": source["media_type"]}
        case "text":
            return {"data": base64.b64encode(source["data"].encode()).decode(), "media_type": source["media_type"]}
        case "url":
            return {"url": source["url"]}


def _tool(tool):
    control = tool.get("cache_control")
    mark = {} if control is None else {"cache": CacheMark(control.get("ttl", ""))}
    return Tool(tool["name"], tool.get("description", ""), tool["input_schema"], tool.get("strict"), **mark)


def _choice(choice):
    match choice.get("type"):
        case "tool":
            return ToolChoice("tool", choice["name"])
        case "any":
            return ToolChoice("required")
        case "none" | "auto" as kind:
            return ToolChoice(kind)
        case None:
            return None


def _format(wanted):
    return wanted and ResponseFormat(wanted["type"], schema=wanted["schema"])


def _reasoning(body):
    thinking, effort = body.get("thinking"), body.get("output_config", {}).get("effort", "")
    match thinking:
        case {"type": "disabled"}:
            return Reasoning("none")
        case {"type": "enabled", "budget_tokens": tokens}:
            return Reasoning(effort, tokens)
        case {"type": "adaptive"}:
            return Reasoning(effort)
        case None:
            return Reasoning(effort) if effort else None


# -- answers -----------------------------------------------------------------------------------------------------


def body_of(answer):
    """A whole answer."""
    (choice,) = answer.choices
    blocks = [_block(part) for part in choice.parts if not isinstance(part, Refusal)]
    return {**_head(answer), "content": blocks, **_end(choice), "usage": _usage(answer.usage)}


def _head(answer):
    return {"id": answer.id or "msg_1", "type": "message", "role": "assistant", "model": answer.model}


def _end(choice):
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    details = {"type": "refusal", "category": None, "explanation": "".join(refusals)} if refusals else None
    return {
        "stop_reason": STOP_REASONS[choice.finish],
        "stop_sequence": choice.stop_sequence or None,
        "stop_details": details,
    }


def _block(part):
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Thinking(redacted=True):
            return {"type": "redacted_thinking", "data": part.signature}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": json.loads(part.arguments)}


def _usage(usage):
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


# -- streams -----------------------------------------------------------------------------------------------------


def stream_of(answer):
    """The same as a stream: each text in two pieces, a `ping` among them."""
    return b"".join(events_of(answer))


def events_of(answer):
    """The events of that stream."""
    (choice,) = answer.choices
    began = _usage(answer.usage) | {"output_tokens": 1}
    started = {**_head(answer), "content": [], "stop_reason": None, "stop_sequence": None, "usage": began}
    yield sent("message_start", message=started)
    yield sent("ping")
    for index, part in enumerate(part for part in choice.parts if not isinstance(part, Refusal)):
        yield sent("content_block_start", index=index, content_block=_begun(part))
        for delta in _deltas(part):
            yield sent("content_block_delta", index=index, delta=delta)
        yield sent("content_block_stop", index=index)
    yield sent("message_delta", delta=_end(choice), usage=_usage(answer.usage))
    yield sent("message_stop")


def _begun(part):
    match part:
        case Text():
            return {"type": "text", "text": ""}
        case Thinking(redacted=True):
            return _block(part)
        case Thinking():
            return {"type": "thinking", "thinking": "", "signature": ""}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}


def _deltas(part):
    match part:
        case Text():
            yield from ({"type": "text_delta", "text": piece} for piece in _halves(part.text))
        case Thinking(redacted=False):
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in _halves(part.text))
            if part.signature:
                yield {"type": "signature_delta", "signature": part.signature}
        case ToolCall():
            yield {"type": "input_json_delta", "partial_json": ""}
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in _halves(part.arguments))


def _halves(text):
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def sent(kind, **said):
    """One event."""
    return b"event: " + kind.encode() + b"\ndata: " + json.dumps({"type": kind, **said}).encode() + b"\n\n"


# -- errors ------------------------------------------------------------------------------------------------------


def error_of(status, message):
    """An error as it is answered: status, headers, body. The same in a stream is the data of an event ``error``."""
    body = {"type": "error", "error": {"type": TYPES[status], "message": message}, "request_id": REQUEST_ID}
    return status, {"content-type": "application/json", "request-id": REQUEST_ID}, body
