"""The public API as a user writes it; checked by both type checkers, never run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from standby.clients import ClientError, OpenAIClient, ProviderClient, Request, Response, Usage
from standby.runner import Match, RunFailed, Runner, RunResult, open_gateway
from standby.runner.testing import Fail, ScriptedClient, answer
from standby.store import Catalog, Effect, MemoryCatalog, MemoryState, Provider, Snapshot, Standing, State


class Mine:
    """A client of one's own needs no base class."""

    async def send(self, request: Request) -> Response:
        if not request.endpoint:
            raise ClientError("bad_request", "no endpoint", status=400, scope="request", work="rejected")
        return Response(200, {}, b"{}", {}, Usage(1, 2))

    async def aclose(self) -> None: ...


def make(provider: Provider) -> ProviderClient:
    return Mine() if provider.client == "mine" else OpenAIClient(api_key=provider.api_key)


async def ask(catalog: Catalog, state: State) -> str:
    async with Runner(catalog, state, clients={"mine": make}) as runner:
        try:
            result: RunResult = await runner.run(Request("chat", {"messages": []}), timeout_seconds=5, only=["a"])
        except RunFailed as failed:
            rules: list[tuple[str, Match | None]] = [tried.rule for tried in failed.record.tries]
            return f"{failed.ending} {failed.retry_after_seconds} {rules} {failed.exceptions[0]}"
        data: Mapping[str, object] = result.data
        return f"{result.candidate} {result.record.attempts} {data}"


async def from_a_file() -> None:
    catalog: Catalog = MemoryCatalog.from_file("gateway.yaml")
    state: State = MemoryState()
    await ask(catalog, state)
    async with open_gateway("gateway.yaml", clients={"mine": make}) as gateway:
        snapshot: Snapshot = gateway.runner.catalog.snapshot()
        print(snapshot.version)


async def operate(state: State, effects: Sequence[Effect]) -> Standing | None:
    await state.apply(effects)
    return state.standing("candidate:chat/a")


scripted: ProviderClient = ScriptedClient([Fail("network", retryable=True), answer("hello")])
