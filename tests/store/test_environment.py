"""``${NAME}`` and ``${NAME:-default}``: what they stand for, where they may stand, what is said when they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from standby.store import Document, InvalidConfig, literal_secrets, parse


def parsed(environ: Mapping[str, str], **sections: Any) -> Document:
    small = {
        "version": 1,
        "providers": {"openai": {"client": "openai", "api_key": "sk-openai"}},
        "models": {"chat": {"candidates": [{"id": "primary", "provider": "openai", "model": "gpt-4o"}]}},
    }
    return parse({**small, **sections}, environ=environ)


def errors(environ: Mapping[str, str], **sections: Any) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        parsed(environ, **sections)
    return [str(finding) for finding in caught.value.findings]


def host(written: str, **environ: str) -> str:
    """What the text stands for, in a place that takes any text."""
    key = {"name": "app", "key": "k"}
    return parsed(environ, server={"host": written, "keys": [key]}).server.host


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a-${A}-${B}", {"A": "x", "B": "y"}, "a-x-y"),
        ("${A:-z}", {"A": "x"}, "x"),
        ("${A:-z}", {}, "z"),
        ("${A:-z}", {"A": ""}, "z"),
        ("a${A:-}", {}, "a"),
        ("a${A}", {"A": ""}, "a"),
        ("${A:-a:-b}", {}, "a:-b"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$${A}${A}", {"A": "x"}, "${A}x"),
        ("$A", {"A": "x"}, "$A"),
        ("{A}", {"A": "x"}, "{A}"),
        ("${A}", {"A": "${B}"}, "${B}"),
    ],
)
def test_text(written: str, environ: dict[str, str], expected: str):
    """A reference is replaced as the shell would, once; `$${` is the text `${`."""
    assert host(written, **environ) == expected


@pytest.mark.parametrize("written", ["${", "${}", "${1A}", "${A B}", "${A-b}", "${A:-${B}}", "${A:-{}}", "a ${A"])
def test_malformed(written: str):
    """What looks like a reference and is none is an error, not text."""
    (error,) = errors({"A": "x", "B": "y"}, store={"url": written})

    assert error.startswith("store.url: has a `${` that begins no reference; write ${NAME}, ${NAME:-default} or $${")


def test_missing():
    """A missing variable without a default is an error with the path and the variable."""
    assert errors({}, server={"host": "${HOST}"}) == [
        "server.host: the environment variable HOST is not set; set it, or give a default: ${HOST:-default}"
    ]


def test_missing__every_one():
    """Every missing variable is named, each of one text too, and no other error follows from it."""
    found = errors({}, server={"port": "${PORT}", "host": "${A}.${B}"}, store={"url": "${URL}"})

    assert [error.partition(" is not set")[0] for error in found] == [
        "server.port: the environment variable PORT",
        "server.host: the environment variable A",
        "server.host: the environment variable B",
        "store.url: the environment variable URL",
    ]


def test_missing__in_a_list():
    """The path of a missing variable has the positions in lists."""
    (error,) = errors({}, runner_policies={"a": {"failoverPolicy": {"denyCodes": ["x", "${CODE}"]}}})

    assert error.startswith("runner_policies.a.failoverPolicy.denyCodes[1]: the environment variable CODE is not set")


def test_numbers_and_truth_values():
    """A value that is wholly a reference becomes what is expected where it stands."""
    environ = {"PORT": "9000", "SECONDS": " 1.5\n", "ENABLED": "False", "STATUS": "503", "VERSION": "1"}
    document = parsed(
        environ,
        version="${VERSION}",
        server={"port": "${PORT:-8080}", "maxBodyBytes": "${BYTES:-1000}"},
        runtime_policies={
            "a": {
                "retryPolicy": {"enabled": "${ENABLED}", "denyStatusCodes": ["${STATUS}"]},
                "timeouts": {"attemptSeconds": "${SECONDS}"},
            }
        },
    )

    assert document.version == 1
    assert document.server.port == 9000
    assert document.server.max_body_bytes == 1000
    assert document.runtime_policies["a"].retry_policy.enabled is False
    assert document.runtime_policies["a"].retry_policy.deny_status_codes == [503]
    assert document.runtime_policies["a"].timeouts.attempt_seconds == 1.5


def test_numbers__converted_ones_are_checked():
    """A number from the environment is bound like any other, and is not shown."""
    assert errors({"PORT": "70000"}, server={"port": "${PORT}"}) == [
        "server.port: must be at most 65535; found a value from ${PORT}"
    ]


@pytest.mark.parametrize("value", ["", "x", "1.5", "1_000", "0x10", "nan", "1e3", "9" * 5000, "\uff11"])
def test_numbers__not_one(value: str):
    """A text that is no whole number stays one."""
    assert errors({"PORT": value}, server={"port": "${PORT}"}) == [
        "server.port: must be a whole number; found a value from ${PORT}"
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "one", ""])
def test_numbers__not_finite(value: str):
    """A number of seconds is a finite number."""
    policies = {"a": {"timeouts": {"attemptSeconds": "${SECONDS}"}}}

    assert errors({"SECONDS": value}, runtime_policies=policies) == [
        "runtime_policies.a.timeouts.attemptSeconds: must be a number; found a value from ${SECONDS}"
    ]


def test_numbers__only_where_the_reference_is_the_whole():
    """A number is not put together from pieces."""
    assert errors({"A": "0"}, server={"port": "80${A}"}) == [
        "server.port: must be a whole number; found a value from ${A}"
    ]


def test_numbers__not_where_a_text_is_expected():
    """A text that looks like a number stays a text where a text is expected."""
    assert host("${A}", A="8080") == "8080"


def test_process_environment(monkeypatch: pytest.MonkeyPatch):
    """Where nothing else is given, the process's environment is looked up."""
    monkeypatch.setenv("STANDBY_TEST_PORT", "9000")
    document = parse(
        {
            "version": 1,
            "server": {"port": "${STANDBY_TEST_PORT}"},
            "providers": {"local": {"client": "openai", "base_url": "http://localhost:8000/v1"}},
            "models": {"chat": {"candidates": [{"id": "only", "provider": "local", "model": "llama"}]}},
        }
    )

    assert document.server.port == 9000


