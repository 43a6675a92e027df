"""The configuration document: what it holds, what its defaults are, and what is refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from standby.store import Hedge, InvalidConfig, MemoryCatalog, load, parse, read
from standby.store._models import BUILT_IN_RUNNER_POLICIES, BUILT_IN_RUNTIME_POLICIES
from standby.store._texts import StoreUrl

DATA = Path(__file__).parent / "data"
ENVIRON = {"APP_KEY": "app-key", "OPENAI_API_KEY": "sk-openai"}

SMALL: dict[str, Any] = {
    "version": 1,
    "providers": {"openai": {"client": "openai", "api_key": "sk-openai"}},
    "models": {"chat": {"candidates": [{"id": "primary", "provider": "openai", "model": "gpt-4o"}]}},
}


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """The small document with something else at one place."""
    document = copy.deepcopy(SMALL)
    here: Any = document
    for part in path[:-1]:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
    here[path[-1]] = to
    return document


def errors(document: Any, **options: Any) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        parse(document, **options)
    return [str(finding) for finding in caught.value.findings]


def test_contract_document():
    """The contract's own document is read, all of it."""
    document = load(DATA / "gateway.yaml", environ=ENVIRON)

    assert document.server.port == 8080
    assert document.server.keys[0].key.get_secret_value() == "app-key"
    assert document.server.keys[0].rate_limit.requests_per_minute == 600
    assert document.server.admin_key is None
    assert document.store.url == "sqlite:///standby.db"
    assert document.store.state_url == "memory:"
    assert document.providers["openai"].timeouts.connect_seconds == 5
    assert document.runner_policies["default"].failover_policy.max_cooldown_seconds == 3600
    assert document.runtime_policies["default"].retry_policy.backoff.jitter == "full"
    assert document.models["chat"].queue.max_waiting == 100
    assert document.models["chat"].hedge == Hedge(after_seconds=4, max_extra=1)
    assert document.models["chat"].candidates[0].runtime_policy_override.retry_policy is not None


@pytest.mark.parametrize("other", ["gateway.toml", "gateway.json"])
def test_languages(other: str):
    """YAML, TOML and JSON say the same."""
    assert load(DATA / other, environ=ENVIRON) == load(DATA / "gateway.yaml", environ=ENVIRON)
    assert read(DATA / other) == read(DATA / "gateway.yaml")


def test_parse_takes_what_read_gives():
    """A raw document that is kept and parsed later is the document that was loaded."""
    raw = read(DATA / "gateway.yaml")

    assert raw["providers"]["openai"]["api_key"] == "${OPENAI_API_KEY}"
    assert parse(raw, environ=ENVIRON) == load(DATA / "gateway.yaml", environ=ENVIRON)


def test_parse__text():
    """A text is parsed in the language that is named."""
    text = (DATA / "gateway.toml").read_text()

    assert parse(text, language="toml", environ=ENVIRON) == load(DATA / "gateway.toml", environ=ENVIRON)


def test_parse__leaves_the_mapping_alone():
    """Parsing a mapping does not change it."""
    raw = read(DATA / "gateway.yaml")
    before = copy.deepcopy(raw)

    parse(raw, environ=ENVIRON)

    assert raw == before


def test_defaults():
    """What is left out has the default that an operator would keep."""
    document = parse(SMALL)

    assert (document.server.host, document.server.port) == ("127.0.0.1", 8080)
    assert document.server.keys == []
    assert document.server.admin_key is None
    assert document.server.max_body_bytes == 10 * 1024 * 1024
    assert (document.store.url, document.store.state_url) == ("memory:", "memory:")
    assert document.models["chat"].timeouts.total_seconds == 600
    assert document.models["chat"].candidates[0].priority == 100


def test_state_url__left_out_beside_sqlite():
    """Run-time state is kept where the catalog is."""
    assert parse(changed("store", to={"url": "sqlite:///a.db"})).store.state_url == "sqlite:///a.db"


