"""What Gemini answers, whole or in pieces: both are `GenerateContentResponse`s. Pure.

Source: ai.google.dev/api/generate-content, cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/
GenerateContentResponse, ai.google.dev/gemini-api/docs/thought-signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import orjson

from standby.clients._protocols import Usage

from ._protocols import NotAnAnswer
from ._signatures import marked
from ._values import Answer, Choice, Finish, Logprob, Text, Thinking, ToolCall

VENDOR: Final = "gemini"
"""Whose the signatures are."""

Said = Text | Thinking | ToolCall

_FINISHES: Final[Mapping[str, Finish]] = {
    "STOP": "stop",  # a stop sequence too: it does not say
    **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), "length"),
    **dict.fromkeys(("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"), "content_filter"),
    **dict.fromkeys(("MODEL_ARMOR", "ESCALATION", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"), "content_filter"),
    "IMAGE_RECITATION": "content_filter",
}
_FAILURES: Final[Mapping[str, str]] = {
    "PUP_LIMITED_DISABLED": "auth_failed",  # the account is limited for what it did before
    "MISSING_THOUGHT_SIGNATURE": "bad_request",
}
"""What else ends a candidate is the model's failure: a call that cannot be parsed, one of no tool, reasons untold."""


def answer_of(data: Mapping[str, Any]) -> Answer:
    """A whole answer.

    Raises:
        NotAnAnswer: It is none.
    """
    choices: list[Choice] = []
    for candidate in candidates_of(data):
        parts = parts_of(candidate, f"{data.get('responseId', '')}", 0)
        finish = finish_of(candidate, any(isinstance(part, ToolCall) for part in parts))
        if finish is None:
            raise NotAnAnswer("a candidate does not say why it ended")
        choices.append(Choice(tuple(parts), finish, logprobs=logprobs_of(candidate)))
    if not choices:
        raise NotAnAnswer("the answer has no candidates")
    return Answer(*head_of(data), tuple(choices), usage_of(data), created_of(data))


def head_of(data: Mapping[str, Any]) -> tuple[str, str]:
    """The answer's id, and the model."""
    return _text(data, "responseId"), _text(data, "modelVersion")


def created_of(data: Mapping[str, Any]) -> int:
    """When, in seconds since the epoch; 0 where it does not say, as only Vertex AI does."""
    try:
        return int(datetime.fromisoformat(_text(data, "createTime")).timestamp())
    except (ValueError, OverflowError):
        return 0


