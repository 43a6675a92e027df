"""The providers' servers: each on a port of its own, and one port where nobody listens at first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from ._providers import PROVIDERS, REFUSING, REOPENS_AT, Playing, Progress, taking_turns
from .faults import FaultServer, Script, refused_port


class Servers:
    """The providers, started; they end with the context.

    Args:
        progress: How far the demonstration is.
        serve: Whether they take turns for ever, instead of playing a story that ends.
        scripts: What some of them do instead, by name.

    Attributes:
        urls: Where each provider is, by name.
    """

    def __init__(self, progress: Progress, *, serve: bool = False, scripts: Mapping[str, Script] | None = None) -> None:
        self.urls: dict[str, str] = {}
        self._progress = progress
        self._serve = serve
        self._scripts: Final = scripts or {}
        self._playing = {provider.name: Playing(provider, progress) for provider in PROVIDERS}
        self._open = AsyncExitStack()
        self._refusing = AsyncExitStack()
        self._refused_port = 0

    async def __aenter__(self) -> Self:
        try:
            for provider in PROVIDERS:
                if provider.name == REFUSING and REFUSING not in self._scripts:
                    self._refused_port = port = self._refusing.enter_context(refused_port())
                else:
                    playing = taking_turns(provider) if self._serve else self._playing[provider.name]
                    server = FaultServer(self._scripts.get(provider.name, playing))
                    port = (await self._open.enter_async_context(server)).port
                self.urls[provider.name] = f"http://127.0.0.1:{port}{provider.vendor.path}"
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all of them."""
        await self._refusing.aclose()
        await self._open.aclose()

    def does(self, name: str) -> str:
        """What the provider ``name`` does now, in a word or two."""
        if name in self._scripts:
            return "as it was told"
        return "refuses" if name == REFUSING and self._refused_port else self._playing[name].words

    async def go_on(self) -> None:
        """Do what is due: somebody comes to listen on the port that refuses."""
        if not self._refused_port or self._serve or self._progress.part < REOPENS_AT:
            return
        port, self._refused_port = self._refused_port, 0
        await self._refusing.aclose()
        try:
            await self._open.enter_async_context(FaultServer(self._playing[REFUSING], port=port))
        except OSError:
            self._refused_port = port  # somebody else was quicker to take the port: it stays as it was
