"""The JSON Schema says of a file, before its variables are filled in, what the reader says after."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from standby.store import parse, read, schema

DATA = Path(__file__).parent / "data"
GATEWAY = read(DATA / "gateway.yaml")


def refused(document: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema())
    return [error.json_path for error in validator.iter_errors(document)]


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    document = copy.deepcopy(GATEWAY)
    here: Any = document
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = to
    return document


def properties() -> Iterator[tuple[str, str, dict[str, Any]]]:
    written = schema()
    for name, section in {"Document": written, **written["$defs"]}.items():
        for key, value in section.get("properties", {}).items():
            yield name, key, value


def test_dialect():
    """It is a valid schema of the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(schema())

    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_contract_document():
    """The contract's document is accepted."""
    assert refused(GATEWAY) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("server", "port"), "${PORT}"),
        (("server", "port"), "${PORT:-8080}"),
        (("version",), "${VERSION}"),
        (("runtime_policies", "default", "retryPolicy", "enabled"), "${RETRY}"),
        (("runtime_policies", "default", "timeouts", "attemptSeconds"), "${SECONDS}"),
        (("runtime_policies", "default", "rateLimitPolicy", "concurrency"), "${CONCURRENCY}"),
        (("runtime_policies", "default", "retryPolicy", "backoff", "jitter"), "${JITTER}"),
        (("runtime_policies", "default", "retryPolicy", "denyStatusCodes"), ["${STATUS}"]),
        (("runner_policies", "default", "failoverPolicy", "actions", "rate_limit"), "${ACTION}"),
        (("providers", "openai", "base_url"), "https://${HOST}/v1"),
        (("providers", "openai", "base_url"), "${BASE_URL}"),
        (("store", "url"), "sqlite:///${FOLDER}/standby.db"),
        (("server", "keys", 0, "models"), "all"),
        (("runner_policies", "default", "failoverPolicy", "denyCodes"), None),
        (("runner_policies", "default", "failoverPolicy"), {"deny_codes": ["a"]}),
        (("models", "chat", "queue"), {"max_waiting": 5}),
        (("models", "chat", "hedge"), {"afterPercentile": 95}),
        (("runner_policies", "default", "status"), "observe"),
        (("server", "max_body_bytes"), 1000),
    ],
)
def test_accepted(path: tuple[str | int, ...], value: Any):
    """A reference may stand for any value; null clears a list; snake_case is let through."""
    assert refused(changed(*path, to=value)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("server", "port"), "8080"),
        (("server", "port"), "80${PORT}"),
        (("server", "port"), 65536),
        (("server", "prot"), 1),
        (("version",), 2),
        (("unknown",), 1),
        (("models",), {}),
        (("models", "chat", "candidates"), []),
        (("store", "url"), "mysql://localhost"),
        (("store", "url"), "postgresql://localhost"),
        (("store", "state_url"), "memcached://localhost/0"),
        (("providers", "openai", "api_keys"), []),
        (("providers", "openai", "baseUrl"), "https://example.com"),
        (("runner_policies", "default", "failoverPolicy", "allowCategories"), ["rate_limits"]),
        (("runner_policies", "default", "failoverPolicy", "actions", "rate_limit"), "stop"),
        (("runner_policies", "default", "failoverPolicy", "actions"), {"rate_limits": "next"}),
        (("runtime_policies", "default", "retryPolicy", "maxAttempts"), 0),
        (("runtime_policies", "default", "retryPolicy", "maxattempts"), 1),
        (("server", "keys", 0, "models"), "chat"),
        (("server", "keys", 0, "models"), []),
    ],
)
def test_refused(path: tuple[str | int, ...], value: Any):
    """What the reader would refuse, the editor marks."""
    assert refused(changed(*path, to=value)) != []


def without(*keys: str, **sections: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GATEWAY, **sections}.items() if key not in keys}


def test_without_models():
    """The whole catalog may be left to a store that is kept; a part of it may not, nor to one that is not kept."""
    catalog = ("models", "providers", "runner_policies", "runtime_policies")
    assert refused(without(*catalog)) == []
    assert refused(without(*catalog, store={"url": "${URL}"})) == []
    assert refused(without("models")) != []
    assert refused(without(*catalog, store={"url": "memory:"})) != []
    assert refused(without(*catalog, store={})) != []
    assert refused(without(*catalog, "store")) != []


def test_every_key_is_told():
    """Every key has a title, and a description of its own or of what stands there."""
    untold = [
        (section, key)
        for section, key, value in properties()
        if not value.get("title") or not (value.get("description") or "$ref" in str(value))
    ]

    assert untold == []


def test_titles():
    """A title is the key in words."""
    titles = {key: value["title"] for _, key, value in properties()}

    assert titles["denyStatusCodes"] == "Deny status codes"
    assert titles["base_url"] == "Base url"


def test_defaults():
    """A default is the one that the reader takes."""
    told = {(section, key): value["default"] for section, key, value in properties() if "default" in value}

    assert told["ServerSettings", "port"] == 8080
    assert told["RetryPolicy", "maxAttempts"] == 2
    assert told["ModelTimeouts", "totalSeconds"] == 600
    assert told["Candidate", "priority"] == 100
    assert told["PriorityDemotePolicy", "enabled"] is False
    assert None not in told.values()


def test_policy_keys_are_camel_case():
    """The written form of a policy's key is camelCase, and a section's is snake_case."""
    keys = {key for section, key, _ in properties() if section.endswith("Policy")}

    assert {"maxAttempts", "denyStatusCodes", "failoverPolicy", "cooldownSeconds"} <= keys
    assert not [key for key in keys if "_" in key]


def test_nothing_is_accepted_that_the_reader_refuses_for_its_form():
    """The smallest document that the schema accepts is one."""
    document = {
        "version": 1,
        "providers": {"local": {"client": "openai", "base_url": "http://localhost:8000/v1"}},
        "models": {"chat": {"candidates": [{"id": "only", "provider": "local", "model": "llama"}]}},
    }

    assert refused(document) == []
    assert parse(document).models["chat"].candidates[0].id == "only"
