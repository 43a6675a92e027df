from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest


@pytest.fixture
def eventually():
    """Waits until a condition holds, for as long as a slow machine may need."""

    async def wait(condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():  # noqa: ASYNC110 - what is waited for is in a file
                await anyio.sleep(0.005)

    return wait


@pytest.fixture
def sql_url(kind, request, tmp_path) -> str:
    """An empty database of the kind that is asked for."""
    if kind[0].startswith("postgresql"):
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path}/standby.db"
