"""Virtual time for simulations, on asyncio alone: what they are about is the runner, and other tests run it on trio."""

from __future__ import annotations

import gc
import logging

import pytest

from standby.runner.testing import VirtualLoop


@pytest.fixture
def anyio_backend():
    """An event loop whose time jumps."""
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """An outage of hours would be told line by line, and every line kept."""
    caplog.set_level(logging.CRITICAL, "standby")


@pytest.fixture(autouse=True)
def _only_what_is_new():
    """A hundred thousand runs make the collector look again and again at all that was there before them."""
    gc.freeze()
    yield
    gc.unfreeze()
