"""Amazon's side of Converse: what a request means, and how answers, streams and errors are written.

From the service's description that botocore carries (``bedrock-runtime/2023-09-30/service-2.json``),
docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and API_runtime_ConverseStream.html, and
smithy.io/2.0/aws/amazon-eventstream.html; nothing here is taken from our own codec.
"""

import json
from struct import pack
from zlib import crc32

from standby.clients.dialects import (
    CacheMark,
    Conversation,
    File,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

MEDIA_TYPES = {
    **{name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")},
    "pdf": "application/pdf",
    "txt": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
}
STOP_REASONS = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}
STATUSES = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ModelTimeoutException": 408,
    "ResourceNotFoundException": 404,
    "ServiceQuotaExceededException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
REQUEST_ID = "5b1f2d3c-8a4e-4f6b-9c0d-1e2f3a4b5c6d"
PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


# -- requests ----------------------------------------------------------------------------------------------------


def conversation_of(body):
    """What a request asks."""
    said = [Message("system", (part,)) for part in _parts(body.get("system", []))]
    for message in body["messages"]:
        parts = _parts(message["content"])
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        others = tuple(part for part in parts if not isinstance(part, ToolResult))
        said += [Message("tool", results)] if results else []
        said += [Message(message["role"], others)] if others else []
    config, more = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
    tools = body.get("toolConfig", {})
    tier = body.get("serviceTier")
    return Conversation(
        messages=tuple(said),
        tools=_tools(tools.get("tools", [])),
        tool_choice=_choice(tools.get("toolChoice")),
        response_format=_format(body.get("outputConfig", {}).get("textFormat")),
        stop=tuple(config.get("stopSequences", ())),
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        top_k=more.get("top_k"),
        max_tokens=config.get("maxTokens"),
        reasoning=_reasoning(body.get("outputConfig", {}).get("effort", ""), more.get("thinking")),
        metadata=body.get("requestMetadata"),
        service_tier=tier and tier["type"],
    )


def _parts(blocks):
    parts = []
    for block in blocks:
        ((kind, value),) = block.items()
        match kind:
            case "text":
                parts.append(Text(value))
            case "image":
                parts.append(Image(data=value["source"]["bytes"], media_type=MEDIA_TYPES[value["format"]]))
            case "document" | "audio":
                kind_of_file = MEDIA_TYPES[value["format"]]
                parts.append(File(data=value["source"]["bytes"], media_type=kind_of_file, name=value.get("name", "")))
            case "toolUse":
                parts.append(ToolCall(value["toolUseId"], value["name"], json.dumps(value["input"])))
            case "toolResult":
                inner = _parts(value["content"])
                parts.append(ToolResult(value["toolUseId"], inner, value.get("status") == "error"))
            case "reasoningContent" if "redactedContent" in value:
                parts.append(Thinking("", value["redactedContent"], redacted=True))
            case "reasoningContent":
                thought = value["reasoningText"]
                parts.append(Thinking(thought["text"], thought.get("signature", "")))
            case "cachePoint":
                assert value["type"] == "default"
                parts[-1] = _marked(parts[-1], value)
    return tuple(parts)


def _marked(part, point):
    return type(part)(
        **{name: getattr(part, name) for name in part.__slots__} | {"cache": CacheMark(point.get("ttl", ""))}
    )


def _tools(entries):
    tools = []
    for entry in entries:
        if "cachePoint" in entry:
            tools[-1] = _marked(tools[-1], entry["cachePoint"])
            continue
        spec = entry["toolSpec"]
        tools.append(Tool(spec["name"], spec.get("description", ""), spec["inputSchema"]["json"], spec.get("strict")))
    return tuple(tools)


def _choice(choice):
    match choice:
        case {"tool": {"name": name}}:
            return ToolChoice("tool", name)
        case {"any": _}:
            return ToolChoice("required")
        case {"auto": _}:
            return ToolChoice("auto")
        case _:
            return None


def _format(text_format):
    if text_format is None:
        return None
    schema = text_format["structure"]["jsonSchema"]
    return ResponseFormat(
        text_format["type"], schema.get("name", ""), json.loads(schema["schema"]), None, schema.get("description", "")
    )


def _reasoning(effort, thinking):
    shown = {"summarized": True, "omitted": False, None: None}[(thinking or {}).get("display")]
    match thinking:
        case {"type": "disabled"}:
            return Reasoning("none")
        case {"type": "enabled", "budget_tokens": tokens}:
            return Reasoning(effort, tokens, shown)
        case {"type": "adaptive"}:
            return Reasoning(effort, None, shown)
        case _:
            return Reasoning(effort) if effort else None


# -- answers -----------------------------------------------------------------------------------------------------


def body_of(answer):
    """A whole answer."""
    (choice,) = answer.choices
    content = [_block(part) for part in choice.parts]
    return {
        "metrics": {"latencyMs": 551},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": STOP_REASONS[choice.finish],
        "usage": _usage(answer.usage),
        **_stop_sequence(choice),
    }


def _block(part):
    match part:
        case Text():
            return {"text": part.text}
        case Thinking(redacted=True):
            return {"reasoningContent": {"redactedContent": part.signature}}
        case Thinking():
            signature = {"signature": part.signature} if part.signature else {}
            return {"reasoningContent": {"reasoningText": {"text": part.text, **signature}}}
        case ToolCall():
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": json.loads(part.arguments or "{}")}}


def _usage(usage):
    if usage is None:
        return {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    cached = {"cacheReadInputTokens": usage.cached_tokens, "cacheWriteInputTokens": usage.cache_write_tokens}
    return {
        "inputTokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        **(cached if any(cached.values()) else {}),
    }


def _stop_sequence(choice):
    return {"additionalModelResponseFields": {"stop_sequence": choice.stop_sequence}} if choice.stop_sequence else {}


# -- streams -----------------------------------------------------------------------------------------------------


def stream_of(answer):
    """The same as a stream: its texts in two pieces each."""
    return b"".join(event(name, said) for name, said in events_of(answer))


def events_of(answer):
    """The same as the events of a stream: each its type, and what it says."""
    (choice,) = answer.choices
    yield "messageStart", {"role": "assistant"}
    for index, part in enumerate(choice.parts):
        place = {"contentBlockIndex": index}
        if isinstance(part, ToolCall):
            yield "contentBlockStart", {"start": {"toolUse": {"toolUseId": part.id, "name": part.name}}, **place}
        for delta in _deltas(part):
            yield "contentBlockDelta", {"delta": delta, **place}
        yield "contentBlockStop", place
    yield "messageStop", {"stopReason": STOP_REASONS[choice.finish], **_stop_sequence(choice)}
    yield "metadata", {"usage": _usage(answer.usage), "metrics": {"latencyMs": 551}}


def _deltas(part):
    match part:
        case Text():
            yield from ({"text": piece} for piece in _halves(part.text))
        case Thinking(redacted=True):
            yield {"reasoningContent": {"redactedContent": part.signature}}
        case Thinking():
            yield from ({"reasoningContent": {"text": piece}} for piece in _halves(part.text))
            if part.signature:
                yield {"reasoningContent": {"signature": part.signature}}
        case ToolCall():
            yield from ({"toolUse": {"input": piece}} for piece in _halves(part.arguments))


def _halves(text):
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def event(kind, said):
    """An event of a stream. Its length says nothing of what it tells: it is padded, as Bedrock's are."""
    payload = json.dumps({**said, "p": PADDING[: 1 + len(str(said)) % 20]}).encode()
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, payload)


def exception(kind, message):
    """An exception inside of a stream: ``throttlingException`` and the like."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def frame(headers, payload):
    """One message of `application/vnd.amazon.eventstream`, with its sums."""
    named = b"".join(
        pack("!B", len(name)) + name.encode() + pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = pack("!II", 12 + len(named) + len(payload) + 4, len(named))
    message = prelude + pack("!I", crc32(prelude)) + named + payload
    return message + pack("!I", crc32(message))


# -- errors ------------------------------------------------------------------------------------------------------


def error_of(name, message, *, namespace="http://internal.amazon.com/coral/com.amazon.bedrock/"):
    """An error as it is answered: status, headers, body. The body does not name the exception."""
    headers = {
        "content-type": "application/json",
        "x-amzn-requestid": REQUEST_ID,
        "x-amzn-errortype": f"{name}:{namespace}",
    }
    return STATUSES[name], headers, json.dumps({"message": message}).encode()
