"""Each example does what it says, without a network."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from standby.demo.faults import refused_port
from standby.store import effective_policies, load

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str) -> str:
    """What an example prints; a warning, a traceback or a non-zero end fails."""
    environ = {**os.environ, "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=60, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_every_example_is_listed_and_tested():
    """A new example has its line in the README, and its test here."""
    here, readme = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".yaml"):
            assert f"({path.name})" in readme
            assert f'"{path.name}"' in here


def test_ten_lines():
    """The first provider is tried twice, the second one answers, and every step names its rule."""
    assert output_of("ten_lines.py").splitlines() == [
        "backup: Hello!",
        "  primary, try 1: provider_5xx retry client_retryable",
        "    by provider_client: Retryable = true",
        "  primary, try 2: provider_5xx next failover_allow_policy",
        "    by gateway_runner_policies.failover_policy: allowCategories = provider_5xx",
        "  backup, try 1: ok  ",
    ]


def test_failover():
    """Its tests pass as they are."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", EXAMPLES / "test_failover.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "4 passed" in done.stdout) == (0, True), done.stdout


def test_streaming():
    """A cut before the first content is failed over unseen; after it nobody goes on where another one stopped."""
    assert output_of("streaming.py").splitlines() == [
        "backup: Hello!",
        "  primary, try 1: stream_error, next",
        "  backup, try 1: ok, done",
        "backup: Hel ... broke off after 'Hel'",
        "  backup, try 1: stream_error, stop",
    ]


def test_custom_client():
    """What the parrot says of itself cools it down, and the other parrot answers."""
    assert output_of("custom_client.py").splitlines() == [
        "flint: Pieces of eight!",
        "  polly is cooling rate_limit: failover_allow_policy (failoverPolicy.allowCategories = rate_limit)",
        "  flint is usable",
    ]


def test_sdk_client():
    """A failure of the SDK's call is failed over like any other, and the SDK repeats nothing on its own."""
    assert output_of("sdk_client.py").splitlines() == [
        "backup: Hello from the backup!",
        "sdk: Hello from the SDK!",
        "the SDK sent 2 requests, 1 went to the backup",
    ]


@pytest.fixture(scope="module")
def apology(tmp_path_factory):
    """An environment in which the package is installed."""
    there = tmp_path_factory.mktemp("apology")
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    source = shutil.copytree(EXAMPLES / "apology", there / "source")  # a build leaves things behind
    command = [*install, "--no-build-isolation", "--target", there / "installed", source]
    subprocess.run(command, check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(there / "installed")}


APOLOGY = """
import anyio
from standby.runner import Request, RunFailed, open_gateway

async def main():
    async with open_gateway("gateway.json") as gateway:
        result = await gateway.runner.run(Request("chat", {"messages": []}))
        print(result.candidate, result.data["choices"][0]["message"]["content"])
        async with gateway.runner.stream(Request("chat", {"messages": []})) as stream:
            async for chunk in stream:
                print(chunk.data["choices"][0]["delta"].get("content"))
        print(stream.record.candidate, stream.record.ending)
        try:
            await gateway.runner.run(Request("chat", {"input": "?"}, "embeddings"))
        except RunFailed as failed:
            print(failed.exceptions[-1])

anyio.run(main)
"""


def apology_document(port, **options):
    candidates = [
        {"id": "only", "provider": "gone", "model": "m", "priority": 10},
        {"id": "last", "provider": "nobody", "model": "m", "priority": 20},
    ]
    providers = {
        "gone": {"client": "openai", "base_url": f"http://127.0.0.1:{port}/v1"},
        "nobody": {"client": "apology", "options": options},
    }
    policies = {"own": {"failoverPolicy": {"allowCategories": ["network"]}}}
    models = {"chat": {"runner_policy": "own", "candidates": candidates}}
    return json.dumps({"version": 1, "providers": providers, "runner_policies": policies, "models": models})