@pytest.mark.parametrize("url", ["valkey://localhost:6379/0", "redis://:password@localhost", "valkeys://h/1"])
def test_state_url__valkey(url: str):
    """Run-time state may be kept in Valkey or Redis, whatever the catalog is kept in."""
    document = parse(changed("store", to={"state_url": url}))
    assert (document.store.url, document.store.state_url) == ("memory:", url)


@pytest.mark.parametrize(
    "url",
    [
        "valkey://",
        "valkey:///0",
        "redis",
        "memcached://h",
        "redis://u:hunter2@h:1/0?a=hunter3",
        "valkey://:hunter2@h:99999/0",
        "valkey://:hunter2@h:abc/0",
        "valkey://:hun/ter2@h:1/0",
        "valkey://:hunter2@[::1/0",
        "valkey://:hunter2@h/x",
        "valkey://:hunter2@h/0/1",
        "postgresql://u:hunter2@h:99999/db",
    ],
)
def test_state_url__refused(url: str):
    """What names no server is an error that says what would."""
    (error,) = errors(changed("store", to={"state_url": url}))

    assert error.startswith("store.state_url: must be memory:, valkey://HOST:PORT/DB, redis://…, or one of the forms")
    assert "nter" not in error


def test_store_url__keeps_its_password():
    """It is used, and never shown: not by an error, nor by the document."""
    url = "postgresql://standby:secret-password@db.example.com/standby"
    document = parse(changed("store", to={"url": url}))
    assert (document.store.url, document.store.url.hidden) == (url, url.replace("secret-password", "***"))
    assert "secret-password" not in repr(document)
    (error,) = errors(changed("store", to={"url": url.replace("postgresql", "mysql")}))
    assert "secret-password" not in error


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("postgresql://h/db?password=hunter2", "postgresql://h/db?password=***"),
        ("postgresql://h/db?user=u&password=hunter2&port=1", "postgresql://h/db?user=u&password=***&port=1"),
        ("postgresql://u:hunter2@h/db?sslpassword=hunter3", "postgresql://u:***@h/db?sslpassword=***"),
    ],
)
def test_store_url__a_password_among_its_options(url, hidden):
    """It is hidden as well."""
    assert StoreUrl(url).hidden == hidden


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite:///:memory:", "sqlite:///a.db?mode=ro", "mysql://h/d", "postgresql://host", ""]
)
def test_store_url__refused(url: str):
    """Where a store is kept is one of the forms that are named."""
    (error,) = errors(changed("store", to={"url": url}))

    assert error.startswith("store.url: must be memory:, sqlite:///PATH without ? and #, or postgresql://")


@pytest.mark.parametrize("key", ["maxBodyBytes", "max_body_bytes"])
def test_max_body_bytes__both_spellings(key: str):
    """The largest body may be written either way."""
    assert parse(changed("server", to={key: 1000})).server.max_body_bytes == 1000


def test_caller_models():
    """A caller may use the models it lists; every model where it lists none or `all`."""
    keys = [
        {"name": "listed", "key": "k1", "models": ["chat"]},
        {"name": "left-out", "key": "k2"},
        {"name": "all", "key": "k3", "models": "all"},
    ]
    listed, left_out, everything = parse(changed("server", to={"keys": keys})).server.keys

    assert listed.may_use("chat")
    assert not listed.may_use("other")
    assert left_out.may_use("other")
    assert everything.may_use("other")


@pytest.mark.parametrize("models", [None, [], "chat", {}])
def test_caller_models__neither_a_list_nor_all(models: Any):
    """A list whose items are commented out does not come to mean every model."""
    (error,) = errors(changed("server", to={"keys": [{"name": "app", "key": "k", "models": models}]}))

    assert error.startswith("server.keys[0].models: must ")


def test_snapshot():
    """A document's catalog has the built-in policies under the operator's own."""
    document = parse({**SMALL, "runner_policies": {"mine": {}, "bare": {"status": "disabled"}}})
    snapshot = document.snapshot(7)

    assert snapshot.version == 7
    assert set(snapshot.models) == {"chat"}
    assert set(snapshot.runner_policies) == {"recommended", "bare", "mine"}
    assert snapshot.runner_policies["bare"].status == "disabled"
    assert snapshot.runner_policies["recommended"] is BUILT_IN_RUNNER_POLICIES["recommended"]
    assert snapshot.runtime_policies["bare"] is BUILT_IN_RUNTIME_POLICIES["bare"]


