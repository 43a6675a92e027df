"""`standby serve --last-good` while the store is away, with real processes: it starts, says so, and goes over to it."""

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest

from standby.runner import open_gateway
from tests.proxy.test_workers import PATIENCE_SECONDS, document, started, written


def until(condition):
    """Waits for what other processes do."""
    by = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < by
        time.sleep(0.02)


def without_models(tmp_path):
    """A document that leaves its catalog to the same store."""
    raw = document(tmp_path)
    return written(tmp_path, {section: raw[section] for section in ("version", "server", "store")})


@pytest.fixture
def served_once(tmp_path):
    """A store that has a catalog, and a copy of it beside the document."""

    async def serve_once():
        async with open_gateway(document(tmp_path), last_good=tmp_path / "gateway.json.last-good.yaml"):
            pass

    asyncio.run(serve_once())


@pytest.fixture
def holder(tmp_path, served_once):
    """Holds the store, so that nobody else can use it."""
    with closing(sqlite3.connect(tmp_path / "standby.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_without_the_store(tmp_path, holder, workers):
    """The copy is served, `/readyz` tells the trouble and is ready; when the store is back there is none."""
    with started(without_models(tmp_path), "--workers", workers, "--last-good") as served:
        served.listens()
        status, told, _ = served.ask("/readyz")
        assert (status, told["usable_candidates"]) == (200, {"chat": 1})
        assert [trouble["part"] for trouble in told["troubles"]] == ["catalog", "state", "history"]
        assert "is locked by another process" in told["store"]
        assert "Meanwhile version 1 goes on being served" in told["store"]
        holder.execute("ROLLBACK")
        until(lambda: not served.ask("/readyz")[1]["troubles"])
        served.process.terminate()
        code, _ = served.ended()
    assert (code, "version 1 of its catalog is served from" in served.log) == (0, True)
