"""What is wrong with a document by more than one of its parts."""

from __future__ import annotations

from typing import Any

import pytest

from standby.store import InvalidConfig, parse

CANDIDATE: dict[str, Any] = {"id": "primary", "provider": "openai", "model": "gpt-4o"}
SMALL: dict[str, Any] = {
    "version": 1,
    "providers": {"openai": {"client": "openai", "api_key": "sk-openai"}},
    "models": {"chat": {"candidates": [CANDIDATE]}},
}


def errors(document: Any, **options: Any) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        parse(document, **options)
    return [str(finding) for finding in caught.value.findings]


def error(document: Any) -> tuple[str, str, str, str]:
    """The only finding: where, what is wrong, what is there, what was probably meant."""
    with pytest.raises(InvalidConfig) as caught:
        parse(document)
    (finding,) = caught.value.findings
    return finding.path, finding.message, finding.found, finding.suggestion


def with_candidate(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "models": {"chat": {"candidates": [{**CANDIDATE, **changes}]}}}


def with_keys(*keys: dict[str, Any], **server: Any) -> dict[str, Any]:
    return {**SMALL, "server": {"keys": list(keys), **server}}


def test_provider__unknown():
    """A candidate's provider is one that is configured."""
    assert error(with_candidate(provider="opnai")) == (
        "models.chat.candidates[0].provider",
        "names nothing under providers; known: openai",
        '"opnai"',
        "openai",
    )


def test_provider__none_configured():
    """Without providers none is known."""
    document = {"version": 1, "models": SMALL["models"]}

    assert errors(document) == [
        'models.chat.candidates[0].provider: names nothing under providers; known: none; found "openai"'
    ]


def test_runner_policy__unknown():
    """A model's policy is one of the operator's or built in."""
    document = {**SMALL, "models": {"chat": {"runner_policy": "recomended", "candidates": [CANDIDATE]}}}

    assert error(document) == (
        "models.chat.runner_policy",
        "names nothing under runner_policies; known: recommended, bare",
        '"recomended"',
        "recommended",
    )


def test_runtime_policy__unknown():
    """A candidate's policy set is one of the operator's or built in."""
    document = {**with_candidate(runtime_policy="mien"), "runtime_policies": {"mine": {}}}

    assert error(document) == (
        "models.chat.candidates[0].runtime_policy",
        "names nothing under runtime_policies; known: mine, recommended, bare",
        '"mien"',
        "mine",
    )


@pytest.mark.parametrize("name", ["recommended", "bare"])
def test_built_in_policies(name: str):
    """The built-in policies may be named without being written."""
    model = {"runner_policy": name, "candidates": [{**CANDIDATE, "runtime_policy": name}]}

    assert parse({**SMALL, "models": {"chat": model}}).models["chat"].runner_policy == name


def test_references_are_checked_where_other_parts_are_wrong():
    """A name that leads nowhere is found beside mistakes of other kinds, in the same candidate even."""
    found = errors({**with_candidate(provider="opnai", priority="high"), "version": 2})

    assert [error.partition(":")[0] for error in found] == [
        "version",
        "models.chat.candidates[0].provider",
        "models.chat.candidates[0].priority",
    ]


def test_references_into_what_cannot_be_read():
    """Where the providers themselves are no mapping, no candidate is blamed for that."""
    assert errors({**SMALL, "providers": ["openai"]}) == ["providers: must be a mapping; found a list"]


def test_candidate_id__repeated():
    """Two candidates of one model have two ids, and it is one error where they have not."""
    document = {**SMALL, "models": {"chat": {"candidates": [CANDIDATE, CANDIDATE]}}}

    assert errors(document) == [
        'models.chat.candidates[1].id: must be unique; it is the same as models.chat.candidates[0].id; found "primary"'
    ]


def test_candidate_id__same_in_two_models():
    """Two models may each have a candidate of the same id."""
    model = {"candidates": [CANDIDATE]}

    assert set(parse({**SMALL, "models": {"chat": model, "fast": model}}).models) == {"chat", "fast"}


