"""What is held against failure domains: every effect of runs, operators and other processes, in any order.

The machine keeps the standings as every store does: it changes them by `changed`, `leased` and `returned` alone. What
must hold of a change is asserted where the change is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from standby.clients import ClientError
from standby.runner._decide import decide
from standby.runner._failure import failure_of
from standby.runner._health import FailedTry, availability, effects_of_failure, effects_of_success
from standby.runner._limits import Limits
from standby.runner._route import RouteCandidate, compile_route
from standby.runner.testing import ScriptedClient
from standby.store import (
    Cool,
    Demote,
    Disable,
    Enable,
    Failed,
    Model,
    Provider,
    Restore,
    RunnerPolicy,
    RuntimePolicy,
    Snapshot,
    Standing,
    Succeeded,
)
from standby.store._standing import CLEAN, changed, leased, returned

POLICY = {
    "failoverPolicy": {
        "allowCategories": ["auth_error", "request_error"],
        "actions": {
            "provider_5xx": "cooldown_and_next",
            "rate_limit": "cooldown_and_next",
            "auth_error": "disable_and_next",
            "provider_overloaded": "cooldown_and_next",
            "request_error": "cooldown_and_next",
        },
        "cooldownSeconds": 40,
        "maxCooldownSeconds": 300,
        "ejectAfter": 3,
    },
    "priorityDemotePolicy": {"enabled": True, "categories": ["timeout", "provider_5xx"], "demoteStep": 100},
    "scopes": {"request_error": "credential"},
}
LONGEST_COOLDOWN = 330.0
ERRORS = [
    ClientError("server_error", status=500, retryable=True),
    ClientError("server_error", status=500, retryable=True),
    ClientError("server_error", status=500, retryable=True),
    ClientError("timeout", retryable=True),
    ClientError("rate_limit", status=429, retryable=True, scope="credential_model"),
    ClientError("rate_limit", status=429, retryable=True, hint=0.0),
    ClientError("rate_limit", status=429, retryable=True, hint=1e6),
    ClientError("auth_failed", status=401, scope="credential"),
    ClientError("overloaded", status=529, retryable=True, scope="provider"),
    ClientError("bad_request", status=400, scope="request"),
    ClientError("timeout", retryable=True, scope="local"),
    ClientError("server_error", status=500, retryable=True, scope="caller"),
]
DOMAINS = ["candidate:chat/a", "candidate:chat/b", "credential_model:p/m", "credential:p", "provider:p"]

domains = st.sampled_from(DOMAINS)
numbers = st.integers(0, 5)
seconds = st.sampled_from([0.0, 1.0, 5.0, 40.0, 100.0, 700.0])


@dataclass(eq=False)
class Attempt:
    """A call under way.

    Attributes:
        probe: The domains whose probe it leased.
        before: What was known of them then, as far as it still is.
        live: Those of them whose lease no effect has overtaken.
    """

    holder: str
    candidate: RouteCandidate
    began_at: float
    until: float
    probe: tuple[str, ...] = ()
    before: dict[str, Standing] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)


class HealthMachine(RuleBasedStateMachine):
    """Three candidates, two of which share a provider's key, and all that may happen to their health."""

    @initialize(
        recheck=st.sampled_from([50, 0]),
        restore=st.sampled_from([60, 0]),
        multiplier=st.sampled_from([1, 2]),
        cooled=st.lists(domains, unique=True, max_size=3),
        disabled=st.lists(domains, max_size=1),
    )
    def configure(self, recheck, restore, multiplier, cooled, disabled):
        """Some of the domains are half open from the start."""
        policy = {
            **POLICY,
            "failoverPolicy": {**POLICY["failoverPolicy"], "recheckSeconds": recheck, "cooldownMultiplier": multiplier},
            "priorityDemotePolicy": {**POLICY["priorityDemotePolicy"], "restoreSeconds": restore},
        }
        candidates = [
            {"id": "a", "provider": "p", "model": "m"},
            {"id": "b", "provider": "p", "model": "n"},
            {"id": "c", "provider": "q", "model": "m"},
        ]
        snapshot = Snapshot(
            version=1,
            models={"chat": Model.model_validate({"runner_policy": "own", "candidates": candidates})},
            providers={name: Provider(client=name) for name in "pq"},
            runner_policies={"own": RunnerPolicy.model_validate(policy)},
            runtime_policies={"recommended": RuntimePolicy()},
        )
        clients = {name: ScriptedClient() for name in "pq"}
        self.candidates = compile_route(snapshot, "chat", clients, Limits()).candidates
        self.standings: dict[str, Standing] = {}
        self.attempts: list[Attempt] = []
        self.switched_off: set[str] = set()
        self.now = 1000.0
        self.holders = 0
        self.change(*(Cool(domain, self.now - 60.0, self.now - 1.0, 1, "before") for domain in cooled))
        self.change(*(Disable(domain, self.now - 60.0, "policy", "before", self.now - 1.0) for domain in disabled))

    # -- what may happen ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.ends())
    @rule(late=st.sampled_from([0.0, 1.0]))
    def a_cooldown_ends(self, late):
        """Or a recheck is due."""
        self.now = min(self.ends()) + late

    @precondition(lambda self: self.callable())
    @rule(
        number=numbers,
        runs=st.sampled_from([2, 1]),
        lease_seconds=st.sampled_from([10.0, 120.0]),
        late=st.sampled_from([0.0, 0.0, 30.0]),
    )
    def begin(self, number, runs, lease_seconds, late):
        """Runs call a candidate that is well, or one of them probes one that is half open, if nobody else does."""
        candidate, wanted = one_of(self.callable(), number)
        self.now += late
        for _ in range(runs):
            self.holders += 1
            attempt = Attempt(f"run_{self.holders}", candidate, self.now, self.now + lease_seconds)
            if self.lease(attempt, wanted):
                self.attempts.append(attempt)

    @precondition(lambda self: self.attempts)
    @rule(
        number=numbers,
        error=st.sampled_from(ERRORS),
        given_up=st.sampled_from([True, True, True, False]),
        chance=st.sampled_from([0.0, 0.5, 0.999]),
        late=seconds,
    )
    def fail(self, number, error, given_up, chance, late):
        """A call fails, and what that does to health is made true."""
        self.now += late
        attempt = self.over(number)
        candidate, failure = attempt.candidate, failure_of(error)
        decisions = decide(candidate.rules, failure.info, retryable=failure.retryable)
        others = [each for each in self.candidates if each is not candidate]
        last = not any(each in dict(self.free()) for each in others)
        alone = last or not any(self.answers(each) for each in others)
        failed = FailedTry(
            failure.info.category,
            failure.blame,
            failure.hint,
            attempt.began_at,
            given_up,
            attempt.probe,
            others,
            chance,
        )
        effects = effects_of_failure(candidate, decisions, failed, self.standings.get, self.now)
        if error.scope in ("local", "caller"):
            assert effects == ()
        for effect in effects:
            assert effect.domain in candidate.domains.all()
            if isinstance(effect, Cool):
                assert 1.0 <= effect.until - self.now <= LONGEST_COOLDOWN + 1e-6
                assert not (last and "in a row" in effect.cause)
                self.check_row(effect, attempt, alone and _is_soft(effect))
        self.change(*effects)
        self.give_back(attempt)

    @precondition(lambda self: self.attempts)
    @rule(number=numbers, late=seconds)
    def succeed(self, number, late):
        """A call is answered: what it proves is made true, and whatever it probed is settled."""
        self.now += late
        attempt = self.over(number)
        self.change(*effects_of_success(attempt.candidate, attempt.began_at, self.standings.get, self.now))
        for domain in attempt.probe:
            standing = self.standings.get(domain, CLEAN)
            assert not standing.half_open(self.now) or attempt.began_at < max(standing.cooled_at, standing.recheck_at)
        self.give_back(attempt)

    @precondition(lambda self: self.attempts)
    @rule(number=numbers, late=seconds)
    def cancel(self, number, late):
        """The caller leaves: the call has left no trace."""
        self.now += late
        attempt = self.over(number)
        self.give_back(attempt)
        for domain, before in attempt.before.items():
            assert without_probe(self.standings.get(domain, CLEAN)) == before

    @precondition(lambda self: self.standings)
    @rule(number=numbers, word=st.sampled_from([Enable, Enable, Restore, Disable]))
    def an_operator_speaks(self, number, word):
        """Of one of those that something is held against."""
        domain = one_of(sorted(self.standings), number)
        self.change(word(domain, self.now, "ann", *(["maintenance"] if word is Disable else [])))
        if word is Enable:
            self.switched_off.discard(domain)
        elif word is Disable:
            self.switched_off.add(domain)

    @rule(
        number=numbers,
        ago=seconds,
        lasted=seconds,
        kind=st.sampled_from(["cool", "cool", "disable", "demote", "fail", "succeed"]),
    )
    def another_process_tells_of_it_late(self, number, ago, lasted, kind):
        """Effects come in the order of commits, which need not be the order of events."""
        domain, at = one_of([*sorted(self.standings), *DOMAINS], number), self.now - ago
        effects = {
            "cool": Cool(domain, at, at + lasted, 1, "elsewhere"),
            "disable": Disable(domain, at, "policy", "elsewhere", at + lasted),
            "demote": Demote(domain, at, at - lasted, 50, 60.0, "elsewhere"),
            "fail": Failed(domain, at),
            "succeed": Succeeded(domain, at, at - lasted),
        }
        self.change(effects[kind])

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def time_alone_never_makes_it_worse(self):
        """Cooldowns in a row and demotions only wear off, a demotion by one step each time."""
        for standing in self.standings.values():
            later = [self.now + passed for passed in (0.0, 1.0, 39.0, 60.0, 600.0, 1e6)]
            in_row, demotion = [standing.in_row(at) for at in later], [standing.demotion(at) for at in later]
            assert in_row == sorted(in_row, reverse=True)
            assert demotion == sorted(demotion, reverse=True)
            assert min(in_row + demotion) >= 0
            if standing.restore_seconds and self.now >= standing.demoted_at:
                one_step_later = standing.demotion(self.now + standing.restore_seconds)
                assert one_step_later == max(0, standing.demotion(self.now) - standing.demote_step)

    @invariant()
    def what_an_operator_disabled_is_left_out_until_it_is_enabled(self):
        """However long that is; nobody probes it."""
        for domain in self.switched_off:
            standing = self.standings[domain]
            for at in (self.now, self.now + 1e6):
                assert standing.disabled
                assert not standing.half_open(at)
                assert leased(standing, "anybody", at, at + 1.0) is None

    @invariant()
    def a_candidate_is_as_well_as_the_worst_of_its_domains(self):
        for candidate in self.candidates:
            known = [self.standings.get(domain, CLEAN) for domain in candidate.domains.all()]
            half_open = [each for each in known if each.half_open(self.now)]
            if any(each.disabled and each not in half_open for each in known):
                expected = "disabled"
            elif any(each.cooling_until > self.now for each in known):
                expected = "cooling"
            else:
                expected = "probe" if half_open else "usable"
            assert availability(candidate, self.standings.get, self.now).verdict == expected

    @invariant()
    def one_probe_at_most_is_under_way(self):
        """But for those whose lease has ended, or was overtaken by what has happened since."""
        for domain in DOMAINS:
            assert sum(domain in each.live and each.until > self.now for each in self.attempts) <= 1

    @invariant()
    def only_its_holder_gives_a_probe_back(self):
        """And nobody else is lent it before that, or before the lease has ended."""
        for standing in self.standings.values():
            assert returned(standing, "somebody else") is standing
            if standing.probe_until > self.now:
                assert leased(standing, "somebody else", self.now, self.now + 1.0) is None

    @invariant()
    def a_success_of_which_nobody_need_hear_changes_nothing(self):
        for domain, standing in self.standings.items():
            if not standing.heeds_success(self.now):
                assert changed(standing, Succeeded(domain, self.now, self.now)) is standing

    # -- the store ---------------------------------------------------------------------------------------------

    def free(self):
        """Those of `callable` whom no other run probes."""
        held = [domain for domain, each in self.standings.items() if each.probe_until > self.now]
        return [(each, probed) for each, probed in self.callable() if not set(probed) & set(held)]

    def callable(self):
        """The candidates that may be called now, each with the domains that must be probed."""
        found = [(each, availability(each, self.standings.get, self.now)) for each in self.candidates]
        return [(each, seen.domains) for each, seen in found if seen.verdict in ("usable", "probe")]

    def ends(self):
        """When what is left out for a time may be probed."""
        known = self.standings.values()
        return [at for each in known for at in (each.cooling_until, each.recheck_at) if at > self.now]

    def put(self, domain, standing):
        self.standings.pop(domain, None)
        if standing != CLEAN:
            self.standings[domain] = standing

    def change(self, *effects):
        for effect in effects:
            before = self.standings.get(effect.domain, CLEAN)
            after = changed(before, effect)
            check_change(before, after, effect)
            self.put(effect.domain, after)
            for attempt in self.attempts:
                if after is not before:
                    attempt.before.pop(effect.domain, None)
                if not after.probe_holder:
                    attempt.live.discard(effect.domain)

    def lease(self, attempt, wanted):
        """The probe of all of these, or of none; a lease that has expired before is forgotten with the next one."""
        taken = {
            domain: leased(self.standings.get(domain, CLEAN), attempt.holder, self.now, attempt.until)
            for domain in wanted
        }
        if any(standing is None for standing in taken.values()):
            return False
        attempt.probe, attempt.live = tuple(wanted), set(wanted)
        attempt.before = {domain: without_probe(self.standings.get(domain, CLEAN)) for domain in wanted}
        for domain, standing in taken.items():
            self.put(domain, standing)
        return True

    def over(self, number):
        attempt = one_of(self.attempts, number)
        self.attempts.remove(attempt)
        return attempt

    def give_back(self, attempt):
        """What it probed is free for others, unless somebody else has it already; and nothing else has changed."""
        for domain in attempt.probe:
            before = self.standings.get(domain, CLEAN)
            after = returned(before, attempt.holder)
            held = before.probe_holder == attempt.holder
            assert after == (without_probe(before) if held else before)
            self.put(domain, after)

    def check_row(self, cool, attempt, as_at_first):
        """The row does not grow by calls that were under way when the domain was cooled: they are of the same incident.

        Nor where nobody else is well, and no action asked for it: then it lasts no longer than the first in a row.
        """
        standing = self.standings.get(cool.domain, CLEAN)
        if attempt.began_at < standing.cooled_at or as_at_first:
            assert cool.in_row == max(1, standing.in_row(self.now))
        else:
            assert cool.in_row == standing.in_row(self.now) + 1

    def answers(self, candidate):
        """Whether it is well, as far as is known."""
        failures = self.standings.get(candidate.domains.candidate, CLEAN).failures_in_row
        return not failures and availability(candidate, self.standings.get, self.now).verdict == "usable"


