"""The two ways of showing it: a screen that is drawn anew all the time, or lines."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live

from ._screen import WIDE, View, in_words, screen
from ._story import Telling

PARTS: Final = 5
"""Where there is no screen, a line says so many times how far it is."""


class Screen:
    """For a terminal. When it ends nothing of it stays: what is printed then takes its place."""

    def __init__(self, view: View, console: Console) -> None:
        self._live = Live(
            console=console, auto_refresh=False, transient=True, get_renderable=lambda: screen(view, console)
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def happened(self, tellings: Sequence[Telling]) -> None:
        """Nothing: it will be seen when the screen is drawn."""

    def draw(self) -> None:
        """Draw what is to be seen now."""
        self._live.refresh()


class Lines:
    """For a file, a pipe, a log: what changes how a candidate stands, or happens for the first time; how far it is."""

    def __init__(self, view: View, console: Console) -> None:
        self._view = view
        self._console = console
        self._told: set[object] = set()
        self._next_part = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def happened(self, tellings: Sequence[Telling]) -> None:
        """Say what is new of it."""
        for telling in tellings:
            if telling.lasting or telling.kind not in self._told:
                self._told.add(telling.kind)
                self._console.print(in_words(telling, self._view.began_at, WIDE), soft_wrap=True)

    def draw(self) -> None:
        """Say how far it is, where it is time to."""
        progress = self._view.progress
        if progress.ended >= self._next_part * progress.total / PARTS and progress.ended < progress.total:
            self._next_part = progress.ended * PARTS // progress.total + 1
            self._console.print(f"{self._view.seconds:4.1f} s {self._view.so_far}", soft_wrap=True)
