"""How it went, at the end: numbers, what was decided by which rule, and what Standby added to the providers' time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ._screen import WIDE, plain_table
from ._story import Action, Counted
from ._tally import Tally, Times

ACTIONS: Final[tuple[Action, ...]] = (
    *("try again", "next candidate", "stop", "lower its rank", "leave it out", "disable it"),
)
"""What is decided about a failure, in the order in which it is shown."""
RULE_COLUMNS: Final = 52
"""As long as the longest rule of the demonstration."""


def summary(tally: Tally, total: int, took_seconds: float, width: int) -> RenderableType:
    """The summary as something to print, in so many columns."""
    return Group(
        _rules(tally.decided, width),
        Text(""),
        _times(tally.times),
        Text(""),
        _verdict(tally, total, took_seconds),
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest of ``values`` that so large a part of them does not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(part * len(ranked)) - 1)] if ranked else 0.0


def duration(seconds: float) -> str:
    """A duration with as many digits as it deserves."""
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms" if value < 1000 else f"{seconds:.2f} s"


def _verdict(tally: Tally, total: int, took_seconds: float) -> Text:
    well = tally.answered == total
    words = Text(f"{tally.answered} of {total} requests were answered in {took_seconds:.1f} s.", "bold")
    words.stylize("green" if well else "red")
    if not well:
        words.append(f" {total - tally.answered} were not.", "bold red")
    words.append(
        f"\nasked {tally.asked}, answered {tally.answered} (streamed {tally.streamed}), "
        f"tries {tally.tries}, failovers {tally.failovers}",
        "default",
    )
    return words


def _rules(decided: Mapping[Counted, int], width: int) -> Table:
    table, wide = plain_table(), width >= WIDE
    table.add_column("n", justify="right", min_width=2)
    if wide:
        table.add_column("decided", no_wrap=True)
    table.add_column("reason", no_wrap=True, overflow="ellipsis", max_width=max(10, width - RULE_COLUMNS - 6))
    table.add_column("by the rule", no_wrap=True, overflow="ellipsis", max_width=RULE_COLUMNS)
    of_interest = [(what, times) for what, times in decided.items() if what.action in ACTIONS]
    for what, times in sorted(of_interest, key=lambda item: (ACTIONS.index(item[0].action), -item[1])):
        table.add_row(str(times), *([what.action] if wide else []), what.reason, what.rule)
    return table


def _times(times: Sequence[Times]) -> Table:
    table = plain_table()
    table.add_column("time a request", no_wrap=True)
    for name in ("p50", "p99", "longest"):
        table.add_column(name, justify="right", no_wrap=True)
    for words, values in (
        ("as its caller sees it", [time.whole for time in times]),
        ("to the first content of a stream", [time.content for time in times if time.content is not None]),
        ("added by Standby, all well", [time.own for time in times if not time.eventful]),
        ("added by Standby, in trouble", [time.own for time in times if time.eventful]),
        ("waiting before a retry", [time.waited for time in times if time.waited]),
    ):
        quantiles = (duration(quantile(values, part)) if values else "" for part in (0.5, 0.99, 1.0))
        table.add_row(f"{words} ({len(values)})", *quantiles)
    return table
