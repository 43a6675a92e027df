"""Reading JSON objects of which something may be left over.

A caller's request is read with `Fields`: in the end it is known what nobody took. A provider's answer is taken as far
as it is of the right kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar, cast

from . import _given as given
from ._protocols import InvalidRequest

T = TypeVar("T")

__all__ = ["Fields", "as_object", "as_objects", "as_text"]


class Fields:
    """One JSON object of a request. A key whose value is null counts as one that is not there.

    Attributes:
        where: Its own place in the request; empty for the whole of it.
    """

    __slots__ = ("_data", "_taken", "where")

    def __init__(self, data: Mapping[str, Any], where: str = "") -> None:
        self._data = data
        self._taken: set[str] = set()
        self.where = where

    def place(self, key: str) -> str:
        """Where the value of a key is."""
        return f"{self.where}.{key}" if self.where else key

    def take(self, key: str) -> Any:
        """Whatever a key has."""
        self._taken.add(key)
        return self._data.get(key)

    def said(self, key: str, take: Callable[[object, str], T]) -> T | None:
        """What a key has, as ``take`` has it; `None` where it has nothing."""
        self._taken.add(key)
        return given.said(self._data, key, take, self.where)

    def needed(self, key: str, take: Callable[[object, str], T]) -> T:
        """What a key must have."""
        return take(self.take(key), self.place(key))

    def text(self, key: str) -> str | None:
        """A string."""
        return self.said(key, given.text)

    def needed_text(self, key: str) -> str:
        """A string that must be there."""
        return self.needed(key, given.text)

    def one_of(self, key: str, allowed: Collection[str]) -> str | None:
        """One of a few words."""
        return self.said(key, lambda value, where: given.one_of(value, allowed, where))

    def flag(self, key: str) -> bool | None:
        """A boolean."""
        return self.said(key, given.flag)

    def whole(self, key: str, at_least: int | None = None) -> int | None:
        """A whole number."""
        value = self.said(key, given.whole)
        if value is not None and at_least is not None and value < at_least:
            raise InvalidRequest(f"{self.place(key)} must be at least {at_least}, not {value}", self.place(key))
        return value

    def number(self, key: str) -> float | None:
        """A number."""
        return self.said(key, given.number)

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """An object, as it is."""
        return self.said(key, given.mapping)

    def mapping_of(self, key: str, take: Callable[[object, str], T]) -> Mapping[str, T] | None:
        """An object whose values are all of one kind."""
        values = self.mapping(key)
        if values is None:
            return None
        return {name: take(value, f"{self.place(key)}.{name[:50]}") for name, value in values.items()}

    def fields(self, key: str) -> Fields | None:
        """An object, to be read."""
        return self.said(key, _fields)

    def needed_fields(self, key: str) -> Fields:
        """An object that must be there, to be read."""
        return self.needed(key, _fields)

    def each(self, key: str) -> Iterator[Fields]:
        """The objects of a list, to be read; none where the key is missing."""
        for place, value in self.said(key, given.items) or ():
            yield _fields(value, place)

    def rest(self) -> dict[str, Any]:
        """What nobody took, and is not empty."""
        left = {key: value for key, value in self._data.items() if key not in self._taken}
        return {key: value for key, value in left.items() if value is not None and value not in ([], {})}


def _fields(value: object, where: str) -> Fields:
    return Fields(given.mapping(value, where), where)


def as_object(value: object) -> dict[str, Any]:
    """The object, or an empty one in the place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; what is none is passed over."""
    array = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", each) for each in array if isinstance(each, dict)]


def as_text(value: object) -> str:
    """The string, or an empty one in the place of anything else."""
    return value if isinstance(value, str) else ""
