"""``${NAME}`` and ``${NAME:-default}`` in a document's strings.

As in the shell, the default stands in for a variable that is missing or empty; ``$${`` writes a literal ``${``. Keys
are never expanded. What came from the environment is remembered by its place, for two reasons: it is never shown in a
finding, and a value that is wholly one reference may stand where a number or a truth value is expected, since a
variable can hold nothing but text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ._fields import Fields
from ._findings import UNKNOWN, Place, Report, is_list, is_mapping
from ._plain import trouble_with

WHOLE_REFERENCE: Final = r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}$"
"""One reference and nothing beside it, in the dialect that Python and JSON Schema share."""

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^{}]*)?\})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_TRUTH: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Origin:
    """The variables that a value came from, and whether it is one reference and nothing beside it."""

    variables: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return "a value from " + " and ".join(f"${{{name}}}" for name in self.variables)


@dataclass(frozen=True, slots=True)
class Expanded:
    """A tree whose references are replaced, and which of its values they were in."""

    tree: Any
    origins: dict[Place, Origin] = field(default_factory=dict[Place, Origin])


def expanded(tree: Any, environ: Mapping[str, str], fields: Fields, report: Report) -> Expanded:
    """A copy of a plain tree with every reference replaced; where that fails, `UNKNOWN` and a finding."""
    origins: dict[Place, Origin] = {}

    def expand(value: Any, place: Place) -> Any:
        if is_mapping(value):
            return {key: expand(inner, (*place, key)) for key, inner in value.items()}
        if is_list(value):
            return [expand(item, (*place, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        text, names, troubles = _replaced(value, environ)
        for trouble in troubles:
            report.add(place, fields.path(place), trouble)
        if names:
            origins[place] = Origin(tuple(names), whole=bool(re.match(WHOLE_REFERENCE, value)))
        return UNKNOWN if troubles else text

    return Expanded(expand(tree, ()), origins)


def _replaced(text: str, environ: Mapping[str, str]) -> tuple[str, list[str], list[str]]:
    """The text, the variables it names, each once, and what is wrong."""
    names: dict[str, None] = {}
    troubles: dict[str, None] = {}

    def value_of(reference: re.Match[str]) -> str:
        name, default = reference.groups()
        if reference[0] == "$${":
            return "${"
        if name is None:
            troubles["has a `${` that begins no reference; write ${NAME}, ${NAME:-default} or $${ for the text ${"] = (
                None
            )
            return ""
        names[name] = None
        value = environ.get(name)
        if default is not None and not value:
            return default.removeprefix(":-")
        if value is None:
            troubles[f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-default}}"] = (
                None
            )
        elif trouble_with(value):
            troubles[f"the environment variable {name} is not valid UTF-8"] = None
        return value or ""

    return _REFERENCE.sub(value_of, text), list(names), list(troubles)


def converted(text: str, expected: str) -> Any:
    """A variable's text as what pydantic's error ``expected`` asks for; the text itself where it is no such thing."""
    written = text.strip()
    if expected in {"int_type", "literal_error"} and _INTEGER.fullmatch(written):
        return int(written)
    if expected == "float_type" and _NUMBER.fullmatch(written):
        return float(written)
    if expected == "bool_type":
        return _TRUTH.get(written.lower(), text)
    return text


def is_literal(text: str) -> bool:
    """The text says it all: it is not empty, and is filled in by no variable or may be by a default that is written."""
    references = list(_REFERENCE.finditer(text))
    named = [reference for reference in references if reference[1]]
    return bool(text) and (not named or any((reference[2] or ":-") != ":-" for reference in named))
