"""`standby serve` before it serves: what it binds, and what it refuses to."""

import asyncio
import socket

import pytest
from pydantic import SecretStr

from standby.proxy import CannotListen, address_of, bound_socket, serve
from standby.store import CallerKey, InvalidConfig, ServerSettings, StoreError, StoreSettings, unfit_to_serve

CONFIG = """
version: 1
server: {{host: "{host}", port: {port}, keys: {keys}}}
store: {{url: "sqlite:///{folder}/standby.db"}}
providers: {{a: {{client: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models: {{chat: {{candidates: [{{id: primary, provider: a, model: m}}]}}}}
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def config(tmp_path):
    """Writes a configuration file."""

    def written(host="127.0.0.1", port=0, keys="[]", text=CONFIG):
        path = tmp_path / "gateway.yaml"
        path.write_text(text.format(host=host, port=port, keys=keys, folder=tmp_path))
        return path

    return written


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# -- the address


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")])
def test_free_port(host, address):
    """Port 0 picks a free one, at which a connection is accepted."""
    with bound_socket(host, 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening) == f"http://{address}:{port}"
        socket.create_connection((address, port), timeout=10).close()


@pytest.mark.anyio
async def test_answers_are_sent_at_once():
    """No answer waits for the caller to confirm the part before it: that takes 40 ms."""
    accepted = asyncio.Queue()
    with bound_socket("127.0.0.1", 0) as listening:
        async with await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), sock=listening):
            _, caller = await asyncio.open_connection(*listening.getsockname())
            _, server = await accepted.get()
            connection = server.get_extra_info("socket")
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (caller, server):
                writer.close()
                await writer.wait_closed()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_address_of_version_6(host):
    """It is bound with or without brackets, and told with them."""
    with bound_socket(host, 0) as listening:
        assert address_of(listening) == f"http://[::1]:{listening.getsockname()[1]}"


def test_taken_port(taken):
    """The message names the address and what is wrong with it."""
    with pytest.raises(CannotListen, match=rf"cannot listen on 127\.0\.0\.1 port {taken}: Address already in use"):
        bound_socket("127.0.0.1", taken)


def test_port_that_is_bound_twice():
    """A second server is refused before it says that it listens, however soon after the first it comes."""
    with (
        bound_socket("127.0.0.1", 0) as first,
        pytest.raises(CannotListen, match="Address already in use"),
    ):
        bound_socket("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("203.0.113.1", 0),
        ("127.0.0.1", 70_000),
        ("127.0.0.1", -1),
        ("no such host.invalid", 0),
        ("a..b", 0),
        ("::g", 0),
    ],
)
def test_address_that_cannot_be_bound(host, port):
    """Whatever is wrong with it, it is said in one way."""
    with pytest.raises(CannotListen, match=f"cannot listen on {host} port {port}: ."):
        bound_socket(host, port)


# -- open doors


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example", ""])
def test_no_keys_and_not_loopback(host):
    """Without callers' keys, the world is not answered; the message says what to do."""
    (finding,) = unfit_to_serve(ServerSettings.model_construct(host=host, keys=[]), StoreSettings())
    assert finding.path == "server.host"
    assert finding.message.startswith("without server.keys the server answers on loopback only; give keys")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LocalHost", "::1", "[::1]"])
def test_no_keys_and_loopback(host):
    """On loopback nobody needs a key."""
    assert unfit_to_serve(ServerSettings(host=host), StoreSettings()) == []


def test_keys_and_not_loopback():
    """With keys the server listens wherever it is told to."""
    keys = [CallerKey(name="app", key=SecretStr("key-of-the-app"))]
    assert unfit_to_serve(ServerSettings(host="0.0.0.0", keys=keys), StoreSettings()) == []


# -- serve


async def refusing(config, **options):
    """Serve what must be refused; a server that was not would go on for ever."""
    async with asyncio.timeout(20):
        await serve(config, **options)


@pytest.mark.anyio
async def test_wrong_document(config):
    """A document that is wrong is refused with everything that is wrong."""
    path = config(text="version: 1\nmodle: {{}}\nserver: {{port: x}}\n")
    with pytest.raises(InvalidConfig, match=r"(?s)modle.*server\.port|server\.port.*modle"):
        await refusing(path)


@pytest.mark.anyio
async def test_missing_document(tmp_path):
    """So is one that is not there."""
    with pytest.raises(InvalidConfig, match="no-such-file"):
        await refusing(tmp_path / "no-such-file.yaml")


@pytest.mark.anyio
async def test_document_that_opens_the_door(config):
    """Neither the document nor an option may open the door to everybody."""
    with pytest.raises(InvalidConfig, match=r"server\.host"):
        await refusing(config(host="0.0.0.0"))
    with pytest.raises(InvalidConfig, match=r"server\.host: without server\.keys.*'0\.0\.0\.0'"):
        await refusing(config(), host="0.0.0.0")


@pytest.mark.anyio
async def test_taken_port_leaves_the_store_alone(config, taken, tmp_path):
    """A second server that is started by mistake does not put its document into the store of the first."""
    with pytest.raises(CannotListen, match=str(taken)):
        await refusing(config(port=taken))
    with pytest.raises(CannotListen, match=str(taken)):
        await refusing(config(), port=taken)
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.yaml"]


@pytest.mark.anyio
async def test_store_that_cannot_be_opened(config, tmp_path):
    """The store's own error, and the port is free again."""
    (tmp_path / "standby.db").write_text("not a database, and long enough to be sure of it" * 20)
    said = []
    with pytest.raises(StoreError, match=r"standby\.db"):
        await refusing(config(), say=said.append)
    assert said == []
