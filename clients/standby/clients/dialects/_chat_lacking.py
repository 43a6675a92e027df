"""What is asked for inside of a chat's messages and tools, and has no key of the body: found there, and left out there.

For servers that lack it, in bodies that a caller of chat completions sent; what is translated is fitted as values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ._reading import as_object, as_objects, as_text

__all__ = ["INSIDE", "asked_inside", "without_inside"]

Json = Mapping[str, Any]


def _image_url(part: Json) -> str:
    return as_text(as_object(part.get("image_url")).get("url"))


def _file(part: Json, key: str) -> bool:
    return bool(as_object(part.get("file")).get(key))


_PARTS: Final[Mapping[str, Callable[[Json], bool]]] = {
    "image_data": lambda part: _image_url(part).startswith("data:"),
    "image_url": lambda part: bool(_image_url(part)) and not _image_url(part).startswith("data:"),
    "file_data": lambda part: _file(part, "file_data"),
    "file_id": lambda part: _file(part, "file_id"),
    "audio": lambda part: part.get("type") == "input_audio",
}
"""Kinds of parts of a content."""

INSIDE: Final = frozenset({*_PARTS, "image_detail", "names", "tool_strict"})
"""The features that are found here."""


def asked_inside(feature: str, body: Json) -> bool:
    """Whether a body asks for one of `INSIDE`."""
    return without_inside(feature, body) is not body


def without_inside(feature: str, body: Json) -> Json:
    """The body without one of `INSIDE`; the same one where that is not asked for."""
    if feature == "tool_strict":
        return _changed(body, "tools", _without_strict)
    if feature == "names":
        return _changed(body, "messages", lambda message: _without_key(message, "name"))
    change = _without_detail if feature == "image_detail" else _without_kind(_PARTS[feature])
    return _changed(body, "messages", lambda message: _said(message, change))


def _said(message: Json, change: Callable[[Json], Json | None]) -> Json | None:
    """A message with other parts; `None` where none is left, since no server takes it: but a call needs its result."""
    changed = _changed(message, "content", change)
    is_empty = changed is not message and not changed["content"] and message.get("role") != "tool"
    return None if is_empty else changed


def _changed(holder: Json, key: str, change: Callable[[Json], Json | None]) -> Json:
    """The holder with each object in one of its lists changed, or gone; the same one where nothing changes.

    Args:
        holder: What has the list.
        key: The list.
        change: What becomes of an object; `None` where it goes.
    """
    objects = as_objects(holder.get(key))
    if objects != holder.get(key):  # what is no list of objects the server itself refuses
        return holder
    after = [changed for each in objects if (changed := change(each)) is not None]
    if len(after) == len(objects) and all(new is old for new, old in zip(after, objects, strict=True)):
        return holder
    return {**holder, key: after}


def _without_kind(is_meant: Callable[[Json], bool]) -> Callable[[Json], Json | None]:
    return lambda part: None if is_meant(part) else part


def _without_detail(part: Json) -> Json:
    image = as_object(part.get("image_url"))
    if image.get("detail") in (None, "auto"):
        return part
    return {**part, "image_url": _without_key(image, "detail")}


def _without_strict(tool: Json) -> Json:
    function = as_object(tool.get("function"))
    return {**tool, "function": _without_key(function, "strict")} if function.get("strict") else tool


def _without_key(holder: Json, key: str) -> Json:
    return {name: value for name, value in holder.items() if name != key} if key in holder else holder
