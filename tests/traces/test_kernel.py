"""The golden traces, read by the pure plan: no event loop, no sockets, and time is a number."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from standby.clients import Body, ClientError, Response, Usage
from standby.clients._exceptions import failure_of
from standby.clients._http_answer import HttpAnswer
from standby.clients._openai_wire import answered
from standby.demo.faults import Answer
from standby.runner._budget import Budgets
from standby.runner._drive import PROBE_LEASE_MARGIN_SECONDS
from standby.runner._limits import Lease, Limits, Refused
from standby.runner._plan import Plan
from standby.runner._queue import Queue, Ticket
from standby.runner._rank import Ranking
from standby.runner._record import RunRecord
from standby.runner._route import Route, compile_route
from standby.runner._run import cut, estimated_tokens
from standby.runner._shared import Shared
from standby.runner._steps import Call, Deliver, Enqueue, GiveUp, Wait
from standby.runner.testing import EPOCH, ScriptedClient
from standby.store import Enable, MemoryState, Snapshot
from tests.traces.reading import Between, Run, Step, Trace, behaviour_of, told, told_skips, traces

TRACES = traces()
T = TypeVar("T")


@pytest.mark.parametrize("name", TRACES)
def test_a_trace(name):
    """The plan does, decides and spends what the trace says, step by step."""
    read(TRACES[name], TRACES[name].snapshot(nowhere(TRACES[name])))


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_fails_where_it_expects_something_else(name):
    """Nothing that a trace expects is passed over: each expectation, replaced by another, is not met."""
    trace = TRACES[name]
    snapshot = trace.snapshot(nowhere(trace))
    for changed in changes(trace):
        with pytest.raises(AssertionError):
            read(changed, snapshot)


# -- the shell of a run, without its waits -------------------------------------------------------------------------


def read(trace: Trace, snapshot: Snapshot) -> None:
    kernel = Kernel(trace, snapshot)
    for each in trace.happens:
        if isinstance(each, Run):
            KernelRun(kernel, each).drive()
        else:
            kernel.between(each)


def nowhere(trace: Trace) -> dict[str, str]:
    return dict.fromkeys(trace.names_of_providers, "http://127.0.0.1:1")


class Kernel:
    """What the runs of a trace share."""

    def __init__(self, trace: Trace, snapshot: Snapshot) -> None:
        clients = {name: ScriptedClient() for name in trace.names_of_providers}
        self.route: Route = compile_route(snapshot, "chat", clients, Limits())
        self.state = MemoryState()
        self.budgets = Budgets()
        self.queue = Queue()
        self.shared = Shared(self.state.standing, self.budgets, lambda candidate, percentile: float("inf"), chance)

    def between(self, between: Between) -> None:
        now = EPOCH + between.at
        if between.enable:
            self.state.apply_now([Enable(between.enable, now, "operator")])
        else:
            until = now + between.seconds
            assert at_once(self.state.lease_probe([between.probed_elsewhere], "another run", now, until))

    def tokens_left(self) -> dict[str, int]:
        """What is left of the budgets that something was spent of."""
        return {
            domain: candidate.retry_budget.capacity - spent
            for candidate in self.route.candidates
            for domain in candidate.domains.all()
            if (spent := self.budgets.spent(domain))
        }

    def holds_nothing(self) -> bool:
        capacities = [capacity for candidate in self.route.candidates for capacity in candidate.capacities]
        return not (self.budgets.extras or self.queue.anybody or any(capacity.in_use for capacity in capacities))


class KernelRun:
    """One run, driven as the runner's shell drives it; where that would wait, the time is set to the end of the wait."""

    def __init__(self, kernel: Kernel, run: Run) -> None:
        self.kernel = kernel
        self.run = run
        self.now = EPOCH + run.at
        self.left = list(run.steps)
        self.before: Step | None = None
        self.lease: Lease | None = None
        self.used: Usage | None = None
        self.tokens = estimated_tokens(Body(run.body))
        self.record = RunRecord(f"run at {run.at}", "chat", kernel.route.version, self.now)
        ranking = Ranking(kernel.route, kernel.state.standing, kernel.state.generation, self.now)
        total = min(kernel.route.total_seconds, run.options.get("timeout_seconds", kernel.route.total_seconds))
        self.plan = Plan(
            kernel.route,
            ranking.order(chance),
            self.record,
            kernel.shared,
            self.now + total,
            may_fail_over=run.options.get("may_fail_over", True),
        )

    def drive(self) -> None:
        self.kernel.budgets.runs += 1
        end = self.drive_to_its_end()
        self.kernel.budgets.runs -= 1
        self.plan.close()
        self.give_back()
        self.check_budgets()
        assert self.left == []
        assert told_skips(self.record) == list(self.run.skips)
        assert ("answered" if isinstance(end, Deliver) else end.ending) == self.run.ending
        retry_after = None if isinstance(end, Deliver) else end.retry_after_seconds
        assert retry_after == (None if self.run.retry_after is None else pytest.approx(self.run.retry_after, abs=1e-3))
        assert self.kernel.holds_nothing()

    def drive_to_its_end(self) -> Deliver | GiveUp:
        while True:
            step = self.plan.step(self.now)
            if not isinstance(step, Deliver | GiveUp):
                self.check_budgets()
            match step:
                case Call():
                    self.call(step)
                case Wait(until):
                    self.wait(until)
                case Enqueue():
                    self.enqueue(step)
                case end:
                    return end

    def check_budgets(self) -> None:
        """What is left when the next step begins, or the run is over, is what the step before said."""
        before, self.before = self.before, None
        if before is not None:
            assert self.kernel.tokens_left() == dict(before.budgets)

    def check_try(self, step: Step) -> None:
        assert told(self.record.tries[-1], step) == step.expected

    def next_step(self) -> Step:
        assert self.left, "the trace ends here"
        self.before = self.left.pop(0)
        return self.before

    def call(self, call: Call) -> None:
        if not call.admitted:
            taken = self.kernel.queue.take(call.candidate.capacities, self.tokens, self.now)
            if isinstance(taken, Refused):
                self.plan.report_refused(call, taken.free_at, self.now)
                self.check_try(self.next_step())
                return
            self.lease = taken
        until = call.until + PROBE_LEASE_MARGIN_SECONDS
        if call.probe and not at_once(self.kernel.state.lease_probe(call.probe, self.record.run_id, self.now, until)):
            self.plan.report_probed_elsewhere(call, self.now)
            self.give_back()
            return
        step = self.next_step()
        assert step.call == call.candidate.id
        self.report(call, step)
        at_once(self.kernel.state.return_probe(call.probe, self.record.run_id))
        self.check_try(step)

    def report(self, call: Call, step: Step) -> None:
        began_at = self.now
        came_of_it = self.come_of(call, step)
        if isinstance(came_of_it, ClientError):
            effects = self.plan.report_failure(call, came_of_it, began_at, self.now)
        else:
            self.used = came_of_it.usage
            effects = self.plan.report_answer(call, began_at, self.now)
        self.kernel.state.apply_now(effects)
        self.give_back()

    def come_of(self, call: Call, step: Step) -> Response | ClientError:
        """The provider's answer as the client reads it, from the bytes that it would send."""
        if step.gets.get("fault") == "silence":
            began_at, self.now = self.now, call.until
            return cut(call, began_at)
        self.now += step.takes
        assert self.now < call.until, "the trace's answer comes after the try is cut"
        behaviour = behaviour_of(step)
        if not isinstance(behaviour, Answer):
            return failure_of(ConnectionRefusedError() if behaviour is None else ConnectionResetError())
        try:
            return answered("chat/completions", answer_in(behaviour.wire), now=self.now, scrub=str)
        except ClientError as error:
            return error

    def wait(self, until: float) -> None:
        tries = self.record.tries
        if not (tries and tries[-1].did == "retry" and until == tries[-1].ended_at + tries[-1].wait_seconds):
            assert self.next_step().wait == pytest.approx(until - self.now, abs=1e-3)
        self.now = until

    def enqueue(self, enqueue: Enqueue) -> None:
        wants = [(candidate.key, candidate.capacities) for candidate in enqueue.candidates]
        ticket = Ticket(wants, self.tokens, lambda: None)
        began_at, queue = self.now, self.kernel.queue
        if not self.kernel.route.queue.max_waiting:
            self.plan.report_not_admitted(0.0, full=True, free_at=ticket.free_at(began_at), now=began_at)
            return
        queue.join(ticket, "chat", "normal", began_at)
        queue.serve(ticket.capacities(), self.now)
        while ticket.lease is None and self.now < enqueue.until:
            self.now = min(ticket.free_at(self.now), enqueue.until)
            queue.serve(ticket.capacities(), self.now)
        queue.leave(ticket)
        assert self.next_step().queue == pytest.approx(self.now - began_at, abs=1e-3)
        if ticket.lease is None:
            self.plan.report_not_admitted(
                self.now - began_at, full=False, free_at=ticket.free_at(self.now), now=self.now
            )
        else:
            self.lease = ticket.lease
            candidate = next(each for each in enqueue.candidates if each.key == ticket.key)
            self.plan.report_admitted(candidate, self.now - began_at)

    def give_back(self) -> None:
        if self.lease is not None:
            self.lease.end(tokens=None if self.used is None else self.used.total_tokens)
            self.lease = None


