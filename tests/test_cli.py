"""The `standby` command as a person uses it: its output, its errors, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

VECTORS = Path(__file__).parent / "runner/data/decision_vectors.jsonl"

GOOD = """
version: 1
providers: {a: {client: openai, base_url: "http://127.0.0.1:9/v1", api_key: "sk-very-secret-key-1234567890"}}
models: {chat: {candidates: [{id: primary, provider: a, model: m}]}}
"""
BAD = """
version: 1
providers: {a: {client: openai, base_url: "http://127.0.0.1:9/v1", api_key: ["sk-very-secret-key-1234567890"]}}
models: {chat: {candidates: [{id: primary, provider: b, model: m, priorty: 1}]}}
"""


def standby(*arguments, stdin=b""):
    command = [sys.executable, "-c", "from standby.cli import main; main()", *arguments]
    return subprocess.run(command, check=False, input=stdin, capture_output=True)


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return str(path)


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    return str(path)


def test_all_cases_of_the_contract_are_answered_in_order():
    """`explain --jsonl` prints one line a case, shaped as `expect` is, and ends with 0."""
    done = standby("explain", "--jsonl", stdin=VECTORS.read_bytes())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    cases = [json.loads(line) for line in VECTORS.read_bytes().splitlines()]
    assert done.returncode == 0
    assert answers == [{"demote": None, **case["expect"], "id": case["id"]} for case in cases]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"{", "not JSON"),
        (b"[]", "the line"),
        (b'{"id": "x"}', "error"),
        (b'{"id": "x", "error": {"type": "clint"}}', "error.type"),
        (b'{"id": "x", "error": {"type": "client", "status": "500"}}', "error.status"),
        (
            b'{"id": "x", "error": {"type": "other"}, "runner_policy": {"failoverPolicy": {"cooldownSeconds": -1}}}',
            "cooldownSeconds",
        ),
        (
            b'{"id": "x", "error": {"type": "other"}, "runner_policy": {"failoverPolicy": {"actions": {"rate_limit": "explode"}}}}',
            "rate_limit",
        ),
        (
            b'{"id": "x", "error": {"type": "other"}, "candidate": {"retryPolicy": {"denyCategories": ["ratelimit"]}}}',
            "denyCategories",
        ),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
    ],
)
def test_a_malformed_line_is_answered_with_an_error(line, named):
    """It names the place; the other lines are still answered; the command ends with 1."""
    well = b'{"id": "well", "error": {"type": "other", "message": "boom"}}'
    done = standby("explain", "--jsonl", stdin=line + b"\n\n" + well + b"\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert named in first["error"]
    assert first["id"] == ("x" if b'"x"' in line else None)
    assert (second["id"], done.returncode, done.stderr) == ("well", 1, b"")


def test_explain_says_each_decision_with_its_rule(good):
    """Three decisions, each with a sentence, a reason and where the rule is written."""
    done = standby("explain", "--config", good, "--model", "chat", "--candidate", "primary", "--status", "429")
    told = done.stdout.decode()
    assert done.returncode == 0
    assert "chat/primary fails: rate_limit with status 429." in told
    assert "written: runner_policies.recommended.failoverPolicy.allowCategories[0] (built in) = rate_limit" in told


def test_explain_can_answer_in_json(good):
    """For programs."""
    done = standby(
        "explain", "--config", good, "--model", "chat", "--candidate", "primary", "--status", "503", "--json"
    )
    assert json.loads(done.stdout)["info"]["category"] == "provider_5xx"


def test_explain_without_a_question_says_what_it_needs():
    """Used wrongly: 2."""
    done = standby("explain")
    assert done.returncode == 2
    assert b"explain needs --config FILE, --model NAME and --candidate ID" in done.stderr


def test_explain_names_what_it_does_not_know(good):
    """A misspelt candidate is told with the known ones."""
    done = standby("explain", "--config", good, "--model", "chat", "--candidate", "x")
    assert (done.returncode, done.stderr) == (1, b"standby: the model 'chat' has no candidate 'x'; it has: primary\n")


def test_check_says_that_all_is_well(good):
    """With what there is."""
    done = standby("check", good)
    assert (done.returncode, done.stdout.decode()) == (0, f"{good}: all is well: 1 models, 1 candidates\n")


def test_check_says_what_serve_would_refuse(good):
    """Though a program that embeds the runner may use it."""
    Path(good).write_text(GOOD + "\nserver: {workers: 3}\n")
    done = standby("check", good)
    told = done.stderr.decode()
    assert (done.returncode, told.splitlines()[0]) == (1, f"{good}: 1 error")
    assert "store.state_url: 3 workers must share their run-time state" in told


def test_check_says_everything_wrong_at_once_and_no_secret(bad):
    """The file, the count, a line for each mistake; never a key, never a traceback."""
    done = standby("check", bad)
    told = done.stderr.decode()
    assert done.returncode == 1
    assert told.splitlines()[0] == f"{bad}: 3 errors"
    for path in ("providers.a.api_key", "models.chat.candidates[0].provider", "models.chat.candidates[0].priorty"):
        assert path in told
    assert "very-secret" not in told
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_missing_file_is_named(command, tmp_path):
    """An operator's mistake is no traceback."""
    done = standby(command, str(tmp_path / "none.yaml"))
    assert done.returncode == 1
    assert b"none.yaml" in done.stderr
    assert b"Traceback" not in done.stderr


