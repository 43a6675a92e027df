"""Google's side of `generateContent`: what a request means, and how answers, streams and errors are written.

From ai.google.dev/api/generate-content, ai.google.dev/api/caching and ai.google.dev/gemini-api/docs/thought-signatures;
nothing here is taken from our own codec.
"""

import json

from standby.clients import Usage
from standby.clients.dialects import (
    Answer,
    Choice,
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

NO_SIGNATURE = "skip_thought_signature_validator"

FINISH_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""google.rpc.Code, by the HTTP status of each: cloud.google.com/apis/design/errors."""


# -- requests ----------------------------------------------------------------------------------------------------


def conversation_of(body):
    """What a request asks. Signatures of thoughts are marked as Google's, the stand-in for one is none."""
    config = body.get("generationConfig", {})
    detail = {"MEDIA_RESOLUTION_LOW": "low", "MEDIA_RESOLUTION_HIGH": "high"}.get(config.get("mediaResolution"), "")
    messages = [_message(content, detail) for content in body["contents"]]
    if "systemInstruction" in body:
        texts = tuple(Text(part["text"]) for part in body["systemInstruction"]["parts"])
        messages.insert(0, Message("system", texts))
    calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
    return Conversation(
        messages=tuple(messages),
        tools=_tools(body, strict=calling.get("mode") == "VALIDATED"),
        tool_choice=_tool_choice(calling),
        response_format=_response_format(config),
        stop=tuple(config.get("stopSequences", ())),
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        top_k=config.get("topK"),
        max_tokens=config.get("maxOutputTokens"),
        seed=config.get("seed"),
        n=config.get("candidateCount"),
        frequency_penalty=config.get("frequencyPenalty"),
        presence_penalty=config.get("presencePenalty"),
        logprobs=config.get("logprobs", 0) if config.get("responseLogprobs") else None,
        reasoning=_reasoning(config.get("thinkingConfig")),
        service_tier={"standard": "default"}.get(body.get("serviceTier"), body.get("serviceTier")),
    )


def _message(content, detail):
    parts = tuple(_parts(content["parts"], detail))
    if content["role"] == "model":
        return Message("assistant", parts)
    return Message("tool" if all(isinstance(part, ToolResult) for part in parts) else "user", parts)


def _parts(parts, detail):
    thought = None
    for part in parts:
        signature = part.get("thoughtSignature", "")
        if thought is not None and (part.get("thought") or "text" not in part):
            yield thought
            thought = None
        if part.get("thought"):
            thought = Thinking(part["text"], _marked(signature))
        elif "text" in part:
            if thought is not None or signature:
                yield Thinking(thought.text if thought is not None else "", _marked(signature))
                thought = None
            if part["text"]:
                yield Text(part["text"])
        elif "functionCall" in part:
            call = part["functionCall"]
            own = "" if signature == NO_SIGNATURE else signature
            yield ToolCall(call["id"], call["name"], json.dumps(call["args"], separators=(",", ":")), own)
        elif "functionResponse" in part:
            yield _result(part["functionResponse"])
        else:
            yield _medium(part, detail)
    if thought is not None:
        yield thought


def _marked(signature):
    return f"gemini:{signature}" if signature else ""


def _medium(part, detail):
    data, file = part.get("inlineData", {}), part.get("fileData", {})
    media_type = (data or file).get("mimeType", "")
    kind = File if media_type and not media_type.startswith("image/") else Image
    told = {"detail": detail} if kind is Image else {}
    return kind(url=file.get("fileUri", ""), data=data.get("data", ""), media_type=media_type, **told)


def _result(response):
    [(key, told)] = response["response"].items()
    texts = [told] if isinstance(told, str) else told
    parts = tuple(Text(text) for text in texts if text)
    media = tuple(_medium(part, "") for part in response.get("parts", ()))
    return ToolResult(response["id"], parts + media, is_error=key == "error")


def _tools(body, *, strict):
    declared = [each for tool in body.get("tools", ()) for each in tool["functionDeclarations"]]
    return tuple(
        Tool(
            each["name"], each.get("description", ""), each.get("parametersJsonSchema"), strict=True if strict else None
        )
        for each in declared
    )


def _tool_choice(calling):
    if (names := calling.get("allowedFunctionNames")) and len(names) == 1:
        return ToolChoice("tool", names[0])
    kind = {"AUTO": "auto", "ANY": "required", "NONE": "none"}.get(calling.get("mode"))
    return kind and ToolChoice(kind)


def _response_format(config):
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema")
    return ResponseFormat("json_object" if schema is None else "json_schema", schema=schema)


def _reasoning(config):
    if config is None:
        return None
    return Reasoning(
        config.get("thinkingLevel", "").lower(), config.get("thinkingBudget"), shown=config.get("includeThoughts")
    )


# -- answers -----------------------------------------------------------------------------------------------------


def body_of(answer: Answer) -> dict:
    """A `GenerateContentResponse`."""
    body = {"candidates": [_candidate(choice, index) for index, choice in enumerate(answer.choices)]}
    return body | _head(answer) | _usage(answer.usage)


def stream_of(answer: Answer) -> bytes:
    """The same as server-sent events: a piece of one part in each, why it ended and the tokens with the last."""
    events = []
    for index, choice in enumerate(answer.choices):
        candidate = _candidate(choice, index)
        pieces = [piece for part in candidate["content"]["parts"] for piece in _pieces(part)] or [{"text": ""}]
        for place, part in enumerate(pieces):
            event = {"content": {"role": "model", "parts": [part]}, "index": index}
            if place == len(pieces) - 1:
                event |= {key: candidate[key] for key in ("finishReason", "logprobsResult") if key in candidate}
            events.append({"candidates": [event]} | _head(answer))
    events[-1] |= _usage(answer.usage)
    return b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)


