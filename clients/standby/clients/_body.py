"""The JSON body of a call: decoded once, sent to each candidate with that candidate's name of the model.

The bytes go through untouched but for the model's name, which is replaced where it stands. So nothing else can change:
number formats, integers of any size, key order, white space, unknown keys.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, cast

import orjson

JSON: Final = "application/json"

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_TO_STRING = re.compile(rb"\s*:\s*(" + _STRING + rb")", re.DOTALL)
_KEY = b'"model"'
_ESCAPED_LETTER = b"\\u006"
"""How a letter of the key would begin if it were written as an escape."""


BYTES_PER_TOKEN: Final = 4


class InvalidBody(ValueError):
    """The body is not a JSON object; the message says what it is and where it breaks."""


class Body:
    """A JSON object with a model's name in it, from its bytes or from a mapping.

    Attributes:
        content_type: As it is told to a provider.
    """

    __slots__ = ("_content", "_data", "_spans")

    content_type: str = JSON

    def __init__(self, value: Mapping[str, Any] | bytes) -> None:
        """Take ``value`` as it is; bytes are decoded here, once.

        Raises:
            InvalidBody: For bytes that are not JSON, or not an object.
        """
        self._content: bytes | None
        self._data: Mapping[str, Any]
        self._spans: list[tuple[int, int]] | None = None
        if isinstance(value, bytes):
            self._content, self._data = value, _decoded(value)
        else:
            self._content, self._data = None, value

    @classmethod
    def of(cls, value: Body | Mapping[str, Any] | bytes) -> Body:
        """``value`` if it is a body, else a new one.

        Raises:
            InvalidBody: For bytes that are not JSON, or not an object.
        """
        return value if isinstance(value, Body) else cls(value)

    @property
    def data(self) -> Mapping[str, Any]:
        """The object, decoded. Do not change it."""
        return self._data

    def encoded(self) -> bytes:
        """The object's bytes, as they came in."""
        if self._content is None:
            self._content = _encoded(self._data)
        return self._content

    def estimated_tokens(self) -> int:
        """A rough count of the tokens that the request has: a fourth of its bytes."""
        return len(self.encoded()) // BYTES_PER_TOKEN

    def with_model(self, model: str) -> bytes:
        """The bytes to send where the provider calls the model ``model``.

        Raises:
            InvalidBody: For a mapping that JSON cannot hold.
        """
        content = self._content
        if content is None or not isinstance(self._data.get("model"), str):
            return _encoded({**self._data, "model": model})
        if self._spans is None:
            self._spans = _model_spans(content)
        name = orjson.dumps(model)
        for start, end in reversed(self._spans):
            content = content[:start] + name + content[end:]
        return content


def without(
    data: Mapping[str, Any], names: Collection[str], places: Mapping[str, tuple[str, ...]]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A body without what is named, and the names of what was there; the same one where nothing was.

    Args:
        data: The body.
        names: Keys of it, and what else ``places`` knows.
        places: Where what is named stands, if not under its own name: ``text.format`` is a key within another.
    """
    dropped: list[str] = []
    for name in names:
        for place in places.get(name, (name,)):
            left = _cut(data, place.split("."))
            if left is not data:
                data = left
                dropped.append(name)
    return data, tuple(dict.fromkeys(dropped))


def _cut(data: Mapping[str, Any], path: list[str]) -> Mapping[str, Any]:
    """Without what is at ``path``, and without what has nothing in it then."""
    key, *below = path
    if key not in data:
        return data
    if below:
        inner = data[key]
        left = _cut(cast("dict[str, Any]", inner), below) if isinstance(inner, dict) else inner
        if left is inner:
            return data
        if left:
            return {**data, key: left}
    return {each: value for each, value in data.items() if each != key}


def _model_spans(content: bytes) -> list[tuple[int, int]]:
    """Where the values of the object's own ``model`` keys are; more than one only where the key is repeated."""
    if content.count(_KEY) == 1 and _ESCAPED_LETTER not in content:
        place = content.index(_KEY)
        found = _TO_STRING.match(content, place + len(_KEY))
        # After a backslash the quote is no key's first one, but stands inside of a string.
        if found is not None and content[place - 1 : place] != b"\\":
            return [found.span(1)]
    return list(_spans_by_depth(content))


def _spans_by_depth(content: bytes) -> Iterator[tuple[int, int]]:
    depth = 0
    for token in _TOKEN.finditer(content):
        first = token[0][:1]
        if first != b'"':
            depth += 1 if first in b"{[" else -1
        elif depth == 1 and (token[0] == _KEY or (b"\\" in token[0] and orjson.loads(token[0]) == "model")):
            found = _TO_STRING.match(content, token.end())
            if found is not None:
                yield found.span(1)


def _decoded(content: bytes) -> Mapping[str, Any]:
    try:
        value: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidBody(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidBody(f"not a JSON object but {_json_type(value)}")
    return cast("dict[str, Any]", value)


def _encoded(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise InvalidBody(f"cannot be written as JSON: {error}") from error


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "a number"