def test_features_prints_a_table():
    """What each client can do."""
    done = standby("features")
    assert done.returncode == 0
    assert "| `seed` | `seed` | ✓ |" in done.stdout.decode()


def test_schema_prints_a_json_schema():
    """Draft 2020-12, of the whole document."""
    done = standby("schema")
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_version_is_the_packages():
    """`--version` prints it."""
    assert standby("--version").stdout.startswith(b"standby 0.")


def test_an_unknown_command_is_told():
    """Used wrongly: 2."""
    assert standby("sevre").returncode == 2


def test_explain_state_of_a_gateway_that_does_not_answer():
    """One line says so; nothing is known of it."""
    done = standby("explain", "--server", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"standby: no gateway answers at http://127.0.0.1:1: ")


def test_explain_state_without_a_source():
    """Where to look must be said, once."""
    assert standby("explain", "--state").returncode == 2


def test_explain_state_of_a_store(tmp_path, good):
    """Each candidate with its sentences; `--json` gives the same as data."""
    Path(good).write_text(f'{GOOD}store: {{url: "sqlite:///{tmp_path}/standby.db"}}\n')
    Path(tmp_path / "standby.db").touch()
    assert standby("explain", "--state", "--config", good).stdout == (
        b"chat/primary: usable, rank 100\n  It may be called.\n"
    )
    assert json.loads(standby("explain", "--state", "--config", good, "--json").stdout)[0]["status"] == "usable"
    unknown = standby("explain", "--state", "--config", good, "--candidate", "primry")
    assert unknown.stderr == b"standby: no candidate of that name; there are: chat/primary\n"


@pytest.fixture
def kept(tmp_path):
    """A document whose store is a file."""
    path = tmp_path / "kept.yaml"
    path.write_text(
        GOOD.replace('"sk-very-secret-key-1234567890"', '"${SOME_KEY:-none}"')
        + f'store: {{url: "sqlite:///{tmp_path}/standby.db"}}\n'
    )
    return path


def test_import_and_export(kept):
    """What is imported comes out again, with its variables not filled in; the same again makes no version."""
    assert standby("import", str(kept)).stdout.endswith(b": version 1 is stored\n")
    assert standby("import", str(kept)).stdout.endswith(b": version 1 says the same already\n")
    exported = standby("export", str(kept)).stdout
    assert yaml.safe_load(exported) == {
        key: value for key, value in yaml.safe_load(kept.read_text()).items() if key != "store"
    }
    assert b"${SOME_KEY:-none}" in exported


def test_export_an_older_version(kept):
    """Each version is kept."""
    first = kept.read_text()
    standby("import", str(kept))
    kept.write_text(first.replace("model: m", "model: n"))
    assert standby("import", str(kept)).stdout.endswith(b": version 2 is stored\n")
    assert b"model: m" in standby("export", str(kept), "--version", "1").stdout
    assert b"model: n" in standby("export", str(kept)).stdout


def test_import_of_a_wrong_document(kept):
    """It is refused with all that is wrong, and the store is left as it is."""
    standby("import", str(kept))
    kept.write_text(kept.read_text().replace("provider: a", "provider: b"))
    done = standby("import", str(kept))
    assert (done.returncode, b"models.chat.candidates[0].provider" in done.stderr) == (1, True)
    assert b"Traceback" not in done.stderr


@pytest.fixture
def without_models(tmp_path, kept):
    """A document on the same store, which leaves the catalog to it."""
    path = tmp_path / "without.yaml"
    path.write_text(f'version: 1\nstore: {{url: "sqlite:///{tmp_path}/standby.db"}}\n')
    return str(path)


def test_check_of_a_document_without_models(without_models, tmp_path):
    """Where they are is said, and not asked: there may be no store yet."""
    done = standby("check", without_models)
    assert done.stdout.decode() == f"{without_models}: all is well; its models are in sqlite:///{tmp_path}/standby.db\n"
    assert not (tmp_path / "standby.db").exists()


