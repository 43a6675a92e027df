"""The server's application over scripted clients, in process and under virtual time, on both of anyio's backends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from standby.proxy import Tools, create_app
from standby.runner import Request, Runner
from standby.runner.testing import Outcome, ScriptedClient, VirtualClock, VirtualLoop
from standby.store import MemoryCatalog, State, parse

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hello?"}]}

Script = Iterable[Outcome] | Callable[[Request], Outcome]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    """Virtual time on both backends."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@dataclass
class Proxy:
    """The application, the runner below it and the scripted clients behind its candidates."""

    app: Any
    runner: Runner
    clients: dict[str, ScriptedClient]
    http: httpx.AsyncClient

    async def chat(self, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json={**CHAT, **body}, headers=headers)

    async def post(self, path: str, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
        return await self.http.post(path, json=body, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    def calls(self) -> dict[str, int]:
        return {name: len(client.calls) for name, client in self.clients.items()}


def document(
    scripts: Iterable[str],
    *,
    policy: dict[str, Any] | None = None,
    retry: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    more_models: Iterable[str] = (),
) -> dict[str, Any]:
    """The model `chat` with candidates in the order of ``scripts``, each with its own provider of the same name.

    Where no policy is given the failure's own `retryable` decides, there is one try, and no backoff.
    """
    candidates = [
        {"id": name, "provider": name, "model": "m", "priority": 100 + rank, "runtime_policy": "own"}
        for rank, name in enumerate(scripts)
    ]
    chat = {"runner_policy": "own", "candidates": candidates, **(model or {})}
    return {
        "version": 1,
        "server": server or {},
        "providers": {candidate["id"]: {"client": candidate["id"]} for candidate in candidates},
        "runner_policies": {"own": policy or {}},
        "runtime_policies": {
            "own": {"retryPolicy": {"maxAttempts": 1, **(retry or {})}, "rateLimitPolicy": limits or {}}
        },
        "models": {"chat": chat, **dict.fromkeys(more_models, chat)},
    }


@asynccontextmanager
async def serving(
    scripts: dict[str, Script],
    *,
    tools: Tools | None = None,
    state: State | None = None,
    client_address: str = "127.0.0.1",
    **parts: Any,
) -> AsyncIterator[Proxy]:
    """An application for `document(scripts, **parts)`, asked from ``client_address``."""
    raw = document(scripts, **parts)
    settings = parse(raw, clients=scripts.keys())
    clients = {name: ScriptedClient(script) for name, script in scripts.items()}
    runner = Runner(
        MemoryCatalog(settings.snapshot()),
        state,
        clients={name: (lambda _, made=client: made) for name, client in clients.items()},
        clock=VirtualClock(),
        chance=lambda: 0.0,
    )
    app = create_app(runner, settings.server, tools)
    async with runner, asked_of(app, client_address) as http:
        yield Proxy(app, runner, clients, http)


def asked_of(app: Any, client_address: str = "127.0.0.1") -> httpx.AsyncClient:
    """Who asks an application without a socket, from ``client_address``."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client_address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error that ``answer`` is, in OpenAI's shape, whose message ends with the run's id."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["message"].endswith(f" (run {answer.headers['x-standby-run-id']})")
    return error


def refused(answer: httpx.Response) -> tuple[int, str, str | None]:
    """An error in short: its status, code and param."""
    error = error_of(answer)
    return answer.status_code, error["code"], error["param"]
