"""What the document's models say of a place in it: which keys may stand there, and what of it may be shown.

Findings are made from text that holds secrets, and from mistakes in that text. So the rule is a list of what may be
shown, not of what may not: a scalar where a field that is not secret stands, and a key that is a name or known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ._findings import Place, is_list, is_mapping, path_of
from ._texts import HEADER_NAME, StoreUrl

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}[0-9]{0,2}")


class Fields:
    """The places of one document, told from the model of the whole."""

    def __init__(self, root: type[BaseModel]) -> None:
        self._root = root

    def section(self, place: Place) -> type[BaseModel] | None:
        """The model of the section that stands at ``place``; `None` where no section does."""
        return _section(self._annotation(place))

    def may_show(self, place: Place, value: object) -> bool:
        """A scalar stands there that is not secret; of a store's address, one that can hold no password."""
        bare = self._annotation(place)
        if bare is StoreUrl:
            return isinstance(value, str) and "@" not in value
        return bare in {str, int, float, bool} or get_origin(bare) is Literal

    def is_secret(self, place: Place) -> bool:
        """A secret stands there."""
        return self._annotation(place) is SecretStr

    def path(self, place: Place) -> str:
        """``place`` as it may be shown.

        A key that is a slip of the pen may be the secret itself (``Authorization=Bearer ...`` as a header's name), so
        an unknown one is shown only where no secret is near or where it looks like a word.
        """
        hidden: set[int] = set()
        here: Any = self._root
        for index, part in enumerate(place):
            inside = _inside(here, part)
            if isinstance(part, str) and not _may_show_key(here, inside, part):
                hidden.add(index)
            here = inside
        return path_of(place, hidden=frozenset(hidden))

    def given_twice(self, tree: Any) -> Iterator[tuple[Place, str]]:
        """Each field of any section that is written both ways: the place of the second, and the key of the first."""
        return _given_twice(tree, self._root, ())

    def _annotation(self, place: Place) -> Any:
        here: Any = self._root
        for part in place:
            here = _inside(here, part)
        return here


def field_of(section: type[BaseModel], key: str) -> tuple[str, FieldInfo] | None:
    """The field that is written as ``key``: by its own name or by its alias."""
    for name, field in section.model_fields.items():
        if key in {name, field.alias}:
            return name, field
    return None


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys of a section as they are best written."""
    return [field.alias or name for name, field in section.model_fields.items()]


def sections(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """``root`` and every section inside it."""
    waiting, seen = [root], {root}
    while waiting:
        section = waiting.pop()
        yield section
        for field in section.model_fields.values():
            for inner in _sections_in(field.annotation):
                if inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)


def _given_twice(tree: Any, annotation: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if is_list(tree):
        for index, item in enumerate(tree):
            yield from _given_twice(item, _inside(annotation, index), (*place, index))
    if not is_mapping(tree):
        return
    section = _section(annotation)
    if section is not None:
        first: dict[str, str] = {}
        for key in tree:
            field = field_of(section, key)
            if field is not None and first.setdefault(field[0], key) != key:
                yield (*place, key), first[field[0]]
    for key, value in tree.items():
        yield from _given_twice(value, _inside(annotation, key), (*place, key))


def _inside(annotation: Any, part: str | int) -> Any:
    """The bare annotation of what stands at ``part`` inside; `None` where nothing is known to."""
    section = _section(annotation)
    if section is not None:
        field = field_of(section, part) if isinstance(part, str) else None
        return _bare(field[1].annotation) if field else None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict and isinstance(part, str):
        return _bare(arguments[1])
    if origin is list and isinstance(part, int):
        return _bare(arguments[0])
    return None


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and without "or null"; `None` where null is all there is."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in {Union, UnionType}:
            others = [argument for argument in get_args(annotation) if argument is not NoneType]
            if len(others) != 1:
                return annotation
            annotation = others[0]
        else:
            return None if annotation is NoneType else annotation


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    bare = _bare(annotation)
    section = _section(bare)
    if section is not None:
        yield section
    for argument in get_args(bare):
        yield from _sections_in(argument)


def _may_show_key(here: Any, inside: Any, key: str) -> bool:
    if get_origin(here) is dict:
        return inside is not SecretStr or bool(HEADER_NAME.fullmatch(key))
    section = _section(here)
    if section is not None and (field_of(section, key) or not _holds_secrets(section)):
        return True
    return bool(_WORD.fullmatch(key))


def _holds_secrets(section: type[BaseModel]) -> bool:
    return any(SecretStr in {inner, *get_args(inner)} for inner in _annotations(section))


def _annotations(section: type[BaseModel]) -> Iterator[Any]:
    for field in section.model_fields.values():
        bare = _bare(field.annotation)
        yield bare
        yield from (_bare(argument) for argument in get_args(bare))
