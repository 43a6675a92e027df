"""The configuration document as a whole, and what is in it beside providers, policies and models."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from ._findings import Finding
from ._models import (
    BUILT_IN_RUNNER_POLICIES,
    BUILT_IN_RUNTIME_POLICIES,
    Model,
    RateLimitPolicy,
    RunnerPolicy,
    RuntimePolicy,
    Section,
)
from ._protocols import Snapshot
from ._providers import Provider
from ._texts import Id, Key, Name, StoreUrl, is_loopback
from ._words import PriorityClass

_SQLITE = "sqlite:///"


def _one(value: Any) -> Any:
    # To pydantic True and 1.0 are the literal 1 as well.
    if isinstance(value, bool | float):
        raise PydanticCustomError("version", "must be 1")
    return value


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


def _all_is_none(value: Any) -> Any:
    # Null is refused: a list whose items are commented out must not come to mean every model.
    if value == "all":
        return None
    if not isinstance(value, list):
        raise PydanticCustomError("models", "must be a list of model names, or `all`")
    return value  # pyright: ignore[reportUnknownVariableType]


def _is_sqlite(url: str) -> bool:
    path = url.removeprefix(_SQLITE)
    return url.startswith(_SQLITE) and path.isprintable() and path not in {"", ":memory:"} and not set(path) & set("?#")


def _is_postgresql(url: str) -> bool:
    if not url.isprintable() or not url.startswith("postgresql://"):
        return False
    try:
        parts = urlsplit(url)
        return len(parts.path) > 1 and parts.port != 0
    except ValueError:
        return False


def _is_valkey(url: str) -> bool:
    """Whether it is an address that the client library takes; it takes more, and stumbles over the rest."""
    if not url.isprintable() or set(url) & set(" ?#"):
        return False
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in _VALKEY_SCHEMES
            and bool(parts.hostname)
            and parts.port != 0
            and _DATABASE.fullmatch(parts.path) is not None
        )
    except ValueError:  # a port that is no number, a password with a slash in it
        return False


def _store_url(written: StoreUrl) -> StoreUrl:
    if written != "memory:" and not _is_sqlite(written) and not _is_postgresql(written):
        raise PydanticCustomError(
            "ill_formed",
            "must be memory:, sqlite:///PATH without ? and #, or postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    return written


def _state_url(written: StoreUrl) -> StoreUrl:
    if _is_valkey(written):
        return written
    if written != "memory:" and not _is_sqlite(written) and not _is_postgresql(written):
        raise PydanticCustomError(
            "ill_formed",
            "must be memory:, valkey://HOST:PORT/DB, redis://…, or one of the forms of store.url; "
            "in a password, / ? # and @ are written %2F %3F %23 %40",
        )
    return written


_VALKEY_SCHEMES = frozenset({"valkey", "valkeys", "redis", "rediss"})
_DATABASE = re.compile(r"/?|/[0-9]{1,4}")
_URL_SCHEMA: JsonDict = {"pattern": r"^(memory:|sqlite:///[^?#]+|postgresql://.+/.+)$"}
_STATE_URL_SCHEMA: JsonDict = {"pattern": r"^(memory:|sqlite:///[^?#]+|postgresql://.+/.+|(valkey|redis)s?://[^/].*)$"}
Bytes = Annotated[int, Field(gt=0)]
CallerModels = Annotated[
    list[str] | None,
    Field(min_length=1),
    BeforeValidator(_all_is_none, json_schema_input_type=Annotated[list[str], Field(min_length=1)] | Literal["all"]),
]


class CallerKey(Section):
    """One caller's key: who it is, which models it may use, and how much."""

    name: Name
    """Who calls with it; unique, and shown in records."""
    key: Key
    """Secret; sent as `authorization: Bearer KEY`. Best written as `${NAME}`."""
    models: CallerModels = None
    """The models it may use, by name; `all` where left out."""
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    """What it may use of them; without limit where left out."""

    priority: PriorityClass = "normal"
    """Who goes first where runs wait for local capacity; who waits long enough goes before anybody."""

    def may_use(self, model: str) -> bool:
        """Whether this caller may ask for ``model``."""
        return self.models is None or model in self.models


