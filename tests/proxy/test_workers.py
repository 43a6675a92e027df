"""`standby serve --workers`, with real processes: one port, one state, and what becomes of whom when somebody dies."""

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing import Pipe

import pytest
from prometheus_client import parser

from standby.proxy import CannotListen, CannotStart, bound_socket, supervise
from standby.proxy._worker import Reload
from standby.proxy._workers import Plan, Worker, Workers
from standby.runner import open_gateway
from standby.store import InvalidConfig
from standby.store.sql import open_sql
from tests.proxy.listening import CHAT, HELLO, request

PATIENCE_SECONDS = 60
ROUNDS = 16
"""So many new connections go all to one of two workers once in 32,768 times."""


def document(tmp_path, model="chat", provider="http://127.0.0.1:9", **more):
    candidate = {"id": "primary", "provider": "a", "model": "m", "runtime_policy": "bare"}
    return {
        "version": 1,
        "server": {"port": 0, "workers": 2},
        "store": {"url": f"sqlite:///{tmp_path}/standby.db"},
        "providers": {"a": {"client": "openai", "base_url": f"{provider}/v1"}},
        "models": {model: {"runner_policy": "bare", "candidates": [candidate]}},
        **more,
    }


def written(tmp_path, raw):
    path = tmp_path / "gateway.json"
    new = tmp_path / "gateway.new"
    new.write_text(json.dumps(raw))
    new.rename(path)
    return path


class Served:
    """`standby serve`: what it says, and what it answers on new connections."""

    def __init__(self, path, *options):
        command = [sys.executable, "-c", "from standby.cli import main; main()", "serve", str(path), *options]
        environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
        self.log = ""
        self.watchdog = threading.Timer(PATIENCE_SECONDS, self.kill_all)
        self.watchdog.start()

    def kill_all(self):
        """No test waits for ever, and none leaves anybody behind."""
        for pid in (self.process.pid, *(int(pid) for _, pid in re.findall(LISTENS, self.log))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def listens(self):
        """Waits for the first line of output; it tells the port."""
        self.first = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", self.first)[1])
        return self

    def heard(self, pattern):
        """Waits for a line of the log from here on that matches, and returns the match."""
        for line in self.process.stderr:
            self.log += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"never heard: {pattern}\n{self.log}")

    def workers(self):
        """The process ids of both workers by their numbers, at the start."""
        return {int(found[1]): int(found[2]) for found in (self.heard(LISTENS), self.heard(LISTENS))}

    def ask(self, path, body=None, method=None):
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method)
        try:
            with opener.open(asked, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error), error.headers

    def runs_by_worker(self):
        """How many runs each worker has ended, as a new connection is told."""
        with opener.open(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_SECONDS) as answer:
            families = parser.text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families if family.name == "standby_runs" for sample in family.samples]
        told = Counter()
        for sample in samples:
            told[sample.labels["worker"]] += sample.value
        return told

    def models(self):
        """The models as so many new connections are told."""
        return {model["id"] for _ in range(ROUNDS) for model in self.ask("/v1/models")[1]["data"]}

    def ended(self):
        """The exit code and all that was ever said, when every process is gone: nobody holds the pipes any more."""
        for line in self.process.stderr:
            self.log += line
        return self.process.wait(), self.process.stdout.read()


opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LISTENS = r"worker (\d) \(process (\d+)\) listens"


@contextmanager
def started(path, *options):
    served = Served(path, *options)
    try:
        yield served
    finally:
        served.process.terminate()
        served.ended()
        served.process.stdout.close()
        served.process.stderr.close()
        served.watchdog.cancel()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def served(folder):
    """Two workers over a SQLite file, for what leaves them as they are."""
    with started(written(folder, document(folder))) as running:
        running.listens().pids = running.workers()
        yield running
        running.process.terminate()
        assert running.ended() == (0, "")


