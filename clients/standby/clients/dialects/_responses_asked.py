"""A request to OpenAI's Responses API, read.

The input is a list of items; those of the model that follow one another are one turn. What only OpenAI's own servers
can do is kept by name: a tool of theirs as ``tools.web_search``, an item that tells of its use as
``input.web_search_call``, a key of an item as ``message.phase``.

https://developers.openai.com/api/reference/resources/responses/methods/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import _given as given
from ._chat_parts import data_of, file_of, guessed, is_object, mark_of, signature_of
from ._protocols import InvalidRequest
from ._reading import Fields
from ._responses_items import VENDOR, opened
from ._signatures import marked
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
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

__all__ = ["LOGPROBS", "conversation_of"]

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_CHOICES: Final = ("auto", "none", "required")
_FORMATS: Final = ("text", "json_object", "json_schema")
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SUMMARIES: Final = ("auto", "concise", "detailed")
LOGPROBS: Final = "message.output_text.logprobs"
"""What an answer includes where it is to tell how likely tokens are."""
_ENCRYPTED: Final = "reasoning.encrypted_content"

_NOTHING: Final[Mapping[str, object]] = {
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "store": False,  # left out it means true at OpenAI; here an answer says that it was not stored
    "background": False,
    "truncation": "disabled",
    "top_logprobs": 0,
    "verbosity": "medium",
    "context": "auto",
    "mode": "standard",
    "detail": "auto",
    "defer_loading": False,
    "async": False,
    "caller": {"type": "direct"},
    "allowed_callers": ["direct"],
}
"""What a key says, wherever it stands, that says no more than if it were left out."""

_TOLD: Final = ("id", "status", "annotations", "logprobs")
"""What an answer tells of its items: sent back with them, it asks for nothing."""


def conversation_of(data: Mapping[str, Any]) -> Conversation:
    """What a request says.

    Raises:
        InvalidRequest: It is none.
    """
    return _Reader(Fields(data)).conversation()


class _Reader:
    """Reads one request; ``extra`` gathers what no other dialect has."""

    def __init__(self, asked: Fields) -> None:
        self._asked = asked
        self.extra: dict[str, Any] = {}

    def conversation(self) -> Conversation:
        asked = self._asked
        for key in ("model", "stream", "stream_options"):  # the last pads events against eavesdroppers, or does not
            asked.take(key)
        tools = self._tools()
        response_format, verbosity = self._text()
        tier, parallel = asked.text("service_tier"), asked.flag("parallel_tool_calls")
        safety, user = asked.text("safety_identifier"), asked.text("user")  # the older name of the same
        conversation = Conversation(
            messages=self._messages(),
            tools=tools,
            tool_choice=self._tool_choice(has_tools=bool(tools)),
            parallel_tool_calls=None if parallel else parallel,
            response_format=response_format,
            temperature=asked.number("temperature"),
            top_p=asked.number("top_p"),
            max_tokens=asked.whole("max_output_tokens", at_least=1),
            logprobs=self._logprobs(),
            reasoning=self._reasoning(),
            verbosity=verbosity,
            user=safety or user,
            metadata=asked.mapping_of("metadata", given.text) or None,
            service_tier=None if tier == "auto" else tier,
            include_usage=True,
            extra=self.extra,
        )
        self._note_rest(asked)
        if not conversation.messages and not self.extra:
            raise InvalidRequest("input must be a string or a list of items with something in it", "input")
        return conversation

    def _note_rest(self, fields: Fields, of: str = "") -> None:
        """Keep what stands under keys that nobody else knows."""
        for key, value in fields.rest().items():
            if key not in _NOTHING or value != _NOTHING[key]:
                self.extra[of + key] = value

    # -- the input ---------------------------------------------------------------------------------------------

    def _messages(self) -> tuple[Message, ...]:
        messages: list[Message] = []
        if instructions := self._asked.text("instructions"):
            messages.append(Message("system", (Text(instructions),)))
        value = self._asked.take("input")
        if isinstance(value, str):
            return (*messages, Message("user", (Text(value),)))
        if value is not None and not isinstance(value, list):
            raise given.wrong(value, "a string or a list of items", "input")
        for item in self._asked.each("input"):
            message = self._item(item)
            last = messages[-1] if messages else None
            if last is not None and last.role == message.role and last.role in ("assistant", "tool"):
                messages[-1] = Message(last.role, (*last.parts, *message.parts))
            elif message.parts:
                messages.append(message)
        return tuple(messages)

    def _item(self, item: Fields) -> Message:
        """What an item says; a turn without parts for one that only its vendor understands."""
        ident = item.text("id") or ""
        kind = item.text("type") or ("message" if "role" in item.rest() else "item_reference")
        for key in _TOLD:
            item.take(key)
        match kind:
            case "message":
                role = item.needed("role", lambda value, where: given.one_of(value, _ROLES, where))
                message = Message(_ROLES[role], self._content(item, "content"))
            case "function_call":
                message = Message("assistant", (self._call(item),))
            case "function_call_output":
                item.take("name")  # that of the tool, which its call has as well
                message = Message("tool", (self._result(item),))
            case "reasoning":
                message = Message("assistant", self._thought(item, ident))
            case _:
                self.extra[f"input.{kind[:100]}"] = item.where
                return Message("user", ())
        self._note_rest(item, f"{kind}.")
        return message

    def _call(self, item: Fields) -> ToolCall:
        arguments = item.text("arguments") or "{}"
        if not is_object(arguments):
            where = item.place("arguments")
            raise InvalidRequest(f"{where} must be the text of a JSON object", where)
        signature = signature_of(item.take("extra_content"))
        return ToolCall(item.needed_text("call_id"), item.needed_text("name"), arguments, signature)

    def _result(self, item: Fields) -> ToolResult:
        parts = self._content(item, "output")
        said = tuple(part for part in parts if isinstance(part, Text | Image | File))
        if len(said) < len(parts):
            where = item.place("output")
            raise InvalidRequest(f"{where} must have no refusal in it", where)
        return ToolResult(item.needed_text("call_id"), said)

    def _thought(self, item: Fields, ident: str) -> tuple[Thinking, ...]:
        content, summary = ([part.needed_text("text") for part in item.each(key)] for key in ("content", "summary"))
        thought = "\n\n".join(content or summary)
        encrypted = item.text("encrypted_content") or ""
        if (sealed := opened(encrypted)) is not None:
            return (Thinking(thought, *sealed),)
        # OpenAI's own: only it can read what it sealed, or knows what it keeps under an id.
        signature = marked(encrypted or ("" if thought else ident), VENDOR)
        return (Thinking(thought, signature, redacted=not thought),) if thought or signature else ()

    def _content(self, item: Fields, key: str) -> tuple[Part, ...]:
        content = item.take(key)
        if isinstance(content, str):
            return (Text(content),)
        if not isinstance(content, list):
            raise given.wrong(content, "a string or a list of parts", item.place(key))
        return tuple(part for each in item.each(key) if (part := self._part(each)) is not None)

    def _part(self, fields: Fields) -> Part | None:
        kind, mark = fields.needed_text("type"), mark_of(fields)
        for key in _TOLD:
            fields.take(key)
        part: Part | None = None
        match kind:
            case "input_text" | "output_text":
                part = Text(fields.needed_text("text"), mark)
            case "refusal":
                part = Refusal(fields.needed_text("refusal"))
            case "input_image":
                part = _image(fields, mark)
            case "input_file":
                part = _file(fields, mark)
            case _:
                self.extra[f"input.{kind[:100]}"] = fields.where
                return None
        self._note_rest(fields, f"{kind}.")
        return part

    # -- tools -------------------------------------------------------------------------------------------------

    def _tools(self) -> tuple[Tool, ...]:
        tools: list[Tool] = []
        for tool in self._asked.each("tools"):
            kind = tool.needed_text("type")
            if kind != "function":
                self.extra[f"tools.{kind[:100]}"] = tool.where
                continue
            name, description = tool.needed_text("name"), tool.text("description") or ""
            tools.append(Tool(name, description, tool.mapping("parameters"), tool.flag("strict")))
            self._note_rest(tool, "tools.function.")
        return tuple(tools)

    def _tool_choice(self, *, has_tools: bool) -> ToolChoice | None:
        choice = self._asked.take("tool_choice")
        if choice in (None, "auto") or (choice == "none" and not has_tools):
            return None
        if isinstance(choice, str):
            return ToolChoice("required" if given.one_of(choice, _CHOICES, "tool_choice") == "required" else "none")
        fields = Fields(given.mapping(choice, "tool_choice"), "tool_choice")
        if (kind := fields.needed_text("type")) == "function":
            return ToolChoice("tool", fields.needed_text("name"))
        self.extra[f"tool_choice.{kind[:100]}"] = choice
        return None

    # -- what comes out ----------------------------------------------------------------------------------------

    def _text(self) -> tuple[ResponseFormat | None, str | None]:
        wanted = self._asked.fields("text")
        if wanted is None:
            return None, None
        verbosity = wanted.one_of("verbosity", ("low", "medium", "high"))
        form = wanted.fields("format")
        response_format = None if form is None else self._format(form)
        self._note_rest(wanted, "text.")
        return response_format, None if verbosity == "medium" else verbosity

    def _format(self, form: Fields) -> ResponseFormat | None:
        kind = form.needed("type", lambda value, where: given.one_of(value, _FORMATS, where))
        if kind == "json_object":
            return ResponseFormat("json_object")
        if kind == "text":
            return None
        name, schema = form.needed_text("name"), form.needed("schema", given.mapping)
        return ResponseFormat("json_schema", name, schema, form.flag("strict"), form.text("description") or "")

    def _logprobs(self) -> int | None:
        """How many alternatives of each token are wanted; who asks for some, or to include them, asks for it."""
        included = {given.text(name, where) for where, name in self._asked.said("include", given.items) or ()}
        # Thoughts always come with what is encrypted of them.
        self.extra |= {f"include.{name[:100]}": True for name in sorted(included - {LOGPROBS, _ENCRYPTED})}
        alternatives = self._asked.whole("top_logprobs", at_least=0) or 0
        return alternatives if alternatives or LOGPROBS in included else None

    def _reasoning(self) -> Reasoning | None:
        wanted = self._asked.fields("reasoning")
        if wanted is None:
            return None
        effort = wanted.one_of("effort", _EFFORTS) or ""
        # How long the summary is to be nobody else can be told; that it is wanted, they can.
        older, summary = (wanted.one_of(key, _SUMMARIES) for key in ("generate_summary", "summary"))
        self._note_rest(wanted, "reasoning.")
        shown = True if summary or older else None
        return Reasoning(effort=effort, shown=shown) if effort or shown else None


def _image(fields: Fields, mark: CacheMark | None) -> Image | None:
    url, detail = fields.text("image_url"), fields.text("detail") or ""
    detail = "" if detail == "auto" else detail
    if url is None:
        if not fields.rest().get("file_id"):
            raise InvalidRequest(f"{fields.where} must have image_url or file_id", fields.where)
        return None  # what is left is the id of what nobody else keeps
    if url.startswith("data:"):
        media_type, data = data_of(url, fields.place("image_url"))
        return Image(data=data, media_type=media_type, detail=detail, cache=mark)
    return Image(url=url, detail=detail, cache=mark)


def _file(fields: Fields, mark: CacheMark | None) -> File:
    if (url := fields.text("file_url")) is None:
        return file_of(fields, mark)
    name = fields.text("filename") or ""
    return File(url=url, media_type=guessed(name or url), name=name, cache=mark)
