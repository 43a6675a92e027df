"""Files: which are read, and what a file is told of which nothing can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from standby.store import InvalidConfig, _yaml, load, parse, read

SMALL = """\
version: 1
providers: {openai: {client: openai, api_key: sk-openai}}
models: {chat: {candidates: [{id: primary, provider: openai, model: gpt-4o}]}}
"""


def error_of(path: Path) -> str:
    with pytest.raises(InvalidConfig) as caught:
        load(path)
    title, *lines = str(caught.value).splitlines()
    assert title.startswith(f"{path}: ")
    return "\n".join(line.strip() for line in lines)


def errors(text: str, language: str = "yaml") -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        parse(text, language=language)
    return [str(finding) for finding in caught.value.findings]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.YAML"])
def test_ending(name: str, tmp_path: Path):
    """The ending says the language, whatever its case."""
    (tmp_path / name).write_text(SMALL)

    assert set(load(tmp_path / name).models) == {"chat"}


@pytest.mark.parametrize("name", ["gateway.ini", "gateway", ".yaml"])
def test_ending__unknown(name: str, tmp_path: Path):
    """Another ending is an error with those that are known."""
    assert error_of(tmp_path / name) == "must have a name that ends in one of .yaml .yml .toml .json"


def test_missing(file: Path):
    """A file that is not there is named with the reason."""
    assert error_of(file) == "cannot be read: No such file or directory"


def test_folder(file: Path):
    """A folder is no file."""
    file.mkdir()

    assert error_of(file) == "cannot be read: Is a directory"


def test_impossible_name():
    """A name that no file can have is an error like any other."""
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load("gate\0way.yaml")


def test_not_utf8(file: Path):
    """A text in another encoding is refused with the line that shows it."""
    file.write_bytes(b"version: 1\nmodels: \xff\n")

    assert error_of(file) == "is not UTF-8 text: line 2 holds a byte that cannot stand there"


def test_byte_order_mark(file: Path):
    """The mark that some editors put first is no part of the text."""
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())

    assert set(load(file).models) == {"chat"}


def test_too_large(file: Path):
    """A file of more than four MiB is refused unread."""
    file.write_bytes(b"#" * (4 * 1024 * 1024 + 1))

    assert error_of(file) == "is larger than 4 MiB"


@pytest.mark.parametrize("text", ["", "  \n", "# nothing\n", "null\n", "---\n"])
def test_empty(text: str, file: Path):
    """A file that says nothing is empty."""
    file.write_text(text)

    assert error_of(file) == "is empty"


@pytest.mark.parametrize(
    ("text", "language", "error"),
    [
        ("a: [1,\nb: 2", "yaml", "is not YAML: line 3, column 1: did not find expected ',' or ']'"),
        ("a: b: c", "yaml", "is not YAML: line 1, column 5: mapping values are not allowed in this context"),
        ("url: memory:", "yaml", "is not YAML: line 1, column 12: mapping values are not allowed in this context"),
        ("a: \x07", "yaml", "is not YAML: it holds a control character"),
        ("a = ", "toml", "is not TOML: end of document: Invalid value"),
        ("a = 1\nb = x", "toml", "is not TOML: line 2, column 5: Invalid value"),
        ('{"a": 1,\n "b" 2}', "json", "is not JSON: line 2, column 6: Expecting ':' delimiter"),
    ],
)
def test_syntax(text: str, language: str, error: str):
    """An error of syntax says line and column."""
    (found,) = errors(text, language)

    assert found.startswith(error.partition("did not")[0])


def test_yaml__two_documents():
    """A file holds one document."""
    assert errors("a: 1\n---\nb: 2") == ["is not YAML: line 2, column 1: a second document begins; one is allowed"]


@pytest.mark.parametrize(
    ("text", "language"),
    [("version: 1\nmodels: {a: {}, a: {}}\n", "yaml"), ('{"version": 1, "models": {"a": {}, "a": {}}}', "json")],
)
def test_key_written_twice(text: str, language: str):
    """A key that is written twice is an error with its path, beside the other errors."""
    assert errors(text, language) == [
        "models.a: is written twice; leave one of them out",
        "models.a.candidates: is required; found nothing",
    ]


def test_key_written_twice__toml():
    """TOML itself refuses a key that is written twice."""
    assert errors("version = 1\nversion = 1", "toml") == ["is not TOML: end of document: Cannot overwrite a value"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2024-05-01", "a date or a time"),
        ("2024-05-01T10:00:00Z", "a date or a time"),
        ("!!binary aGVsbG8=", "binary data"),
        ("!!set {a, b}", "a set"),
        ("!!omap [a: 1]", "an ordered map"),
        ("!mine x", "a value with a tag of its own"),
        ("!!python/object/apply:os.system [ls]", "a value with a tag of its own"),
        ("!!int x", "a value that its type does not have"),
        ("=", None),
    ],
)
def test_yaml__types(value: str, kind: str | None):
    """YAML's types beyond JSON's are refused by name; none is built."""
    found = errors(f"{SMALL}store:\n  url: {value}\n")

    if kind is None:
        assert found == [
            'store.url: must be memory:, sqlite:///PATH without ? and #, or postgresql://USER:PASSWORD@HOST/DATABASE; found "="'
        ]
    else:
        assert found == [
            f"store.url: cannot be {kind}; write a string in quotes, a number, true, false, a list or a mapping"
        ]


def test_toml__date():
    """A date is refused in TOML too."""
    assert errors("version = 1979-05-27", "toml")[1].startswith("version: cannot be a date or a time")


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "2024-05-01", "[a]", "{a: b}"])
def test_yaml__key_is_no_string(key: str):
    """A key that YAML takes for something else must be quoted."""
    (error,) = errors(f"{SMALL}runner_policies:\n  ? {key}\n  : {{}}\n")

    assert error.startswith("runner_policies: every key must be a string; put it in quotes; found ")


def test_yaml__aliases_and_merge_keys():
    """An alias stands for what it names, and a merge key lays a mapping under the one it is in."""
    document = parse(
        """
        version: 1
        providers: {openai: {client: openai, api_key: sk-openai}}
        runtime_policies:
          a: {retryPolicy: &retry {maxAttempts: 3, denyCodes: [a]}}
          b: {retryPolicy: {<<: *retry, maxAttempts: 4}}
          c: {retryPolicy: {<<: [{maxAttempts: 5}, *retry]}}
        models: {chat: {candidates: [{id: primary, provider: openai, model: gpt-4o}]}}
        """
    )
    policies = {name: policy.retry_policy for name, policy in document.runtime_policies.items()}

    assert (policies["b"].max_attempts, policies["b"].deny_codes) == (4, ["a"])
    assert (policies["c"].max_attempts, policies["c"].deny_codes) == (5, ["a"])


@pytest.mark.parametrize("text", ["a: *b", "a: &a [*a]", "a: &a {b: *a}"])
def test_yaml__alias_without_anchor(text: str):
    """An alias names what is complete: not nothing, and not what it stands in."""
    (error,) = errors(text)

    assert error.endswith("an alias for which there is no anchor")


def test_yaml__read_the_same_without_libyaml(file: Path, monkeypatch: pytest.MonkeyPatch):
    """A build of the library without its faster parser reads the same."""
    file.write_text(f"{SMALL}runner_policies: {{a: &a {{status: 'on'}}, b: *a, c: {{<<: *a}}}}\n")
    fast = read(file)
    monkeypatch.setattr(_yaml, "_LOADER", yaml.SafeLoader)

    assert read(file) == fast


def test_yaml__aliases_of_aliases():
    """A few lines that would unfold into a thousand million values are refused before they do."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]

    assert errors("\n".join(lines)) == ["is nested deeper than 64 levels or holds more than 250000 values"]


