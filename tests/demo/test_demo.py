"""`standby demo` as whoever starts it sees it: what it prints, how it ends, what it leaves behind."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import httpx
import pytest

from standby.demo import run_demo
from standby.demo._document import KEY_VARIABLE
from standby.demo._providers import ChatStream
from standby.demo._vendors import ANTHROPIC, GEMINI
from standby.demo.faults import Answer, Close, error_answer

START = "from standby.demo import run_demo; raise SystemExit(run_demo({}))"
CONTROL_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass
class Seen:
    """What a run of the demonstration printed, where the numbers are."""

    code: int
    out: str

    def number(self, name: str) -> int:
        found = re.search(rf"\b{name} (\d+)", self.out.rpartition("asked")[1] + self.out.rpartition("asked")[2])
        assert found is not None, name
        return int(found[1])

    def decided(self) -> list[tuple[int, str, str, str]]:
        """The table of decisions: how often, what, for which reason, by which rule."""
        head, *rows = self.table("n", "decided", "reason", "by the rule")
        what, why, rule = (head.index(name) for name in ("decided", "reason", "by the rule"))
        return [(int(row[:what]), row[what:why].strip(), row[why:rule].strip(), row[rule:].strip()) for row in rows]

    def candidates(self) -> dict[str, tuple[int, int]]:
        """The table of candidates: served and failed, summed up over the models that a provider serves."""
        head, *rows = self.table("model", "candidate", "served", "failed")
        name, served, failed = head.index("candidate"), head.index("served"), head.index("failed")
        counts: dict[str, tuple[int, int]] = {}
        for row in rows:
            before = counts.get(row[name:].split()[0], (0, 0))
            more = int(row[served : served + 6]), int(row[failed : failed + 6].strip() or 0)
            counts[row[name:].split()[0]] = before[0] + more[0], before[1] + more[1]
        return counts

    def table(self, *columns: str) -> list[str]:
        """The lines of a table, its head first, without the rule below that and the space between."""
        lines = self.out.splitlines()
        first = next(index for index, line in enumerate(lines) if all(name in line for name in columns))
        last = next(index for index in range(first, len(lines)) if not lines[index])
        return [line for line in lines[first:last] if line.strip(" ─")]


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Forty requests, seen by something that is no terminal."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temporary")
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("COLUMNS", "140")
        with redirect_stdout(StringIO()) as capture:
            code = run_demo(requests=40)
        assert list(folder.iterdir()) == []
        return Seen(code, capture.getvalue())


def test_every_request_is_answered(usual):
    """That is what it is there to show."""
    assert usual.code == 0
    assert "40 of 40 requests were answered" in usual.out
    assert (usual.number("asked"), usual.number("answered")) == (40, 40)


def test_half_of_the_chats_are_streamed(usual):
    """Every stream is read to its end, and the time to its first content is told."""
    assert usual.number("streamed") == 12
    assert re.search(r"to the first content of a stream \(12\)( +[\d.]+ m?s){3}", usual.out)


def test_its_numbers_add_up(usual):
    """Tries are answers and failures; a failover is a decision for the next candidate; and so on."""
    served, failed = map(sum, zip(*usual.candidates().values(), strict=True))
    assert served == usual.number("answered")
    assert served + failed == usual.number("tries")
    steps = [row for row in usual.decided() if row[1] in ("try again", "next candidate", "stop")]
    ours = [times for times, _, reason, _ in steps if reason == "local_rate_limit_try_next_candidate"]
    assert sum(times for times, *_ in steps) - sum(ours) == failed
    failovers = sum(times for times, action, *_ in steps if action == "next candidate") - sum(ours)
    assert failovers == usual.number("failovers")


def test_every_kind_of_trouble_is_met_and_decided_by_its_rule(usual):
    """No trouble passes unseen, however slow the machine is."""
    rules = {rule for _, action, _, rule in usual.decided() if action == "next candidate"}
    for category in ("auth_error", "rate_limit", "timeout", "network", "stream_error", "provider_5xx"):
        assert f"failoverPolicy.allowCategories = {category}" in rules
    assert any(action == "lower its rank" for _, action, *_ in usual.decided())


def test_the_revoked_key_is_met_once(usual):
    """Its credential is left out for both models."""
    assert usual.candidates()["alder"] == (0, 1)
    assert usual.out.count("401 invalid_api_key") == 1
    assert re.search(r"401 invalid_api_key → next, key out 6\d\.\d s  failoverPolicy.actions = cooldown", usual.out)


def test_it_is_quiet_where_there_is_no_terminal(usual):
    """No control codes, no progress bar, and not many lines."""
    assert not CONTROL_CODES.search(usual.out.replace("\n", ""))
    assert "━" not in usual.out
    assert len(usual.out.splitlines()) < 80


def test_it_leaves_the_environment_as_it_was(usual):
    """The key that its providers are called with is there only as long as it runs."""
    assert KEY_VARIABLE not in os.environ


def test_a_backup_that_dies_is_told(capsys):
    """Whoever is not answered counts, and the exit code says so."""
    dead = error_answer(500, "All is lost.")
    code = run_demo(requests=10, scripts=dict.fromkeys(("birch", "cedar", "oak"), dead))
    out = capsys.readouterr().out
    assert code == 1
    seen = Seen(code, out)
    assert seen.number("asked") == 10
    assert seen.number("answered") < 10
    assert f"{10 - seen.number('answered')} were not" in out
    assert "NOT" in out


def test_a_stream_that_breaks_is_no_answer(capsys):
    """Though its caller had the beginning."""

    def breaking(vendor):
        broken = Close(after_bytes=700, of=ChatStream("Never to be said to its end.", vendor))

        def script(number, method, path, headers, body):
            streamed = vendor.wants_stream(path, json.loads(body))
            return broken if streamed else Answer(body=vendor.said("Hello.", "open-chat"))

        return script

    code = run_demo(requests=3, scripts={"birch": breaking(ANTHROPIC), "cedar": breaking(GEMINI)})
    out = capsys.readouterr().out
    assert code == 1
    assert "stream broke → stop" in out
    seen = Seen(code, out)
    assert [seen.number(name) for name in ("asked", "answered", "streamed")] == [3, 2, 0]


def test_nothing_to_send_is_a_mistake():
    """A demonstration of nothing would always succeed."""
    with pytest.raises(ValueError, match="at least 1"):
        run_demo(requests=0)


def test_importing_it_imports_next_to_nothing():
    """`standby --help` does not wait for a table that is not drawn."""
    code = "import sys, standby.demo; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"rich", "sqlalchemy", "starlette", "uvicorn", "httpx", "anyio"} & set(loaded)


# -- in a process of its own ---------------------------------------------------------------------------------------


def environ(tmp_path, **more):
    return {**os.environ, "TMPDIR": str(tmp_path), "PYTHONWARNINGS": "error", **more}


def on_a_terminal(arguments: str, columns: int, env) -> tuple[int, str]:
    """What a terminal of so many columns is sent."""
    ours, its = pty.openpty()
    env = {**env, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "24"}
    with subprocess.Popen([sys.executable, "-c", START.format(arguments)], stdout=its, stderr=its, env=env) as process:
        os.close(its)
        chunks: list[bytes] = []
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:
            pass  # the other side is closed
        finally:
            os.close(ours)
    return process.returncode, b"".join(chunks).decode()


def test_on_a_terminal_it_draws_a_screen(tmp_path):
    """A table, a bar, the last decisions; the cursor comes back."""
    code, out = on_a_terminal("8", 80, environ(tmp_path))
    assert code == 0
    assert "Last decisions" in out
    assert "━" in out
    assert "\x1b[32m" in out
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80


def test_no_color_is_respected(tmp_path):
    """Nothing but bold and dim is left."""
    code, out = on_a_terminal("3", 60, environ(tmp_path, NO_COLOR="1"))
    assert code == 0
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;m]", out)


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_ctrl_c_and_sigterm_close_everything(tmp_path, number, code, said):
    """It ends at once and says so, without a traceback, and leaves nothing behind."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", START.format("5000")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(tmp_path),
    ) as process:
        assert process.stdout is not None
        while "401" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert out.endswith(f"{said}; everything is closed.\n")
    assert list(tmp_path.iterdir()) == []