def test_memory_catalog():
    """A catalog in memory is made from a file or from a mapping."""
    from_file = MemoryCatalog.from_file(DATA / "gateway.yaml", environ=ENVIRON).snapshot()
    from_mapping = MemoryCatalog.from_mapping(read(DATA / "gateway.yaml"), environ=ENVIRON).snapshot()

    assert from_file == from_mapping
    assert from_file.version == 1


def test_custom_client():
    """A client that the host brings is allowed where the host says so, and refused with the names of the known."""
    document = changed("providers", "openai", "client", to="mine")

    assert parse(document, clients=("openai", "mine")).providers["openai"].client == "mine"
    told = 'providers.openai.client: is not a known client; allowed: openai; found "mine"'
    assert errors(document, clients=("openai",)) == [told]


def test_types_are_strict():
    """A text is not a number, a number is not a text, and true is not 1."""
    assert errors(
        {
            **SMALL,
            "version": True,
            "server": {"port": "8080", "host": 1},
            "runtime_policies": {"a": {"retryPolicy": {"maxAttempts": 2.0, "enabled": "yes", "denyCodes": "x"}}},
        }
    ) == [
        "version: must be 1; found true",
        'server.port: must be a whole number; found "8080"',
        "server.host: must be a string; found 1",
        "runtime_policies.a.retryPolicy.maxAttempts: must be a whole number; found 2.0",
        'runtime_policies.a.retryPolicy.enabled: must be true or false; found "yes"',
        "runtime_policies.a.retryPolicy.denyCodes: must be a list; found a string",
    ]


def test_numbers_have_bounds():
    """A number that makes no sense is refused with what is allowed."""
    assert errors(
        {
            **SMALL,
            "server": {"port": 65536, "maxBodyBytes": 0},
            "runner_policies": {"a": {"failoverPolicy": {"cooldownSeconds": -1, "cooldown_multiplier": 0.5}}},
            "runtime_policies": {"a": {"timeouts": {"attemptSeconds": float("nan")}}},
        }
    ) == [
        "server.port: must be at most 65535; found 65536",
        "server.maxBodyBytes: must be greater than 0; found 0",
        "runner_policies.a.failoverPolicy.cooldownSeconds: must be at least 0; found -1",
        "runner_policies.a.failoverPolicy.cooldown_multiplier: must be at least 1; found 0.5",
        "runtime_policies.a.timeouts.attemptSeconds: must be a finite number",
    ]


def test_unknown_key():
    """An unknown key is an error with the keys that are known and the nearest of them."""
    assert errors(changed("server", to={"prot": 1})) == [
        "server.prot: unknown key; allowed: host, port, workers, keys, admin_key, maxBodyBytes; did you mean port?"
    ]


def test_unknown_key__nothing_near():
    """Where no known key is near none is suggested."""
    (error,) = errors(changed("zzz", to=1))

    assert "did you mean" not in error


def test_policy_keys__both_spellings():
    """Inside a policy camelCase is the written form, and snake_case is accepted too."""
    camel = parse(changed("runtime_policies", to={"a": {"retryPolicy": {"maxAttempts": 3}}}))
    snake = parse(changed("runtime_policies", to={"a": {"retry_policy": {"max_attempts": 3}}}))

    assert camel.runtime_policies == snake.runtime_policies


@pytest.mark.parametrize(("first", "second"), [("maxAttempts", "max_attempts"), ("max_attempts", "maxAttempts")])
def test_policy_keys__given_twice(first: str, second: str):
    """A key that is given in both spellings is an error at the second, and only one error."""
    document = changed("runtime_policies", to={"a": {"retryPolicy": {first: 1, second: 1}}})

    assert errors(document) == [
        f"runtime_policies.a.retryPolicy.{second}: is given twice, here and as {first}; leave one of them out"
    ]


