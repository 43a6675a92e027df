"""How the candidates stand, in words: from a running gateway, and from the store that a document names."""

import asyncio
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from standby.demo.faults import Answer
from standby.lab import NoState, state_in_words, state_of_server, state_of_stores
from standby.runner import Request, RunFailed, Runner
from standby.runner.testing import Fail, ScriptedClient, VirtualClock, VirtualLoop
from standby.store import Cool, Demote, Disable, MemoryCatalog, StoreError
from standby.store.sql import open_sql
from tests.proxy.listening import served

CONFIG = """
version: 1
store: {{state_url: "{url}"}}
providers: {{a: {{client: openai, api_key: k}}}}
models: {{chat: {{candidates: [{{id: primary, provider: a, model: m}}, {{id: backup, provider: a, model: n}}]}}}}
"""


def document(tmp_path, url):
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(url=url))
    return path


def test_the_store_tells_what_is_held_against_each_candidate(tmp_path):
    """Whoever has the document and its store can ask, without a gateway that runs."""
    url, now = f"sqlite:///{tmp_path}/state.db", time.time()

    async def put():
        async with open_sql(url) as store:
            await store.state.apply(
                [
                    Cool("credential:a", now, now + 90, 2, "auth_error: failover_allow_policy"),
                    Demote("candidate:chat/primary", now, now, 100, 600.0, "provider_5xx: priority_demote_policy"),
                    Disable("candidate:chat/backup", now, "ann", "wrong answers"),
                ]
            )

    asyncio.run(put())
    primary, backup = state_in_words(state_of_stores(document(tmp_path, url))).split("\nchat/backup")
    first, left_out, ranked = primary.splitlines()
    assert first == "chat/primary: cooling, rank 200 = 100 + 100"
    assert left_out.startswith("  Left out for ")
    assert left_out.endswith(
        "as all of credential:a: auth_error: failover_allow_policy. Cooldowns in a row: 2. When it ends one run probes it."
    )
    assert ranked.startswith("  Ranked 100 lower, at 200: provider_5xx: priority_demote_policy; it wears off from ")
    assert backup == ": disabled, rank 100\n  Left out: disabled by ann: wrong answers. Somebody must enable it."


def test_a_state_in_memory_is_asked_of_who_has_it(tmp_path):
    """The message says how."""
    with pytest.raises(NoState, match="--server http://HOST:PORT"):
        state_of_stores(document(tmp_path, "memory:"))


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    """Nothing is known yet, and a question leaves no file behind."""
    with pytest.raises(StoreError, match="nothing is known yet"):
        state_of_stores(document(tmp_path, f"sqlite:///{tmp_path}/none.db"))
    assert not (tmp_path / "none.db").exists()


async def ask(url, key=""):
    return await asyncio.to_thread(state_of_server, url, key)


@pytest.mark.asyncio
async def test_a_running_gateway_tells_what_is_in_its_memory_too():
    """Its limits, and the tokens of its retry budgets."""
    policy = {"retryPolicy": {"maxAttempts": 2, "backoff": {"initialSeconds": 0}}}
    async with served([Answer(500)], policy=policy) as gateway:
        await gateway.chat()
        (state,) = await ask(gateway.url)
    assert state["told"] == [
        "It may be called.",
        "Failures in a row: 2; 5 leave it out.",
        "Retries of candidate:chat/primary have 86 of 100 tokens left.",
        "Its own limits: 0 of 1 calls under way.",
    ]


@pytest.mark.asyncio
async def test_the_admin_key_is_needed_where_there_is_one():
    """Without it the answer's own words are the error; with it the state is told."""
    async with served([Answer(500)], server={"admin_key": "key-of-the-operators"}) as gateway:
        with pytest.raises(NoState, match="answers 401: The key is missing or wrong"):
            await ask(gateway.url)
        assert len(await ask(gateway.url, "key-of-the-operators")) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no such host", "127.0.0.1:8080", "file:///etc/passwd"])
def test_an_address_where_no_gateway_answers_is_an_error_in_words(url):
    """Refused, unknown or no address at all."""
    with pytest.raises(NoState, match=r"no gateway answers|not the address of a gateway"):
        state_of_server(url, "")


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@127.0.0.1:1", "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:1?hunter2"]
)
def test_an_address_that_is_wrong_is_not_repeated(url):
    """There may be a password in it; what is allowed is told."""
    with pytest.raises(NoState, match="http://HOST:PORT, without user") as caught:
        state_of_server(url, "")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["hunter2 hunter3", "hunter2\nhunter3", "húnter2"])