def candidates_of(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The candidates; none where only tokens are told.

    Raises:
        NotAnAnswer: There are none because the prompt was blocked, or they are no objects.
    """
    candidates = _objects(data, "candidates")
    reason = _text(_object(data, "promptFeedback"), "blockReason")
    if reason and not candidates:
        told = _text(_object(data, "promptFeedback"), "blockReasonMessage")
        raise NotAnAnswer(f"the prompt was blocked: {reason}{told and ': '}{told}", code="content_filter")
    return candidates


def index_of(candidate: Mapping[str, Any]) -> int:
    """Which candidate it is: the first does not say."""
    index = candidate.get("index", 0)
    return index if isinstance(index, int) else 0


def finish_of(candidate: Mapping[str, Any], calls: bool) -> Finish | None:
    """Why the candidate ended; `None` where it goes on.

    Args:
        candidate: The candidate, or a piece of it.
        calls: Whether it has asked for tools: the reason does not say so.

    Raises:
        NotAnAnswer: It failed.
    """
    reason = _text(candidate, "finishReason")
    if not reason:
        return None
    finish = _FINISHES.get(reason)
    if finish is None:
        told = _text(candidate, "finishMessage")
        message = f"the model ended with {reason[:100]}{told and ': '}{told}"
        raise NotAnAnswer(message, code=_FAILURES.get(reason, "invalid_response"))
    return "tool_calls" if finish == "stop" and calls else finish


def parts_of(candidate: Mapping[str, Any], answer_id: str, calls: int) -> list[Said]:
    """What is said in a candidate, or in a piece of it.

    A signature stands on the part after the thought, or on an empty text of its own. It becomes the thought's, and
    that of a thought without words where none was shown.

    Args:
        candidate: The candidate.
        answer_id: Of the answer; ids of calls are made from it where there are none.
        calls: How many calls were in the pieces before.

    Raises:
        NotAnAnswer: A part is of no kind that was asked for.
    """
    parts: list[Said] = []
    for part in _objects(_object(candidate, "content"), "parts"):
        signature = _text(part, "thoughtSignature")
        if isinstance(part.get("functionCall"), dict):
            index = calls + sum(isinstance(each, ToolCall) for each in parts)
            parts.append(_call(_object(part, "functionCall"), f"call_{answer_id}_{index}", signature))
            continue
        if not isinstance(part.get("text", ""), str) or part.keys().isdisjoint(("text", "thoughtSignature")):
            raise NotAnAnswer(f"a part of the answer is neither text nor a call: {', '.join(part)[:100]}")
        text = _text(part, "text")
        if part.get("thought"):
            parts.append(Thinking(text, marked(signature, VENDOR)))
            continue
        if signature:
            last = parts.pop() if parts and isinstance(parts[-1], Thinking) and not parts[-1].signature else None
            thought = last.text if isinstance(last, Thinking) else ""
            parts.append(Thinking(thought, marked(signature, VENDOR)))
        if text:
            parts.append(Text(text))
    return parts


def logprobs_of(candidate: Mapping[str, Any]) -> tuple[Logprob, ...]:
    """How likely the tokens are, as far as it says."""
    result = _object(candidate, "logprobsResult")
    chosen = [found for each in _objects(result, "chosenCandidates") if (found := _token(each))]
    top = [tuple(_tokens(_objects(each, "candidates"))) for each in _objects(result, "topCandidates")]
    top += [()] * (len(chosen) - len(top))
    return tuple(Logprob(*token, likeliest) for token, likeliest in zip(chosen, top, strict=False))


def usage_of(data: Mapping[str, Any]) -> Usage | None:
    """The tokens; `None` where none are counted."""
    counted = _object(data, "usageMetadata")
    if not counted:
        return None
    thoughts = _count(counted, "thoughtsTokenCount")
    return Usage(
        # What server-side tools put into the prompt is not among its own tokens; thoughts are not among the answer's.
        input_tokens=_count(counted, "promptTokenCount") + _count(counted, "toolUsePromptTokenCount"),
        output_tokens=_count(counted, "candidatesTokenCount") + thoughts,
        cached_tokens=_count(counted, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )


def _call(call: Mapping[str, Any], otherwise: str, signature: str) -> ToolCall:
    name, arguments = _text(call, "name"), _object(call, "args")
    if not name or (call.get("args") and not arguments):
        raise NotAnAnswer("a call of a tool has no name, or its arguments are no object")
    return ToolCall(_text(call, "id") or otherwise, name, orjson.dumps(arguments).decode(), signature)


def _tokens(candidates: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for candidate in candidates:
        if found := _token(candidate):
            yield found


def _token(candidate: Mapping[str, Any]) -> tuple[str, float] | None:
    token, logprob = candidate.get("token"), candidate.get("logProbability", 0.0)  # 0 is left out
    return (token, float(logprob)) if isinstance(token, str) and isinstance(logprob, int | float) else None


def _objects(data: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """A list of objects, as it must be where it is there."""
    value: object = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in cast("list[object]", value)):
        raise NotAnAnswer(f"{key} is no array of objects")
    return cast("list[dict[str, Any]]", value)


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _count(counted: Mapping[str, Any], key: str) -> int:
    value = counted.get(key)
    return value if isinstance(value, int) and value > 0 else 0
