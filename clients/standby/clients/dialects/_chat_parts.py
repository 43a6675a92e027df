"""The parts of messages in OpenAI's chat completions: read from a caller's request, written to a provider's."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from ._given import in_base64
from ._protocols import InvalidRequest
from ._reading import Fields, as_object, as_objects, as_text
from ._values import CacheMark, File, Image, Part, Refusal, Text, Thinking, ToolCall

_ADDRESS: Final = re.compile(r"https?://")
AUDIO_FORMATS: Final = {"audio/wav": "wav", "audio/mpeg": "mp3"}
_AUDIO_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}

# -- read --------------------------------------------------------------------------------------------------------


def part_of(fields: Fields, extra: dict[str, Any]) -> Part | None:
    """One part of a content; `None`, and noted in ``extra``, for a kind that no other dialect has."""
    kind = fields.needed_text("type")
    mark = mark_of(fields)
    part: Part | None = None
    match kind:
        case "text":
            part = Text(fields.needed_text("text"), mark)
        case "refusal":
            part = Refusal(fields.needed_text("refusal"))
        case "image_url":
            part = _image_of(fields.needed_fields("image_url"), mark, extra)
        case "input_audio":
            part = _audio_of(fields.needed_fields("input_audio"), mark)
        case "file":
            part = file_of(fields.needed_fields("file"), mark)
        case _:
            extra[kind] = fields.take(kind)
    if part is not None:
        extra.update(fields.rest())
    return part


def mark_of(fields: Fields) -> CacheMark | None:
    """The mark for the cache: OpenAI's, or Anthropic's, as OpenRouter and others take it."""
    theirs, its = fields.fields("cache_control"), fields.fields("prompt_cache_breakpoint")
    mark = theirs or its
    return None if mark is None else CacheMark(mark.text("ttl") or "")


def _image_of(fields: Fields, mark: CacheMark | None, extra: dict[str, Any]) -> Image:
    url, detail = fields.needed_text("url"), fields.text("detail") or ""
    detail = "" if detail == "auto" else detail
    extra.update(fields.rest())
    if url.startswith("data:"):
        media_type, data = data_of(url, fields.place("url"))
        return Image(data=data, media_type=media_type, detail=detail, cache=mark)
    return Image(url=url, detail=detail, cache=mark)


def _audio_of(fields: Fields, mark: CacheMark | None) -> File:
    kind = fields.needed_text("format")
    media_type = _AUDIO_TYPES.get(kind, f"audio/{kind}")
    return File(data=fields.needed_text("data"), media_type=media_type, cache=mark)


def file_of(fields: Fields, mark: CacheMark | None) -> File:
    """A document."""
    name, file_id, data = fields.text("filename") or "", fields.text("file_id") or "", fields.text("file_data") or ""
    if not data and not file_id:
        raise InvalidRequest(f"{fields.where} must have file_data or file_id", fields.where)
    if _ADDRESS.match(data):  # as OpenRouter takes it
        return File(url=data, name=name, media_type=guessed(name), cache=mark)
    media_type = ""
    if data.startswith("data:"):
        media_type, data = data_of(data, fields.place("file_data"))
    elif data:
        media_type = guessed(name)
    return File(data=data, media_type=media_type, name=name, file_id=file_id, cache=mark)


def guessed(name: str) -> str:
    """The media type of what has this name, or this address."""
    return mimetypes.guess_type(name)[0] or "application/pdf"


def data_of(url: str, place: str) -> tuple[str, str]:
    """The media type and the base64 text of a ``data:`` address."""
    found = in_base64(url)
    if found is None:
        raise InvalidRequest(f"{place} must be an address, or data in base64: data:image/png;base64,...", place)
    return found


def thoughts_of(details: object, text: object) -> tuple[Thinking, ...]:
    """What was thought: in OpenRouter's form, which has the signatures, else as one text."""
    found: list[Thinking] = []
    last: object = None
    for detail in as_objects(details):
        kind, index, signature = detail.get("type"), detail.get("index"), as_text(detail.get("signature"))
        if kind == "reasoning.text":
            piece = as_text(detail.get("text"))
            if index is not None and last == (kind, index) and not found[-1].signature:  # pieces that nobody joined
                found[-1] = Thinking(found[-1].text + piece, signature)
            else:
                found.append(Thinking(piece, signature))
        elif kind == "reasoning.summary":
            found.append(Thinking(as_text(detail.get("summary")), signature))
        elif kind == "reasoning.encrypted":
            found.append(Thinking("", as_text(detail.get("data")), redacted=True))
        else:
            continue
        last = (kind, index)
    if not found and isinstance(text, str) and text:
        found.append(Thinking(text))
    return tuple(found)


