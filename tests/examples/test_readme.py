"""The README shows what is: its code runs, its documents are valid, what it prints is printed."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from standby.demo._providers import ChatStream
from standby.demo.faults import FaultServer
from standby.runner import Request, open_gateway
from standby.store import parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
KEYS = {"OPENAI_API_KEY": "one", "ANTHROPIC_API_KEY": "two", "GEMINI_API_KEY": "three"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_library_in_ten_lines_has_ten_lines():
    """Counted as one counts: lines with something in them."""
    code, _ = blocks("python")
    ast.parse(code)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_the_library_in_ten_lines_uses_what_there_is():
    """What it imports can be imported."""
    code, _ = blocks("python")
    imports = [line for line in code.splitlines() if line.startswith(("import ", "from "))]
    exec("\n".join(imports), {})


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stream_in_three_lines(capsys):
    """It says what the provider says."""
    _, code = blocks("python")
    assert len(code.splitlines()) == 3
    names: dict[str, Any] = {"Request": Request}
    exec("async def use(gateway):\n" + textwrap.indent(code, "    "), names)
    async with FaultServer(ChatStream("Hello from the README.")) as server:
        candidate = {"id": "only", "provider": "fake", "model": "some-model"}
        provider = {"client": "openai", "base_url": f"{server.url}/v1"}
        document = {"version": 1, "providers": {"fake": provider}, "models": {"chat": {"candidates": [candidate]}}}
        async with open_gateway(document) as gateway:
            await names["use"](gateway)
    assert capsys.readouterr().out == "Hello from the README."


def test_the_curl_lines_ask_for_an_answer_and_for_a_stream():
    """Of the model that the document above them has."""
    console = "\n".join(block for block in blocks("console") if "curl" in block)
    asked = [json.loads(body) for body in re.findall(r"-d '(.+)'", console)]
    assert [(body["model"], body.get("stream", False)) for body in asked] == [("chat", False), ("chat", True)]


def test_the_smallest_gateway_is_valid():
    """Two providers, one model, and nothing else."""
    (document,) = blocks("yaml")
    assert set(parse(yaml.safe_load(document), environ=KEYS).models) == {"chat"}


def test_explain_prints_what_is_shown():
    """Word for word."""
    console = next(block for block in blocks("console") if "standby explain" in block)
    _, command, *printed = console.splitlines()
    environ = {**os.environ, **KEYS}
    arguments = shlex.split(command.removeprefix("$ standby "))
    code = "from standby.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, env=environ, check=True
    )
    assert done.stdout.splitlines() == printed


def test_every_link_leads_somewhere():
    """Inside the repository, that is."""
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_extra_and_command_is_listed():
    """And none that is not there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z]+)`", row.split("|")[1])}
    assert set(extras) <= named
    assert {"serve", "check", "schema", "explain", "demo"} <= set(
        re.findall(r"^\| `standby (\w+)", README, re.MULTILINE)
    )


def test_the_hooks_are_local():
    """They need no other host, and nothing but the project's own environment."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)
