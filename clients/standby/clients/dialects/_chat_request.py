"""A request to OpenAI's chat completions, read.

What asks for nothing is nothing: a parameter at the value that it has when it is left out. What no other dialect has is
kept under its own name, wherever in the request it stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, cast

from . import _given as given
from ._chat_parts import is_object, mark_of, part_of, signature_of, thoughts_of
from ._protocols import InvalidRequest
from ._reading import Fields
from ._values import (
    CacheMark,
    Conversation,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

__all__ = ["asks_for_nothing", "conversation_of"]

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
_CHOICES: Final[Mapping[str, Literal["auto", "none", "required"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
}
_FORMATS: Final = ("text", "json_object", "json_schema")
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NOTHING: Final[Mapping[str, tuple[object, ...]]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tool_choice": ("auto",),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "verbosity": ("medium",),
    "service_tier": ("auto",),
    "store": (False,),
    "modalities": (["text"],),
    "prompt_cache_options": ({"mode": "implicit"}, {"ttl": "30m"}, {"mode": "implicit", "ttl": "30m"}),
}


def asks_for_nothing(key: str, value: object) -> bool:
    """Whether a parameter is at the value that it has when it is left out."""
    if value is None or value in ([], {}):
        return True
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in _NOTHING.get(key, ()))


def conversation_of(data: Mapping[str, Any]) -> Conversation:
    """What a request says.

    Raises:
        InvalidRequest: It is none.
    """
    asked = Fields({key: value for key, value in data.items() if not asks_for_nothing(key, value)})
    asked.take("model")
    asked.take("stream")
    extra: dict[str, Any] = {}
    tools = tuple(_tools(asked, extra))
    user = asked.text("user")
    safety = asked.text("safety_identifier")  # its newer name; not always the same
    if user is not None and safety not in (None, user):
        extra["safety_identifier"] = safety
    conversation = Conversation(
        messages=tuple(_joined(_messages(asked, extra))),
        tools=tools,
        tool_choice=_tool_choice(asked, extra, has_tools=bool(tools)),
        parallel_tool_calls=asked.flag("parallel_tool_calls"),
        response_format=_response_format(asked),
        stop=_stop(asked),
        temperature=asked.number("temperature"),
        top_p=asked.number("top_p"),
        top_k=asked.whole("top_k"),
        max_tokens=_max_tokens(asked),
        seed=asked.whole("seed"),
        n=asked.whole("n", at_least=1),
        frequency_penalty=asked.number("frequency_penalty"),
        presence_penalty=asked.number("presence_penalty"),
        logit_bias=asked.mapping_of("logit_bias", given.number),
        logprobs=_logprobs(asked),
        reasoning=_reasoning(asked, extra),
        verbosity=asked.one_of("verbosity", ("low", "medium", "high")),
        user=safety if user is None else user,
        metadata=asked.mapping_of("metadata", given.text),
        service_tier=asked.text("service_tier"),
        include_usage=_include_usage(asked, extra),
        extra=extra,
    )
    extra.update(asked.rest())
    return conversation


# -- messages ----------------------------------------------------------------------------------------------------


def _messages(asked: Fields, extra: dict[str, Any]) -> Iterator[Message]:
    if asked.take("messages") is None:
        raise InvalidRequest("messages must be a list of at least one message", "messages")
    for fields in asked.each("messages"):
        role = fields.needed("role", _role)
        if role == "function":  # what tools were before they were tools
            extra[role] = fields.take("content")
            continue
        mark = mark_of(fields)
        if role == "tool":
            yield Message("tool", (_result(fields, mark, extra),))
        else:
            parts = _content(fields, mark, extra, may_be_missing=role == "assistant")
            if role == "assistant":
                parts = (*_thoughts(fields), *parts, *_refusal(fields), *_calls(fields, extra))
            yield Message(role, parts, fields.text("name") or "")
        extra.update(fields.rest())


def _role(value: object, where: str) -> Role | Literal["function"]:
    return cast('Role | Literal["function"]', given.one_of(value, _ROLES, where))


def _joined(messages: Iterable[Message]) -> Iterator[Message]:
    """The results of one turn's calls as one message."""
    results: tuple[Part, ...] = ()
    for message in messages:
        if message.role == "tool":
            results += message.parts
            continue
        if results:
            yield Message("tool", results)
            results = ()
        yield message
    if results:
        yield Message("tool", results)


def _content(
    fields: Fields, mark: CacheMark | None, extra: dict[str, Any], *, may_be_missing: bool = False
) -> tuple[Part, ...]:
    content = fields.take("content")
    if isinstance(content, str):
        return (Text(content, mark),) if content else ()
    if isinstance(content, list):
        return tuple(part for each in fields.each("content") if (part := part_of(each, extra)) is not None)
    if content is not None or not may_be_missing:
        raise given.wrong(content, "a string or a list of parts", fields.place("content"))
    return ()