def _pieces(part):
    """A text in two, its signature with an empty one at the end, as models send it."""
    text = part.get("text", "")
    if "functionCall" in part or len(text) < 2:
        return [part]
    shared = {"thought": True} if part.get("thought") else {}
    half = len(text) // 2
    first = {"thoughtSignature": part["thoughtSignature"]} if "thoughtSignature" in part else {}
    return [{"text": text[:half], **shared, **first}, {"text": text[half:], **shared}]


def _head(answer):
    return {"responseId": answer.id, "modelVersion": answer.model} | _created(answer.created)


def _created(created):
    from datetime import UTC, datetime

    return {"createTime": datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")} if created else {}


def _candidate(choice: Choice, index):
    candidate = {
        "content": {"role": "model", "parts": list(_answered(choice.parts))},
        "finishReason": FINISH_REASONS[choice.finish],
        "index": index,
    }
    if choice.logprobs:
        candidate["logprobsResult"] = {
            "chosenCandidates": [_token(each.token, each.logprob) for each in choice.logprobs],
            "topCandidates": [{"candidates": [_token(*each) for each in found.top]} for found in choice.logprobs],
        }
    return candidate


def _token(token, logprob):
    return {"token": token, "tokenId": len(token), "logProbability": logprob}


def _answered(parts):
    """A thought's signature comes with the text after it, or with an empty one."""
    signature = ""
    for part in parts:
        if signature and not isinstance(part, Text):
            yield {"text": "", "thoughtSignature": signature}
            signature = ""
        if isinstance(part, Thinking):
            if part.text:
                yield {"text": part.text, "thought": True}
            signature = part.signature.removeprefix("gemini:")
        elif isinstance(part, ToolCall):
            call = {"functionCall": {"id": part.id, "name": part.name, "args": json.loads(part.arguments)}}
            yield call | ({"thoughtSignature": part.signature} if part.signature else {})
        else:
            yield {"text": part.text} | ({"thoughtSignature": signature} if signature else {})
            signature = ""
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _usage(usage: Usage | None):
    if usage is None:
        return {}
    counts = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    return {"usageMetadata": {key: count for key, count in counts.items() if count or key == "promptTokenCount"}}


# -- errors ------------------------------------------------------------------------------------------------------


def error_of(status: int, message: str, *, retry_seconds: float | None = None, reason: str = "") -> dict:
    """An error as Google writes it: cloud.google.com/apis/design/errors.

    Args:
        status: The HTTP status.
        message: What is said.
        retry_seconds: What a `RetryInfo` asks for.
        reason: Of an `ErrorInfo`: `API_KEY_INVALID`.
    """
    error = {"code": status, "message": message, "status": STATUSES[status]}
    details = []
    if reason:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        details.append({"@type": kind, "reason": reason, "domain": "googleapis.com"})
    if retry_seconds is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_seconds:g}s"})
    return {"error": error | ({"details": details} if details else {})}


def token_count_of(tokens: int) -> dict:
    """What `countTokens` answers: ai.google.dev/api/tokens."""
    return {"totalTokens": tokens}
