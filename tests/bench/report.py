"""What was measured: tables and targets, in the terminal as they come, and all of it for the plot and for whoever compares.

A table has one row for each contestant. Blocks of the contestants alternate, and what is compared is the median of the
ratios, round by round: the machine's speed drifts, and whatever else it does it does to all of them.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

FOLDER = Path(".bench")
BAR_CHARACTERS = 30


class Blocks:
    """What was measured of each contestant, round by round."""

    def __init__(self, values: Mapping[str, Sequence[float]]) -> None:
        self.values = values

    @property
    def rounds(self) -> int:
        return min(len(each) for each in self.values.values())

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def times(self, name: str, beside: str) -> float:
        """How many times what ``beside`` needs: the median of the rounds."""
        return statistics.median(self._ratios(name, beside))

    def spread(self, name: str, beside: str) -> tuple[float, float]:
        """The quartiles of that: where they are far apart the machine was busy, and the row says little."""
        ratios = self._ratios(name, beside)
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return lower, upper

    def _ratios(self, name: str, beside: str) -> list[float]:
        pairs = zip(self.values[name], self.values[beside], strict=True)
        return [ours / base if base else float("inf") for ours, base in pairs]


class Target(NamedTuple):
    """What must hold, and what was measured."""

    what: str
    measured: float
    bound: float
    unit: str
    at_most: bool

    @property
    def met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    @property
    def missed_by(self) -> float:
        """By which part of the bound; 0 where it is met."""
        return 0.0 if self.met else abs(self.measured - self.bound) / self.bound

    def __str__(self) -> str:
        bound = f"{'at most' if self.at_most else 'at least'} {self.bound:.4g} {self.unit}"
        verdict = "met" if self.met else f"MISSED by {self.missed_by:.0%}"
        return f"{self.what:62}{self.measured:10.4g} {self.unit:5}{bound:20}{verdict}"


def at_most(bound: float, what: str, measured: float, unit: str = "x") -> Target:
    return Target(what, measured, bound, unit, at_most=True)


def at_least(bound: float, what: str, measured: float, unit: str = "x") -> Target:
    return Target(what, measured, bound, unit, at_most=False)


class Report:
    """Everything that one run of the benchmarks measured."""

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.tables: list[dict[str, Any]] = []

    def table(self, title: str, unit: str, blocks: Blocks, beside: str | None = None) -> None:
        """Print a row for each contestant, beside one of them, and keep it."""
        rows = [_row(name, blocks, beside) for name in blocks.values]
        self.tables.append({"title": title, "unit": unit, "rounds": blocks.rounds, "beside": beside, "rows": rows})
        print(f"\n\n{title}: {unit}{f', median of {blocks.rounds}' if blocks.rounds > 1 else ''}\n")
        largest = max(row["median"] for row in rows) or 1.0
        for row in rows:
            beside_it = f"{row['times']:9.2f} x ({row['lower']:.2f} to {row['upper']:.2f})" if beside else ""
            bar = "━" * max(1, round(BAR_CHARACTERS * row["median"] / largest))
            print(f"{row['name']:42}{row['median']:10.4g}{beside_it:30}  {bar}")

    def must(self, *targets: Target) -> None:
        """Keep the targets, and fail where one is missed."""
        self.targets += targets
        print()
        for target in targets:
            print(target)
        if missed := [str(target) for target in targets if not target.met]:
            pytest.fail("\n".join(missed), pytrace=False)

    def write(self) -> Path:
        """All of it as JSON."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / "results.json"
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
        targets = [{**target._asdict(), "met": target.met} for target in self.targets]
        whole = {"machine": machine, "targets": targets, "tables": self.tables}
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
        return path


def _row(name: str, blocks: Blocks, beside: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "median": blocks.median(name), "values": list(blocks.values[name])}
    if beside is not None:
        lower, upper = blocks.spread(name, beside)
        row |= {"times": blocks.times(name, beside), "lower": lower, "upper": upper}
    return row
