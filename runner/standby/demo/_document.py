"""The configuration of the demonstration: an ordinary document, such as `standby serve` reads from a file."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ._providers import BACKUP, CHAT_MODEL, VENDORS

KEY_VARIABLE: Final = "STANDBY_DEMO_KEY"

RUNNER_POLICY: Final[Mapping[str, Any]] = {
    "failoverPolicy": {
        "allowCategories": [
            *("rate_limit", "timeout", "network", "stream_error"),
            *("provider_5xx", "provider_overloaded", "auth_error"),
        ],
        "actions": {
            "rate_limit": "cooldown_and_next",
            "provider_overloaded": "cooldown_and_next",
            "auth_error": "cooldown_and_next",
        },
        "cooldownSeconds": 2,
        "maxCooldownSeconds": 60,
        "ejectAfter": 3,
    },
    "priorityDemotePolicy": {
        "enabled": True,
        "categories": ["timeout", "provider_5xx"],
        "demoteStep": 100,
        "restoreSeconds": 4,
    },
}

RUNTIME_POLICIES: Final[Mapping[str, Any]] = {
    "usual": {
        "retryPolicy": {
            "maxAttempts": 2,
            "denyCategories": ["rate_limit", "timeout", "stream_error", "provider_overloaded"],
            "backoff": {"initialSeconds": 0.05, "maxSeconds": 1},
        },
        "timeouts": {"attemptSeconds": 20},
    },
    # For a provider that is known to hang: short clocks, and no more than four calls that may wait for it at once.
    "impatient": {
        "retryPolicy": {
            "maxAttempts": 2,
            "denyCategories": ["timeout", "stream_error"],
            "backoff": {"initialSeconds": 0.05},
        },
        "rateLimitPolicy": {"concurrency": 4},
        "timeouts": {"attemptSeconds": 1, "firstTokenSeconds": 0.8},
    },
}

KEY_COOLDOWN_SECONDS: Final = 60
"""How long a credential is left out that was refused: a key does not get well by itself."""


def document(urls: Mapping[str, str], folder: Path, *, port: int = 0) -> dict[str, Any]:
    """The document for providers at these addresses, with its store in ``folder``."""
    key = f"${{{KEY_VARIABLE}}}"
    return {
        "version": 1,
        "server": {"host": "127.0.0.1", "port": port},
        "store": {"url": f"sqlite:///{folder / 'standby.db'}"},
        "providers": {
            name: {"client": VENDORS[name].client, "base_url": url, "api_key": key} for name, url in urls.items()
        },
        "runner_policies": {"demo": RUNNER_POLICY},
        "runtime_policies": RUNTIME_POLICIES,
        "models": {
            "chat": _model(
                _candidate("alder", CHAT_MODEL, 10, runtimePolicyOverride=_left_out_for(KEY_COOLDOWN_SECONDS)),
                _candidate("birch", CHAT_MODEL, 20),
                _candidate("cedar", CHAT_MODEL, 20, runtime_policy="impatient"),
                _candidate(BACKUP, CHAT_MODEL, 100),
            ),
            "embed": _model(
                _candidate("alder", "open-embed", 10, runtimePolicyOverride=_left_out_for(KEY_COOLDOWN_SECONDS)),
                _candidate("fir", "open-embed", 20),
                _candidate("hazel", "open-embed", 20, weight=2),
                _candidate("maple", "open-embed", 20),
                _candidate(BACKUP, "open-embed", 100),
            ),
        },
    }


@contextmanager
def key_in_environment() -> Generator[None]:
    """The providers' key where a document takes its keys from: so none is written into the store."""
    before = os.environ.get(KEY_VARIABLE)
    os.environ[KEY_VARIABLE] = "a-key-of-the-demonstration"
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEY_VARIABLE]
        else:
            os.environ[KEY_VARIABLE] = before


def _model(*candidates: Mapping[str, Any]) -> dict[str, Any]:
    return {"runner_policy": "demo", "timeouts": {"totalSeconds": 60}, "candidates": list(candidates)}


def _candidate(provider: str, model: str, priority: int, **more: Any) -> dict[str, Any]:
    usual = {"id": provider, "provider": provider, "model": model, "priority": priority, "runtime_policy": "usual"}
    return {**usual, **more}


def _left_out_for(seconds: float) -> dict[str, Any]:
    return {"failoverPolicy": {"cooldownSeconds": seconds}}
