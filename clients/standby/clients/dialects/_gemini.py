"""Google's Gemini, as a provider speaks it: `generateContent` of the Gemini API and of Vertex AI. Pure.

Sources: ai.google.dev/api/generate-content, ai.google.dev/api/caching (Content, Tool, ToolConfig),
ai.google.dev/gemini-api/docs/function-calling, .../thinking, .../thought-signatures, .../structured-output,
.../media-resolution, .../openai; github.com/googleapis/python-genai (google/genai/types.py).
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from ._features import parts_of
from ._gemini_answer import VENDOR, answer_of
from ._gemini_stream import GeminiFrames, GeminiReader
from ._protocols import Frames, Reader, Wire
from ._signatures import has_others_thoughts, own
from ._values import (
    Answer,
    Conversation,
    File,
    Image,
    Message,
    Part,
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

__all__ = ["GEMINI"]

Json = dict[str, Any]

_NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Gemini 3 takes in the place of a signature, for a call that it did not make itself."""

_BEFORE_3: Final = re.compile(r"\bgemini-(?:[12]\b|pro-vision)|\bgemma-[23]\b")
"""Models that know no levels of thinking, but budgets, and want no signatures."""

_LEVELS: Final[Mapping[str, str]] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    **dict.fromkeys(("high", "xhigh", "max"), "HIGH"),
}
_BUDGETS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    **dict.fromkeys(("high", "xhigh", "max"), 24576),
}
"""What Google's own OpenAI-compatible endpoint makes of an effort: ai.google.dev/gemini-api/docs/openai."""

_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
_TIERS: Final = {"default": "standard", "standard_only": "standard", "flex": "flex", "priority": "priority"}
_RESOLUTIONS: Final = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}
_MAX_STOPS: Final = 5
_MAX_CANDIDATES: Final = 8
_MAX_TEMPERATURE: Final = 2
_MAX_INT: Final = 2**31

_SUPPORTS: Final[Mapping[str, str]] = {
    "system": "before all turns, wherever it stood",
    "developer": "as system messages",
    "multi_turn": "",
    "image_data": "",
    "image_url": "its type is told by the end of the address",
    "file_data": "without its name",
    "file_url": "`gs://` and those of the Files API too; its type is told by the end of the address",
    "audio": "",
    "image_detail": "low and high, one for all images",
    "thinking": "its own",
    "tools": "",
    "parallel_calls": "",
    "tool_results": "",
    "tool_media": "Gemini 3 and later; after the texts",
    "tool_errors": "",
    "tool_strict": "of all tools together",
    "tool_choice": "",
    "json_object": "",
    "json_schema": "always strict; without its name",
    "stop": f"at most {_MAX_STOPS}",
    "temperature": f"up to {_MAX_TEMPERATURE}",
    "top_p": "",
    "top_k": "",
    "max_tokens": "",
    "seed": "32 bits",
    "n": f"at most {_MAX_CANDIDATES}",
    "frequency_penalty": "",
    "presence_penalty": "",
    "logprobs": "",
    "reasoning": "as a level from Gemini 3 on, before it as a budget",
    "service_tier": "default, flex, priority",
    "answer_text": "",
    "answer_tool_calls": "",
    "answer_thinking": "",
    "answer_signature": "of thoughts and of calls",
    "answer_logprobs": "",
    "answer_finish": "",
    "answer_usage": "",
    "answer_cached_tokens": "",
    "answer_reasoning_tokens": "",
    "answer_id": "",
}


