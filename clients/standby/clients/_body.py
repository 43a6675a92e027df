"""The JSON body of a call: decoded once, sent to each candidate with that candidate's name of the model.

The bytes go through untouched but for the model's name. Where the name can be found in the bytes without doubt it is
replaced there, so that nothing else can change: number formats, key order, white space, unknown keys. Where it cannot
(the key is written with an escape, or stands in a nested object as well), the object is encoded anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import orjson

# A key or string that begins with an escaped quote cannot match: its opening quote follows a backslash.
_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
_ESCAPED_ASCII = re.compile(rb"\\u00", re.IGNORECASE)


class InvalidBody(ValueError):
    """The body is not a JSON object; the message says what it is and where it breaks."""


class Body:
    """A JSON object with a model's name in it, from its bytes or from a mapping."""

    __slots__ = ("_content", "_data")

    def __init__(self, value: Body | Mapping[str, Any] | bytes) -> None:
        """Take ``value`` as it is; bytes are decoded here, once.

        Raises:
            InvalidBody: For bytes that are not JSON, or not an object.
        """
        self._content: bytes | None
        self._data: Mapping[str, Any]
        if isinstance(value, Body):
            self._content, self._data = value._content, value._data
        elif isinstance(value, bytes):
            self._content, self._data = value, _decoded(value)
        else:
            self._content, self._data = None, value

    @property
    def data(self) -> Mapping[str, Any]:
        """The object, decoded. Do not change it."""
        return self._data

    @property
    def size(self) -> int:
        """How many bytes the object has, the caller's model name included."""
        if self._content is None:
            self._content = _encoded(self._data)
        return len(self._content)

    def with_model(self, model: str) -> bytes:
        """The bytes to send where the provider calls the model ``model``.

        Raises:
            InvalidBody: For a mapping that JSON cannot hold.
        """
        content = self._content
        if content is not None and not _ESCAPED_ASCII.search(content):
            found = _MODEL.findall(content)
            if len(found) == 1 and isinstance(self._data.get("model"), str):
                match = cast("re.Match[bytes]", _MODEL.search(content))
                return content[: match.start(1)] + orjson.dumps(model) + content[match.end(1) :]
        return _encoded({**self._data, "model": model})


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