def test_keys_are_not_expanded():
    """A key is what it is written as."""
    document = parsed({"A": "x"}, runner_policies={"${A}": {}})

    assert set(document.runner_policies) == {"${A}"}


def test_reference_across_sections():
    """A name may come from the environment, and must be one that is configured."""
    model = {"candidates": [{"id": "primary", "provider": "${PROVIDER}", "model": "gpt-4o"}]}

    assert parsed({"PROVIDER": "openai"}, models={"chat": model}).models["chat"].candidates[0].provider == "openai"
    (error,) = errors({"PROVIDER": "opnai"}, models={"chat": model})
    assert error.endswith(": names nothing under providers; known: openai; found a value from ${PROVIDER}")


def test_not_utf8():
    """A variable that is not text is an error where it is used."""
    assert errors({"A": "\udcff"}, server={"host": "${A}"}) == [
        "server.host: the environment variable A is not valid UTF-8"
    ]


def test_literal_secrets():
    """A secret that stands in the document itself is told from one that the environment brings."""
    raw = {
        "server": {"admin_key": "${ADMIN:-}", "keys": [{"name": "a", "key": "literal"}, {"name": "b", "key": "${B}"}]},
        "providers": {
            "a": {"api_key": "${A:-literal}", "headers": {"Authorization": "Bearer ${TOKEN}", "x-team": "literal"}},
            "b": {"api_key": "$${literal", "base_url": "https://example.com"},
        },
    }

    assert literal_secrets(raw) == (
        "server.keys[0].key",
        "providers.a.api_key",
        "providers.a.headers.x-team",
        "providers.b.api_key",
    )
