"""The configuration reference: every key, its form, its default and its meaning, out of the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import orjson

from standby.store import BUILT_IN_RUNNER_POLICIES, BUILT_IN_RUNTIME_POLICIES, schema

Schema = Mapping[str, Any]

INTRODUCTION: Final = """# The configuration document

One document, YAML, TOML or JSON by its ending. `standby check FILE` says everything that is wrong with one, at once;
`standby schema` prints its JSON Schema, for editors. `${NAME}` and `${NAME:-default}` take an environment variable.

Inside a policy the keys are camelCase, and snake_case is accepted too; everything else is snake_case. An unknown key is
an error. Every default is meant to be kept.

This page is made by `standby schema --markdown`.
"""


def reference() -> str:
    """The configuration reference, in Markdown."""
    document = schema()
    sections = {"Document": document, **document["$defs"]}
    order = _in_order(document, document["$defs"])
    pages = [_section(name, sections[name], document["$defs"]) for name in ("Document", *order)]
    return "\n".join([INTRODUCTION, *pages, _built_in()])


def _in_order(section: Schema, defs: Mapping[str, Schema]) -> list[str]:
    """The names of the sections, each after the one that refers to it first."""
    found: list[str] = []
    for name in _references(section):
        found += [name, *_in_order(defs[name], defs)]
    return list(dict.fromkeys(found))


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            if key == "$ref":
                yield str(inner).rpartition("/")[2]
            elif key != "$defs":
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _references(inner)


def _section(name: str, section: Schema, defs: Mapping[str, Schema]) -> str:
    lines = [f"## {name}", "", section.get("description", ""), "", "| key | form | default | meaning |"]
    lines.append("| --- | --- | --- | --- |")
    required = section.get("required", ())
    for key, field in section["properties"].items():
        default = "required" if key in required else _default(field)
        meaning = field.get("description") or " ".join(defs[each].get("description", "") for each in _references(field))
        lines.append(f"| `{key}` | {_form(field)} | {default} | {_one_line(meaning)} |")
    return "\n".join([*lines, ""])


def _form(field: Schema) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "allOf" in field:
        return _form(field["allOf"][0])
    if "anyOf" in field:
        forms = [_form(each) for each in field["anyOf"] if "${" not in each.get("pattern", "").replace("\\", "")]
        return " or ".join(dict.fromkeys(form for form in forms if form != "null")) or "text"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of: {_form(field.get('items', {}))}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"by name: {_form(field['additionalProperties'])}"
    kind: str = field.get("type", "string")
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _default(field: Schema) -> str:
    if "default" not in field or isinstance(field["default"], Mapping):
        return ""
    return f"`{orjson.dumps(field['default']).decode()}`"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _built_in() -> str:
    """What the built-in policies say, as one would write it."""
    lines = ["## Built-in policies", ""]
    lines.append("`recommended` is used where a model or a candidate names none; in `bare` every policy is empty.")
    for kind, policies in (
        ("runner_policies", BUILT_IN_RUNNER_POLICIES),
        ("runtime_policies", BUILT_IN_RUNTIME_POLICIES),
    ):
        written = {
            name: policy.model_dump(mode="json", by_alias=True, exclude_unset=True) for name, policy in policies.items()
        }
        shown = orjson.dumps({kind: written}, option=orjson.OPT_INDENT_2).decode()
        lines += ["", "```json", shown, "```"]
    return "\n".join([*lines, ""])
