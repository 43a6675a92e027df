"""Gateways in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from tests.bench.report import FOLDER
from tests.conftest import free_port

PEERS = FOLDER / "peers"
PORTKEY = FOLDER / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
PATIENCE_SECONDS = 120

_numbers = itertools.count()


class Served:
    """A gateway that answers.

    Attributes:
        url: Where.
        headers: What it must be told with every request.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, headers: Mapping[str, str] | None = None) -> None:
        self._process = psutil.Process(process.pid)
        self.url = url
        self.headers = headers

    def cpu_seconds(self) -> float:
        """The processor's time of all of its processes until now."""
        times = [each.cpu_times() for each in (self._process, *self._process.children(recursive=True))]
        return sum(each.user + each.system for each in times)


@contextlib.contextmanager
def served(command: Sequence[str]) -> Iterator[Served]:
    """A command that says ``listening on URL`` when it is ready, for as long as the block lasts."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), f"{command} says {line!r}"
        yield Served(process, line.removeprefix("listening on ").strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def standby(
    document: Mapping[str, Any], folder: Path, *, workers: int = 1
) -> contextlib.AbstractContextManager[Served]:
    """`standby serve`, with its state where several workers share it."""
    number = next(_numbers)
    store = {"state_url": f"sqlite:///{folder}/state{number}.db"}
    file = folder / f"gateway{number}.json"
    file.write_bytes(orjson.dumps({**document, "store": store, "server": {"port": 0, "workers": workers}}))
    return served([str(Path(sys.executable).with_name("standby")), "serve", str(file)])


def pass_through(url: str) -> contextlib.AbstractContextManager[Served]:
    """The bare libraries as a gateway."""
    return served([sys.executable, "-m", "tests.bench.pass_through", url])


@contextlib.contextmanager
def listening(command: Sequence[str], environment: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[Served]:
    """A command that is told its ``{port}``, once somebody listens there."""
    port = free_port()
    process = subprocess.Popen(
        [each.format(port=port) for each in command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert process.poll() is None, f"{command} has ended"
            assert time.monotonic() < until, f"{command} does not listen"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.2)
        yield Served(process, f"http://127.0.0.1:{port}", headers)
    finally:
        process.kill()
        process.wait()


def litellm_proxy(url: str, folder: Path, *, failing: bool = False) -> contextlib.AbstractContextManager[Served]:
    """LiteLLM's proxy; where its first deployment fails nobody is left out, so that each request goes the same way."""

    def deployment(name: str, path: str) -> dict[str, Any]:
        its = {"model": "openai/gpt-4o", "api_base": f"{url}{path}/v1", "api_key": "key"}
        return {"model_name": name, "litellm_params": its}

    file = folder / f"litellm{next(_numbers)}.yaml"
    document = {
        "model_list": [deployment("chat", "/down" if failing else ""), deployment("backup", "")],
        "router_settings": {"fallbacks": [{"chat": ["backup"]}], "num_retries": 0, "disable_cooldowns": True},
    }
    file.write_bytes(orjson.dumps(document))
    command = [str(PEERS / "bin" / "litellm"), "--host", "127.0.0.1", "--config", str(file), "--port={port}"]
    environment = {"LITELLM_MASTER_KEY": f"sk-{'0' * 64}", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return listening(command, environment, {"authorization": f"Bearer {environment['LITELLM_MASTER_KEY']}"})


def portkey(url: str, *, failing: bool = False) -> contextlib.AbstractContextManager[Served]:
    """Portkey's gateway, which is told with every request where to go."""
    targets = [
        {"provider": "openai", "api_key": "key", "custom_host": f"{url}{path}/v1"}
        for path in (("/down", "") if failing else ("",))
    ]
    config = {"strategy": {"mode": "fallback"}, "targets": targets}
    headers = {"x-portkey-config": orjson.dumps(config).decode()}
    return listening(["node", str(PORTKEY), "--headless", "--port={port}"], {"NODE_ENV": "production"}, headers)
