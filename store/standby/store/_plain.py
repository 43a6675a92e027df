"""Plain trees: mappings with text keys, lists and JSON's scalars, bounded, whatever the document was written in."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from ._fields import Fields
from ._findings import UNKNOWN, Place, Report, Unknown, is_mapping, kind_of

MAX_DEPTH: Final = 64
"""Levels of nesting in a document; its own form has ten."""
MAX_VALUES: Final = 250_000
"""Keys, items and values in a document, with every alias written out."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

TOO_LARGE: Final = f"is nested deeper than {MAX_DEPTH} levels or holds more than {MAX_VALUES} values"


class TooLarge(Exception):
    """A tree that is nested too deeply or holds too many values."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A value that the document's language can write and a document cannot hold."""

    kind: str


def plain(value: Any, fields: Fields, report: Report) -> Any:
    """A copy of ``value`` that JSON could hold; what it could not is `UNKNOWN` and in the report.

    Raises:
        TooLarge: It is nested too deeply, in itself even, or holds too many values.
    """
    return _Copier(fields, report).copy(value, ())


class _Copier:
    def __init__(self, fields: Fields, report: Report) -> None:
        self._fields = fields
        self._report = report
        self._values = 0

    def copy(self, value: Any, place: Place) -> Any:
        self._values += 1
        if len(place) > MAX_DEPTH or self._values > MAX_VALUES:
            raise TooLarge
        if is_mapping(value):
            return self._mapping(value, place)
        if _is_sequence(value):
            return [self.copy(item, (*place, index)) for index, item in enumerate(value)]
        trouble = trouble_with(value)
        if trouble:
            self._report.add(place, self._fields.path(place), trouble)
            return UNKNOWN
        return value

    def _mapping(self, value: Mapping[Any, Any], place: Place) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, inner in value.items():
            if isinstance(key, str) and not is_broken(key):
                tree[key] = self.copy(inner, (*place, key))
            else:
                found = "half a character (a lone surrogate)" if isinstance(key, str) else _kind(key)
                message = "every key must be a string; put it in quotes"
                self._report.add(place, self._fields.path(place), message, found=f"{found} as a key")
        return tree


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def trouble_with(value: Any) -> str:
    """Why a scalar cannot stand in a document; empty where it can."""
    if isinstance(value, str):
        return "holds half a character (a lone surrogate)" if is_broken(value) else ""
    if value is None or isinstance(value, bool | Unknown):
        return ""
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**63 else "is a number too large to be meant"
    if isinstance(value, float):
        return "" if math.isfinite(value) else "must be a finite number"
    return f"cannot be {_kind(value)}; write a string in quotes, a number, true, false, a list or a mapping"


def is_broken(text: str) -> bool:
    """No encoding can write it."""
    return bool(_SURROGATE.search(text))


def _kind(value: Any) -> str:
    match value:
        case Unfit(kind):
            return kind
        case dt.date() | dt.time():
            return "a date or a time"
        case bytes() | bytearray():
            return "binary data"
        case set() | frozenset():
            return "a set"
        case None | bool() | int() | float() | str() | list():
            return kind_of(value)
        case _:
            return "a value of another kind"
