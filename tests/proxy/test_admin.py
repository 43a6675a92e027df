"""The operator's API: what is held against each candidate, and the operator's own word."""

import anyio
import pytest

from standby.runner.testing import EPOCH, Fail, answer
from standby.store import MemoryState
from tests.proxy.conftest import error_of, refused, serving

pytestmark = pytest.mark.anyio

BROKEN = Fail("server_error", "It broke.", status=500, retryable=True)
TOO_OFTEN = Fail("rate_limit", "Slow down.", status=429, retryable=True, scope="credential_model")
COOLS = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}, "cooldownSeconds": 60}}
DEMOTES = {"priorityDemotePolicy": {"enabled": True, "categories": ["provider_5xx"]}}


async def candidates(proxy):
    """Every candidate as the API tells of it, by its name in the whole gateway."""
    return {told["key"]: told for told in (await proxy.get("/admin/candidates")).json()["candidates"]}


async def act(proxy, action, name="primary", **words):
    return await proxy.post(f"/admin/candidates/{name}/{action}", **words)


# -- candidates


async def test_candidates():
    """Every candidate of every model, with its rank and what is held against it."""
    async with serving({"primary": [], "backup": []}, more_models=["other"]) as proxy:
        told = await candidates(proxy)
    assert list(told) == ["chat/primary", "chat/backup", "other/primary", "other/backup"]
    assert told["chat/backup"] == {
        "id": "backup",
        "key": "chat/backup",
        "model": "chat",
        "provider": "backup",
        "provider_model": "m",
        "status": "usable",
        "until": 0.0,
        "cause": "",
        "priority": 101,
        "effective_priority": 101,
        "weight": 1.0,
        "demoted_for": "",
        "restored_at": None,
        "failures_in_row": 0,
        "cooldowns_in_row": 0,
        "retry_budget": {},
        "limits": [],
        "waiting": 0,
        "domains": {
            "candidate": "candidate:chat/backup",
            "credential": "credential:backup",
            "credential_model": "credential_model:backup/m",
            "provider": "provider:backup",
        },
        "keys": [],
        "told": ["It may be called."],
    }


async def test_candidates_after_failures():
    """A candidate that was cooled or demoted says until when, and for what."""
    policy = {**COOLS, **DEMOTES}
    async with serving({"a": [TOO_OFTEN], "b": [BROKEN], "c": []}, policy=policy) as proxy:
        began = proxy.runner.now()
        await proxy.chat()
        told = await candidates(proxy)
    assert (told["chat/a"]["status"], told["chat/a"]["until"]) == ("cooling", pytest.approx(began + 60))
    assert told["chat/a"]["cause"].startswith("rate_limit: ")
    assert (told["chat/b"]["priority"], told["chat/b"]["effective_priority"]) == (101, 201)
    assert told["chat/b"]["demoted_for"].startswith("provider_5xx: ")


# -- the operator's word


async def test_disable():
    """A disabled candidate is not called, and says who disabled it and why."""
    async with serving({"primary": [], "backup": []}) as proxy:
        response = await act(proxy, "disable", by="ann", why="wrong answers")
        assert (await proxy.chat()).headers["x-standby-candidate"] == "backup"
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["cause"]) == ("disabled", "disabled by ann: wrong answers")


