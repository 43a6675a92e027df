"""What the admin API borrows from the server that embeds it: reloading and explaining."""

import pytest

from standby.proxy import Tools
from standby.runner import open_gateway
from standby.store import Finding, InvalidConfig, StoreError, parse, read
from tests.proxy.conftest import document, error_of, refused, serving

pytestmark = pytest.mark.anyio

CONFIG = """
version: 1
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{{model}: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""


@pytest.mark.parametrize("path", ["/admin/reload", "/admin/explain"])
async def test_tool_that_is_missing(path):
    """501 where the embedding server lends none."""
    async with serving({"primary": []}) as proxy:
        assert refused(await proxy.post(path)) == (501, "not_supported_yet", None)


async def test_reload():
    """The new document serves from the next request on; its version is the answer."""
    async with serving({"primary": []}) as proxy:
        new = parse(document(["primary"], more_models=["other"]), clients=["primary"])

        async def reload(by, why):
            return proxy.runner.catalog.replace(new.snapshot()).version

        async with serving({"primary": []}, tools=Tools(reload=reload)) as operated:
            assert (await proxy.chat(model="other")).status_code == 404
            response = await operated.post("/admin/reload")
            assert (await proxy.chat(model="other")).status_code == 200
    assert response.json() == {"version": 2}


async def test_reload_of_a_wrong_document():
    """400 with everything that is wrong, and the old version goes on."""

    async def reload(by, why):
        findings = [Finding("models.chat", "", "is wrong"), Finding("server.port", "'x'", "must be a number")]
        raise InvalidConfig(findings, "gateway.yaml")

    async with serving({"primary": []}, tools=Tools(reload=reload)) as proxy:
        response = await proxy.post("/admin/reload")
        assert (await proxy.chat()).status_code == 200
    assert refused(response) == (400, "invalid_config", None)
    message = error_of(response)["message"]
    assert message.startswith(
        "The old version goes on. gateway.yaml: 2 errors\n  models.chat: is wrong\n  server.port: "
    )


async def test_reload_without_the_store():
    """503 where the new version cannot be kept."""

    async def reload(by, why):
        raise StoreError("standby.db is read-only")

    async with serving({"primary": []}, tools=Tools(reload=reload)) as proxy:
        response = await proxy.post("/admin/reload")
    assert refused(response) == (503, "store_unavailable", None)
    assert "standby.db is read-only" in error_of(response)["message"]


async def test_explain():
    """The question goes to the tool as it was asked, and the answer comes back as it was given."""
    asked = []

    def explain(question):
        asked.append(question)
        return {"failover": {"action": "next"}}

    async with serving({"primary": []}, tools=Tools(explain=explain)) as proxy:
        response = await proxy.post("/admin/explain", model="chat", status=429)
        nothing = await proxy.http.post("/admin/explain")
    assert response.json() == nothing.json() == {"failover": {"action": "next"}}
    assert asked == [{"model": "chat", "status": 429}, {}]


async def test_explain_what_makes_no_sense():
    """400 in the tool's own words."""

    def explain(question):
        raise ValueError("no model is named 'ghost'")

    async with serving({"primary": []}, tools=Tools(explain=explain)) as proxy:
        response = await proxy.post("/admin/explain", model="ghost")
    assert refused(response) == (400, "invalid_request", None)
    assert error_of(response)["message"].startswith("no model is named 'ghost'. (run ")


async def test_explain_without_json():
    """400 before the tool is asked."""
    async with serving({"primary": []}, tools=Tools(explain=dict)) as proxy:
        response = await proxy.http.post("/admin/explain", content=b"{")
    assert refused(response) == (400, "invalid_json", None)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_reload_of_a_gateway(tmp_path):
    """What `serve` lends: the file is read anew, and a wrong one changes nothing."""
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(model="chat"))
    async with open_gateway(path) as gateway:
        path.write_text(CONFIG.format(model="other"))
        assert await gateway.reload(read(path)) == 2
        assert await gateway.reload(read(path)) == 2, "what says the same makes no version"
        path.write_text("version: 1\nmodel: {}\n")
        with pytest.raises(InvalidConfig, match="models"):
            await gateway.reload(read(path))
        assert list(gateway.runner.catalog.snapshot().models) == ["other"]


async def test_reload_in_somebodys_name():
    """Who asks and why go to the audit: the operator where nobody is named."""
    asked = []

    async def reload(by, why):
        asked.append((by, why))
        return 2

    async with serving({"primary": []}, tools=Tools(reload=reload)) as proxy:
        await proxy.post("/admin/reload", by="ann", why="cheaper")
        await proxy.http.post("/admin/reload")
        response = await proxy.post("/admin/reload", who="ann")
    assert asked == [("ann", "cheaper"), ("operator", "")]
    assert refused(response) == (400, "invalid_request", "who")