def test_apology(apology, tmp_path):
    """An installed package's client is known by its name, and answers whole and as a stream."""
    with refused_port() as port:
        (tmp_path / "gateway.json").write_text(apology_document(port, text="Sorry!"))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", APOLOGY],
            cwd=tmp_path,
            env=apology,
            timeout=60,
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.splitlines() == [
        "last Sorry!",
        "Sorry!",
        "None",
        "last answered",
        "unsupported_parameter (status 400): there is no apology for embeddings",
    ]


def test_custom_store():
    """The pager hears of the cooldown once, and a flag makes a new version of the catalog."""
    pager, *asked = output_of("custom_store.py").splitlines()
    assert re.fullmatch(r"  pager: credential:unpaid is left out for 6\d s: insufficient_balance: .+", pager)
    assert asked == [
        "catalog version 1: asked cheap, sure; sure answered",
        "catalog version 1: asked sure; sure answered",
        "catalog version 2: asked sure; sure answered",
    ]


def imported(name: str):
    spec = importlib.util.spec_from_file_location(f"example_{name.partition('.')[0]}", EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def application(app):
    """An application between its start and its end, and somebody who calls it."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as it,
    ):
        yield it


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_embed_fastapi(monkeypatch):
    """The application answers by the backup; the gateway's own API is mounted beside it, on the same runner."""
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    app = imported("embed_fastapi.py").app
    async with application(app) as client:
        answer = await client.post("/ask", json={"question": "What is six times seven?"})
        assert answer.status_code == 200
        assert answer.json() == {"answer": "Forty-two.", "answered_by": "backup"}
        run = await client.get(f"/llm/admin/runs/{answer.headers['x-standby-run-id']}")
        assert [tried["outcome"] for tried in run.json()["tries"]] == ["provider_5xx", "provider_5xx", "ok"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_embed_fastapi_without_anybody(monkeypatch, tmp_path):
    """Where nobody answers, the caller hears when to come again."""
    config = tmp_path / "gateway.json"
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    app = imported("embed_fastapi.py").app
    with refused_port() as port:
        candidate = {"id": "only", "provider": "gone", "model": "some-model"}
        provider = {"client": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
        models = {"chat": {"runner_policy": "bare", "candidates": [candidate]}}
        config.write_text(json.dumps({"version": 1, "providers": {"gone": provider}, "models": models}))
        async with application(app) as client:
            answer = await client.post("/ask", json={"question": "Is anybody there?"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_gateway_yaml():
    """It is valid with its keys, its comments about times hold, and its policies are those of its candidates."""
    keys = {"OPENAI_API_KEY": "one", "ANTHROPIC_API_KEY": "two", "GEMINI_API_KEY": "three"}
    document = load(EXAMPLES / "gateway.yaml", environ=keys)
    assert {provider.client for provider in document.providers.values()} == {"openai", "anthropic", "gemini"}
    assert document.providers["openai"].api_key is not None
    assert document.server.admin_key is None
    snapshot = document.snapshot()
    chat = snapshot.models["chat"]
    policies = [effective_policies(snapshot, chat, candidate) for candidate in chat.candidates]
    assert {policy.runner_policy_name for policy in policies} == {"any_vendor"}
    attempts = [policy.runtime_policy.timeouts.attempt_seconds for policy in policies]
    assert sum(attempts) < chat.timeouts.total_seconds
    # A demoted primary is behind its standbys.
    first, second, third = chat.candidates
    step = policies[0].runner_policy.priority_demote_policy.demote_step
    assert step is not None
    assert first.priority < second.priority < third.priority < first.priority + step
    assert len(snapshot.models["embed"].candidates) == 1


def test_gateway_yaml_names_what_is_missing():
    """Without the keys it says which variables to set, all at once."""
    with pytest.raises(ValueError, match=r"(?s)OPENAI_API_KEY.*ANTHROPIC_API_KEY.*GEMINI_API_KEY"):
        load(EXAMPLES / "gateway.yaml", environ={})