@pytest.mark.parametrize("language", ["yaml", "toml", "json"])
@pytest.mark.parametrize("depth", [70, 500_000])
def test_depth(language: str, depth: int):
    """A document that is nested beyond reason is refused, not followed."""
    text = "[" * depth + "]" * depth
    text = f"a = {text}" if language == "toml" else text

    assert errors(text, language) == ["is nested deeper than 64 levels or holds more than 250000 values"]


def test_depth__mapping_in_itself():
    """A mapping that holds itself has no end."""
    raw: dict[str, object] = {"version": 1}
    raw["models"] = raw
    with pytest.raises(InvalidConfig, match="is nested deeper than 64 levels"):
        parse(raw)


@pytest.mark.parametrize("text", ['{"version": %s}', "version: %s", "version = %s"])
def test_long_number(text: str):
    """A number of thousands of digits is an error, not a pause."""
    language = {"{": "json", "v": "yaml"}[text[0]] if "=" not in text else "toml"

    assert len(errors(text % ("9" * 5000), language)) in {1, 2}


def test_json__lone_surrogate():
    """Half a character, which JSON can write, is refused in values and in keys."""
    assert errors(r'{"version": "\ud800", "models": {"\udc00": 1}}', "json") == [
        "version: holds half a character (a lone surrogate)",
        "models: every key must be a string; put it in quotes; found half a character (a lone surrogate) as a key",
        "models: must not be empty; found a mapping",
    ]


@pytest.mark.parametrize("loader", [yaml.SafeLoader, _yaml._LOADER])
def test_syntax_error_shows_nothing_of_the_text(loader: type[yaml.SafeLoader], monkeypatch: pytest.MonkeyPatch):
    """Parsers quote what they stumble over; the error does not, and holds no exception that does."""
    monkeypatch.setattr(_yaml, "_LOADER", loader)
    for text, language in [
        ('api_key: "sk-secret\\q', "yaml"),
        ("api_key: !sk-secret! x", "yaml"),
        ("api_key: !<sk-secret", "yaml"),
        ("api_key: *sk-secret", "yaml"),
        ("api_key = sk-secret", "toml"),
        ('{"api_key": sk-secret}', "json"),
    ]:
        with pytest.raises(InvalidConfig) as caught:
            parse(text, language=language)
        assert "secret" not in str(caught.value)
        context = caught.value.__context__
        assert context is None or "secret" not in repr(context)


def test_read__refuses_what_cannot_be_kept(file: Path):
    """What is read to be kept is plain: a date or a key that is written twice is refused."""
    file.write_text("version: 1\nversion: 1\nmodels: 2024-05-01\n")
    with pytest.raises(InvalidConfig) as caught:
        read(file)

    assert [finding.path for finding in caught.value.findings] == ["version", "models"]


def test_read__does_not_look_at_the_keys(file: Path):
    """Whether a document is right is not asked when it is only read."""
    file.write_text("anything: ${AT_ALL}\n")

    assert read(file) == {"anything": "${AT_ALL}"}
