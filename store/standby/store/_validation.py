"""A plain tree -> the models, and everything that is wrong with it by the models alone.

Pydantic checks; its errors are put into this project's words here, because a finding must name what is allowed and
must not show what may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from ._environment import Expanded, converted
from ._fields import Fields, field_of, keys_of
from ._findings import UNKNOWN, Place, Report, inside, is_list, is_mapping, kind_of, listed, nearest, shown

D = TypeVar("D", bound=BaseModel)

_CONVERTIBLE: Final = {"int_type", "float_type", "bool_type", "literal_error"}
_MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must match {pattern}",
}
_PYDANTICS_OWN: Final = frozenset(get_args(core_schema.ErrorType))


@dataclass(frozen=True, slots=True)
class Text:
    """One document on its way to the models: its tree, where values came from, and what is wrong so far."""

    expanded: Expanded
    fields: Fields
    report: Report

    def at(self, place: Place) -> Any:
        """What stands at ``place``; `UNKNOWN` where nothing does."""
        here: Any = self.expanded.tree
        for part in place:
            here = inside(here, part)
        return here

    def mapping(self, place: Place) -> Mapping[str, Any]:
        """The mapping at ``place``; an empty one where something else stands, which has a finding of its own."""
        here = self.at(place)
        return here if is_mapping(here) else {}

    def items(self, place: Place) -> list[Any]:
        """The list at ``place``; an empty one where something else stands, which has a finding of its own."""
        here = self.at(place)
        return here if is_list(here) else []

    def found(self, place: Place) -> str:
        """What a finding may say of the value at ``place``."""
        value = self.at(place)
        origin = self.expanded.origins.get(place)
        if origin is not None:
            return str(origin)
        return shown(value) if self.fields.may_show(place, value) else kind_of(value)

    def refuse(self, place: Place, message: str, *, found: str | None = None, known: Iterable[str] = ()) -> None:
        """Note a finding at ``place``, with the one of ``known`` that was probably meant."""
        value = self.at(place)
        near = ""
        if isinstance(value, str) and place not in self.expanded.origins and self.fields.may_show(place, value):
            near = nearest(value, known)
        said = self.found(place) if found is None else found
        self.report.add(place, self.fields.path(place), message, found=said, suggestion=near)


def validated(model: type[D], text: Text) -> D | None:
    """The tree as ``model``; `None` and findings where it is not one."""
    for place, first in text.fields.given_twice(text.expanded.tree):
        text.refuse(place, f"is given twice, here and as {first}; leave one of them out", found="")
    document, errors = _checked(model, text)
    if _convert(text, errors):
        document, errors = _checked(model, text)
    for error in errors:
        _translate(error, text)
    return document


def _checked(model: type[D], text: Text) -> tuple[D | None, list[ErrorDetails]]:
    try:
        return model.model_validate(text.expanded.tree), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)


def _convert(text: Text, errors: list[ErrorDetails]) -> bool:
    """Give each value that is wholly from the environment the type that is expected of it; say whether one changed."""
    changed = False
    for error in errors:
        place, _ = _place(error["loc"], text)
        origin = text.expanded.origins.get(place)
        value = text.at(place)
        if error["type"] not in _CONVERTIBLE or origin is None or not origin.whole or not isinstance(value, str):
            continue
        new = converted(value, error["type"])
        if new is not value:
            text.at(place[:-1])[place[-1]] = new
            changed = True
    return changed


def _place(loc: tuple[int | str, ...], text: Text) -> tuple[Place, bool]:
    """The place of an error, and whether it is the key there that is wrong."""
    if loc and loc[-1] == "[key]" and text.at(loc) is UNKNOWN:
        return loc[:-1], True
    return loc, False


def _translate(error: ErrorDetails, text: Text) -> None:
    place, is_key = _place(error["loc"], text)
    kind, context = error["type"], error.get("ctx", {})
    value = text.at(place)
    if kind == "repeated_candidate":  # found among the references, even where a part of the model is not valid
        return
    if kind == "missing":
        text.refuse(place, "is required", found="nothing")
    elif kind == "extra_forbidden":
        _unknown_key(place, text)
    elif is_key:
        near = nearest(str(place[-1]), _allowed(kind, context))
        text.report.add(place, text.fields.path(place), _message(error), suggestion=near)
    elif value is not UNKNOWN:
        text.refuse(place, _message(error), known=_allowed(kind, context))


def _unknown_key(place: Place, text: Text) -> None:
    section, key = text.fields.section(place[:-1]), str(place[-1])
    if section is None or field_of(section, key) is not None:  # the other spelling of a key that is given twice
        return
    known = keys_of(section)
    message = f"unknown key; allowed: {listed(known)}"
    text.report.add(place, text.fields.path(place), message, suggestion=nearest(key, known))


def _message(error: ErrorDetails) -> str:
    if error["type"] not in _PYDANTICS_OWN:
        return error["msg"]
    written = {name: _written(value) for name, value in error.get("ctx", {}).items()}
    return _MESSAGES.get(error["type"], f"is not valid ({error['type']})").format_map(written)


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _allowed(kind: str, context: Mapping[str, Any]) -> list[str]:
    if kind == "literal_error":
        return re.findall(r"'([^']*)'", str(context.get("expected", "")))
    if kind == "unknown_category":
        return str(context.get("allowed", "")).split(", ")
    return []
