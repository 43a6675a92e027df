"""What is known: candidates and policies, run-time state, and the history of runs."""

from typing import TYPE_CHECKING

from ._audit import Audit, Audited, reloaded
from ._clients import CLIENTS, KnownClients
from ._errors import MissingExtra, StoreError
from ._findings import Finding, InvalidConfig
from ._memory import MemoryCatalog, MemoryHistory, MemoryState
from ._protocols import Catalog, History, Snapshot, State
from ._shared_limits import Asked, Full, Grant, SharedLimits
from ._standing import Cool, Demote, Disable, Effect, Enable, Failed, Restore, Standing, Succeeded
from ._words import CATEGORIES, DEFAULT_SCOPES, Action, Category, PriorityClass, Scope

if TYPE_CHECKING:
    from ._config import literal_secrets, load, parse, read
    from ._document import CallerKey, Document, ServerSettings, StoreSettings, unfit_to_serve
    from ._effective import EffectivePolicies, effective_policies
    from ._models import (
        BUILT_IN_RUNNER_POLICIES,
        BUILT_IN_RUNTIME_POLICIES,
        AttemptTimeouts,
        Backoff,
        Candidate,
        Commit,
        FailoverPolicy,
        HardStopPolicy,
        Hedge,
        Model,
        ModelTimeouts,
        PriorityDemotePolicy,
        Queue,
        RateLimitPolicy,
        RetryBudget,
        RetryPolicy,
        RunnerPolicy,
        RuntimePolicy,
        RuntimePolicyOverride,
        overlaid,
    )
    from ._providers import Provider, ProviderKey, ProviderTimeouts
    from ._schema import schema
    from ._texts import is_http_address, is_loopback

__all__ = [
    "BUILT_IN_RUNNER_POLICIES",
    "BUILT_IN_RUNTIME_POLICIES",
    "CATEGORIES",
    "CLIENTS",
    "DEFAULT_SCOPES",
    "Action",
    "Asked",
    "AttemptTimeouts",
    "Audit",
    "Audited",
    "Backoff",
    "CallerKey",
    "Candidate",
    "Catalog",
    "Category",
    "Commit",
    "Cool",
    "Demote",
    "Disable",
    "Document",
    "Effect",
    "EffectivePolicies",
    "Enable",
    "Failed",
    "FailoverPolicy",
    "KnownClients",
    "Finding",
    "Full",
    "Grant",
    "HardStopPolicy",
    "Hedge",
    "History",
    "InvalidConfig",
    "MemoryCatalog",
    "MemoryHistory",
    "MemoryState",
    "MissingExtra",
    "Model",
    "ModelTimeouts",
    "PriorityClass",
    "PriorityDemotePolicy",
    "Provider",
    "ProviderKey",
    "ProviderTimeouts",
    "Queue",
    "RateLimitPolicy",
    "Restore",
    "RetryBudget",
    "RetryPolicy",
    "RunnerPolicy",
    "RuntimePolicy",
    "RuntimePolicyOverride",
    "Scope",
    "ServerSettings",
    "SharedLimits",
    "Snapshot",
    "Standing",
    "State",
    "StoreError",
    "StoreSettings",
    "Succeeded",
    "effective_policies",
    "is_http_address",
    "is_loopback",
    "literal_secrets",
    "load",
    "overlaid",
    "parse",
    "read",
    "reloaded",
    "schema",
    "unfit_to_serve",
]

_OF_DOCUMENTS = {
    "_config": ("literal_secrets", "load", "parse", "read"),
    "_document": ("CallerKey", "Document", "ServerSettings", "StoreSettings", "unfit_to_serve"),
    "_effective": ("EffectivePolicies", "effective_policies"),
    "_providers": ("Provider", "ProviderKey", "ProviderTimeouts"),
    "_schema": ("schema",),
    "_texts": ("is_http_address", "is_loopback"),
}


def __getattr__(name: str) -> object:
    """Import what pydantic is needed for when it is first asked for: that takes longer than all the rest together."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    module = next((module for module, names in _OF_DOCUMENTS.items() if name in names), "_models")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
