"""The arrows between the packages: proxy, lab, demo -> runner -> clients, store; nothing back; HTTP in one place."""

import ast
import importlib
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = ("runner", "clients", "store")
MAY_IMPORT = {
    "store": set(),
    "clients": set(),
    "runner": {"clients", "store"},
    "proxy": {"runner", "clients", "store"},
    "lab": {"runner", "clients", "store"},
    "demo": {"proxy", "runner", "clients", "store"},
    "cli": {"demo", "lab", "proxy", "runner", "clients", "store"},
}
HTTP_LIBRARIES = {"httpx", "httpx2", "httpx_aiohttp", "httpcore", "httpcore2", "aiohttp", "h11"}


def modules():
    for source_root in SOURCE_ROOTS:
        for path in sorted((ROOT / source_root / "standby").rglob("*.py")):
            yield path, path.relative_to(ROOT / source_root / "standby").parts[0].removesuffix(".py")


def imported(path):
    """Every module that a file imports, wherever in the file, with its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_package_has_its_place():
    """A new package is a decision about its arrows."""
    assert {package for _, package in modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_follow_the_arrows(package):
    """A package imports what is below it, and nothing above or beside it."""
    allowed = MAY_IMPORT[package] | {package}
    for path, its in modules():
        if its == package:
            for name in imported(path):
                if name.startswith("standby."):
                    assert name.split(".")[1] in allowed, f"{path} imports {name}"


def test_private_modules_stay_in_their_package():
    """What one package uses of another is public there."""
    for path, package in modules():
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "standby" and parts[1:2] != [package]:
                assert not any(part.startswith("_") for part in parts), f"{path} imports {name}"


def test_the_runner_knows_no_event_loop():
    """It runs on asyncio and on trio, under real and virtual time; only its fakes, timers and scopes name either."""
    for path, package in modules():
        if package == "runner" and path.name not in ("testing.py", "_timer.py", "_scope.py"):
            assert not {"asyncio", "trio"} & set(imported(path)), path


def test_only_the_http_files_import_an_http_library():
    """The transport is the only seam: everything else deals in values."""
    allowed = {"_http.py", "_exceptions.py"}
    for path, _ in modules():
        if path.name not in allowed:
            assert not HTTP_LIBRARIES & {name.split(".")[0] for name in imported(path)}, path


def test_standby_is_a_namespace():
    """An `__init__.py` in any of the roots would hide the other two."""
    assert not list(ROOT.glob("*/standby/__init__.py"))


@pytest.mark.parametrize("package", ["store", "clients", "runner"])
def test_importing_the_library_imports_nothing_that_is_only_used_later(package):
    """Who embeds the runner does not pay for the server, the stores, the tools, nor yet for what reads a document."""
    extras = {
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "aiohttp",
        "botocore",
        "prometheus_client",
        "rich",
        "typer",
        "redis",
    }
    later = {"httpx", "pydantic", "yaml", "importlib.metadata", "email.utils"}
    code = f"import sys, standby.{package}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not loaded & (extras | later)


@pytest.mark.parametrize("package", ["standby.store", "standby.clients"])
def test_what_is_imported_later_is_what_type_checkers_see(package):
    """Every public name can be had, from the module that it is said to come from; no other name can."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    said = {
        alias.name: f"{package}.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert set(said) == set(module.__all__)
    for name, where in said.items():
        assert getattr(module, name) is getattr(importlib.import_module(where), name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(module, "Nothing")  # noqa: B009 - for what it raises


def test_every_package_is_typed():
    """`py.typed` is beside each `__init__.py`."""
    for path, package in modules():
        if path.name == "__init__.py" and path.parent.name == package:
            assert (path.parent / "py.typed").exists(), path.parent


def test_the_lock_names_no_registry():
    """It holds versions and hashes; where packages come from is the machine's own affair."""
    lock = (ROOT / "requirements.lock").read_text()
    assert "--index-url" not in lock
    assert "://" not in lock


def test_the_lock_holds_what_the_project_asks_for():
    """Every dependency, extra and development package is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *chain(*project["project"]["optional-dependencies"].values())]
    asked += [item for group in project["dependency-groups"].values() for item in group if isinstance(item, str)]
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    for requirement in asked:
        name = requirement.split(";")[0]
        for separator in ("[", ">", "=", "<", "~"):
            name = name.split(separator)[0]
        if name.strip() != "standby":
            assert name.strip().lower() in locked, requirement