class ServerSettings(Section):
    """What `standby serve` listens on, and whom it answers."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to bind; a loopback address where no `keys` are given."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 picks a free port and prints it."""
    workers: Annotated[int, Field(ge=1)] = 1
    """How many processes answer on the port; more than one share their state through a store that is not `memory:`."""
    keys: list[CallerKey] = Field(default_factory=list[CallerKey])
    """Callers' keys; without any, everybody on this machine may call, and no page of another site's."""
    admin_key: Annotated[Key | None, BeforeValidator(_empty_is_none)] = None
    """Secret. The admin API's key; empty or left out, that API answers on loopback only."""
    max_body_bytes: Annotated[Bytes, Field(alias="maxBodyBytes")] = 10 * 1024 * 1024
    """A request with a larger body is refused with 413."""

    model_config = ConfigDict(populate_by_name=True)


class StoreSettings(Section):
    """Where the catalog, the history and the run-time state are kept."""

    url: Annotated[StoreUrl, AfterValidator(_store_url), Field(json_schema_extra=_URL_SCHEMA)] = StoreUrl("memory:")
    """Catalog and history: `memory:`, `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`."""
    state_url: Annotated[StoreUrl, AfterValidator(_state_url), Field(json_schema_extra=_STATE_URL_SCHEMA)] = Field(
        default_factory=lambda settings: settings.get("url", StoreUrl("memory:"))
    )
    """Run-time state, of the same forms, `valkey://HOST:PORT/DB` or `redis://`; the same as `url` where left out."""
    state_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "standby"
    """What every key in Valkey begins with: two gateways that share a server have their own."""


CATALOG_SECTIONS: Final = ("providers", "runner_policies", "runtime_policies", "models")
"""What the catalog is made of; a document has all of it, or none."""


def _of_a_whole_catalog_or_none(written: JsonDict) -> None:
    written["dependentRequired"] = {section: ["models"] for section in CATALOG_SECTIONS[:-1]}
    kept: JsonDict = {"required": ["url"], "properties": {"url": {"not": {"const": "memory:"}}}}
    written["anyOf"] = [{"required": ["models"]}, {"required": ["store"], "properties": {"store": kept}}]


class Document(Section):
    """The configuration of one gateway."""

    version: Annotated[Literal[1], BeforeValidator(_one)]
    """The version of this form."""
    server: ServerSettings = ServerSettings()
    """Read by `standby serve` only."""
    store: StoreSettings = StoreSettings()
    """Where the catalog, the history and the run-time state are kept."""
    providers: dict[Id, Provider] = Field(default_factory=dict[str, Provider])
    """Where calls are sent, by name."""
    runner_policies: dict[Name, RunnerPolicy] = Field(default_factory=dict[str, RunnerPolicy])
    """The gateway-wide policies, by name; `recommended` and `bare` are built in."""
    runtime_policies: dict[Name, RuntimePolicy] = Field(default_factory=dict[str, RuntimePolicy])
    """The per-candidate policy sets, by name; `recommended` and `bare` are built in."""
    models: Annotated[dict[Name, Model], Field(min_length=1)] = Field(default_factory=dict[str, Model])
    """What callers ask for, by name. Left out, with providers and policies, all of these are taken from `store.url`."""

    model_config = ConfigDict(json_schema_extra=_of_a_whole_catalog_or_none)

    def snapshot(self, version: int = 1) -> Snapshot:
        """The catalog that this document describes, the built-in policies under the operator's."""
        return Snapshot(
            version=version,
            models=MappingProxyType(self.models),
            providers=MappingProxyType(self.providers),
            runner_policies=MappingProxyType({**BUILT_IN_RUNNER_POLICIES, **self.runner_policies}),
            runtime_policies=MappingProxyType({**BUILT_IN_RUNTIME_POLICIES, **self.runtime_policies}),
        )


def unfit_to_serve(server: ServerSettings, store: StoreSettings) -> list[Finding]:
    """What is wrong with a document that is to be served, though a program that embeds the runner may use it."""
    findings: list[Finding] = []
    if not server.keys and not is_loopback(server.host):
        message = "without server.keys the server answers on loopback only; give keys, or a loopback address"
        findings.append(Finding(path="server.host", found=repr(server.host), message=message))
    if server.workers > 1 and store.state_url == "memory:":
        # Each would learn on its own that a provider is down.
        message = (
            f"{server.workers} workers must share their run-time state: name valkey://HOST:PORT/DB, sqlite:///PATH or "
            "postgresql://… here or in store.url, or serve with one worker"
        )
        findings.append(Finding(path="store.state_url", found="memory:", message=message))
    return findings
