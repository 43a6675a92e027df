"""A file's text -> a tree: YAML, TOML or JSON by the file's ending.

Whatever can be said with a place in the document is left to be found there: a key that is written twice is listed, a
value that a document cannot hold is kept as what it is. Only a text of which nothing can be used is refused here.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ._findings import Place, is_list, is_mapping
from ._plain import MAX_DEPTH, TOO_LARGE, TooLarge
from ._yaml import NotYaml, compose

Format = Literal["yaml", "toml", "json"]

FORMATS: Final[dict[str, Format]] = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
MAX_BYTES: Final = 4 * 1024 * 1024


class Unreadable(Exception):
    """A text of which nothing can be used, and why."""


@dataclass(frozen=True, slots=True)
class Source:
    """What was read: a tree, and the places in it that are written twice; of those the first is kept."""

    tree: Any
    repeated: list[Place] = field(default_factory=list[Place])


def read_file(path: Path) -> Source:
    """The tree in a file.

    Raises:
        Unreadable: There is no such file, its ending is not known, or its text is not of that language.
    """
    language = FORMATS.get(path.suffix.lower())
    if language is None:
        raise Unreadable(f"must have a name that ends in one of {' '.join(FORMATS)}")
    written, trouble = b"", ""
    try:
        with path.open("rb") as file:
            written = file.read(MAX_BYTES + 1)
    except OSError as error:
        trouble = error.strerror or type(error).__name__
    except ValueError:
        trouble = "that cannot be the name of a file"
    if trouble:
        raise Unreadable(f"cannot be read: {trouble}")
    return read_text(_decoded(written), language)


def read_text(text: str, language: Format) -> Source:
    """The tree in a text.

    Raises:
        Unreadable: It is not of that language, or holds nothing.
    """
    if len(text) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    source: Source | None = None
    trouble = ""
    # The exceptions of the parsers hold the whole text, secrets included. Ours is raised outside of the `except`, so
    # that theirs does not travel on as its context.
    try:
        source = _READERS[language](text) if text.strip() else Source(None)
    except json.JSONDecodeError as error:
        trouble = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except NotYaml as error:
        trouble = str(error)
    except tomllib.TOMLDecodeError as error:
        trouble = f"is not TOML: {_toml_trouble(str(error))}"
    except (TooLarge, RecursionError):
        trouble = TOO_LARGE
    except ValueError:  # an integer of more digits than Python is willing to convert
        trouble = "holds a number that is too long"
    if source is None:
        raise Unreadable(trouble)
    if source.tree is None:
        raise Unreadable("is empty")
    return source


def _decoded(written: bytes) -> str:
    if len(written) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
    raise Unreadable(f"is not UTF-8 text: line {line} holds a byte that cannot stand there")


def _toml_trouble(message: str) -> str:
    at = re.search(r" \(at (line \d+, column \d+|end of document)\)$", message)
    return f"{at[1]}: {message[: at.start()]}" if at else message


def _yaml(text: str) -> Source:
    return Source(*compose(text))


def _toml(text: str) -> Source:
    return Source(tomllib.loads(text))


def _json(text: str) -> Source:
    repeated: dict[int, list[str]] = {}

    def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, value in pairs:
            if key in tree:
                repeated.setdefault(id(tree), []).append(key)
            else:
                tree[key] = value
        return tree

    tree = json.loads(text, object_pairs_hook=first_of_each)
    return Source(tree, list(_places(tree, repeated)) if repeated else [])


def _places(tree: Any, repeated: Mapping[int, list[str]], place: Place = ()) -> Iterator[Place]:
    """Where in the tree the mappings with these identities stand, each with its repeated keys."""
    if len(place) > MAX_DEPTH:
        return
    if is_mapping(tree):
        yield from ((*place, key) for key in repeated.get(id(tree), ()))
        for key, inner in tree.items():
            yield from _places(inner, repeated, (*place, key))
    elif is_list(tree):
        for index, item in enumerate(tree):
            yield from _places(item, repeated, (*place, index))


_READERS: Final = {"yaml": _yaml, "toml": _toml, "json": _json}
