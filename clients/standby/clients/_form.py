"""The body of a call that brings a file: ``multipart/form-data``, sent on as it came but for the model's name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ._body import Body, InvalidBody

__all__ = ["FORM", "Form", "Part", "parts_of"]

FORM: Final = "multipart/form-data"

_MAX_PARTS: Final = 1000
_BOOLEANS: Final = {"true": True, "false": False}


class Part(NamedTuple):
    """One field of a form, or one file.

    Attributes:
        name: Its name.
        filename: The file's; `None` for a field.
        content_type: The file's, where it is told.
        value: Where its value begins and ends in the form's bytes.
        whole: The same with its head, and with the boundary before it.
    """

    name: str
    filename: str | None
    content_type: str
    value: slice
    whole: slice


class Form(Body):
    """A form with a model's name in one of its fields.

    Attributes:
        content_type: As the caller wrote it, with the boundary between the parts.
    """

    __slots__ = ("_parts", "content_type")

    def __init__(self, content: bytes, content_type: str) -> None:
        """Take a form as it is; where its parts begin and end is looked up here, once.

        Raises:
            InvalidBody: It is no form, or not a whole one.
        """
        self.content_type = content_type
        self._content = content
        self._parts = parts_of(content, content_type)
        fields = [part for part in self._parts if part.filename is None]
        data: dict[str, Any] = {part.name: content[part.value].decode(errors="replace") for part in fields}
        if (streamed := _BOOLEANS.get(data.get("stream", ""))) is not None:
            data["stream"] = streamed
        self._data = data

    def with_model(self, model: str) -> bytes:
        """The bytes to send where the provider calls the model ``model``.

        Raises:
            InvalidBody: It has no field for the model's name.
        """
        places = [part.value for part in self._parts if part.name == "model" and part.filename is None]
        if not places:
            raise InvalidBody("has no field `model`")
        return _with(self.encoded(), places, model.encode())

    def without(self, names: Collection[str]) -> Form:
        """The form without the fields of these names; files stay."""
        places = [part.whole for part in self._parts if part.name in names and part.filename is None]
        return Form(_with(self.encoded(), places, b""), self.content_type) if places else self


def _with(content: bytes, places: list[slice], value: bytes) -> bytes:
    pieces: list[bytes] = []
    end = 0
    for place in places:
        pieces += content[end : place.start], value
        end = place.stop
    return b"".join((*pieces, content[end:]))


def parts_of(content: bytes, content_type: str) -> list[Part]:
    """The parts of a form, in their order.

    Raises:
        InvalidBody: It is no form, or not a whole one.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind.decode() != FORM or not boundary:
        raise InvalidBody(f"its type is no {FORM} with a boundary")
    parts = _Parts(len(boundary))
    try:
        MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.name_header,
                "on_header_value": parts.read_header,
                "on_part_data": parts.read_value,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
        ).write(content)
    except FormParserError as error:
        raise InvalidBody(f"not a form: {error}") from None
    if not parts.complete:
        raise InvalidBody("not a whole form: its last boundary is missing")
    return parts.found


class _Parts:
    """Hears of a form's parts as they are read. All of it is read at once, so that places are places in the form."""

    def __init__(self, boundary_bytes: int) -> None:
        self.found: list[Part] = []
        self.complete = False
        self._delimiter_bytes = len("--") + boundary_bytes + len("\r\n")

    def begin(self) -> None:
        if len(self.found) >= _MAX_PARTS:
            raise InvalidBody(f"more than {_MAX_PARTS} fields")
        self._header = b""
        self._options: dict[bytes, bytes] = {}
        self._content_type = ""
        self._begins = self._value_begins = self._value_ends = -1

    def name_header(self, data: bytes, start: int, end: int) -> None:
        self._header = data[start:end].lower()
        if self._begins < 0:
            self._begins = start - self._delimiter_bytes

    def read_header(self, data: bytes, start: int, end: int) -> None:
        value = data[start:end]
        if self._header == b"content-disposition":
            self._options = parse_options_header(value)[1]
        elif self._header == b"content-type":
            self._content_type = value.decode("latin-1")
        # The blank line after the last header is where the value begins.
        self._value_begins = self._value_ends = end + len("\r\n\r\n")

    def read_value(self, _: bytes, __: int, end: int) -> None:
        self._value_ends = end

    def end(self) -> None:
        name, filename = (self._options.get(key) for key in (b"name", b"filename"))
        if name is None:
            raise InvalidBody("not a form: a part of it has no name")
        self.found.append(
            Part(
                name.decode(errors="replace"),
                None if filename is None else filename.decode(errors="replace"),
                self._content_type,
                slice(self._value_begins, self._value_ends),
                slice(self._begins, self._value_ends + len("\r\n")),
            )
        )

    def finish(self) -> None:
        self.complete = True