async def test_disable_without_words():
    """No body is needed: an operator did it."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.http.post("/admin/candidates/primary/disable")
    assert response.json()["cause"] == "disabled by operator"


async def test_enable():
    """Only an operator ends a disablement."""
    async with serving({"primary": [], "backup": []}) as proxy:
        await act(proxy, "disable")
        assert (await act(proxy, "enable", by="ann")).json()["status"] == "usable"
        assert (await proxy.chat()).headers["x-standby-candidate"] == "primary"


async def test_cool():
    """A cooled candidate is left out for so many seconds; five minutes where nothing is said."""
    async with serving({"primary": [], "backup": []}) as proxy:
        now = proxy.runner.now()
        for_a_while = (await act(proxy, "cool", seconds=90.5, by="ann", why="deploy")).json()
        for_five_minutes = (await act(proxy, "cool", "backup")).json()
        assert (await proxy.chat({"x-standby-timeout": "1"})).status_code == 429
        await anyio.sleep(91)
        assert (await proxy.chat()).headers["x-standby-candidate"] == "primary"
    assert (for_a_while["status"], for_a_while["cause"]) == ("cooling", "cooled by ann: deploy")
    assert for_a_while["until"] == pytest.approx(now + 90.5)
    assert for_five_minutes["until"] == pytest.approx(now + 300)


async def test_cool_is_audited():
    """Who cooled it is told to the store by itself, and not only in words."""

    class Watched(MemoryState):
        async def apply(self, effects):
            applied.extend(effects)
            await super().apply(effects)

    applied = []
    async with serving({"primary": []}, state=Watched()) as proxy:
        await act(proxy, "cool", by="ann")
    [effect] = applied
    assert (effect.domain, effect.by) == ("candidate:chat/primary", "ann")


async def test_restore():
    """Cooldown, demotion and counted failures are forgotten, whatever they were held against."""
    policy = {**COOLS, **DEMOTES}
    async with serving({"a": [TOO_OFTEN, answer()], "b": [BROKEN], "c": []}, policy=policy) as proxy:
        await proxy.chat()
        restored = [(await act(proxy, "restore", name)).json() for name in "ab"]
        assert (await proxy.chat()).headers["x-standby-candidate"] == "a"
    assert [told["status"] for told in restored] == ["usable", "usable"]
    assert [told["effective_priority"] for told in restored] == [100, 101]
    assert [told["failures_in_row"] for told in restored] == [0, 0]


async def test_restore_does_not_enable():
    """A disablement is another operator's word, and stays."""
    async with serving({"primary": []}) as proxy:
        await act(proxy, "disable")
        assert (await act(proxy, "restore")).json()["status"] == "disabled"


@pytest.mark.parametrize("name", ["chat/primary", "chat%2Fprimary"])
async def test_named_in_full(name):
    """A candidate is named by its id, or by its model and its id."""
    async with serving({"primary": []}) as proxy:
        response = await act(proxy, "disable", name)
    assert response.json()["key"] == "chat/primary"


async def test_model_with_a_slash():
    """A model's name may have slashes of its own."""
    async with serving({"primary": []}, more_models=["openai/gpt-4o"]) as proxy:
        response = await act(proxy, "disable", "openai/gpt-4o/primary")
    assert response.json()["key"] == "openai/gpt-4o/primary"


async def test_ambiguous_id():
    """409 where several models use the id; the message names them, and nothing happens."""
    async with serving({"primary": []}, more_models=["other"]) as proxy:
        response = await act(proxy, "disable")
        assert (await act(proxy, "disable", "other/primary")).status_code == 200
        told = await candidates(proxy)
    assert refused(response) == (409, "ambiguous_candidate", None)
    assert "chat/primary, other/primary" in error_of(response)["message"]
    assert [each["status"] for each in told.values()] == ["usable", "disabled"]


@pytest.mark.parametrize("name", ["ghost", "chat", "chat/ghost", "chat/primary/", "../primary", "%00", "x" * 60_000])
async def test_unknown_candidate(name):
    """404, and not all of a long name is sent back."""
    async with serving({"primary": []}) as proxy:
        response = await act(proxy, "disable", name)
    assert refused(response) == (404, "not_found", None)
    assert len(response.content) < 1000


async def test_unknown_action():
    """404, and the message says which there are."""
    async with serving({"primary": []}) as proxy:
        response = await act(proxy, "explode")
    assert refused(response) == (404, "not_found", None)
    assert "there are: enable, disable, cool, restore." in error_of(response)["message"]


