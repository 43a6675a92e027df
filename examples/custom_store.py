"""Stores of one's own: a catalog whose candidates can be switched off by flags, and a state that notifies.

A catalog is what `standby.store.Catalog` says: the newest snapshot, at once, from local memory. A state is what
`standby.store.State` says; where memory is enough, as here, it is a few lines on top of `MemoryState`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from standby.demo.faults import FaultServer, chat_answer, error_answer
from standby.runner import Request, Runner
from standby.store import Cool, Demote, Disable, Effect, MemoryState, Model, Snapshot, parse


class FlagCatalog:
    """A document's models, without the candidates that a flag switches off.

    Whoever hears of a changed flag, by polling or by a push, calls `set`. Runs that are under way keep the snapshot
    that they began with; the next run sees the new one.
    """

    def __init__(self, everything: Snapshot) -> None:
        self._everything = everything
        self._snapshot = everything
        self._off: set[str] = set()
        self._changed = anyio.Event()

    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def changed(self, version: int) -> Snapshot:
        while self._snapshot.version == version:
            await self._changed.wait()
        return self._snapshot

    def set(self, candidate: str, *, on: bool) -> None:
        """Switch ``model/id`` on or off; the last candidate of a model stays on, whatever its flag says."""
        (self._off.discard if on else self._off.add)(candidate)
        models = {name: self._flagged(name, model) for name, model in self._everything.models.items()}
        self._snapshot = replace(self._everything, version=self._snapshot.version + 1, models=models)
        event, self._changed = self._changed, anyio.Event()
        event.set()

    def _flagged(self, name: str, model: Model) -> Model:
        on = [candidate for candidate in model.candidates if f"{name}/{candidate.id}" not in self._off]
        return model.model_copy(update={"candidates": on or model.candidates[-1:]})


class NotifyingState(MemoryState):
    """Tells somebody, a pager for instance, whenever something is held against a candidate."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        super().__init__()
        self._notify = notify

    async def apply(self, effects: Sequence[Effect]) -> None:
        # The effects come first: they must be visible before the first await, or the run that caused them misses them.
        await super().apply(effects)
        for effect in effects:
            match effect:
                case Cool():
                    self._notify(f"{effect.domain} is left out for {effect.until - effect.at:.0f} s: {effect.cause}")
                case Demote():
                    self._notify(f"{effect.domain} is demoted by {effect.step}: {effect.cause}")
                case Disable():
                    self._notify(f"{effect.domain} is disabled: {effect.why}")
                case _:
                    pass


async def main() -> None:
    async with FaultServer(error_answer(402)) as unpaid, FaultServer(chat_answer("Hello!")) as well:
        catalog = FlagCatalog(parse(config(unpaid.url, well.url)).snapshot())
        state = NotifyingState(lambda words: print(f"  pager: {words}"))
        async with Runner(catalog, state) as runner:
            for _ in range(2):
                await ask(runner)
            catalog.set("chat/cheap", on=False)
            await ask(runner)


async def ask(runner: Runner) -> None:
    result = await runner.run(Request("chat", {"messages": [{"role": "user", "content": "Hello?"}]}))
    asked = [tried.candidate for tried in result.record.tries]
    print(f"catalog version {result.record.version}: asked {', '.join(asked)}; {result.candidate} answered")


def config(unpaid: str, well: str) -> Mapping[str, Any]:
    return {
        "version": 1,
        "providers": {
            "unpaid": {"client": "openai", "base_url": f"{unpaid}/v1"},
            "well": {"client": "openai", "base_url": f"{well}/v1"},
        },
        "models": {
            "chat": {
                "candidates": [
                    {"id": "cheap", "provider": "unpaid", "model": "some-model", "priority": 10},
                    {"id": "sure", "provider": "well", "model": "some-model", "priority": 20},
                ]
            }
        },
    }


if __name__ == "__main__":
    anyio.run(main)
