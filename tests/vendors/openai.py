"""OpenAI's side of chat completions: what a request means, and how answers, streams and errors are written.

From developers.openai.com/api/reference/resources/chat and developers.openai.com/api/docs/guides/error-codes; thoughts,
which OpenAI has no place for, as openrouter.ai/docs/guides/best-practices/reasoning-tokens and api-docs.deepseek.com/guides/thinking_mode
have them. Nothing here is taken from our own codec.
"""

import json
from itertools import groupby

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

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "server_error",
}
REQUEST_ID = "req_openai_1"


# -- requests ----------------------------------------------------------------------------------------------------


def conversation_of(body):
    """What a request asks."""
    messages = [_message(message) for message in body["messages"]]
    return Conversation(
        messages=tuple(_results_together(messages)),
        tools=tuple(_tool(tool["function"], tool) for tool in body.get("tools", ())),
        tool_choice=_choice(body.get("tool_choice")),
        response_format=_format(body.get("response_format")),
        stop=tuple(body.get("stop", ())),
        seed=body.get("seed", body.get("random_seed")),
        max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
        logprobs=body.get("top_logprobs", 0) if body.get("logprobs") else None,
        reasoning=_reasoning(body),
        **{
            name: body.get(name)
            for name in (
                *("parallel_tool_calls", "temperature", "top_p", "top_k", "n", "frequency_penalty"),
                *("presence_penalty", "logit_bias", "verbosity", "user", "metadata", "service_tier"),
            )
        },
        include_usage=bool(body.get("stream_options", {}).get("include_usage")),
    )