def test_serve_answers_a_curl_and_tells_the_trail(tmp_path):
    """The lines that it prints work, the providers fail, the headers tell; SIGINT is its usual end."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", START.format("serve=True")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(tmp_path),
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert process.poll() is None
        curl = next(
            re.search(r"curl -i (\S+)/v1/chat/completions -d '(.+)'$", line) for line in lines if "chat" in line
        )
        assert curl is not None
        streaming = next(found for line in lines if (found := re.search(r"curl -N (\S+) -d '(.+)'$", line)))
        with httpx.Client(base_url=curl[1], trust_env=False) as caller:
            answer = caller.post("/v1/chat/completions", content=curl[2])
            run = caller.get(f"/admin/runs/{answer.headers['x-standby-run-id']}").json()
            candidates = caller.get("/admin/candidates").json()["candidates"]
            stream = caller.post(streaming[1], content=streaming[2])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert answer.status_code == 200
    assert answer.headers["x-standby-trail"].startswith("alder;n=1;outcome=auth_error;status=401;decision=next;")
    assert run["candidate"] == answer.headers["x-standby-candidate"]
    assert {candidate["status"] for candidate in candidates if candidate["provider"] == "alder"} == {"cooling"}
    assert f"{run['run_id']} alder auth_error (next), " in out
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.endswith("data: [DONE]\n\n")
    assert re.search(rf"{stream.headers['x-standby-run-id']} .+ ok, 200, first content in \d\.\d\d s", out)
    assert (process.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []
