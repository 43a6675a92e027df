"""What there is, and how it is."""

import anyio
import pytest

from standby.runner import moment
from standby.runner.testing import EPOCH
from standby.store import MemoryState
from tests.proxy.conftest import refused, serving

pytestmark = pytest.mark.anyio

KEYS = [{"name": "app", "key": "key-of-the-app", "models": ["chat"]}, {"name": "all", "key": "key-for-all"}]
APP = {"authorization": "Bearer key-of-the-app"}
ALL = {"authorization": "Bearer key-for-all"}


def model(name):
    return {"id": name, "object": "model", "created": 0, "owned_by": "standby"}


async def test_models():
    """The configured models, as OpenAI lists them."""
    async with serving({"primary": []}, more_models=["other"]) as proxy:
        response = await proxy.get("/v1/models")
    assert response.json() == {"object": "list", "data": [model("chat"), model("other")]}


async def test_models_of_a_key():
    """A key sees the models that it may use."""
    async with serving({"primary": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        of_app = await proxy.get("/v1/models", **APP)
        of_all = await proxy.get("/v1/models", **ALL)
        of_none = await proxy.get("/v1/models")
    assert [each["id"] for each in of_app.json()["data"]] == ["chat"]
    assert [each["id"] for each in of_all.json()["data"]] == ["chat", "other"]
    assert refused(of_none) == (401, "invalid_api_key", None)


@pytest.mark.parametrize("name", ["chat", "openai/gpt-4o"])
async def test_one_model(name):
    """One of them, by its name, slashes and all."""
    async with serving({"primary": []}, more_models=["openai/gpt-4o"]) as proxy:
        assert (await proxy.get(f"/v1/models/{name}")).json() == model(name)


@pytest.mark.parametrize("name", ["ghost", "other", "", "chat/", "x" * 60_000])
async def test_one_model_that_is_not_there(name):
    """404, for one that the key may not use as well."""
    async with serving({"primary": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        response = await proxy.get(f"/v1/models/{name}", **APP)
    assert refused(response) == (404, "model_not_found", "model")
    assert len(response.content) < 1000


async def test_alive():
    """A server that answers is alive, whatever else is wrong; nobody needs a key to ask."""
    async with serving({"primary": []}, server={"keys": KEYS}) as proxy:
        await proxy.post("/admin/candidates/primary/disable")
        response = await proxy.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready():
    """Ready: the store is reached, and every model has a candidate that can be called."""
    async with serving({"primary": [], "backup": []}, server={"keys": KEYS}, more_models=["other"]) as proxy:
        response = await proxy.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "store": "ok",
        "troubles": [],
        "usable_candidates": {"chat": 2, "other": 2},
    }


async def test_not_ready_without_a_usable_candidate():
    """503 as soon as one model has nobody left, and 200 when somebody is back."""
    async with serving({"primary": [], "backup": []}, more_models=["other"]) as proxy:
        await proxy.post("/admin/candidates/other/primary/disable")
        assert (await proxy.get("/readyz")).status_code == 200
        await proxy.post("/admin/candidates/other/backup/cool", seconds=60)
        response = await proxy.get("/readyz")
        await anyio.sleep(61)
        recovered = await proxy.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "store": "ok",
        "troubles": [],
        "usable_candidates": {"chat": 2, "other": 0},
    }
    # A candidate whose cooldown has ended is probed by the next run: it can be called.
    assert recovered.json()["usable_candidates"]["other"] == 1


async def test_ready_while_a_store_is_in_trouble():
    """200, since runs go on; which part is in trouble, why, since when and what goes on meanwhile is told in words."""
    state = MemoryState()
    async with serving({"primary": []}, state=state) as proxy:
        state.trouble, state.trouble_since = "standby.db cannot grow: the disk is full", EPOCH
        response = await proxy.get("/readyz")
        assert (await proxy.chat()).status_code == 200
        state.trouble = None
        recovered = await proxy.get("/readyz")
    assert response.status_code == 200
    assert response.json()["ready"] is True
    words = (
        f"The state is in trouble since {moment(EPOCH)}: standby.db cannot grow: the disk is full. Meanwhile runs go on "
        "by what is known here, and within this process's share of limits that are shared; what they learn waits in "
        "memory, and is told when that is possible."
    )
    trouble = {"part": "state", "why": "standby.db cannot grow: the disk is full", "since": EPOCH, "told": words}
    assert (response.json()["store"], response.json()["troubles"]) == (words, [trouble])
    assert (recovered.json()["store"], recovered.json()["troubles"]) == ("ok", [])


async def test_not_ready_in_trouble_without_a_usable_candidate():
    """503 all the same, with both reasons."""
    state = MemoryState()
    async with serving({"primary": []}, state=state) as proxy:
        state.trouble = "valkey://127.0.0.1:6379/0 cannot be reached"
        await proxy.post("/admin/candidates/primary/disable")
        response = await proxy.get("/readyz")
    assert (response.status_code, response.json()["usable_candidates"]) == (503, {"chat": 0})
    assert response.json()["store"].startswith("The state is in trouble: valkey://127.0.0.1:6379/0 cannot be reached.")
