"""What a caller sent, taken for what it should be; else refused: where, what it is, what is allowed.

``where`` is the place in the request, as an error names it: ``messages[2].content``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar, cast

from ._protocols import InvalidRequest

T = TypeVar("T")

_DATA_URL: Final = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


def wrong(value: object, allowed: str, where: str) -> InvalidRequest:
    """The refusal of a value."""
    return InvalidRequest(f"{where} must be {allowed}, not {_kind(value)}", where)


def text(value: object, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong(value, "a string", where)
    return value


def flag(value: object, where: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise wrong(value, "true or false", where)
    return value


def number(value: object, where: str) -> float:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(value, "a number", where)
    return value


def whole(value: object, where: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(value, "a whole number", where)
    return value


def one_of(value: object, allowed: Collection[str], where: str) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in allowed:
        found = repr(value[:100]) if isinstance(value, str) else _kind(value)
        raise InvalidRequest(f"{where} must be one of {', '.join(allowed)}, not {found}", where)
    return value


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise wrong(value, "an object", where)
    return cast("dict[str, Any]", value)


def items(value: object, where: str) -> list[tuple[str, object]]:
    """What a list holds, each with its own place."""
    if not isinstance(value, list):
        raise wrong(value, "a list", where)
    return [(f"{where}[{index}]", item) for index, item in enumerate(cast("list[object]", value))]


def said(data: Mapping[str, Any], key: str, take: Callable[[object, str], T], where: str = "") -> T | None:
    """What ``data`` says under ``key``, as ``take`` has it; `None` where it says nothing."""
    value = data.get(key)
    return None if value is None else take(value, f"{where}.{key}" if where else key)


def in_base64(url: str) -> tuple[str, str] | None:
    """The media type and the base64 text of a ``data:`` address; `None` for any other."""
    found = _DATA_URL.match(url)
    return None if found is None else (found[1].lower(), url[found.end() :])


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"
