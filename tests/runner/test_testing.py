"""The fakes that users test with."""

import re
from pathlib import Path

import anyio
import pytest

from standby.clients import ClientError, ProviderClient, Request, StreamingClient
from standby.runner import testing
from standby.runner.testing import EPOCH, Fail, FaultScript, ScriptedClient, Slow, VirtualClock, answer

pytestmark = pytest.mark.anyio

ASKED = Request("m", {"messages": []})
DOWN = Fail("server_error", "down", status=500, retryable=True)
PAGE = Path(__file__).parents[2] / "docs/testing.md"


def test_a_scripted_client_is_a_client():
    """It has all that the runner asks of one."""
    assert isinstance(ScriptedClient(), ProviderClient)
    assert isinstance(ScriptedClient(), StreamingClient)


async def test_a_fault_script_goes_by_the_time():
    """Each phase lasts until the next begins; before the first all is well."""
    client = ScriptedClient(FaultScript((60, DOWN), (120, Slow(5, answer("slow"))), (180, answer("well"))))
    assert (await client.send(ASKED)).data["choices"][0]["message"]["content"] == "ok"
    await anyio.sleep(60)
    with pytest.raises(ClientError, match="down"):
        await client.send(ASKED)
    await anyio.sleep(60)
    before = anyio.current_time()
    await client.send(ASKED)
    assert anyio.current_time() - before == 5
    await anyio.sleep(60)
    assert (await client.send(ASKED)).data["choices"][0]["message"]["content"] == "well"


async def test_a_phase_may_be_a_function_of_the_request():
    """It is asked for each call."""
    client = ScriptedClient(FaultScript((0, lambda request: answer(request.model))))
    assert (await client.send(ASKED)).data["choices"][0]["message"]["content"] == "m"


def test_phases_are_in_the_order_of_time():
    """A script that goes back in time is a mistake of its writer."""
    with pytest.raises(ValueError, match="order of time"):
        FaultScript((60, DOWN), (10, None))


async def test_a_virtual_clock_follows_the_loop():
    """From `EPOCH` on, and at the pace of the loop's sleeps."""
    clock = VirtualClock()
    began = clock.epoch()
    await anyio.sleep(3600)
    assert (clock.epoch() - began, clock.epoch() - clock.steady()) == (3600, EPOCH)


def test_every_fake_is_in_the_page():
    """`docs/testing.md` tells of each."""
    page = PAGE.read_text()
    assert [name for name in testing.__all__ if not re.search(rf"\b{name}\b", page)] == ["Outcome"]
