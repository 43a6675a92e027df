"""What is wrong with a configuration document: values that say where, what was found, and what is allowed.

A finding is printed as it is, so nothing secret may get into one. What is shown of a value is therefore decided here
and by `_fields`: a scalar in a place that is known not to be secret is shown, of everything else only its kind is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, TypeGuard

Place = tuple[str | int, ...]
"""Where something stands in the document: the keys as the operator wrote them, and positions in lists."""


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """It is a mapping; inside a tree its keys are strings."""
    return isinstance(value, Mapping)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """It is a list."""
    return isinstance(value, list)


class Unknown(Enum):
    """Stands for a value that could not be read and has its finding already."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN

_MAX_SHOWN = 60
_MAX_LISTED = 20
_MAX_COMPARED = 64
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a document. `str()` is one line."""

    path: str
    """Where: ``models.chat.candidates[1].provider``; empty where it is the document as a whole."""
    found: str
    """What stands there, shortened; only its kind where it may be secret. Empty where the path says it all."""
    message: str
    """What is wrong, and what is allowed."""
    suggestion: str = ""
    """The nearest thing that would be right, where one is near."""

    def __str__(self) -> str:
        said = [self.message]
        if self.found:
            said.append(f"found {self.found}")
        if self.suggestion:
            said.append(f"did you mean {listed([self.suggestion])}?")
        line = "; ".join(said)
        return f"{self.path}: {line}" if self.path else line


class InvalidConfig(ValueError):
    """A document that cannot be used. `str()` is a text for the operator: one line that counts, one line a finding."""

    def __init__(self, findings: Iterable[Finding], where: str = "configuration") -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        self.where = where
        super().__init__(self.findings, where)

    def __str__(self) -> str:
        count = len(self.findings)
        title = f"{self.where}: {count} error{'' if count == 1 else 's'}"
        return "\n".join([title, *(f"  {finding}" for finding in self.findings)])


class Report:
    """The findings of one document, as they are gathered."""

    def __init__(self) -> None:
        self._findings: list[tuple[Place, Finding]] = []

    def __bool__(self) -> bool:
        return bool(self._findings)

    def add(self, place: Place, path: str, message: str, *, found: str = "", suggestion: str = "") -> None:
        """Note one finding; ``path`` is how ``place`` is shown."""
        finding = Finding(path=path, found=found, message=message, suggestion=suggestion)
        if (place, finding) not in self._findings[-1:]:
            self._findings.append((place, finding))

    def invalid(self, where: str, tree: Any) -> InvalidConfig:
        """The exception, its findings in the order in which the document is written."""
        positions: dict[int, dict[str, int]] = {}
        ranked = sorted(self._findings, key=lambda item: _rank(item[0], tree, positions))
        return InvalidConfig((finding for _, finding in ranked), where)


def inside(tree: Any, part: str | int) -> Any:
    """What stands at ``part`` in a mapping or a list; `UNKNOWN` where nothing does."""
    if is_list(tree) and isinstance(part, int) and part < len(tree):
        return tree[part]
    if is_mapping(tree) and isinstance(part, str):
        return tree.get(part, UNKNOWN)
    return UNKNOWN


def _rank(place: Place, tree: Any, positions: dict[int, dict[str, int]]) -> list[int]:
    """Positions along the way; a key that is not there ranks before those that are, beside its section's head.

    ``positions`` keeps those of the keys of each mapping on the way, by its identity.
    """
    ranks: list[int] = []
    for part in place:
        if is_mapping(tree) and isinstance(part, str) and part in tree:
            if id(tree) not in positions:
                positions[id(tree)] = {key: position for position, key in enumerate(tree)}
            ranks.append(positions[id(tree)][part])
        elif is_list(tree) and isinstance(part, int) and part < len(tree):
            ranks.append(part)
        else:
            return [*ranks, -1]
        tree = inside(tree, part)
    return ranks


def path_of(place: Place, *, hidden: frozenset[int] = frozenset()) -> str:
    """``place`` as it is shown, without the keys at the positions ``hidden``."""
    path = ""
    for index, part in enumerate(place):
        if isinstance(part, int):
            path += f"[{part}]"
        elif index in hidden:
            path += "[(hidden)]"
        elif _PLAIN_KEY.fullmatch(part) and len(part) <= _MAX_SHOWN:
            path += f".{part}" if path else part
        else:
            path += f"[{quoted(part)}]"
    return path


def quoted(text: str) -> str:
    """``text`` in double quotes on one line of ASCII, shortened."""
    return json.dumps(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")


def shown(value: Any) -> str:
    """A scalar that stands in a place that is not secret, as a person would write it."""
    if isinstance(value, str):
        if "@" in value or ("://" in value and ("?" in value or "#" in value)):
            return "a string (not shown: it may hold a password)"
        return quoted(value)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return kind_of(value)


def kind_of(value: Any) -> str:
    """What sort of value it is, and nothing of what it says."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    for types, kind in (((int, float), "a number"), (str, "a string"), (Mapping, "a mapping"), (list, "a list")):
        if isinstance(value, types):
            return kind
    return "something else"


def nearest(written: str, known: Iterable[str]) -> str:
    """The one of ``known`` that ``written`` was probably meant to be; empty where none is near."""
    if len(written) > _MAX_COMPARED:
        return ""
    folded = {_folded(name): name for name in known}
    close = get_close_matches(_folded(written), folded, n=1)
    return folded[close[0]] if close else ""


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def listed(names: Iterable[str]) -> str:
    """``names`` in a row, shortened; ``none`` where there are none."""
    every = [name if _PLAIN_KEY.fullmatch(name) else quoted(name) for name in names]
    rest = len(every) - _MAX_LISTED
    row = ", ".join(every[:_MAX_LISTED])
    return f"{row} and {rest} more" if rest > 0 else row or "none"
