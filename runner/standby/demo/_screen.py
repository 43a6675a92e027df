"""What is shown while requests are sent: on a terminal a table that lives, elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from standby.runner import CandidateStatus, Runner

from ._providers import Progress
from ._servers import Servers
from ._story import Telling
from ._tally import Tally

WIDE: Final = 110
"""From this many columns on there is room for what else is good to know."""
TABLE_COLUMNS: Final = 80
"""So many the table of candidates has otherwise."""
MOST_LINES: Final = 12
"""So many of the last decisions are shown at most."""

_STANDINGS: Final = {
    "usable": ("ready", "green"),
    "cooling": ("out", "yellow"),
    "half_open": ("to be probed", "cyan"),
    "probing": ("probed", "cyan"),
    "disabled": ("disabled", "red"),
}
_STYLES: Final = {"stop": "red", "take it back": "green"}


class View:
    """What is to be seen: as it is whenever somebody looks."""

    def __init__(self, runner: Runner, progress: Progress, tally: Tally, servers: Servers) -> None:
        self._runner = runner
        self.progress = progress
        self.tally = tally
        self.servers = servers
        self.began_at = runner.now()

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._runner.now()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return self.now - self.began_at

    @property
    def statuses(self) -> Sequence[CandidateStatus]:
        """How every candidate stands."""
        return self._runner.statuses()

    @property
    def so_far(self) -> str:
        """How many of how many are answered, and how many of these as a stream."""
        tally = self.tally
        words = f"{tally.answered} of {self.progress.total} answered, {tally.streamed} streamed"
        return words + (f", {tally.unanswered} NOT" if tally.unanswered else "")


def screen(view: View, console: Console) -> RenderableType:
    """All of it, in as much room as ``console`` has."""
    table = candidates(view, console.width)
    above = table.row_count + 8  # its head and its lines, the bar, the words between, and the cursor's line
    lines = max(1, min(MOST_LINES, console.height - above))
    return Group(
        table,
        _progress(view, console.width),
        Text(""),
        Text("Last decisions", style="bold"),
        *last_decisions(view, lines, console.width),
    )


def candidates(view: View, width: int) -> Table:
    """The table of candidates."""
    table, wide = plain_table(), width >= WIDE
    for name in ("model", "candidate"):
        table.add_column(name, no_wrap=True)
    narrow = width < TABLE_COLUMNS - 2
    for name, least in (("provider now", 15), ("stands", 12), ("rank", 12))[narrow:]:
        table.add_column(name, no_wrap=True, min_width=least)
    for name in ("served", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("because", no_wrap=True, overflow="ellipsis", style="dim", max_width=width - TABLE_COLUMNS)
    model, now = "", view.now
    for status in view.statuses:
        if model not in ("", status.model):
            table.add_section()
        row: list[str | Text] = [
            status.model if status.model != model else "",
            Text(status.id, "bold"),
            *([] if narrow else [_does(view.servers.does(status.provider))]),
            _stands(status, now),
            _rank(status),
            str(view.tally.served[status.key]),
            str(view.tally.failed[status.key] or ""),
        ]
        table.add_row(*row, *([_because(status.cause or status.demoted_for)] if wide else []))
        model = status.model
    return table


def plain_table() -> Table:
    """A table with a line under its head, and no more; it just fits eighty columns."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")


def last_decisions(view: View, lines: int, width: int) -> list[Text]:
    """The newest decisions in words, the last at the end, in exactly so many lines."""
    recent = list(view.tally.recent)[-lines:]
    shown = [in_words(item.telling, view.began_at, width, item.times) for item in recent]
    return shown + [Text("")] * (lines - len(shown))


def in_words(telling: Telling, began_at: float, width: int, times: int = 1) -> Text:
    """One thing that happened, in one line."""
    words = Text(no_wrap=True, overflow="ellipsis")
    words.append(f"{telling.at - began_at:4.1f} s ", "dim")
    words.append(telling.candidate, "bold")
    words.append(f" {telling.what} → ")
    words.append(telling.words, _STYLES.get(telling.decided[0].action, ""))
    if times > 1:
        words.append(f" ({times} times)")
    last = telling.decided[-1]
    words.append(f"  {(last.rule if width >= WIDE else '') or last.shortest_rule}", "dim")
    return words


def _does(words: str) -> Text:
    return Text(words, "green" if words == "answers" else "red")


def _stands(status: CandidateStatus, now: float) -> Text:
    words, style = _STANDINGS[status.status]
    if status.status == "cooling":
        words += f" {max(0.0, status.until - now):.1f} s"
    return Text(words, style)


def _because(cause: str) -> Text:
    """A cause without what the rule in it says again: the reason, and the name of the policy."""
    category, _, rest = cause.partition(": ")
    rule = rest.partition("(")[2].rstrip(")")
    return Text(f"{category}: {rule.partition('.')[2]}" if " = " in rule else cause)


def _rank(status: CandidateStatus) -> Text:
    added = status.effective_priority - status.priority
    if not added:
        return Text(str(status.priority))
    return Text(f"{status.effective_priority} = {status.priority}+{added}", "yellow")


def _progress(view: View, width: int) -> Table:
    progress = view.progress
    line = Table.grid(padding=(0, 2))
    words = Text(f"{view.so_far}, {view.seconds:.1f} s", "bold red" if view.tally.unanswered else "")
    bar = ProgressBar(total=progress.total, completed=progress.ended, width=max(10, width - len(words) - 3))
    line.add_row(bar, words)
    return line
