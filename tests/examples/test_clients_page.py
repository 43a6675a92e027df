"""`docs/clients.md` shows what is: its code runs, and every client is in its table."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from standby.clients import ClientError, ProviderClient, Request
from standby.store import Provider

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/clients.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def names_of(number, **given):
    names = dict(given)
    exec(blocks("python")[number], names)
    return names


def test_every_client_is_in_the_table():
    """And no other."""
    table = re.search(r"\| `client` \|.*?\n\n", PAGE, re.DOTALL).group()
    first = [row.split("|")[1] for row in table.splitlines()[2:] if row]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == {
        entry.name for entry in entry_points(group="standby.clients")
    }


def test_tokens():
    """Both makers make a client that asks for a token."""
    clients = names_of(0, entra_token=lambda: "one", google_token=lambda: "two")["clients"]
    entra = clients["entra"](Provider(client="entra", base_url="https://our-resource.openai.azure.com"))
    vertex = clients["vertex"](Provider(client="vertex", project="p", location="global"))
    assert "our-resource" in repr(entra)
    assert "aiplatform" in repr(vertex)


def test_an_sdks_client():
    """It is adapted."""
    assert repr(names_of(1)["clients"]["our_sdk"](None)) == "adapt(AsyncOpenAI)"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_client_of_your_own():
    """It is one, and says what failed."""
    client = names_of(2)["MyClient"]()
    assert isinstance(client, ProviderClient)
    with pytest.raises(ClientError, match="nobody is at home"):
        await client.send(Request("m", {}))


def test_a_client_in_a_package():
    """Its entry point is that of the example."""
    (shown,) = blocks("toml")
    example = tomllib.loads((ROOT / "examples/apology/pyproject.toml").read_text())
    assert tomllib.loads(shown)["project"]["entry-points"] == example["project"]["entry-points"]


def test_sound():
    """The form is one."""
    request = names_of(3)["request"]
    assert request.body.data == {"model": "ears"}
    assert b"RIFF" in request.body.with_model("whisper")
