"""`.bench/results.json` -> `.bench/results.png`: a panel for each table, a dot for each round, a line at each median.

For the Python of `.bench/plot`, which has matplotlib; nothing of ours is imported.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

FOLDER = Path(".bench")
COLUMNS = 2
ROW_INCHES = 0.34
OURS, OTHERS = "#1f6f54", "#8a8f98"


def panel(axes: Any, table: dict[str, Any]) -> None:
    """One table, its first row on top."""
    for place, row in enumerate(table["rows"]):
        color = OURS if row["name"].startswith("Standby") or table["beside"] is None else OTHERS
        axes.barh(place, row["median"], color=color, height=0.62, alpha=0.85)
        axes.plot(row["values"], [place] * len(row["values"]), ".", color="black", markersize=2.5, alpha=0.5)
        times = f"  {row['times']:.2f} x" if "times" in row else ""
        axes.text(row["median"], place, f"  {row['median']:.3g}{times}", va="center", fontsize=7)
    axes.set_yticks(range(len(table["rows"])), [row["name"] for row in table["rows"]], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_title(f"{table['title']} [{table['unit']}]", fontsize=8, loc="left", wrap=True)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def plot(results: dict[str, Any], file: Path) -> None:
    """All tables in a few columns."""
    tables = results["tables"]
    lines = math.ceil(len(tables) / COLUMNS)
    heights = [
        1 + ROW_INCHES * max(len(table["rows"]) for table in tables[line * COLUMNS : (line + 1) * COLUMNS])
        for line in range(lines)
    ]
    figure, panels = plt.subplots(
        lines,
        COLUMNS,
        figsize=(14, sum(heights)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for number, axes in enumerate(panels.flat):
        if number < len(tables):
            panel(axes, tables[number])
        else:
            axes.set_visible(False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    measured = json.loads((FOLDER / "results.json").read_bytes())
    if measured["tables"]:
        plot(measured, FOLDER / "results.png")
        print(f"as a picture: {FOLDER / 'results.png'}")
