"""What happened in a run, as values: every try, what was decided about it and by which rule, and what that did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from standby.clients import Blame, Usage, Work
from standby.store import Effect

from ._classify import FailureInfo
from ._decisions import Decisions, Match, RetryDecision

Did = Literal["retry", "next", "stop"]
Ending = Literal[
    "answered",
    "interrupted",
    "stopped",
    "exhausted",
    "unavailable",
    "deadline",
    "queue_full",
    "queue_timeout",
    "abandoned",
]
"""How a run ended.

- ``answered``: somebody answered.
- ``interrupted``: a stream broke after the caller had its first content.
- ``stopped``: a decision said stop.
- ``exhausted``: every candidate had its turn and none answered.
- ``unavailable``: nobody could be tried: all are cooling down or disabled.
- ``deadline``: the time of the whole run is over.
- ``queue_full``, ``queue_timeout``: everybody who could be tried is at the limit of local capacity.
- ``abandoned``: the caller went away.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed try, classified once.

    Attributes:
        info: Code, message, status, category and target.
        retryable: The client's own word.
        hint: Seconds that the provider asks to be left alone, as it said; `None` where it did not.
        blame: Whom the failure concerns.
        work: What the provider did before it failed.
        request_id: The vendor's own id of the call, or an empty string.
        error: The exception itself.
    """

    info: FailureInfo
    retryable: bool
    hint: float | None
    blame: Blame
    work: Work
    request_id: str
    error: Exception


class Try(NamedTuple):
    """One try of one candidate, or its refusal for want of local capacity.

    Attributes:
        candidate: The candidate's id.
        n: Which try of this candidate it was in this run, from 1; 0 for a refusal, which is not counted.
        began_at: In seconds since the epoch, as are all times here.
        failure: `None` where the try succeeded.
        decisions: What was decided about the failure.
        did: What the run then did, and ``why`` where that is not what the retry decision says.
        effects: What was done to the candidate's health, and to what shares it.
        wait_seconds: How long the run waited before it tried the same candidate again.
        abandoned: Whether nobody waited for the try any more: the caller went away, or a hedge was heard first.
        observed: What a policy that only observes would have decided.
        refusal: Why a retry that was decided on was not paid for by the retry budget.
        hedge: Whether it was made beside another try that was still silent.
        content_at: When the run committed to its stream; `None` where it did not.
        key_id: Which of its provider's keys it was called with; empty where there is only one.
    """

    candidate: str
    n: int
    began_at: float
    ended_at: float
    failure: Failure | None = None
    decisions: Decisions | None = None
    did: Did | None = None
    why: str = ""
    effects: tuple[Effect, ...] = ()
    wait_seconds: float = 0.0
    abandoned: bool = False
    observed: Decisions | None = None
    refusal: RetryDecision | None = None
    hedge: bool = False
    content_at: float | None = None
    key_id: str = ""

    @property
    def outcome(self) -> str:
        """``ok``, ``abandoned`` or the failure's category."""
        if self.failure is None:
            return "abandoned" if self.abandoned else "ok"
        return self.failure.info.category

    @property
    def rule(self) -> tuple[str, Match | None]:
        """The reason and the rule of what the run did after a failure."""
        if self.decisions is None:
            return "", None
        decision = self.decisions.retry if self.did == "retry" else self.decisions.failover
        return decision.reason, decision.match


@dataclass(frozen=True, slots=True)
class Skip:
    """A candidate that was not called.

    Attributes:
        candidate: The candidate's id.
        at: When the run passed it by.
        reason: ``cooling``, ``probing`` (another run has the probe), ``disabled``, ``budget`` (the retry budget did not
            pay for it) or ``deadline`` (too little time was left).
        until: When that ends; 0 where nobody knows.
        cause: Why, in words.
        key: Which of its provider's keys it would have been called with; empty where there is only one.
    """

    candidate: str
    at: float
    reason: str
    until: float
    cause: str
    key: str = ""


