"""The gateways that are measured, as configuration documents."""

from __future__ import annotations

from typing import Any

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Is all well? " * 20}], "max_tokens": 100}


def document(url: str, *, candidates: int = 1, failing: int = 0, path: str = "") -> dict[str, Any]:
    """One model: so many candidates that always fail with a 500, then those that answer, of equal rank.

    Nobody is left out for failing, and nobody is tried again: each run goes the same way.

    Args:
        url: The loopback provider's.
        candidates: How many answer, each with a key of its own.
        failing: How many fail.
        path: The provider's way to answer; see `loopback.Provider`.
    """
    ranks = {f"down{n}": (f"{url}/down/v1", n) for n in range(failing)}
    ranks |= {f"up{n}": (f"{url}{path}/v1", failing) for n in range(candidates)}
    return {
        "version": 1,
        "providers": {
            name: {"client": "openai", "base_url": base_url, "api_key": f"key-of-{name}"}
            for name, (base_url, _) in ranks.items()
        },
        "runner_policies": {"own": {"failoverPolicy": {"ejectAfter": 0}}},
        "runtime_policies": {"own": {"retryPolicy": {"maxAttempts": 1}}},
        "models": {
            "chat": {
                "runner_policy": "own",
                "candidates": [
                    {"id": name, "provider": name, "model": "gpt-4o", "priority": rank, "runtime_policy": "own"}
                    for name, (_, rank) in ranks.items()
                ],
            }
        },
    }
