"""The configuration document -> the models that everything else works with, or every mistake in it at once.

Where the parts are: `_reading` turns a file into a tree, `_plain` bounds it, `_environment` fills in the variables,
`_validation` asks the models, `_references` checks what no model can alone, `_findings` says it all. Here is the order
in which they are called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from ._clients import CLIENTS
from ._document import Document
from ._environment import expanded, is_literal
from ._fields import Fields
from ._findings import UNKNOWN, Finding, InvalidConfig, Place, Report, is_list, is_mapping, kind_of, quoted
from ._plain import TOO_LARGE, TooLarge, plain
from ._reading import Format, Source, Unreadable, read_file, read_text
from ._references import check_references
from ._validation import Text, validated

FIELDS: Final = Fields(Document)


def load(
    path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None, clients: Collection[str] = CLIENTS
) -> Document:
    """Read the document in a YAML, TOML or JSON file.

    Args:
        path: The file; its ending (``.yaml``, ``.yml``, ``.toml``, ``.json``) says which of the three it is.
        environ: What ``${NAME}`` is looked up in; the process's environment where left out.
        clients: The clients that a provider may name; a host that registers its own adds its name.

    Raises:
        InvalidConfig: The file cannot be read, or the document in it is wrong; with everything that is.
    """
    report = Report()
    where = _printable(path)
    tree = _plain_tree(lambda: read_file(Path(path)), where, report)
    return _document(tree, where, report, environ, clients)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document in a file as it is written, to be kept and given to `parse`: no variable is filled in.

    Raises:
        InvalidConfig: The file cannot be read, or does not hold a mapping of plain values.
    """
    report = Report()
    where = _printable(path)
    tree = _plain_tree(lambda: read_file(Path(path)), where, report)
    if report:
        raise report.invalid(where, tree)
    return tree


def parse(
    raw: Mapping[str, Any] | str,
    *,
    environ: Mapping[str, str] | None = None,
    clients: Collection[str] = CLIENTS,
    where: str = "configuration",
    language: Format = "yaml",
) -> Document:
    """The document that ``raw`` is: a mapping with the variables not filled in, as `read` gives it, or a text.

    Args:
        raw: The document. A mapping is copied, not changed.
        environ: What ``${NAME}`` is looked up in; the process's environment where left out.
        clients: The clients that a provider may name; a host that registers its own adds its name.
        where: What the document is called in the first line of an error.
        language: What a text is written in: ``yaml``, ``toml`` or ``json``.

    Raises:
        InvalidConfig: The document is wrong; with everything that is.
    """
    report = Report()
    tree = _plain_tree(lambda: read_text(raw, language) if isinstance(raw, str) else Source(raw), where, report)
    return _document(tree, where, report, environ, clients)


def literal_secrets(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of the secrets that ``raw`` holds themselves, and not as ``${NAME}``.

    Whoever keeps a raw document where secrets must not be, asks this first.
    """

    def found(value: Any, place: Place) -> Iterator[str]:
        if isinstance(value, str) and FIELDS.is_secret(place) and is_literal(value):
            yield FIELDS.path(place)
        elif is_mapping(value):
            for key, inner in value.items():
                yield from found(inner, (*place, key))
        elif is_list(value):
            for index, item in enumerate(value):
                yield from found(item, (*place, index))

    return tuple(found(raw, ()))


def _plain_tree(read_source: Callable[[], Source], where: str, report: Report) -> dict[str, Any]:
    """A bounded copy of what was read; what is wrong with single places of it goes into the report."""
    trouble = ""
    tree: Any = UNKNOWN
    try:
        source = read_source()
        tree = plain(source.tree, FIELDS, report)
    except Unreadable as error:
        trouble = str(error)
    except (TooLarge, RecursionError):
        trouble = TOO_LARGE
    else:
        for place in source.repeated:
            report.add(place, FIELDS.path(place), "is written twice; leave one of them out")
    if isinstance(tree, dict):
        return cast("dict[str, Any]", tree)
    found = "" if trouble else kind_of(tree)
    raise InvalidConfig([Finding(path="", found=found, message=trouble or "must be a mapping")], where)


def _document(
    tree: dict[str, Any], where: str, report: Report, environ: Mapping[str, str] | None, clients: Collection[str]
) -> Document:
    text = Text(expanded(tree, os.environ if environ is None else environ, FIELDS, report), FIELDS, report)
    document = validated(Document, text)
    check_references(text, clients)
    if report or document is None:
        raise report.invalid(where, tree)
    return document


def _printable(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return text if text.isprintable() else quoted(text)
