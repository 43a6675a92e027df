"""No secret is ever shown, whatever else is wrong; and nothing but `InvalidConfig` is raised, whatever is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.store import InvalidConfig, parse, schema

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "server": {
        "keys": [{"name": "app", "key": "app-key", "models": ["chat"]}],
        "admin_key": "admin-key",
    },
    "store": {"url": "sqlite:///standby.db"},
    "providers": {"openai": {"client": "openai", "api_key": "sk-openai", "headers": {"x-team": "team"}}},
    "runner_policies": {"mine": {"failoverPolicy": {"actions": {"rate_limit": "next"}}}},
    "runtime_policies": {"mine": {"retryPolicy": {"maxAttempts": 2}}},
    "models": {
        "chat": {
            "runner_policy": "mine",
            "candidates": [{"id": "primary", "provider": "openai", "model": "gpt-4o", "runtime_policy": "mine"}],
        }
    },
}

SECRET_PLACES: list[tuple[str | int, ...]] = [
    ("server", "keys", 0, "key"),
    ("server", "admin_key"),
    ("providers", "openai", "api_key"),
    ("providers", "openai", "api_keys"),
    ("providers", "openai", "headers"),
    ("providers", "openai", "headers", "Authorization"),
]
ADDRESS_PLACES: list[tuple[str | int, ...]] = [
    ("providers", "openai", "base_url"),
    ("store", "url"),
    ("store", "state_url"),
]
OTHER_PLACES: list[tuple[str | int, ...]] = [
    ("version",),
    ("server",),
    ("server", "port"),
    ("server", "keys", 0, "name"),
    ("server", "keys", 0, "unknown"),
    ("providers", "openai", "client"),
    ("providers", "openai", "unknown"),
    ("providers", "openai", "timeouts", "connectSeconds"),
    ("runner_policies", "mine", "failoverPolicy", "actions", "rate_limit"),
    ("runtime_policies", "mine", "retryPolicy", "max_attempts"),
    ("models", "chat", "runner_policy"),
    ("models", "chat", "candidates", 0, "provider"),
    ("models", "chat", "candidates", 0, "weight"),
    ("unknown",),
]

WRAPPINGS: list[Callable[[str], Any]] = [
    lambda secret: secret,
    lambda secret: [secret],
    lambda secret: {"value": secret},
    lambda secret: [{"id": "a", "key": secret}],
    lambda secret: f"Bearer {secret}",
    lambda secret: f"{secret}\n",
]

secrets = st.text(min_size=1, max_size=80).map(lambda text: f"s3cr3t{text}s3cr3t")
in_an_address = st.sampled_from(
    [
        "https://user:{}@example.com/v1",
        "https://{}@example.com/v1",
        "https//user:{}@example.com",
        "https://example.com/v1?key={}",
        "https://example.com/v1#{}",
        "postgresql://user:{}@localhost/standby",
        "redis://:{}@localhost",
        "sqlite:///standby.db?key={}",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_like = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def put(document: Any, path: tuple[str | int, ...], value: Any) -> None:
    """Put the value at the path, where the way there is still open."""
    for part in path[:-1]:
        if isinstance(document, dict):
            document = document.setdefault(part, {})
        else:
            document = document[part] if isinstance(document, list) and part == 0 and document else None
    if isinstance(document, dict):
        document[path[-1]] = value


def outcome(document: Any, **options: Any) -> str:
    """Everything that could be shown of the document or of what is wrong with it."""
    try:
        parsed = parse(document, **options)
    except InvalidConfig as error:
        return f"{error}\n{error!r}\n{error.findings}\n{error.__context__!r}\n{error.__cause__!r}"
    return f"{parsed}\n{parsed!r}\n{parsed.snapshot()!r}"


@settings(deadline=None, max_examples=200)
@given(
    secret=secrets,
    wrap=st.sampled_from(WRAPPINGS),
    place=st.sampled_from(SECRET_PLACES),
    mistakes=st.lists(st.tuples(st.sampled_from(OTHER_PLACES), json_like), max_size=3),
)
def test_secret_in_the_document(secret: str, wrap: Any, place: tuple[str | int, ...], mistakes: list[Any]):
    """A secret that is written in a secret place, well or badly, is in no error and in no repr."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in mistakes:
        put(document, path, value)
    put(document, place, wrap(secret.replace("${", "")))

    assert "s3cr3t" not in outcome(document)


@settings(deadline=None, max_examples=100)
@given(secret=secrets, address=in_an_address, place=st.sampled_from(ADDRESS_PLACES))
def test_secret_in_an_address(secret: str, address: str, place: tuple[str | int, ...]):
    """A password in an address is in no error and in no repr."""
    document = copy.deepcopy(DOCUMENT)
    put(document, place, address.format(secret.replace("${", "")))

    assert "s3cr3t" not in outcome(document)


@settings(deadline=None, max_examples=200)
@given(
    secret=secrets,
    place=st.sampled_from([*SECRET_PLACES, *ADDRESS_PLACES, *OTHER_PLACES]),
    written=st.sampled_from(["${SECRET}", "a ${SECRET}", "${SECRET:-default}", "${SECRET}${MISSING}", "${SECRET} ${"]),
)
def test_secret_in_the_environment(secret: str, place: tuple[str | int, ...], written: str):
    """What came from the environment is in no error, wherever it was put."""
    document = copy.deepcopy(DOCUMENT)
    put(document, place, written)
    said = ""
    try:
        parse(document, environ={"SECRET": secret})
    except InvalidConfig as error:
        said = f"{error}{error!r}{error.__context__!r}"

    assert "s3cr3t" not in said


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("providers", "openai", "api_key"), 123456789),
        (("providers", "openai", "api_key"), ["123456789"]),
        (("providers", "openai", "headers"), "authorization: 123456789"),
        (("providers", "openai", "headers"), {"authorization=123456789": None}),
        (("providers", "openai", "headers"), {"authorization": 123456789}),
        (("providers", "openai", "headers"), {"authorization": "123456789\n"}),
        (("providers", "openai"), "123456789"),
        (("providers", "openai", "base_url"), "https://user:123456789@example.com"),
        (("providers", "openai", "base_url"), "https://example.com/?key=123456789"),
        (("providers", "openai", "apikey"), "123456789"),
        (("providers", "openai", "sk-123456789"), None),
        (("server", "keys"), {"123456789": "app"}),
        (("server", "keys"), ["123456789"]),
        (("server", "keys"), [{"123456789": "app"}]),
        (("server", "keys"), [{"name": "app", "key": ""}, {"name": "b", "key": "123456789 "}]),
        (("server", "admin_key"), {"123456789": 1}),
    ],
)
def test_mistaken_secret(place: tuple[str | int, ...], value: Any):
    """Where a secret is written as something that it cannot be, the error says only what kind of thing it is."""
    document = copy.deepcopy(DOCUMENT)
    put(document, place, value)
    with pytest.raises(InvalidConfig) as caught:
        parse(document)

    assert "123456789" not in f"{caught.value}{caught.value!r}"


def test_secrets_leave_only_when_asked():
    """The repr of a document stands in for every secret."""
    parsed = parse(DOCUMENT)

    for secret in ("app-key", "admin-key", "sk-openai", "'team'"):
        assert secret not in repr(parsed)
    assert parsed.providers["openai"].headers["x-team"].get_secret_value() == "team"


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "k\u00e9y", "a\x00"])
def test_key_that_could_not_be_sent(key: str):
    """A key that no header could carry is refused when it is read, not when it is first sent."""
    document = copy.deepcopy(DOCUMENT)
    put(document, ("providers", "openai", "api_key"), key)
    with pytest.raises(InvalidConfig, match="api_key: must be printable ASCII text, not empty, without spaces"):
        parse(document)


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "ftp://h",
        "http://",
        "http:///v1",
        "http://h:x",
        "http://h:",
        "http://h:70000",
        "http://[::1",
        "http://a b",
        "http://h#x",
        "https://u@h",
    ],
)
def test_address_that_could_not_be_called(url: str):
    """An address without a scheme, a host or a possible port is refused."""
    document = copy.deepcopy(DOCUMENT)
    put(document, ("providers", "openai", "base_url"), url)
    with pytest.raises(InvalidConfig, match=r"base_url: must be http://HOST or https://HOST"):
        parse(document)


@pytest.mark.parametrize(
    "url", ["http://h", "https://h/v1/", "http://localhost:8000/v1", "http://[::1]:80", "http://h/a@b"]
)
def test_address(url: str):
    """An address is kept as it is written."""
    document = copy.deepcopy(DOCUMENT)
    put(document, ("providers", "openai", "base_url"), url)

    assert parse(document).providers["openai"].base_url == url


@settings(deadline=None, max_examples=200)
@given(value=json_like)
def test_anything(value: Any):
    """Whatever JSON could hold is a document or an `InvalidConfig`."""
    outcome(value)


@settings(deadline=None, max_examples=200)
@given(text=st.text(), language=st.sampled_from(["yaml", "toml", "json"]))
def test_any_text(text: str, language: str):
    """Whatever text is a document or an `InvalidConfig`, in each language."""
    outcome(text, language=language)


def known_keys() -> list[str]:
    every = [schema(), *schema()["$defs"].values()]
    return sorted({key for section in every for key in section.get("properties", {})})


near_documents = st.recursive(
    scalars | st.sampled_from([1, "openai", "chat", "${A}", "${A:-1}", "next", "rate_limit", "memory:"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*known_keys(), "chat", "openai", "api_keys", "hedge"]), inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(deadline=None, max_examples=200)
@given(
    places=st.lists(
        st.tuples(st.sampled_from([*SECRET_PLACES, *ADDRESS_PLACES, *OTHER_PLACES]), near_documents), max_size=4
    )
)
def test_anything_near_a_document(places: list[Any]):
    """A document with anything at all in some of its places is a document or an `InvalidConfig`."""
    document = copy.deepcopy(DOCUMENT)
    for path, value in places:
        put(document, path, value)

    outcome(document, environ={"A": "1"})