def _is_soft(cool):
    return "in a row" in cool.cause or "the probe failed" in cool.cause


def one_of(choices, number):
    return list(choices)[number % len(choices)]


def without_probe(standing):
    return replace(standing, probe_holder="", probe_until=0.0)


def check_change(before, after, effect):
    """What holds of every change of what is known."""
    by_operator = isinstance(effect, Restore)
    later_success = isinstance(effect, Succeeded) and effect.began_at >= before.cooled_at
    rechecked = later_success and 0 < before.recheck_at <= effect.began_at
    # A cooldown's end never moves back, but by an operator's word, or a success of a later attempt.
    assert after.cooling_until >= before.cooling_until or by_operator or later_success
    if later_success and (rechecked or not before.recheck_at):
        assert not after.cooling(effect.at)
    # Only a cooldown makes the row of them longer, and what was disabled and has come back counts as one.
    assert after.cooldowns_in_row <= before.cooldowns_in_row or isinstance(effect, Cool) or rechecked
    assert after.failures_in_row <= before.failures_in_row or isinstance(effect, Failed)
    # A demotion counts once per incident, and only an operator takes it back.
    if isinstance(effect, Demote) and effect.began_at >= before.demoted_at:
        demotion = before.demotion(effect.at)
        most = math.inf if effect.at_most is None else max(demotion, effect.at_most)
        assert after.demotion(effect.at) == min(demotion + effect.step, most)
    elif not by_operator:
        assert (after.demoted, after.demoted_at) == (before.demoted, before.demoted_at)
    # What is disabled is enabled by an operator, or by a success of an attempt since its recheck was due.
    assert (
        after.disabled
        or not (before.disabled or isinstance(effect, Disable))
        or isinstance(effect, Enable)
        or rechecked
    )


def test_health_keeps_its_rules():
    """Whatever happens to candidates that share their failure domains, and in whatever order it is told."""
    run_state_machine_as_test(HealthMachine, settings=settings(max_examples=160, stateful_step_count=40))
