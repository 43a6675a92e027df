"""The document's JSON Schema, for editors and for those who write a document with a program.

It describes the file as it is written: keys in camelCase inside a policy (snake_case is let through without being
offered), ``${NAME}`` wherever a value may come from the environment.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ._document import Document
from ._environment import WHOLE_REFERENCE
from ._fields import sections
from ._findings import is_list, is_mapping

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NUMBERS: Final = {"integer", "number", "boolean"}
_NOTES: Final = ("title", "description", "default")


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the configuration document."""
    written = Document.model_json_schema(by_alias=True, mode="validation")
    definitions: dict[str, Any] = written.pop("$defs")
    every = {"Document": written, **definitions}
    for section in sections(Document):
        names = {
            name: field.alias for name, field in section.model_fields.items() if field.alias and field.alias != name
        }
        _describe(every[section.__name__], names)
    written.update(title="Standby configuration")
    return {"$schema": DIALECT, **written, "$defs": definitions}


def _describe(section: dict[str, Any], names: dict[str, str]) -> None:
    properties: dict[str, Any] = section.get("properties", {})
    for key, value in properties.items():
        properties[key] = _with_notes(_open_to_references(value), key)
    spelled = {f"^{name}$": properties[alias] for name, alias in names.items() if alias in properties}
    if spelled:
        section["patternProperties"] = spelled


def _with_notes(value: dict[str, Any], key: str) -> dict[str, Any]:
    """With a readable title, and with a default only where one could be written."""
    words = re.sub(r"(?<=[a-z])([A-Z])", r" \1", key).replace("_", " ").lower()
    noted = {**value, "title": words[:1].upper() + words[1:]}
    default = noted.get("default")
    if default is None or isinstance(default, dict):  # of a section inside, its own keys tell the defaults
        noted.pop("default", None)
    return noted


def _open_to_references(value: Any) -> Any:
    """Let ``${NAME}`` stand for a number or a truth value, and in a string that is bound to a form."""
    if is_list(value):
        return [_open_to_references(item) for item in value]
    if not is_mapping(value):
        return value
    inner = {key: _open_to_references(item) for key, item in value.items()}
    if inner.get("type") in _NUMBERS or "const" in inner:
        reference = WHOLE_REFERENCE
    elif inner.get("type") == "string" and inner.keys() & {"pattern", "enum"}:
        reference = r"\$\{"
    else:
        return inner
    notes = {key: inner.pop(key) for key in _NOTES if key in inner}
    return {**notes, "anyOf": [inner, {"type": "string", "pattern": reference}]}
