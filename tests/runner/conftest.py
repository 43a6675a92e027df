"""A gateway of scripted clients under virtual time, on both of anyio's backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from trio.testing import MockClock

from standby.runner import Request, Runner, RunRecord, RunResult
from standby.runner.testing import Outcome, ScriptedClient, VirtualClock, VirtualLoop
from standby.store import (
    Candidate,
    MemoryCatalog,
    MemoryState,
    Model,
    Provider,
    RunnerPolicy,
    RuntimePolicy,
    RuntimePolicyOverride,
    SharedLimits,
    Snapshot,
    State,
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Virtual time on both backends."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@dataclass
class Gateway:
    """A runner for one model, `chat`, and the scripted clients behind its candidates."""

    runner: Runner
    clients: dict[str, ScriptedClient]
    state: State
    catalog: MemoryCatalog
    clock: VirtualClock

    async def ask(self, **options: Any) -> RunResult:
        return await self.runner.run(Request("chat", {"messages": []}), **options)

    def calls(self) -> dict[str, int]:
        return {name: len(client.calls) for name, client in self.clients.items()}


Script = Iterable[Outcome] | Callable[[Request], Outcome]


def gateway(
    scripts: dict[str, Script | dict[str, Script]],
    *,
    policy: dict[str, Any] | None = None,
    retry: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    timeouts: dict[str, Any] | None = None,
    overrides: dict[str, dict[str, Any]] | None = None,
    candidates: dict[str, dict[str, Any]] | None = None,
    providers: dict[str, dict[str, Any]] | None = None,
    model: dict[str, Any] | None = None,
    state: State | None = None,
    shared: SharedLimits | None = None,
    processes: int = 1,
    chance: Callable[[], float] = lambda: 0.5,
) -> Gateway:
    """Candidates in the order of ``scripts``, each with its own provider of the same name.

    Several scripts are those of several keys of that provider, by the key's id; their clients are named ``a/k1``.
    Where no policy is given the failure's own `retryable` decides, there is one try, and no backoff.
    """
    clients = {
        f"{name}/{key}" if key else name: ScriptedClient(script)
        for name, given in scripts.items()
        for key, script in (given if isinstance(given, dict) else {"": given}).items()
    }
    several_keys = {
        name: {"api_keys": [{"id": key, "key": f"{name}/{key}"} for key in given]}
        for name, given in scripts.items()
        if isinstance(given, dict)
    }
    listed = [
        Candidate.model_validate(
            {
                "id": name,
                "provider": name,
                "model": "m",
                "priority": 100 + rank,
                "runtime_policy": "own",
                "runtimePolicyOverride": RuntimePolicyOverride.model_validate((overrides or {}).get(name, {})),
                **(candidates or {}).get(name, {}),
            }
        )
        for rank, name in enumerate(scripts)
    ]
    snapshot = Snapshot(
        version=1,
        models={"chat": Model.model_validate({"runner_policy": "own", "candidates": listed, **(model or {})})},
        providers={
            name: Provider.model_validate(
                {"client": name, **several_keys.get(name, {}), **(providers or {}).get(name, {})}
            )
            for name in scripts
        },
        runner_policies={"own": RunnerPolicy.model_validate(policy or {})},
        runtime_policies={
            "own": RuntimePolicy.model_validate(
                {
                    "retryPolicy": {"maxAttempts": 1, **(retry or {})},
                    "rateLimitPolicy": limits or {},
                    "timeouts": timeouts or {},
                }
            )
        },
    )
    state = state or MemoryState()
    catalog, clock = MemoryCatalog(snapshot), VirtualClock()

    def factory(name: str) -> Callable[[Provider], ScriptedClient]:
        return lambda provider: clients[provider.api_key.get_secret_value() if provider.api_key else name]

    runner = Runner(
        catalog,
        state,
        clients={name: factory(name) for name in scripts},
        clock=clock,
        chance=chance,
        limits=shared,
        processes=processes,
    )
    return Gateway(runner, clients, state, catalog, clock)


def did(record: RunRecord) -> list[tuple[str, int, str, str | None]]:
    """The tries of a run in short: who, which try, what came of it, what the run then did."""
    return [(tried.candidate, tried.n, tried.outcome, tried.did) for tried in record.tries]