def test_path_is_as_the_operator_wrote_it():
    """A path has the keys in the spelling of the document, and quotes those that need it."""
    document = changed("runner_policies", to={"a b": {"failover_policy": {"actions": {"rate_limit": "stop"}}}})

    (error,) = errors(document)
    path, _, rest = error.partition(": ")

    assert path == 'runner_policies["a b"].failover_policy.actions.rate_limit'
    assert rest == "must be 'next', 'cooldown_and_next' or 'disable_and_next'; found \"stop\""


def test_category__unknown():
    """A category that does not exist is an error with those that do, as a value and as a key."""
    policy = {"denyCategories": ["rate_limits"], "actions": {"timeuot": "next"}}
    first, second = errors(changed("runner_policies", to={"a": {"failoverPolicy": policy}}))

    assert first.startswith("runner_policies.a.failoverPolicy.denyCategories[0]: unknown category; allowed: insuff")
    assert first.endswith('found "rate_limits"; did you mean rate_limit?')
    assert second.startswith("runner_policies.a.failoverPolicy.actions.timeuot: unknown category; allowed: insuff")
    assert second.endswith("did you mean timeout?")


def test_every_mistake_at_once():
    """Mistakes of every kind are said together, in the order of the document."""
    document = yaml.safe_load((DATA / "gateway.yaml").read_text())
    document["server"]["port"] = -1
    document["runtime_policies"]["default"]["retryPolicy"]["maxAttempt"] = 1
    document["models"]["chat"]["candidates"][0]["provider"] = "opnai"
    document["models"]["chat"]["runner_policy"] = "defualt"
    document["models"]["chat"]["hedge"] = {}

    assert [error.partition(":")[0] for error in errors(document, environ={"APP_KEY": "k"})] == [
        "server.port",
        "providers.openai.api_key",
        "runtime_policies.default.retryPolicy.maxAttempt",
        "models.chat.runner_policy",
        "models.chat.hedge",
        "models.chat.candidates[0].provider",
    ]


def test_error_text():
    """The text counts the errors in its first line and has one line for each."""
    with pytest.raises(InvalidConfig) as caught:
        parse(changed("server", to={"port": -1, "host": 1}), where="gateway.yaml")

    assert str(caught.value) == (
        "gateway.yaml: 2 errors\n  server.port: must be at least 0; found -1\n  server.host: must be a string; found 1"
    )


def test_error_text__one():
    """One error is not two."""
    with pytest.raises(InvalidConfig) as caught:
        parse({**SMALL, "version": 2}, where="gateway.yaml")

    assert str(caught.value) == "gateway.yaml: 1 error\n  version: must be 1; found 2"


def test_error_text__odd_characters():
    """Whatever the document holds, an error is one line of printable characters."""
    (error,) = errors(changed("server", to={"host": 1, "\n\x1b[31m\u202e": 1}))[:1]

    assert error.isprintable()


def test_error__crosses_processes():
    """The exception can be pickled, as those of a worker process are."""
    with pytest.raises(InvalidConfig) as caught:
        parse({**SMALL, "version": 2}, where="gateway.yaml")
    copied = pickle.loads(pickle.dumps(caught.value))

    assert (copied.findings, copied.where) == (caught.value.findings, "gateway.yaml")
    assert str(copied) == str(caught.value)


def test_found_is_shortened():
    """A long value is not repeated at length."""
    (error,) = errors(changed("models", "chat", "candidates", 0, "provider", to="x" * 10_000))

    assert len(error) < 200


@pytest.mark.parametrize("document", [None, [], 1, "", "- a", "1", True])
def test_not_a_mapping(document: Any):
    """A document is a mapping."""
    assert errors(document) in (
        ["must be a mapping; found null"],
        ["must be a mapping; found a list"],
        ["must be a mapping; found a number"],
        ["must be a mapping; found true or false"],
        ["is empty"],
    )


def test_required():
    """Version and models are required, these unless a store that is kept may have them."""
    in_no_store = "models: is required unless store.url names a database that has them; found nothing"
    assert errors({}) == ["version: is required; found nothing", in_no_store]
    assert errors({"version": 1, "store": {"url": "memory:"}}) == [in_no_store]


