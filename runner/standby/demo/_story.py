"""What happened, in words: who failed with what, what was decided, and by which rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from standby.runner import Decisions, Failure, Match, RunRecord, Try
from standby.store import Cool, Demote, Disable, Succeeded

Action = Literal["try again", "next candidate", "stop", "lower its rank", "leave it out", "disable it", "take it back"]

_SCOPES: Final = {
    "candidate": "out",
    "credential": "key out",
    "credential_model": "key+model out",
    "provider": "provider out",
}


class Counted(NamedTuple):
    """What is the same for decisions that differ in their numbers only."""

    action: Action
    reason: str
    rule: str


@dataclass(frozen=True, slots=True)
class Decided:
    """One thing that was decided, and that had an effect.

    Attributes:
        action: What was decided.
        words: The same with its numbers.
        reason: Why, in the words of the decision contract where it has some.
        rule: The rule as ``policy.list = value``; empty where the reason stands for itself.
    """

    action: Action
    words: str
    reason: str
    rule: str = ""

    @property
    def counted(self) -> Counted:
        """As what it is counted."""
        return Counted(self.action, self.reason, self.rule)

    @property
    def shortest_rule(self) -> str:
        """The rule's list alone; the reason where the client's own word decided, or no rule did."""
        policy, _, rule = self.rule.partition(".")
        return self.reason if policy in ("", "ClientError") else rule.partition(" = ")[0]


@dataclass(frozen=True, slots=True)
class Telling:
    """One thing that happened.

    Attributes:
        at: When the run ended that it happened in, in seconds since the epoch.
        candidate: Whom it concerns, as ``model/id``.
        what: What the candidate did.
        decided: What was decided about it; the first is what the run did.
    """

    at: float
    candidate: str
    what: str
    decided: tuple[Decided, ...]

    @property
    def words(self) -> str:
        """What was decided. A candidate that is left out is not tried again, whatever its retry policy says."""
        out = any(decided.action in ("leave it out", "disable it") for decided in self.decided)
        return ", ".join(it.words for it in self.decided if not (out and it.action == "try again"))

    @property
    def kind(self) -> tuple[str, str, tuple[Action, ...]]:
        """The same for things that differ in their numbers only."""
        return self.candidate, self.what, tuple(decided.action for decided in self.decided)

    @property
    def lasting(self) -> bool:
        """Whether it changed how the candidate stands."""
        return self.decided[0].action == "take it back" or len(self.decided) > 1


class Storyteller:
    """Tells runs, and remembers what is held against whom.

    It must: a failure of a try that began before its candidate was demoted asks for that again, and changes nothing.
    """

    def __init__(self) -> None:
        self._out_until: dict[str, float] = {}
        self._demoted_at: dict[str, float] = {}
        self._ranks: dict[str, int] = {}

    def of_run(self, record: RunRecord) -> Iterator[Telling]:
        """What is worth telling of one run: every failure, and every candidate that is well again."""
        for tried in record.tries:
            key = f"{record.model}/{tried.candidate}"
            if tried.failure is not None and tried.decisions is not None:
                decided = (_step(tried), *self._held_against(tried, tried.decisions))
                yield Telling(record.ended_at, key, what_failed(tried.failure), decided)
            elif self._is_back(tried):
                back = Decided("take it back", "back", "half-open probe")
                yield Telling(record.ended_at, key, "probe answered", (back,))

    def of_rank(self, key: str, priority: int, at: float) -> Iterator[Telling]:
        """What is worth telling of a candidate's effective priority: that a demotion wore off."""
        before = self._ranks.get(key, priority)
        self._ranks[key] = priority
        if priority < before:
            restored = Decided("take it back", f"rank {priority} again", "restoreSeconds")
            yield Telling(at, key, "demotion over", (restored,))

    def _is_back(self, tried: Try) -> bool:
        """Whether a success ended something that was held against the candidate."""
        domains = [effect.domain for effect in tried.effects if isinstance(effect, Succeeded)]
        ended = [domain for domain in domains if self._out_until.pop(domain, None) is not None]
        return bool(ended)

    def _held_against(self, tried: Try, decisions: Decisions) -> Iterator[Decided]:
        failover, demote = decisions.failover, decisions.demote
        for effect in tried.effects:
            match effect:
                case Cool(domain=domain, until=until) if until > self._out_until.get(domain, 0.0):
                    self._out_until[domain] = until
                    yield _left_out(effect, decisions)
                case Demote(domain=domain, step=step) if effect.began_at >= self._demoted_at.get(domain, 0.0):
                    self._demoted_at[domain] = effect.at
                    reason, match_ = ("", None) if demote is None else (demote.reason, demote.match)
                    yield Decided("lower its rank", f"rank +{step}", reason, _rule(match_))
                case Disable():
                    yield Decided(
                        "disable it", "disabled", failover.reason, f"failoverPolicy.actions = {failover.action}"
                    )
                case _:
                    pass


def _step(tried: Try) -> Decided:
    """What the run itself did."""
    reason, match = tried.rule
    match tried.did:
        case "retry":
            return Decided("try again", f"again in {tried.wait_seconds * 1000:.0f} ms", reason, _rule(match))
        case "next":
            return Decided("next candidate", "next", reason, _rule(match))
        case _:
            return Decided("stop", "stop", reason, _rule(match))


def _left_out(cool: Cool, decisions: Decisions) -> Decided:
    scope = cool.domain.partition(":")[0]
    words = f"{_SCOPES[scope]} {cool.until - cool.at:.1f} s"
    failover = decisions.failover
    if "ejectAfter" in cool.cause:
        after = cool.cause.rpartition("ejectAfter ")[2].rstrip(")")
        return Decided("leave it out", words, "failures in a row", f"failoverPolicy.ejectAfter = {after}")
    if "probe" in cool.cause:
        return Decided("leave it out", words, "the probe failed", "failoverPolicy.cooldownMultiplier")
    return Decided("leave it out", words, failover.reason, f"failoverPolicy.actions = {failover.action}")


def _rule(match: Match | None) -> str:
    return "" if match is None else f"{match.policy}.{match.rule} = {match.value}"


def what_failed(failure: Failure) -> str:
    """A failure in a few words."""
    info = failure.info
    if failure.blame == "local":
        return "at our own limit"
    if info.category == "stream_error":
        return "stream broke"
    if info.status:
        return f"{info.status}, wait {failure.hint:g} s" if failure.hint else f"{info.status} {info.code}"
    if info.category == "timeout":
        return "no content in time" if "firstTokenSeconds" in info.message else "no answer in time"
    if info.category == "network":
        return "connection refused" if failure.work == "not_sent" else "connection lost"
    return info.code or info.category
