"""What each client can do, as the table of `docs/providers.md`: out of the wires, so that it is never another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from standby.clients.dialects import ANSWERS, FEATURES, Wire

_NO: Final = "–"  # noqa: RUF001 - a dash, as in any table
_YES: Final = "✓"
_ASKED: Final = {feature.name: feature.says for feature in FEATURES}


def features() -> str:
    """What each client can do, in Markdown: what may be asked, what an answer tells, how compatible servers differ."""
    from standby.clients.wires import OWN_WIRES, WIRES_LIKE_OPENAI  # noqa: PLC0415 - all codecs: only this needs them

    return "\n".join(
        [
            *_table("a caller asks for", _ASKED, OWN_WIRES),
            "",
            *_table("an answer tells", ANSWERS, OWN_WIRES),
            "",
            *_differences(WIRES_LIKE_OPENAI, OWN_WIRES["openai"]),
            "",
        ]
    )


def _table(title: str, names: Mapping[str, str], columns: Mapping[str, Wire]) -> Iterator[str]:
    yield f"| {title} | its name | {' | '.join(f'`{name}`' for name in columns)} |"
    yield f"| --- | --- |{' --- |' * len(columns)}"
    for name, says in names.items():
        cells = (_cell(wire.supports.get(name)) for wire in columns.values())
        yield f"| {says} | `{name}` | {' | '.join(cells)} |"


def _cell(remark: str | None) -> str:
    if remark is None:
        return _NO
    return f"{_YES} {remark}".strip().replace("|", "\\|")


def _differences(wires: Mapping[str, Wire], usual: Wire) -> Iterator[str]:
    """For each what it cannot do, what it can do besides, and what it does otherwise."""
    yield "| client | cannot | can besides | otherwise |"
    yield "| --- | --- | --- | --- |"
    for name, wire in wires.items():
        cannot = [each for each in usual.supports if each not in wire.supports]
        besides = [each for each in wire.supports if each not in usual.supports]
        otherwise = [
            f"`{each}`: {remark}"
            for each, remark in wire.supports.items()
            if each in usual.supports and remark != usual.supports[each]
        ]
        yield f"| `{name}` | {_names(cannot)} | {_names(besides)} | {'; '.join(otherwise)} |"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