def chance() -> float:
    return 0.0


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def answer_in(wire: bytes) -> HttpAnswer:
    """The answer in the bytes of one."""
    head, _, content = wire.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return HttpAnswer(int(status_line.split()[1]), headers, content)


# -- traces that expect something else -----------------------------------------------------------------------------

ANOTHER_STEP = Step(call="nobody")
ELSE_OF_A_TRY = {
    "category": "unheard_of",
    "then": "give up",
    "because": "of_something_else",
    "rule": "anotherPolicy.anotherList = x",
    "source": "somewhere_else",
    "why": "for another reason",
    "effects": ("candidate:chat/nobody failed",),
    "observed": {"retry": "of_something_else"},
    "budgets": {"candidate:chat/nobody": 1},
}


def changes(trace: Trace):
    """The trace with one expectation changed, for each of them."""
    for index, each in enumerate(trace.happens):
        if isinstance(each, Run):
            for changed in changes_of_run(each):
                yield replace(trace, happens=(*trace.happens[:index], changed, *trace.happens[index + 1 :]))


def changes_of_run(run: Run):
    yield replace(run, ending="interrupted")
    yield replace(run, retry_after=(run.retry_after or 0.0) + 1)
    yield replace(run, skips=(*run.skips, "nobody cooling"))
    if run.skips:
        yield replace(run, skips=run.skips[1:])
    yield replace(run, steps=(*run.steps, ANOTHER_STEP))
    for index, step in enumerate(run.steps):
        yield replace(run, steps=run.steps[:index] + run.steps[index + 1 :])
        for changed in changes_of_step(step):
            yield replace(run, steps=(*run.steps[:index], changed, *run.steps[index + 1 :]))


def changes_of_step(step: Step):
    if step.wait is not None:
        yield replace(step, wait=step.wait + 1)
    elif step.queue is not None:
        yield replace(step, queue=step.queue + 1)
    else:
        yield replace(step, **{"call" if step.call else "refuse": "nobody"})
        for key, value in ELSE_OF_A_TRY.items():
            yield replace(step, **{key: value})
        yield from (replace(step, effects=step.effects[:n] + step.effects[n + 1 :]) for n in range(len(step.effects)))
        yield from (replace(step, budgets={**step.budgets, domain: left + 1}) for domain, left in step.budgets.items())