class _Gemini:
    name = "gemini"
    supports = _SUPPORTS

    def lacks(self, conversation: Conversation) -> Mapping[str, str]:
        return dict(_lacks(conversation))

    def written(self, conversation: Conversation, model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - the address says it
        body: Json = {"contents": _contents(conversation, model)}
        if system := [{"text": part.text} for part in _system_parts(conversation) if isinstance(part, Text)]:
            body["systemInstruction"] = {"parts": system}
        if conversation.tools:
            body["tools"] = [{"functionDeclarations": [_declared(tool) for tool in conversation.tools]}]
        if calling := _calling(conversation.tool_choice, strict=any(tool.strict for tool in conversation.tools)):
            body["toolConfig"] = {"functionCallingConfig": calling}
        if config := _config(conversation, model):
            body["generationConfig"] = config
        if conversation.service_tier is not None:
            body["serviceTier"] = _TIERS[conversation.service_tier]
        return orjson.dumps(body)

    def read(self, data: Mapping[str, Any]) -> Answer:
        return answer_of(data)

    def frames(self) -> Frames:
        return GeminiFrames()

    def reader(self) -> Reader:
        return GeminiReader()


GEMINI: Final[Wire] = _Gemini()


# -- what cannot be asked ----------------------------------------------------------------------------------------


def _lacks(conversation: Conversation) -> Iterator[tuple[str, str]]:
    if len(conversation.stop) > _MAX_STOPS:
        yield "stop", f"at most {_MAX_STOPS}"
    if conversation.temperature is not None and conversation.temperature > _MAX_TEMPERATURE:
        yield "temperature", f"at most {_MAX_TEMPERATURE}"
    if conversation.n is not None and conversation.n > _MAX_CANDIDATES:
        yield "n", f"at most {_MAX_CANDIDATES}"
    if conversation.seed is not None and not -_MAX_INT <= conversation.seed < _MAX_INT:
        yield "seed", "32 bits"
    if conversation.service_tier is not None and conversation.service_tier not in _TIERS:
        yield "service_tier", f"one of {', '.join(_TIERS)}"
    if conversation.reasoning is not None and conversation.reasoning.effort not in ("", *_LEVELS):
        yield "reasoning", f"one of {', '.join(_LEVELS)}"
    if has_others_thoughts(conversation, VENDOR):
        yield "thinking", "only its own"
    details = {part.detail for part in parts_of(conversation) if isinstance(part, Image)}
    if details - {""} and (len(details) > 1 or details.isdisjoint(_RESOLUTIONS)):
        yield "image_detail", "low or high, one for all images"
    if not all(isinstance(part, Text) for part in _system_parts(conversation)):
        yield "system", "only text"
    elif all(message.role in ("system", "developer") for message in conversation.messages):
        yield "system", "only beside other turns"
    if why := _unmatched(conversation):
        yield "tool_results", why


def _unmatched(conversation: Conversation) -> str:
    """What is wrong with the calls of tools and their results; empty where all is well."""
    known: set[str] = set()
    for part in parts_of(conversation):
        if isinstance(part, ToolCall):
            known.add(part.id)
            if not _is_object(part.arguments):
                return "a call's arguments are no JSON object"
        elif isinstance(part, ToolResult) and part.id not in known:
            return "a result is of no call in the conversation"
    return ""


def _is_object(arguments: str) -> bool:
    try:
        return not arguments or isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False


# -- turns -------------------------------------------------------------------------------------------------------


def _system_parts(conversation: Conversation) -> Iterator[Part]:
    for message in conversation.messages:
        if message.role in ("system", "developer"):
            yield from message.parts


def _contents(conversation: Conversation, model: str) -> list[Json]:
    contents: list[Json] = []
    names: dict[str, str] = {}
    answering = False
    for message in conversation.messages:
        if message.role in ("system", "developer"):
            continue
        names |= {part.id: part.name for part in message.parts if isinstance(part, ToolCall)}
        parts = list(_said(message, names))
        if message.role == "assistant":
            _sign(parts, model)
        if not parts:
            continue
        if answering and message.role == "tool":
            contents[-1]["parts"] += parts  # all results of one turn's calls must be in one turn
        else:
            contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
        answering = message.role == "tool"
    return contents


def _said(message: Message, names: Mapping[str, str]) -> Iterator[Json]:
    """The parts of one turn. A thought's signature stands on the text or call after it, or on an empty text."""
    signature = ""
    for part in message.parts:
        takes_it = isinstance(part, Text) or (isinstance(part, ToolCall) and not part.signature)
        if signature and not takes_it:
            yield {"text": "", "thoughtSignature": signature}
            signature = ""
        match part:
            case Thinking():
                if part.text:
                    yield {"text": part.text, "thought": True}
                signature = own(part.signature, VENDOR)
            case Text() | Refusal():
                if part.text:  # an empty one is refused
                    yield {"text": part.text} | ({"thoughtSignature": signature} if signature else {})
                    signature = ""
            case ToolCall():
                call = {"id": part.id, "name": part.name, "args": orjson.Fragment(part.arguments or "{}")}
                signature = part.signature or signature
                yield {"functionCall": call} | ({"thoughtSignature": signature} if signature else {})
                signature = ""
            case ToolResult():
                yield {"functionResponse": _result(part, names[part.id])}
            case Image() | File():
                yield _medium(part)
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _sign(parts: list[Json], model: str) -> None:
    """Of the calls of a turn the first must be signed."""
    call = next((part for part in parts if "functionCall" in part), None)
    if call is not None and not _BEFORE_3.search(model):
        call.setdefault("thoughtSignature", _NO_SIGNATURE)


def _result(result: ToolResult, name: str) -> Json:
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    told = "".join(texts) if len(texts) < 2 else texts
    written: Json = {"id": result.id, "name": name, "response": {"error" if result.is_error else "output": told}}
    if media := [_medium(part) for part in result.parts if not isinstance(part, Text)]:
        written["parts"] = media
    return written


def _medium(part: Image | File) -> Json:
    if part.data:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    media_type = part.media_type or mimetypes.guess_type(part.url.partition("?")[0], strict=False)[0]
    return {"fileData": {"fileUri": part.url} | ({"mimeType": media_type} if media_type else {})}


# -- tools -------------------------------------------------------------------------------------------------------


def _declared(tool: Tool) -> Json:
    declared: Json = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.parameters is not None:
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _calling(choice: ToolChoice | None, *, strict: bool) -> Json:
    if choice is None and not strict:
        return {}
    mode = "AUTO" if choice is None else _MODES[choice.kind]
    # The mode ANY keeps to the schemas by itself.
    calling: Json = {"mode": "VALIDATED" if strict and mode == "AUTO" else mode}
    if choice is not None and choice.kind == "tool":
        calling["allowedFunctionNames"] = [choice.name]
    return calling


# -- what comes out ----------------------------------------------------------------------------------------------


def _config(conversation: Conversation, model: str) -> Json:
    config: Json = {
        "temperature": conversation.temperature,
        "topP": conversation.top_p,
        "topK": conversation.top_k,
        "maxOutputTokens": conversation.max_tokens,
        "stopSequences": list(conversation.stop) or None,
        "seed": conversation.seed,
        "candidateCount": conversation.n,
        "frequencyPenalty": conversation.frequency_penalty,
        "presencePenalty": conversation.presence_penalty,
        "responseLogprobs": None if conversation.logprobs is None else True,
        "logprobs": conversation.logprobs or None,
        "mediaResolution": _resolution(parts_of(conversation)),
        "thinkingConfig": _thinking(conversation.reasoning, model) or None,
        **_format(conversation.response_format),
    }
    return {key: value for key, value in config.items() if value is not None}


def _format(wanted: ResponseFormat | None) -> Json:
    if wanted is None:
        return {}
    return {"responseMimeType": "application/json", "responseJsonSchema": wanted.schema}


def _thinking(reasoning: Reasoning | None, model: str) -> Json:
    if reasoning is None:
        return {}
    config: Json = {} if reasoning.shown is None else {"includeThoughts": reasoning.shown}
    if reasoning.budget_tokens is not None:  # says more than an effort, and only one of them may be given
        config["thinkingBudget"] = reasoning.budget_tokens
    elif reasoning.effort and _BEFORE_3.search(model):
        config["thinkingBudget"] = _BUDGETS[reasoning.effort]
    elif reasoning.effort:
        config["thinkingLevel"] = _LEVELS[reasoning.effort]
    return config


def _resolution(parts: Iterable[Part]) -> str | None:
    details = [part.detail for part in parts if isinstance(part, Image)]
    return _RESOLUTIONS.get(details[0]) if details else None