def test_a_document_without_models_takes_them_from_its_store(kept, without_models):
    """Explaining and exporting go by what was imported; it has nothing to import itself."""
    standby("import", str(kept))
    asked = ("explain", "--config", without_models, "--model", "chat", "--candidate", "primary", "--status", "429")
    assert b"chat/primary fails: rate_limit" in standby(*asked).stdout
    assert standby("explain", "--state", "--config", without_models).stdout.startswith(b"chat/primary: usable")
    assert standby("export", without_models).stdout == standby("export", str(kept)).stdout
    done = standby("import", without_models)
    assert done.stderr.decode() == (
        f"{without_models}: 1 error\n  models: is required: there is nothing to store; found nothing\n"
    )


@pytest.mark.parametrize("command", ["explain", "export"])
def test_a_document_without_models_before_any_import(without_models, command):
    """One line says that there is nothing yet."""
    asked = (
        ("--config", without_models, "--model", "chat", "--candidate", "a")
        if command == "explain"
        else (without_models,)
    )
    done = standby(command, *asked)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"nothing is known yet: there is no " in done.stderr
    assert not (Path(without_models).parent / "standby.db").exists()
    assert b"Traceback" not in done.stderr


def test_what_is_exported_can_be_imported(kept, tmp_path):
    """It says the same, so it makes no version."""
    standby("import", str(kept))
    exported = tmp_path / "exported.yaml"
    exported.write_bytes(standby("export", str(kept)).stdout)
    done = standby("import", str(exported), "--store", f"sqlite:///{tmp_path}/standby.db")
    assert done.stdout.endswith(b": version 1 says the same already\n")


def test_export_of_a_version_that_was_never_there(kept):
    """Those that are there are named."""
    standby("import", str(kept))
    done = standby("export", str(kept), "--version", "7")
    assert (done.returncode, b"holds no version 7 of the catalog: it has 1 to 1" in done.stderr) == (1, True)


def test_audit_of_a_store(kept):
    """A line for each thing that was done, with its time, its author and its reason; `--json` for programs."""
    standby("import", str(kept))
    (line,) = standby("audit", str(kept)).stdout.decode().splitlines()
    assert line.endswith(f" UTC  import: reload catalog:1: {kept}")
    (told,) = json.loads(standby("audit", str(kept), "--json").stdout)
    assert (told["who"], told["what"], told["target"]) == ("import", "reload", "catalog:1")


def test_audit_where_nothing_is_kept(good):
    """Whom to ask is said; so is what the command needs."""
    done = standby("audit", good)
    assert (done.returncode, b"ask it, with --server http://HOST:PORT" in done.stderr) == (1, True)
    assert standby("audit").returncode == 2


def test_migrate(kept):
    """It says which form the tables have now."""
    assert standby("migrate", str(kept)).stdout.endswith(b": schema 0003\n")


@pytest.mark.parametrize("command", ["import", "export", "migrate"])
def test_a_store_that_keeps_nothing(good, command):
    """There is nothing to do in it, and the message says what to name."""
    done = standby(command, good)
    assert done.returncode == 1
    assert done.stderr.startswith(b"standby: store.url is memory: nothing is kept; name a store")


@pytest.mark.parametrize("command", ["import", "export", "migrate"])
def test_a_store_that_cannot_be_used(good, command):
    """One line says why, without a password and without a traceback."""
    done = standby(command, good, "--store", "postgresql://standby:secret-password@127.0.0.1:1/standby")
    assert done.returncode == 1
    assert done.stderr.startswith(b"standby: postgresql://standby:***@127.0.0.1:1/standby cannot be reached")
    assert b"secret-password" not in done.stderr


NOWHERE = """
version: 1
providers:
  aws: {client: bedrock, region: eu_central_1, api_key: very-secret-key}
models: {chat: {candidates: [{id: a, provider: aws, model: m}]}}
store: {url: "sqlite:///STORE"}
server: {port: 0}
"""


@pytest.mark.parametrize("command", ["check", "serve", "import"])
def test_what_a_client_says_of_its_settings_is_said_as_all_else_is(tmp_path, command):
    """Though each of them is right by itself."""
    path = tmp_path / "gateway.yaml"
    path.write_text(NOWHERE.replace("STORE", str(tmp_path / "store.db")))
    done = standby(command, str(path))
    told = done.stderr.decode()
    assert done.returncode == 1
    assert "providers.aws: region must be one of AWS's, such as eu-central-1" in told
    assert "Traceback" not in told
    assert "very-secret-key" not in told
