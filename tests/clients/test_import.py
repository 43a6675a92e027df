"""What is imported when."""

import subprocess
import sys

import pytest

import standby.clients


def test_http_is_imported_when_it_is_needed():
    """Commands that only explain start without an HTTP library."""
    code = "import sys, standby.clients; assert not {'httpx', 'aiohttp', 'anyio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", standby.clients.__all__)
def test_public_names(name):
    """Every public name is there."""
    assert getattr(standby.clients, name) is not None


def test_unknown_name():
    """And no other."""
    with pytest.raises(AttributeError, match="nothing_like_it"):
        standby.clients.nothing_like_it  # noqa: B018 - the point of the test