@dataclass(slots=True)
class RunRecord:
    """One run, told from its start to its end; complete when `ending` is set."""

    run_id: str
    model: str
    version: int
    began_at: float
    caller: str = ""
    ended_at: float = 0.0
    ending: Ending | None = None
    candidate: str | None = None
    tries: list[Try] = field(default_factory=list[Try])
    skips: list[Skip] = field(default_factory=list[Skip])
    queued_seconds: float = 0.0
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()

    @property
    def attempts(self) -> int:
        """Calls that were made; refusals for want of local capacity are none."""
        return sum(1 for tried in self.tries if tried.n)

    @property
    def failovers(self) -> int:
        """Candidates that were called and given up; to go on with another key of the same one is no failover."""
        called = [tried for tried in self.tries if tried.n]
        return sum(
            tried.did == "next" and all(later.candidate != tried.candidate for later in called[index:])
            for index, tried in enumerate(called, 1)
        )

    @property
    def own_seconds(self) -> float:
        """The part of the run that no provider had a hand in: deciding, waiting and queueing."""
        calling, until = 0.0, self.began_at
        for tried in sorted(self.tries, key=lambda tried: tried.began_at):
            # A hedge and the call beside it are under way at the same time.
            calling += max(0.0, tried.ended_at - max(tried.began_at, until))
            until = max(until, tried.ended_at)
        return self.ended_at - self.began_at - calling

    def as_dict(self) -> dict[str, Any]:
        """The record as a JSON object. No secret is in it, nor a word of what was asked or answered."""
        return {
            "run_id": self.run_id,
            "model": self.model,
            "version": self.version,
            "caller": self.caller,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "ending": self.ending,
            "candidate": self.candidate,
            "attempts": self.attempts,
            "failovers": self.failovers,
            "queued_ms": round(self.queued_seconds * 1000),
            "usage": None if self.usage is None else asdict(self.usage),
            "dropped": list(self.dropped),
            "tries": [_try_as_dict(tried, self.began_at) for tried in self.tries],
            "skips": [asdict(skip) for skip in self.skips],
        }


def _try_as_dict(tried: Try, began_at: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "candidate": tried.candidate,
        "n": tried.n,
        "after_ms": round((tried.began_at - began_at) * 1000, 3),
        "took_ms": round((tried.ended_at - tried.began_at) * 1000, 3),
        "outcome": tried.outcome,
    }
    if tried.key_id:
        told["key"] = tried.key_id
    if tried.content_at is not None:
        told["content_after_ms"] = round((tried.content_at - began_at) * 1000, 3)
    if tried.hedge:
        told["hedge"] = True
    if tried.abandoned and tried.why:
        told["why"] = tried.why
    if tried.failure is not None and tried.decisions is not None:
        failure, decisions = tried.failure, tried.decisions
        told |= {
            "failure": {
                **failure.info._asdict(),
                "retryable": failure.retryable,
                "hint_seconds": failure.hint,
                "blame": failure.blame,
                "work": failure.work,
                "request_id": failure.request_id,
            },
            "decisions": _decisions_as_dict(decisions),
            "did": tried.did,
            "why": tried.why,
            "wait_ms": round(tried.wait_seconds * 1000),
            "effects": [{"effect": type(effect).__name__.lower(), **asdict(effect)} for effect in tried.effects],
        }
    if tried.refusal is not None:
        told["refusal"] = asdict(tried.refusal)
    if tried.observed is not None:
        told["observed"] = _decisions_as_dict(tried.observed)
    return told


def _decisions_as_dict(decisions: Decisions) -> dict[str, Any]:
    return {
        "retry": asdict(decisions.retry),
        "failover": asdict(decisions.failover),
        "demote": None if decisions.demote is None else asdict(decisions.demote),
    }


class LazyRecord(Mapping[str, Any]):
    """A finished record as the JSON object it is kept as, made when somebody first looks."""

    __slots__ = ("_dict", "_record")

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._dict: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        # A history files every record by its id; that alone must not cost the whole.
        return self._record.run_id if key == "run_id" else self._whole()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> dict[str, Any]:
        if self._dict is None:
            self._dict = self._record.as_dict()
        return self._dict