def _result(fields: Fields, mark: CacheMark | None, extra: dict[str, Any]) -> ToolResult:
    fields.take("name")  # that of the tool, which its call has as well
    parts = _content(fields, None, extra)
    if not all(isinstance(part, Text | Image | File) for part in parts):
        where = fields.place("content")
        raise InvalidRequest(f"{where} must have no refusal in it", where)
    return ToolResult(
        fields.needed_text("tool_call_id"),
        tuple(part for part in parts if isinstance(part, Text | Image | File)),
        cache=mark,
    )


def _thoughts(fields: Fields) -> Iterable[Part]:
    details, text, other = (fields.take(key) for key in ("reasoning_details", "reasoning_content", "reasoning"))
    return thoughts_of(details, text or other)


def _refusal(fields: Fields) -> Iterator[Part]:
    if refusal := fields.text("refusal"):
        yield Refusal(refusal)


def _calls(fields: Fields, extra: dict[str, Any]) -> Iterator[Part]:
    for call in fields.each("tool_calls"):
        kind = call.text("type") or "function"
        if kind != "function":
            extra[kind] = call.take(kind)
            continue
        function = call.needed_fields("function")
        arguments = function.text("arguments") or "{}"
        if not is_object(arguments):
            where = function.place("arguments")
            raise InvalidRequest(f"{where} must be the text of a JSON object", where)
        call.take("index")  # of the stream that it came in
        signature = signature_of(call.take("extra_content"))
        yield ToolCall(call.needed_text("id"), function.needed_text("name"), arguments, signature, mark_of(call))
        extra.update(call.rest() | function.rest())


# -- tools and forms of the answer -------------------------------------------------------------------------------


def _tools(asked: Fields, extra: dict[str, Any]) -> Iterator[Tool]:
    for fields in asked.each("tools"):
        kind = fields.needed_text("type")
        if kind != "function":
            extra[kind] = fields.take(kind)
            continue
        function = fields.needed_fields("function")
        yield Tool(
            function.needed_text("name"),
            function.text("description") or "",
            function.mapping("parameters"),
            function.flag("strict"),
            mark_of(fields) or mark_of(function),
        )
        extra.update(fields.rest() | function.rest())


def _tool_choice(asked: Fields, extra: dict[str, Any], *, has_tools: bool) -> ToolChoice | None:
    choice = asked.take("tool_choice")
    if choice is None or (choice == "none" and not has_tools):
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return ToolChoice(_CHOICES[choice])
    if not isinstance(choice, dict):
        given.one_of(choice, _CHOICES, "tool_choice")
    fields = asked.needed_fields("tool_choice")
    kind = fields.needed_text("type")
    if kind == "function":
        return ToolChoice("tool", fields.needed_fields("function").needed_text("name"))
    extra[kind] = choice
    return None


def _response_format(asked: Fields) -> ResponseFormat | None:
    fields = asked.fields("response_format")
    if fields is None:
        return None
    kind = fields.needed("type", lambda value, where: given.one_of(value, _FORMATS, where))
    if kind != "json_schema":
        return ResponseFormat("json_object") if kind == "json_object" else None
    schema = fields.needed_fields("json_schema")
    return ResponseFormat(
        "json_schema",
        schema.needed_text("name"),
        schema.mapping("schema"),
        schema.flag("strict"),
        schema.text("description") or "",
    )


# -- parameters --------------------------------------------------------------------------------------------------


def _stop(asked: Fields) -> tuple[str, ...]:
    stop = asked.take("stop")
    if isinstance(stop, str):
        return (stop,)
    return tuple(given.text(each, where) for where, each in asked.said("stop", given.items) or ())


def _max_tokens(asked: Fields) -> int | None:
    newer, older = (asked.whole(key, at_least=1) for key in ("max_completion_tokens", "max_tokens"))
    if newer is not None and older is not None and newer != older:
        raise InvalidRequest("max_tokens must be left out where max_completion_tokens is given", "max_tokens")
    return older if newer is None else newer


def _logprobs(asked: Fields) -> int | None:
    wanted, alternatives = asked.flag("logprobs"), asked.whole("top_logprobs", at_least=0)
    if alternatives is not None and not wanted:
        raise InvalidRequest("logprobs must be true where top_logprobs is given", "logprobs")
    return (alternatives or 0) if wanted else None


def _reasoning(asked: Fields, extra: dict[str, Any]) -> Reasoning | None:
    effort = asked.one_of("reasoning_effort", _EFFORTS)
    more = asked.fields("reasoning")  # as OpenRouter has it
    if more is None:
        return None if effort is None else Reasoning(effort)
    effort = effort or more.one_of("effort", _EFFORTS)
    budget, hidden, enabled = more.whole("max_tokens", at_least=0), more.flag("exclude"), more.flag("enabled")
    if effort is None and budget is None and enabled is not None:
        effort = "medium" if enabled else "none"
    if left := more.rest():
        extra["reasoning"] = left
    return Reasoning(effort or "", budget, None if hidden is None else not hidden)


def _include_usage(asked: Fields, extra: dict[str, Any]) -> bool:
    options = asked.fields("stream_options")
    if options is None:
        return False
    options.flag("include_obfuscation")  # padding against eavesdroppers, whose default is the server's
    wanted = options.flag("include_usage") or False
    if left := options.rest():
        extra["stream_options"] = left
    return wanted