def test_candidates__none():
    """A model has at least one candidate."""
    assert errors({**SMALL, "models": {"chat": {"candidates": []}}}) == [
        "models.chat.candidates: must not be empty; found a list"
    ]


def test_caller_model__unknown():
    """A caller's models are models that are configured."""
    assert errors(with_keys({"name": "app", "key": "k", "models": ["caht"]})) == [
        'server.keys[0].models[0]: names nothing under models; known: chat; found "caht"; did you mean chat?'
    ]


def test_caller_name__repeated():
    """Two callers have two names."""
    assert errors(with_keys({"name": "app", "key": "k1"}, {"name": "app", "key": "k2"})) == [
        'server.keys[1].name: must be unique; it is the same as server.keys[0].name; found "app"'
    ]


def test_caller_key__repeated():
    """Two callers have two keys, and the error does not show the one that they share."""
    assert errors(with_keys({"name": "a", "key": "shared"}, {"name": "b", "key": "shared"})) == [
        "server.keys[1].key: must be unique; it is the same as server.keys[0].key; found a string"
    ]


def test_admin_key__a_callers():
    """No caller's key opens the admin API."""
    assert errors(with_keys({"name": "a", "key": "shared"}, admin_key="shared")) == [
        "server.admin_key: must be unique; it is the same as server.keys[0].key; found a string"
    ]


def test_admin_key__empty():
    """An empty admin key is none."""
    assert parse({**SMALL, "server": {"admin_key": ""}}).server.admin_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_host__open_without_keys(host: str):
    """Without callers' keys the server binds to loopback only."""
    assert errors({**SMALL, "server": {"host": host}}) == [
        f'server.host: must be a loopback address (127.0.0.1, ::1, localhost) where no keys are given; found "{host}"'
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_host__loopback_without_keys(host: str):
    """A loopback address needs no keys."""
    assert parse({**SMALL, "server": {"host": host}}).server.host == host


def test_host__open_with_keys():
    """With callers' keys every address may be bound."""
    assert parse(with_keys({"name": "app", "key": "k"}, host="0.0.0.0")).server.host == "0.0.0.0"


def test_provider__neither_address_nor_key():
    """Without a base_url the vendor itself is called, and that needs a key."""
    assert errors({**SMALL, "providers": {"openai": {"client": "openai"}}}) == [
        "providers.openai.api_key: is required where base_url is left out; found nothing"
    ]


@pytest.mark.parametrize(
    ("client", "section", "said"),
    [
        ("bedrock", {}, ["region: is required; found nothing"]),
        (
            "bedrock",
            {"base_url": "https://b.example"},
            ["region: is required where base_url is given; found nothing"],
        ),
        (
            "bedrock",
            {"region": "eu-west-1", "access_key_id": "AKIDEXAMPLE"},
            ["secret_access_key: is required where access_key_id is given; found nothing"],
        ),
        (
            "bedrock",
            {"region": "eu-west-1", "session_token": "t"},
            ["access_key_id: is required where session_token is given; found nothing"],
        ),
        (
            "bedrock",
            {"region": "eu-west-1", "api_key": "k", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "s"},
            [
                "access_key_id: means nothing beside api_key; leave one of them out; found a string",
                "secret_access_key: means nothing beside api_key; leave one of them out; found a string",
            ],
        ),
        (
            "gemini",
            {"api_key": "k", "project": "p"},
            ["location: is required where project is given; found nothing"],
        ),
        ("bedrock", {"region": "eu-west-1"}, []),
        ("bedrock", {"base_url": "https://b.example", "api_key": "k"}, []),
    ],
)
def test_provider__keys_that_go_together(client: str, section: dict[str, str], said: list[str]):
    """Some keys want others beside them, and some must not have them there; no secret is quoted."""
    document = {**SMALL, "providers": {"openai": {"client": client, **section}}}
    found = errors(document) if said else []
    assert found == [f"providers.openai.{each}" for each in said]
    assert said or parse(document)


def test_provider__address_without_key():
    """A server of one's own may need no key."""
    provider = {"client": "openai", "base_url": "http://localhost:8000/v1"}

    assert parse({**SMALL, "providers": {"openai": provider}}).providers["openai"].api_key is None
