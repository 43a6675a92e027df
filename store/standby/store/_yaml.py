"""YAML's events -> a tree.

The tree is composed here and not by a loader because a configuration needs what a loader does not give: a key written
twice is found, a chain of aliases cannot grow without bound, depth is bounded before it is reached, and a date or a tag
is kept to be named with its place. A parser quotes what it stumbled over; as that may be a secret, quotations are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn, cast

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from yaml.nodes import ScalarNode

from ._findings import Place, is_list, is_mapping
from ._plain import MAX_DEPTH, MAX_VALUES, TooLarge, Unfit

_STANDARD = "tag:yaml.org,2002:"
_UNFIT: Final = {
    "timestamp": "a date or a time",
    "binary": "binary data",
    "set": "a set",
    "omap": "an ordered map",
    "pairs": "a list of pairs",
}
_MERGE = object()
_RULES: Final = yaml.SafeLoader("")
# libyaml's parser reads a large file in a tenth of the time; it is not in every build of PyYAML.
_LOADER: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotYaml(Exception):
    """The text is not YAML, or not one document of it; the message says where."""


def compose(text: str) -> tuple[Any, list[Place]]:
    """The tree of the only document in ``text``, and the places that are written twice; of those the first is kept.

    Raises:
        NotYaml: It is not YAML, or more than one document.
        TooLarge: It is nested too deeply, or too large with every alias written out.
    """
    trouble = ""
    try:
        return _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        trouble = f"is not YAML: {where}{_unquoted(error.problem or 'it cannot be read')}"
    except yaml.YAMLError:  # the one kind without a mark
        trouble = "is not YAML: it holds a control character"
    raise NotYaml(trouble)


def _unquoted(problem: str) -> str:
    return re.sub(r" '[^']{2,}'", "", problem.partition(", but")[0])


class _Composer:
    def __init__(self, text: str) -> None:
        self._events: Iterator[Event] = yaml.parse(text, Loader=_LOADER)
        self._anchored: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._repeated: list[Place] = []

    def document(self) -> tuple[Any, list[Place]]:
        tree: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _fail(event, "a second document begins; one is allowed")
                tree = self._node(next(self._events), ())
        return tree, self._repeated

    def _node(self, event: Event, place: Place) -> Any:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        before = self._values
        self._count(1)
        if len(place) > MAX_DEPTH:
            raise TooLarge
        if isinstance(event, ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(event, place)
        else:
            value = self._sequence(event, place)
        if isinstance(event, NodeEvent) and event.anchor:
            self._anchored[event.anchor] = (value, self._values - before)
        return value

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise TooLarge

    def _alias(self, event: AliasEvent) -> Any:
        # An anchor is known when its node has ended, so a node that holds itself is an unknown alias.
        value, size = self._anchored.get(event.anchor or "", (None, 0))
        if not size:
            _fail(event, "an alias for which there is no anchor")
        self._count(size)
        return value

    def _sequence(self, event: Event, place: Place) -> Any:
        items: list[Any] = []
        for inner in self._events:
            if isinstance(inner, CollectionEndEvent):
                break
            item = self._node(inner, (*place, len(items)))
            items.append(Unfit("a merge key") if item is _MERGE else item)
        return _tagged(event, "seq", items)

    def _mapping(self, event: Event, place: Place) -> Any:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for inner in self._events:
            if isinstance(inner, CollectionEndEvent):
                break
            key = self._node(inner, place)
            if key is _MERGE:
                _merge(merged, self._node(next(self._events), place), inner)
                continue
            if is_mapping(key) or is_list(key):
                key = Unfit("a mapping or a list")
            value = self._node(next(self._events), (*place, key if isinstance(key, str) else ""))
            if key not in own:
                own[key] = Unfit("a merge key") if value is _MERGE else value
            elif isinstance(key, str):
                self._repeated.append((*place, key))
        return _tagged(event, "map", {**own, **{key: value for key, value in merged.items() if key not in own}})


def _merge(into: dict[Any, Any], value: Any, event: Event) -> None:
    """What ``<<`` brings in; of several mappings the first that has a key wins."""
    for mapping in value if is_list(value) else [value]:
        if not is_mapping(mapping):
            _fail(event, "a merge key takes a mapping or a list of mappings")
        for key, inner in mapping.items():
            into.setdefault(key, inner)


def _tagged(event: Event, tag: str, value: Any) -> Any:
    written = event.tag if isinstance(event, CollectionStartEvent) else None
    return value if written in {None, "!", f"{_STANDARD}{tag}"} else Unfit(_kind(str(written)))


def _kind(tag: str) -> str:
    return _UNFIT.get(tag.removeprefix(_STANDARD), "a value with a tag of its own")


def _scalar(event: ScalarEvent) -> Any:
    tag = event.tag
    if tag is None or tag == "!":
        tag = cast("str", cast("Any", _RULES).resolve(ScalarNode, event.value, event.implicit))
    node = ScalarNode(tag, event.value)
    try:
        match tag.removeprefix(_STANDARD):
            case "str" | "value":
                return event.value
            case "null":
                return None
            case "bool":
                return _RULES.construct_yaml_bool(node)
            case "int":
                return _RULES.construct_yaml_int(node)
            case "float":
                return _RULES.construct_yaml_float(node)
            case "merge":
                return _MERGE
            case _:
                return Unfit(_kind(tag))
    except (ValueError, KeyError, IndexError, OverflowError):  # `!!int x`, `!!bool maybe`, ten thousand digits
        return Unfit("a value that its type does not have")


def _fail(event: Event, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=cast("Any", event.start_mark))