def _message(message):
    parts = []
    for detail in message.get("reasoning_details", ()):
        if detail["type"] == "reasoning.encrypted":
            parts.append(Thinking("", detail["data"], redacted=True))
        else:
            parts.append(Thinking(detail["text"], detail.get("signature", "")))
    if not parts and message.get("reasoning_content"):
        parts.append(Thinking(message["reasoning_content"]))
    content = _content(message.get("content"))
    if message["role"] == "tool":
        return Message("tool", (ToolResult(message["tool_call_id"], content),))
    parts += content
    if message.get("refusal"):
        parts.append(Refusal(message["refusal"]))
    for call in message.get("tool_calls", ()):
        signature = call.get("extra_content", {}).get("google", {}).get("thought_signature", "")
        parts.append(ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"], signature))
    return Message(message["role"], tuple(parts), message.get("name", ""))


def _results_together(messages):
    """Each result is a message here; together they are one turn."""
    for role, group in groupby(messages, lambda message: message.role):
        if role == "tool":
            yield Message("tool", tuple(part for message in group for part in message.parts))
        else:
            yield from group


def _content(content):
    if content is None or content == "":
        return ()
    return (Text(content),) if isinstance(content, str) else tuple(map(_part, content))


def _part(part):
    mark = {"cache": CacheMark(part["cache_control"].get("ttl", ""))} if "cache_control" in part else {}
    match part["type"]:
        case "text":
            return Text(part["text"], **mark)
        case "image_url":
            image = part["image_url"]
            return Image(**_place(image["url"]), detail=image.get("detail", ""), **mark)
        case "input_audio":
            kinds = {"wav": "audio/wav", "mp3": "audio/mpeg"}
            return File(data=part["input_audio"]["data"], media_type=kinds[part["input_audio"]["format"]], **mark)
        case "file":
            file = part["file"]
            place = {"file_id": file["file_id"]} if "file_id" in file else _place(file["file_data"])
            return File(**place, name=file.get("filename", ""), **mark)


def _place(url):
    if not url.startswith("data:"):
        return {"url": url}
    media_type, data = url.removeprefix("data:").split(";base64,")
    return {"media_type": media_type, "data": data}


def _tool(function, tool):
    mark = {"cache": CacheMark(tool["cache_control"].get("ttl", ""))} if "cache_control" in tool else {}
    about = function.get("description", ""), function.get("parameters"), function.get("strict")
    return Tool(function["name"], *about, **mark)


def _choice(choice):
    if isinstance(choice, dict):
        return ToolChoice("tool", choice["function"]["name"])
    return choice and ToolChoice(choice)


def _format(wanted):
    if wanted is None or wanted["type"] != "json_schema":
        return wanted and ResponseFormat(wanted["type"])
    schema = wanted["json_schema"]
    about = schema.get("schema"), schema.get("strict"), schema.get("description", "")
    return ResponseFormat("json_schema", schema["name"], *about)


def _reasoning(body):
    if "reasoning_effort" in body:
        return Reasoning(body["reasoning_effort"])
    if "reasoning" not in body:
        return None
    wanted = body["reasoning"]
    shown = None if "exclude" not in wanted else not wanted["exclude"]
    return Reasoning(wanted.get("effort", ""), wanted.get("max_tokens"), shown)


# -- answers -----------------------------------------------------------------------------------------------------


def body_of(answer):
    """A whole answer."""
    choices = [
        {"index": index, "message": _said(choice), "logprobs": _logprobs(choice), **_end(choice)}
        for index, choice in enumerate(answer.choices)
    ]
    usage = {} if answer.usage is None else {"usage": _usage(answer.usage)}
    return {"object": "chat.completion", **_head(answer), "choices": choices, **usage}


def _head(answer):
    return {"id": answer.id or "chatcmpl-1", "created": answer.created, "model": answer.model}


def _said(choice):
    message = {
        "role": "assistant",
        "content": _joined(choice, Text) or None,
        "refusal": _joined(choice, Refusal) or None,
    }
    thoughts = [part for part in choice.parts if isinstance(part, Thinking)]
    if thoughts:
        message["reasoning_content"] = _joined(choice, Thinking)
        message["reasoning_details"] = [_thought(thought, index) for index, thought in enumerate(thoughts)]
    calls = [_call(part) for part in choice.parts if isinstance(part, ToolCall)]
    return message | ({"tool_calls": calls} if calls else {})


def _joined(choice, kind):
    return "".join(part.text for part in choice.parts if isinstance(part, kind))


def _thought(thought, index):
    if thought.redacted:
        return {"type": "reasoning.encrypted", "data": thought.signature, "index": index}
    signature = {"signature": thought.signature} if thought.signature else {}
    return {"type": "reasoning.text", "text": thought.text, "index": index, **signature}


def _call(call):
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _end(choice):
    reasons = {"length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
    sequence = {"stop_reason": choice.stop_sequence} if choice.stop_sequence else {}
    return {"finish_reason": reasons.get(choice.finish, "stop"), **sequence}


def _logprobs(choice):
    if not choice.logprobs:
        return None
    tokens = [
        {**_token(each.token, each.logprob), "top_logprobs": [_token(*top) for top in each.top]}
        for each in choice.logprobs
    ]
    return {"content": tokens, "refusal": None}


def _token(token, logprob):
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _usage(usage):
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


# -- streams -----------------------------------------------------------------------------------------------------


def stream_of(answer):
    """The same as a stream, each text in two pieces, the tokens last."""
    return b"".join(events_of(answer))


def events_of(answer):
    """The events of that stream."""
    for index, choice in enumerate(answer.choices):
        yield _event(answer, index, {"role": "assistant", "content": ""})
        calls = thoughts = 0
        for part in choice.parts:
            match part:
                case Text():
                    for piece, told in _text_pieces(part, choice):
                        yield _event(answer, index, {"content": piece}, told)
                case Refusal():
                    yield from (_event(answer, index, {"refusal": piece}) for piece in halves(part.text))
                case Thinking():
                    for piece in halves(part.text):
                        detail = {"type": "reasoning.text", "text": piece, "index": thoughts}
                        yield _event(answer, index, {"reasoning_content": piece, "reasoning_details": [detail]})
                    if part.signature:
                        detail = _thought(part, thoughts) | ({} if part.redacted else {"text": ""})
                        yield _event(answer, index, {"reasoning_details": [detail]})
                    thoughts += 1
                case ToolCall():
                    begun = _call(part) | {"index": calls, "function": {"name": part.name, "arguments": ""}}
                    yield _event(answer, index, {"tool_calls": [begun]})
                    for piece in halves(part.arguments):
                        more = {"index": calls, "function": {"arguments": piece}}
                        yield _event(answer, index, {"tool_calls": [more]})
                    calls += 1
        yield _event(answer, index, {}, None, **_end(choice))
    if answer.usage is not None:
        yield sent({"object": "chat.completion.chunk", **_head(answer), "choices": [], "usage": _usage(answer.usage)})
    yield b"data: [DONE]\n\n"


def _text_pieces(part, choice):
    if not choice.logprobs:
        return [(piece, None) for piece in halves(part.text)]
    return [
        (each.token, {"content": [told], "refusal": None})
        for each, told in zip(choice.logprobs, _logprobs(choice)["content"], strict=True)
    ]


def _event(answer, index, delta, logprobs=None, **end):
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None, **end}
    return sent({"object": "chat.completion.chunk", **_head(answer), "choices": [choice]})


def halves(text):
    """A text in two pieces, none of them empty."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def sent(data):
    """One event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


# -- errors ------------------------------------------------------------------------------------------------------


def error_of(status, message, *, code=None, kind=None):
    """An error as it is answered: status, headers, body. The same object in a stream is an event."""
    error = {"message": message, "type": kind or TYPES[status], "param": None, "code": code}
    return status, {"content-type": "application/json", "x-request-id": REQUEST_ID}, {"error": error}
