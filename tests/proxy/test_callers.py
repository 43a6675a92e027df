"""Callers' keys: who may call, which models, and how often."""

import hmac
from dataclasses import replace

import anyio
import pytest

from standby.runner.testing import Fail, Slow, answer
from tests.proxy.conftest import CHAT, error_of, refused, serving

pytestmark = pytest.mark.anyio

KEYS = [
    {"name": "app", "key": "key-of-the-app", "models": ["chat"]},
    {"name": "all", "key": "key-for-all"},
]
APP = {"authorization": "Bearer key-of-the-app"}
ALL = {"authorization": "Bearer key-for-all"}


def limited(**policy):
    return {"keys": [{"name": "app", "key": "key-of-the-app", "rate_limit": policy}, KEYS[1]]}


async def test_right_key():
    """Whoever has a key may call, and the record says who it was."""
    async with serving({"primary": []}, server={"keys": KEYS}) as proxy:
        response = await proxy.chat(APP)
        record = await proxy.runner.history.get(response.headers["x-standby-run-id"])
    assert response.status_code == 200
    assert record["caller"] == "app"


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer key-of-the-ap",
        "Bearer key-of-the-appx",
        "Bearer KEY-OF-THE-APP",
        "Bearer k\xe9y",
        "Bearer \xff\xfe",
        "key-of-the-app",
        "Basic key-of-the-app",
        "Bearer key-of-the-app key-for-all",
        "Bearer " + "x" * 60_000,
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_missing_or_wrong_key(written, path):
    """401, before the body is looked at."""
    headers = {} if written is None else {"authorization": written.encode("latin-1")}
    async with serving({"primary": []}, server={"keys": KEYS}) as proxy:
        response = await proxy.http.post(path, content=b"no json", headers=headers)
    assert refused(response) == (401, "invalid_api_key", None)
    assert error_of(response)["type"] == "authentication_error"
    assert response.headers["www-authenticate"] == "Bearer"
    assert proxy.calls() == {"primary": 0}


@pytest.mark.parametrize("written", ["bearer key-of-the-app", "BEARER  key-of-the-app "])
async def test_scheme_in_any_case(written):
    """The scheme's name has no case, and spaces around the key are not part of it."""
    async with serving({"primary": []}, server={"keys": KEYS}) as proxy:
        assert (await proxy.chat({"authorization": written})).status_code == 200


async def test_keys_are_not_needed_where_there_are_none():
    """Without keys whoever reaches the server may call, with or without one."""
    async with serving({"primary": []}) as proxy:
        assert [(await proxy.chat(headers)).status_code for headers in ({}, APP)] == [200, 200]


async def test_key_that_may_not_use_the_model():
    """403, and nothing is sent."""
    async with serving({"primary": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        response = await proxy.chat(APP, model="other")
        allowed = await proxy.chat(ALL, model="other")
    assert refused(response) == (403, "model_not_allowed", "model")
    assert allowed.status_code == 200
    assert proxy.calls() == {"primary": 1}


async def test_key_learns_nothing_of_other_models():
    """A key that may use some models cannot tell one that it may not use from one that does not exist."""
    async with serving({"primary": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        responses = [await proxy.chat(APP, model=model) for model in ("other", "ghost")]
    assert [refused(response) for response in responses] == [(403, "model_not_allowed", "model")] * 2


async def test_key_whose_model_is_gone():
    """A model that a reload took away is unknown; the message names no model that the key may not use."""
    async with serving({"primary": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        catalog = proxy.runner.catalog
        snapshot = catalog.snapshot()
        catalog.replace(replace(snapshot, models={"other": snapshot.models["other"]}))
        response = await proxy.chat(APP)
    assert refused(response) == (404, "model_not_found", "model")
    assert error_of(response)["message"].startswith("No model is named 'chat'; there are: none. (run ")


async def test_every_key_is_compared_in_constant_time(monkeypatch):
    """Each request is compared with every key, by `hmac.compare_digest`, whichever matches."""
    compared = []
    honest = hmac.compare_digest

    def watched(left, right):
        compared.append((len(left), len(right)))
        return honest(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    async with serving({"primary": []}, server={"keys": KEYS}) as proxy:
        for headers in (APP, ALL, {}, {"authorization": "Bearer \xe9".encode()}):
            compared.clear()
            await proxy.chat(headers)
            assert compared == [(32, 32)] * 2


async def test_requests_per_minute():
    """429 with the time at which the next one is free; another key is not concerned."""
    async with serving({"primary": []}, server=limited(requestsPerMinute=2)) as proxy:
        assert [(await proxy.chat(APP)).status_code for _ in range(2)] == [200, 200]
        await anyio.sleep(12.5)
        response = await proxy.chat(APP)
        assert refused(response) == (429, "key_rate_limit_exceeded", None)
        assert response.headers["retry-after"] == "48"
        assert (await proxy.chat(ALL)).status_code == 200
        await anyio.sleep(48)
        assert (await proxy.chat(APP)).status_code == 200
    assert proxy.calls() == {"primary": 4}


async def test_concurrency():
    """A key's calls at once; what ends gives its place back, however it ends."""
    script = [Slow(5), Slow(5, Fail("bad_request", status=400)), answer()]
    async with serving({"primary": script}, server=limited(concurrency=1)) as proxy:
        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(proxy.chat, APP)
                while not proxy.clients["primary"].in_flight:
                    await anyio.lowlevel.checkpoint()
                response = await proxy.chat(APP)
            assert refused(response) == (429, "key_rate_limit_exceeded", None)
            assert response.headers["retry-after"] == "1"
        assert (await proxy.chat(APP)).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "used", "statuses"),
    [(150, 10, [200, 200, 200]), (1, 250, [200, 429, 429])],
)
async def test_tokens_per_minute(allowed, used, statuses):
    """Tokens are taken by estimate, and settled by what the provider counted."""
    async with serving({"primary": [answer(tokens=used)]}, server=limited(tokensPerMinute=200)) as proxy:
        assert [(await proxy.chat(APP, max_tokens=allowed)).status_code for _ in range(3)] == statuses


async def test_what_is_refused_counts_for_nothing():
    """A request that is refused before its run does not use up its key's limit."""
    async with serving({"primary": []}, server=limited(requestsPerMinute=1)) as proxy:
        refusals = [
            await proxy.chat(APP, model="ghost"),
            await proxy.chat({**APP, "x-standby-timeout": "soon"}),
            await proxy.http.post("/v1/chat/completions", content=b"[]", headers=APP),
            await proxy.http.post("/v1/embeddings", json={**CHAT, "stream": True}, headers=APP),
        ]
        assert [response.status_code for response in refusals] == [404, 400, 400, 501]
        assert (await proxy.chat(APP)).status_code == 200