def until(holds):
    """Ask again until it holds: what one worker has done, others see a moment later."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.01)


# -- what they share


def test_a_run_is_found_whoever_is_asked(served):
    """Runs that both served, in the history that both write."""
    runs = [served.ask("/v1/chat/completions", CHAT)[2]["x-standby-run-id"] for _ in range(4)]
    for path in [f"/admin/runs/{run}" for run in runs]:
        until(lambda path=path: {served.ask(path)[0] for _ in range(ROUNDS)} == {200})
    newest = {run["run_id"] for run in served.ask("/admin/runs?limit=1000")[1]["runs"]}
    assert newest >= set(runs)


def test_what_an_operator_tells_one_all_do(served):
    """A candidate that one worker was told to leave out is left out by both, and both are ready again together."""
    assert served.ask("/admin/candidates/primary/disable", b"{}")[1]["status"] == "disabled"
    until(lambda: {served.ask("/readyz")[0] for _ in range(ROUNDS)} == {503})
    assert served.ask("/admin/candidates/primary/enable", b"{}")[1]["status"] == "usable"
    until(lambda: {served.ask("/readyz")[0] for _ in range(ROUNDS)} == {200})


def test_whoever_is_asked_tells_the_numbers_of_both(served):
    """Worker by worker, and none of them grows smaller, whoever is asked next; in the end every run is counted."""
    before = {}
    runs = 0
    for _ in range(ROUNDS):
        served.ask("/v1/chat/completions", CHAT)
        told = served.runs_by_worker()
        assert {worker for worker, number in before.items() if told[worker] < number} == set()
        before, runs = told, len(served.ask("/admin/runs?limit=1000")[1]["runs"])
    until(lambda: sum(served.runs_by_worker().values()) == len(served.ask("/admin/runs?limit=1000")[1]["runs"]) >= runs)
    assert set(served.runs_by_worker()) == {"1", "2"}


def test_an_edit_is_one_version_for_all(served, folder):
    """Both workers read the edited file, one stores it, both serve it."""
    written(folder, document(folder, "edited"))
    for _ in range(2):
        served.heard(r"worker \d standby.proxy: .*gateway.json was changed: version 2 of the catalog is served")
    assert served.models() == {"edited"}
    with closing(sqlite3.connect(folder / "standby.db")) as database:
        assert database.execute("SELECT count(*) FROM catalog_versions").fetchone() == (2,)


def test_a_reload_of_one_is_a_reload_of_all(served):
    """Who is asked does it and answers, and the other one is told; so each is, where each is asked."""
    versions = {served.ask("/admin/reload", method="POST")[1]["version"] for _ in range(ROUNDS)}
    line = r"worker (\d) standby.proxy: .*gateway.json is to be read anew: version (\d) of the catalog is served"
    heard = [served.heard(line).groups() for _ in range(ROUNDS)]
    assert {number for number, _ in heard} == {"1", "2"}
    assert {int(version) for _, version in heard} == versions


def test_who_read_the_file_anew_is_not_told_to():
    """It did so already: only the others are."""
    ours, theirs = zip(Pipe(), Pipe(), strict=True)
    plan = Plan("gateway.yaml", {}, True, 2, [], "127.0.0.1", None)
    workers = Workers(plan, None, None)
    workers._alive = {number: Worker(number, None, pipe, 0.0) for number, pipe in enumerate(ours)}
    theirs[0].send(Reload("ann", "a new key"))
    workers._hear(workers._alive[0])
    assert not theirs[0].poll()
    assert theirs[1].recv() == Reload("ann", "a new key")
    for pipe in (*ours, *theirs):
        pipe.close()


def test_a_second_server_is_refused(served, folder):
    """Though a port may be shared, it is not shared with everybody."""
    with pytest.raises(CannotListen, match=f"port {served.port}: Address already in use"):
        supervise(folder / "gateway.json", 2, ["false"], port=served.port)
    with pytest.raises(CannotListen, match=f"port {served.port}: Address already in use"):
        bound_socket("127.0.0.1", served.port)


# -- deaths and ends


def test_a_worker_that_is_killed_is_started_again(served, folder):
    """The other one answers meanwhile; the new one serves what was imported since; the next death costs more time."""
    asyncio.run(imported(folder, document(folder, "imported")))
    os.kill(served.pids[1], signal.SIGKILL)
    served.heard(rf"worker 1 \(process {served.pids[1]}\) ended, and is started again in 0.5 s: killed by SIGKILL")
    assert served.ask("/healthz")[0] == 200
    number, pid = served.heard(LISTENS).groups()
    assert number == "1"
    until(lambda: served.models() == {"imported"})
    os.kill(int(pid), signal.SIGKILL)
    served.heard("is started again in 1 s: killed by SIGKILL")


async def imported(folder, raw):
    async with open_sql(raw["store"]["url"]) as store:
        await store.catalog.replace(raw, "an operator")


class Call:
    """A call that is under way: the connection of its caller, and that to its provider."""

    def __init__(self, port, provider):
        self.caller = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.caller.sendall(request(CHAT, "Connection: close"))
        self.upstream, _ = provider.accept()
        self.upstream.settimeout(PATIENCE_SECONDS)

    def answered(self):
        """What the caller is answered when the provider does."""
        self.upstream.sendall(HELLO.wire)
        return everything(self.caller)


def everything(connection):
    with suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def calling(tmp_path):
    """Two workers, and a way to have calls under way."""
    with ExitStack() as stack:
        provider = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        provider.settimeout(PATIENCE_SECONDS)
        raw = document(tmp_path, provider=f"http://127.0.0.1:{provider.getsockname()[1]}")
        served = stack.enter_context(started(written(tmp_path, raw))).listens()

        def called():
            call = Call(served.port, provider)
            stack.enter_context(call.caller)
            stack.enter_context(call.upstream)
            return call

        yield served, called


def refuses(port):
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()
    except OSError:
        return True
    return False


def test_what_is_under_way_ends_and_a_second_interrupt_cuts_it(calling):
    """The first takes no new calls and answers those it has; the second leaves the provider, and that is no error."""
    served, called = calling
    first, second = called(), called()
    served.process.send_signal(signal.SIGINT)
    until(lambda: refuses(served.port))
    assert first.answered().startswith(b"HTTP/1.1 200 OK\r\n")
    served.process.send_signal(signal.SIGINT)
    assert served.ended() == (0, "")
    everything(second.upstream)


def test_workers_end_with_their_parent(calling):
    """Even where it is killed; what they have accepted they answer first."""
    served, called = calling
    call = called()
    served.process.kill()
    until(lambda: refuses(served.port))
    assert call.answered().startswith(b"HTTP/1.1 200 OK\r\n")
    assert served.ended() == (-signal.SIGKILL, "")
    assert "Traceback" not in served.log


# -- what does not start


def test_a_worker_that_cannot_start_ends_all(tmp_path):
    """One message, though no worker can; nothing was said to listen."""
    (tmp_path / "standby.db").write_text("not a database, and long enough to be sure of it" * 20)
    with started(written(tmp_path, document(tmp_path))) as served:
        assert served.ended() == (1, "")
    assert re.fullmatch(r"standby: worker \d \(process \d+\) cannot start: .*standby\.db.*\n", without_log(served.log))


def test_a_worker_that_dies_at_the_start_ends_all(tmp_path):
    """It would only die again."""
    with pytest.raises(CannotStart, match=r"worker \d \(process \d+\) cannot start: exit code 7"):
        supervise(written(tmp_path, document(tmp_path)), 2, [sys.executable, "-c", "raise SystemExit(7)"])


def test_a_worker_that_dies_before_it_has_heard_its_task_ends_all(tmp_path):
    """However long the task is: nobody waits for it to be read."""
    raw = document(tmp_path)
    raw["providers"]["a"]["headers"] = {"x-long": "x" * 1_000_000}
    path = written(tmp_path, raw)
    code = f"from standby.proxy import supervise; supervise({str(path)!r}, 2, ['false'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert "CannotStart: worker 1" in done.stderr


def without_log(text):
    return "".join(line for line in text.splitlines(keepends=True) if not re.match(r"\d{4}-", line))


def test_workers_that_would_share_nothing(tmp_path):
    """Each would learn on its own that a provider is down: refused, with what to name instead."""
    path = written(tmp_path, document(tmp_path, store={}))
    with pytest.raises(InvalidConfig, match=r"store\.state_url: 2 workers must share .* valkey://.*sqlite:///PATH"):
        supervise(path, 2, ["false"])


def test_one_worker_needs_no_store(tmp_path):
    """The option overrides the document; one worker is a server as ever, without a parent."""
    with started(written(tmp_path, document(tmp_path, store={})), "--workers", "1") as served:
        assert served.listens().ask("/healthz")[0] == 200
        served.process.terminate()
        assert served.ended() == (0, "")
    assert "worker" not in served.log


def test_a_worker_is_not_started_by_hand():
    """It has nobody to tell it what to do."""
    command = [sys.executable, "-m", "standby.cli", "worker", "99"]
    done = subprocess.run(command, check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"standby: a worker is started by standby serve --workers, and not by hand\n"


# -- what a worker is told


def test_a_runner_knows_how_many_serve(tmp_path):
    """What is not shared may then be divided."""

    async def known():
        async with open_gateway(document(tmp_path), processes=3) as gateway:
            return gateway.runner.processes

    assert asyncio.run(known()) == 3


@pytest.fixture
def plan(tmp_path):
    """The plan of a document, whose file was edited since: its models, and its server section."""

    def planned(*, keeps_catalog):
        raw = document(tmp_path)
        path = written(tmp_path, document(tmp_path, "edited", server={"admin_key": "another"}))
        return Plan(str(path), raw, keeps_catalog, 2, [], "127.0.0.1", socket.socket())

    return planned


def test_all_have_the_server_section_of_the_start(plan):
    """A worker that joins the others takes the models from the file, as they did; keys and stores stay theirs."""
    with (made := plan(keeps_catalog=False)).reserved:
        told = made.document(again=True)
    assert (list(told["models"]), told["server"], told["store"]) == (["edited"], made.raw["server"], made.raw["store"])


def test_a_kept_catalog_needs_no_file(plan):
    """What the others serve is in the store: whatever is wrong with the file, a worker can join."""
    with (made := plan(keeps_catalog=True)).reserved:
        assert made.document(again=True) is made.raw