IN_STORE = {"version": 1, "store": {"url": "sqlite:///standby.db"}}


def test_without_models():
    """A document whose store is kept may leave its whole catalog to it."""
    assert parse(IN_STORE).models == {}
    assert parse({**IN_STORE, "server": {"keys": [{"name": "app", "key": "k", "models": ["chat"]}]}}).models == {}


@pytest.mark.parametrize("section", ["providers", "runner_policies", "runtime_policies"])
def test_without_models__but_with_other_parts_of_a_catalog(section: str):
    """It is the whole catalog or nothing of it."""
    assert errors({**IN_STORE, section: {}}) == [f"models: is required where {section} are written; found nothing"]


def test_without_models__in_memory():
    """A catalog in memory has them from nowhere else."""
    with pytest.raises(InvalidConfig, match="models: is required: memory has no other catalog; found nothing"):
        MemoryCatalog.from_mapping(IN_STORE)


def test_no_models():
    """Models that are all commented out are a mistake, and no word for a catalog elsewhere."""
    assert errors({**IN_STORE, "models": {}}) == ["models: must not be empty; found a mapping"]
    assert errors({**IN_STORE, "models": None}) == ["models: must be a mapping; found null"]


@pytest.mark.parametrize("name", ["", " chat", "a\nb", "x" * 257])
def test_names__refused(name: str):
    """A name is printable, without space at its ends, and not too long."""
    (error,) = errors(changed("runner_policies", to={name: {}}))

    assert "must be 1 to 256 printable characters with no space at either end" in error


@pytest.mark.parametrize("name", ["a/b", "a b", ""])
def test_provider_names__refused(name: str):
    """A provider's name is part of a failure domain's name, and is bound to its characters."""
    document = changed("providers", name, to={"client": "openai", "api_key": "k"})

    assert "must be a name that matches" in errors(document)[0]


# -- several keys, and what only some clients take


def provider(**settings: Any) -> dict[str, Any]:
    """The document with one provider changed."""
    return changed("providers", "openai", to={"client": "openai"} | settings)


def test_api_keys():
    """A provider has one key or several, and each of those a name of its own."""
    two = [{"id": "a", "key": "sk-a"}, {"id": "b", "key": "sk-b", "weight": 2}]

    keys = parse(provider(api_keys=two), environ=ENVIRON).providers["openai"].api_keys
    assert [(key.id, key.key.get_secret_value(), key.weight) for key in keys] == [("a", "sk-a", 1), ("b", "sk-b", 2)]
    assert "sk-a" not in repr(keys)
    (both,) = errors(provider(api_keys=two, api_key="sk-c"))
    assert both.startswith("providers.openai: needs either `api_key` or `api_keys`")
    (repeated,) = errors(provider(api_keys=[two[0], two[0]]))
    assert repeated.startswith("providers.openai: two of `api_keys` have the same id")
    assert len(errors(provider(api_keys=[]))) == 1


@pytest.mark.parametrize(
    ("settings", "key", "given"),
    [
        ({"client": "gemini", "api_key": "k", "project": "p"}, "location", "project"),
        ({"client": "gemini", "api_key": "k", "location": "eu"}, "project", "location"),
        ({"client": "bedrock", "region": "eu-central-1", "access_key_id": "k"}, "secret_access_key", "access_key_id"),
    ],
)
def test_what_belongs_together(settings: dict[str, Any], key: str, given: str):
    """Of some keys a client needs all or none."""
    (error,) = errors(provider(**settings))

    assert error.startswith(f"providers.openai.{key}: is required where {given} is given")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"region": "eu-central-1"}, "region"),
        ({"project": "p"}, "project"),
        ({"api_version": "v1"}, "api_version"),
        ({"options": {"a": 1}}, "options"),
    ],
)
def test_what_a_client_would_ignore(settings: dict[str, Any], key: str):
    """A key that means nothing to the client is refused."""
    (error,) = errors(provider(api_key="sk", **settings))

    assert error.startswith(f"providers.openai.{key}: means nothing to the client openai; leave it out")
