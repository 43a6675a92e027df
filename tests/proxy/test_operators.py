"""Who may use the admin API: whoever has its key; without one, whoever is at this machine."""

import pytest

from standby.proxy import Tools
from tests.proxy.conftest import error_of, refused, serving

pytestmark = pytest.mark.anyio

PATHS = [
    ("GET", "/metrics"),
    ("GET", "/admin/candidates"),
    ("POST", "/admin/candidates/primary/disable"),
    ("POST", "/admin/candidates/ghost/explode"),
    ("GET", "/admin/runs"),
    ("GET", "/admin/runs/ghost"),
    ("POST", "/admin/reload"),
    ("POST", "/admin/explain"),
]
ADMIN_KEY = "key-of-the-operator"
RIGHT = {"authorization": f"Bearer {ADMIN_KEY}"}
TOOLS = Tools(explain=dict)


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "written", [None, "Bearer wrong", "Bearer \xe9", f"Basic {ADMIN_KEY}", "Bearer key-of-a-caller"]
)
async def test_missing_or_wrong_admin_key(method, path, written):
    """401 at every path, on loopback too; a caller's key is none."""
    headers = {} if written is None else {"authorization": written.encode("latin-1")}
    server = {"admin_key": ADMIN_KEY, "keys": [{"name": "app", "key": "key-of-a-caller"}]}
    async with serving({"primary": []}, server=server, tools=TOOLS) as proxy:
        response = await proxy.http.request(method, path, headers=headers)
        assert refused(response) == (401, "invalid_api_key", None)
        candidates = (await proxy.get("/admin/candidates", **RIGHT)).json()["candidates"]
    assert [candidate["status"] for candidate in candidates] == ["usable"]


@pytest.mark.parametrize("address", ["127.0.0.1", "203.0.113.9"])
async def test_right_admin_key(address):
    """Whoever has the key is an operator, wherever they are and whatever forwards for them."""
    headers = {**RIGHT, "x-forwarded-for": "203.0.113.9", "host": "gateway.example", "origin": "https://ui.example"}
    async with serving({"primary": []}, server={"admin_key": ADMIN_KEY}, client_address=address) as proxy:
        assert (await proxy.get("/admin/candidates", **headers)).status_code == 200


async def test_admin_key_is_no_callers_key():
    """It opens the admin API, and nothing else."""
    server = {"admin_key": ADMIN_KEY, "keys": [{"name": "app", "key": "key-of-a-caller"}]}
    async with serving({"primary": []}, server=server) as proxy:
        assert refused(await proxy.chat(RIGHT)) == (401, "invalid_api_key", None)


async def is_operator(address="127.0.0.1", method="GET", **headers):
    """Whether a server without an admin key takes such a request for an operator's."""
    async with serving({"primary": []}, client_address=address) as proxy:
        path = "/admin/candidates" if method == "GET" else "/admin/candidates/primary/disable"
        response = await proxy.http.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})
    if response.status_code != 200:
        assert refused(response) == (403, "loopback_only", None)
        assert error_of(response)["type"] == "permission_error"
    return response.status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "answered"),
    [
        ("127.0.0.1:8080", None, True),
        ("gateway.example", None, True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("localhost:8080", "http://localhost:3000", True),
        ("127.0.0.1:8080", "https://evil.example", False),
        ("evil.example", "http://evil.example", False),
        ("127.0.0.1:8080", "null", False),
    ],
)
async def test_no_page_of_another_site_may_call(host, origin, answered):
    """Without callers' keys whoever is on this machine may call, but what a browser here was told by somebody else."""
    headers = {"host": host, **({} if origin is None else {"origin": origin})}
    async with serving({"primary": []}) as proxy:
        response = await proxy.chat(headers)
        assert proxy.calls() == {"primary": int(answered)}
    assert (response.status_code == 200) is answered
    if not answered:
        assert refused(response) == (403, "loopback_only", None)


async def test_with_a_key_any_page_may_call():
    """Whoever has the key was given it."""
    server = {"keys": [{"name": "app", "key": "key-of-a-caller"}]}
    async with serving({"primary": []}, server=server) as proxy:
        headers = {"authorization": "Bearer key-of-a-caller", "origin": "https://ui.example"}
        assert (await proxy.chat(headers)).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_loopback_address(address):
    """Without an admin key, whoever asks from this machine's loopback is an operator."""
    assert await is_operator(address)


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "::2", "::ffff:10.0.0.1", "unix", ""])
async def test_other_address(address):
    """Nobody else is."""
    assert not await is_operator(address)


@pytest.mark.parametrize(
    "header",
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "cf-connecting-ip"],
)
async def test_forwarded_request(header):
    """A proxy on this machine forwards for others, even if it says that it is for this one."""
    assert not await is_operator(**{header: "127.0.0.1"})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"])
async def test_host_that_names_loopback(host):
    """The address in the request is this machine's, under any of its names."""
    assert await is_operator(host=host)


@pytest.mark.parametrize(
    "host",
    [
        "gateway.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "localhost:8080@evil.example",
        "evil.example:80/localhost",
        "localhost/",
        "::1",
        "[::1",
        "",
        " ",
        "\xff",
    ],
)
async def test_host_that_names_something_else(host):
    """A name that resolves to loopback is how a page in a browser reaches what it must not."""
    assert not await is_operator(host=host.encode("latin-1"))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://localhost:8080"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_another_sites_page(method, headers):
    """A browser lets any page post here; it tells whose page it was, and that decides."""
    assert not await is_operator(method=method, host="127.0.0.1:8080", **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
async def test_own_page(headers):
    """A page that came from this server, or an address that a person typed, is the operator's."""
    assert await is_operator(method="POST", host="127.0.0.1:8080", **headers)


async def test_calls_do_not_need_loopback():
    """The rule is the admin API's; callers are let in by their keys."""
    async with serving({"primary": []}, client_address="203.0.113.9") as proxy:
        assert (await proxy.chat({"host": "gateway.example", "x-forwarded-for": "198.51.100.7"})).status_code == 200