# -- written -----------------------------------------------------------------------------------------------------


def content_of(parts: Iterable[Part]) -> str | list[dict[str, Any]]:
    """A content: a text where it is no more than that, else its parts. Calls, results and thoughts are no content."""
    written = [_written_part(part) for part in parts if isinstance(part, Text | Image | File)]
    if not written:
        return ""
    if len(written) == 1 and written[0].keys() == {"type", "text"}:
        return str(written[0]["text"])
    return written


def _written_part(part: Text | Image | File) -> dict[str, Any]:
    match part:
        case Text():
            body: dict[str, Any] = {"type": "text", "text": part.text}
        case Image():
            detail = {"detail": part.detail} if part.detail else {}
            body = {"type": "image_url", "image_url": {"url": part.url or _url_of(part), **detail}}
        case File() if part.media_type.startswith("audio/"):
            kind = AUDIO_FORMATS.get(part.media_type, part.media_type.removeprefix("audio/"))
            body = {"type": "input_audio", "input_audio": {"data": part.data, "format": kind}}
        case File():
            body = {"type": "file", "file": _written_file(part)}
    return body | written_mark(part.cache)


def written_mark(mark: CacheMark | None) -> dict[str, Any]:
    """A mark for the cache, as Anthropic has it and others take it."""
    if mark is None:
        return {}
    return {"cache_control": {"type": "ephemeral", **({"ttl": mark.ttl} if mark.ttl else {})}}


def _written_file(part: File) -> dict[str, Any]:
    body = {"filename": part.name} if part.name else {}
    if part.file_id:
        return {**body, "file_id": part.file_id}
    return {**body, "file_data": part.url or _url_of(part)}


def _url_of(part: Image | File) -> str:
    return f"data:{part.media_type};base64,{part.data}"


def written_call(call: ToolCall) -> dict[str, Any]:
    """A call of a tool; its signature as Google's own OpenAI-compatible server has it."""
    function = {"name": call.name, "arguments": call.arguments}
    signed = written_signature(call.signature)
    return {"id": call.id, "type": "function", "function": function, **signed, **written_mark(call.cache)}


def written_signature(signature: str) -> dict[str, Any]:
    """The signature of a call."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def signature_of(extra_content: object) -> str:
    """The signature of a call that was read."""
    return as_text(as_object(as_object(extra_content).get("google")).get("thought_signature"))


def written_thoughts(thoughts: Iterable[Thinking]) -> list[dict[str, Any]]:
    """Thoughts in OpenRouter's form."""
    return [written_thought(thought, index) for index, thought in enumerate(thoughts)]


def written_thought(thought: Thinking, index: int) -> dict[str, Any]:
    """One thought, or a piece of one: accumulators join pieces with the same index."""
    if thought.redacted:
        return {"type": "reasoning.encrypted", "data": thought.signature, "index": index}
    body: dict[str, Any] = {"type": "reasoning.text", "index": index}
    if thought.text:
        body["text"] = thought.text
    return body | ({"signature": thought.signature} if thought.signature else {})


def arguments_of(value: object) -> str:
    """The arguments of a call as text; some servers send the object itself, or nothing for none."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def is_object(text: str) -> bool:
    """Whether a text is a JSON object."""
    try:
        return isinstance(orjson.loads(text), Mapping)
    except orjson.JSONDecodeError:
        return False