def test_an_admin_key_that_is_none_is_not_repeated(key):
    """Nor is it sent."""
    with pytest.raises(NoState, match="STANDBY_ADMIN_KEY is no key") as caught:
        state_of_server("http://127.0.0.1:1", key)
    assert "nter2" not in str(caught.value)


@pytest.mark.asyncio
async def test_an_admin_key_from_a_file_may_end_in_a_line_break():
    """As secrets that are mounted do."""
    async with served([Answer(500)], server={"admin_key": "key-of-the-operators"}) as gateway:
        assert len(await ask(gateway.url, "key-of-the-operators\n")) == 1


def test_the_admin_key_is_shown_to_nobody_else(monkeypatch):
    """Neither to where the answer points, nor to a proxy."""
    asked = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.server.server_port, self.path, self.headers["authorization"]))
            self.send_response(302)
            self.send_header("location", f"http://127.0.0.1:{other.server_port}/somewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as one, HTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{other.server_port}")
        answers = Thread(target=one.handle_request)
        answers.start()
        with pytest.raises(NoState, match="answers 302"):
            state_of_server(f"http://127.0.0.1:{one.server_port}", "hunter2")
        answers.join()
        assert asked == [(one.server_port, "/admin/candidates", "Bearer hunter2")]


def test_the_words_for_every_standing():
    """Each thing that can be held against a candidate has its sentence, with its times in UTC."""
    catalog = MemoryCatalog.from_mapping(
        {
            "version": 1,
            "providers": {"a": {"client": "a", "rate_limit": {"requestsPerMinute": 60, "tokensPerMinute": 900}}},
            "runner_policies": {
                "own": {
                    "failoverPolicy": {
                        "actions": {"provider_5xx": "cooldown_and_next", "insufficient_balance": "disable_and_next"},
                        "allowCategories": ["insufficient_balance"],
                        "cooldownSeconds": 60,
                        "recheckSeconds": 3600,
                    }
                }
            },
            "runtime_policies": {"once": {"retryPolicy": {"maxAttempts": 1}}},
            "models": {
                "chat": {
                    "runner_policy": "own",
                    "candidates": [{"id": "one", "provider": "a", "model": "m", "runtime_policy": "once"}],
                }
            },
        },
        clients=["a"],
    )
    down = Fail("server_error", status=500, retryable=True)
    broke = Fail("insufficient_balance", status=402, scope="credential")
    client = ScriptedClient([down, None, broke, None])

    async def told():
        clock = VirtualClock()
        heard = []
        async with Runner(catalog, clients={"a": lambda _: client}, clock=clock, chance=lambda: 0.0) as runner:

            async def after(seconds):
                await asyncio.sleep(seconds)
                heard.append(runner.statuses()[0].told[0])

            async def ask():
                with suppress(RunFailed):
                    await runner.run(Request("chat", {"messages": []}), timeout_seconds=5)

            await ask()
            await after(0)
            await after(61)
            await ask()
            await after(0)
            await ask()
            await after(0)
            await after(3601)
            heard.append(runner.statuses()[0].told[-1])
        return heard

    with asyncio.Runner(loop_factory=VirtualLoop) as loop:
        assert loop.run(told()) == [
            (
                "Left out for 60 s more, until 2023-11-14 22:14:20 UTC, as all of candidate:chat/one: provider_5xx: "
                "client_retryable (ClientError.Retryable = true). Cooldowns in a row: 1. When it ends one run probes it."
            ),
            "The next run probes it: it was left out by what is held against candidate:chat/one.",
            "It may be called.",
            (
                "Left out: disabled by policy: insufficient_balance: failover_allow_policy "
                "(failoverPolicy.allowCategories = insufficient_balance). A run checks it again from "
                "2023-11-14 23:14:21 UTC on."
            ),
            "The next run probes it: it was left out by what is held against candidate:chat/one.",
            "The limits of its key: 0 of 60 requests in the last minute, 0 of 900 tokens in the last minute.",
        ]
