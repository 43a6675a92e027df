"""The audit over HTTP: who did what, when and why, wherever the history is."""

import anyio
import pytest

from standby.proxy import Tools, create_app
from standby.runner import open_gateway
from standby.runner.testing import EPOCH, Fail
from standby.store import StoreError, read
from tests.proxy.conftest import asked_of, error_of, refused, serving

pytestmark = pytest.mark.anyio

TEXT = """
version: 1
store: {{url: "{url}", state_url: "{state_url}"}}
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{{model}: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""
HERE = "candidate:chat/primary"


async def audit(proxy, query=""):
    answer = await proxy.get(f"/admin/audit{query}")
    assert answer.status_code == 200
    return [tuple(line.values()) for line in answer.json()["audit"]]


async def test_what_an_operator_does():
    """All four words, each with who, when and why; the newest first."""
    async with serving({"primary": []}) as proxy:
        for action in ("disable", "enable", "cool", "restore"):
            await proxy.post(f"/admin/candidates/primary/{action}", by="ann", why="closed")
        found = await audit(proxy)
    assert found == [
        (EPOCH, "ann", "restore", HERE, ""),
        (EPOCH, "ann", "cool", HERE, "cooled by ann: closed"),
        (EPOCH, "ann", "enable", HERE, ""),
        (EPOCH, "ann", "disable", HERE, "closed"),
    ]


async def test_what_changes_nothing():
    """Is not in it."""
    async with serving({"primary": []}) as proxy:
        await proxy.post("/admin/candidates/primary/enable")
        assert await audit(proxy) == []


async def test_what_a_policy_disables():
    """The policy did it, and the reason is the rule's."""
    unpaid = Fail("insufficient_balance", "Pay first.", status=402, retryable=False)
    policy = {
        "failoverPolicy": {
            "allowCategories": ["insufficient_balance"],
            "actions": {"insufficient_balance": "disable_and_next"},
        }
    }
    async with serving({"primary": [unpaid], "backup": []}, policy=policy) as proxy:
        await proxy.chat()
        ((_, who, what, _, why),) = await audit(proxy)
    assert (who, what) == ("policy", "disable")
    assert "insufficient_balance" in why


async def test_part_by_part():
    """As many as are asked for, up to a time."""
    async with serving({"primary": []}) as proxy:
        for action in ("disable", "enable", "disable"):
            await proxy.post(f"/admin/candidates/primary/{action}")
        assert [line[2] for line in await audit(proxy, "?limit=2")] == ["disable", "enable"]
        assert await audit(proxy, f"?until={EPOCH - 0.5}") == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("until=now", "until"),
        ("until=nan", "until"),
        ("until=-inf", "until"),
    ],
)
async def test_a_question_that_makes_no_sense(query, named):
    """400, and what is wrong with it."""
    async with serving({"primary": []}) as proxy:
        assert refused(await proxy.get(f"/admin/audit?{query}")) == (400, "invalid_request", named)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["memory:", "sqlite", "sqlite, state in memory", "sqlite, state in another"])
async def test_wherever_the_history_is(kind, tmp_path):
    """The start, a reload by its author, and an operator's word are found in one place."""
    url = kind if kind == "memory:" else f"sqlite:///{tmp_path}/standby.db"
    other = {"sqlite, state in memory": "memory:", "sqlite, state in another": f"sqlite:///{tmp_path}/state.db"}
    path = tmp_path / "gateway.yaml"

    def write(model):
        path.write_text(TEXT.format(url=url, state_url=other.get(kind, url), model=model))

    write("chat")
    async with open_gateway(path) as gateway:

        async def reload(by, why):
            return await gateway.reload(read(path), by=by, why=why)

        async with asked_of(create_app(gateway.runner, tools=Tools(reload))) as http:
            write("other")
            await http.post("/admin/reload", json={"by": "ann", "why": "cheaper"})
            await http.post("/admin/candidates/primary/disable", json={"by": "bob"})
            lines = []
            with anyio.fail_after(20):
                while len(lines) < 3:  # a change of the state is written within a moment
                    lines = (await http.get("/admin/audit")).json()["audit"]
    assert [(line["who"], line["what"], line["target"], line["why"]) for line in lines] == [
        ("bob", "disable", "candidate:other/primary", ""),
        ("ann", "reload", "catalog:2", f"cheaper ({path})"),
        ("file", "reload", "catalog:1", f"at the start ({path})"),
    ]


async def test_an_audit_that_cannot_be_read():
    """503 with the store's own words."""
    async with serving({"primary": []}) as proxy:

        async def audit(limit, until):
            raise StoreError("standby.db is damaged; the audit cannot be read")

        proxy.runner.history.audit = audit
        response = await proxy.get("/admin/audit")
    assert refused(response) == (503, "store_unavailable", None)
    assert "standby.db is damaged" in error_of(response)["message"]