@pytest.mark.parametrize(
    ("action", "body", "expected"),
    [
        ("disable", b"{", (400, "invalid_json", None)),
        ("disable", b"[]", (400, "invalid_json", None)),
        ("disable", b'{"seconds": 5}', (400, "invalid_request", "seconds")),
        ("disable", b'{"by": 5}', (400, "invalid_request", "by")),
        ("disable", b'{"why": null}', (400, "invalid_request", "why")),
        ("disable", b'{"why": "%s"}' % (b"x" * 501), (400, "invalid_request", "why")),
        ("cool", b'{"second": 5}', (400, "invalid_request", "second")),
        ("cool", b'{"seconds": 0}', (400, "invalid_request", "seconds")),
        ("cool", b'{"seconds": -1}', (400, "invalid_request", "seconds")),
        ("cool", b'{"seconds": true}', (400, "invalid_request", "seconds")),
        ("cool", b'{"seconds": "60"}', (400, "invalid_request", "seconds")),
        ("cool", b'{"seconds": null}', (400, "invalid_request", "seconds")),
        ("cool", b'{"seconds": 31536001}', (400, "invalid_request", "seconds")),
        ("cool", b" " * 70_000, (413, "request_too_large", None)),
    ],
)
async def test_bad_words(action, body, expected):
    """400 or 413, and nothing happens."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.http.post(f"/admin/candidates/primary/{action}", content=body)
        told = await candidates(proxy)
    assert refused(response) == expected
    assert told["chat/primary"]["status"] == "usable"


# -- runs


async def ran(proxy, *ids):
    for run_id in ids:
        await proxy.chat({"x-standby-run-id": run_id})


async def ids(proxy, query=""):
    return [record["run_id"] for record in (await proxy.get(f"/admin/runs{query}")).json()["runs"]]


async def test_run():
    """One run in full: every try, what was decided about it and by which rule."""
    async with serving({"primary": [BROKEN], "backup": []}) as proxy:
        await ran(proxy, "mine")
        record = (await proxy.get("/admin/runs/mine")).json()
    assert (record["run_id"], record["model"], record["ending"]) == ("mine", "chat", "answered")
    assert (record["candidate"], record["attempts"], record["failovers"]) == ("backup", 2, 1)
    assert record["began_at"] == pytest.approx(EPOCH, abs=1e7)
    failed, served = record["tries"]
    assert failed["failure"]["message"] == "It broke."
    assert failed["decisions"]["failover"]["reason"] == "client_retryable"
    assert (served["candidate"], served["outcome"]) == ("backup", "ok")


async def test_run_is_told_without_what_was_said():
    """Neither the question nor the answer is kept."""
    async with serving({"primary": [answer("the answer")]}) as proxy:
        await proxy.chat({"x-standby-run-id": "mine"}, messages=[{"role": "user", "content": "the question"}])
        told = (await proxy.get("/admin/runs/mine")).text + (await proxy.get("/admin/runs")).text
    assert "the answer" not in told
    assert "the question" not in told


@pytest.mark.parametrize("run_id", ["ghost", "%2e%2e", "x" * 60_000])
async def test_unknown_run(run_id):
    """404."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.get(f"/admin/runs/{run_id}")
    assert refused(response) == (404, "not_found", None)
    assert len(response.content) < 1000


async def test_newest_runs():
    """The newest first, at most `limit`, older than `before`."""
    async with serving({"primary": []}) as proxy:
        await ran(proxy, "a", "b", "c", "d")
        assert await ids(proxy) == ["d", "c", "b", "a"]
        assert await ids(proxy, "?limit=2") == ["d", "c"]
        assert await ids(proxy, "?limit=2&before=c") == ["b", "a"]
        assert await ids(proxy, "?before=a") == []
        assert await ids(proxy, "?before=ghost") == []


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "abc", "1.5", "", "%C2%B2", "%D9%A3", "1_0", "9" * 5000])
async def test_limit_that_is_none(limit):
    """400 for anything but a whole number from 1 to 1,000."""
    async with serving({"primary": []}) as proxy:
        response = await proxy.get(f"/admin/runs?limit={limit}")
    assert refused(response) == (400, "invalid_request", "limit")


async def test_no_runs_yet():
    """An empty list."""
    async with serving({"primary": []}) as proxy:
        assert (await proxy.get("/admin/runs")).json() == {"runs": []}
