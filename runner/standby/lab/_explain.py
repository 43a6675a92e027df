"""What would happen if this candidate failed like that: the three decisions, and where their rules are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_snake

from standby.clients import Work, client_error_of
from standby.runner import RETRY_COSTS, Decisions, FailureInfo, Match, classify, compile_rules, decide
from standby.store import (
    BUILT_IN_RUNNER_POLICIES,
    BUILT_IN_RUNTIME_POLICIES,
    DEFAULT_SCOPES,
    Candidate,
    EffectivePolicies,
    FailoverPolicy,
    Snapshot,
    effective_policies,
    overlaid,
)

from ._cases import told


class Question(BaseModel):
    """A failure that somebody asks about.

    Attributes:
        model: The model's name.
        candidate: The candidate's id.
        status: The HTTP status; 0 where no answer came.
        code: The client's code; what the client would make of status and message where left out.
        message: What the provider said.
        retryable: The client's own word; as it would be where left out.
        local: Whether it is our own rate limit.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    candidate: str
    status: int = 0
    code: str | None = None
    message: str = ""
    retryable: bool | None = None
    local: bool = False


class UnknownName(ValueError):
    """The question names a model or a candidate that the configuration does not have."""


@dataclass(frozen=True, slots=True)
class Told:
    """One decision, for a person.

    Attributes:
        question: What was decided about: ``retry``, ``failover`` or ``demotion``.
        answer: In one word.
        sentence: What happens.
        reason: The contract's word for why.
        match: The rule; `None` where none decided.
        written: Where the rule is written, as a path in the configuration, or who said it.
    """

    question: str
    answer: str
    sentence: str
    reason: str
    match: Match | None
    written: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to a `Question`.

    Attributes:
        observed: What would be decided if the gateway's policy were active, where it only observes.
    """

    question: Question
    info: FailureInfo
    retryable: bool
    decisions: Decisions
    told: tuple[Told, ...]
    observed: Decisions | None = None
    told_observed: tuple[Told, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The explanation as a JSON object: the contract's decisions, and each in words."""
        sentences = {
            each.question: {"sentence": each.sentence, "reason": each.reason, "written": each.written}
            for each in self.told
        }
        observed = {} if self.observed is None else {"observed": told(self.info, self.observed)}
        return {**told(self.info, self.decisions), **observed, "retryable": self.retryable, "explained": sentences}


def ask(snapshot: Snapshot, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """`explain`, for a question that came as JSON.

    Raises:
        ValueError: The question makes no sense; the message says why.
    """
    try:
        question = Question.model_validate(asked)
    except ValidationError as error:
        found = "; ".join(f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in error.errors())
        raise ValueError(found) from None
    return explain(snapshot, question).as_dict()


def explain(snapshot: Snapshot, question: Question) -> Explanation:
    """Decide about the failure that ``question`` describes, and say why.

    Raises:
        UnknownName: There is no such model or candidate.
    """
    candidate, index = _candidate(snapshot, question)
    policies = effective_policies(snapshot, snapshot.models[question.model], candidate)
    rules = compile_rules(policies.runner_policy, policies.runtime_policy, policies.failover_override)
    code, retryable, work = _as_the_client_would_say(question)
    info = classify(code, question.message, 0 if question.local else question.status)
    decisions = decide(rules, info, retryable=retryable, local=question.local)
    where = _Where(question.model, candidate, index, policies, _built_in(snapshot))
    observed = decide(rules.observed, info, retryable=retryable, local=question.local) if rules.observed else None
    return Explanation(
        question,
        info,
        retryable,
        decisions,
        (_retry(decisions, work, where), *_by_the_gateway(decisions, info, where)),
        observed,
        () if observed is None else _by_the_gateway(observed, info, where),
    )


def _candidate(snapshot: Snapshot, question: Question) -> tuple[Candidate, int]:
    model = snapshot.models.get(question.model)
    if model is None:
        raise UnknownName(f"no model is named {question.model!r}; there are: {', '.join(snapshot.models)}")
    for index, candidate in enumerate(model.candidates):
        if candidate.id == question.candidate:
            return candidate, index
    ids = ", ".join(candidate.id for candidate in model.candidates)
    raise UnknownName(f"the model {question.model!r} has no candidate {question.candidate!r}; it has: {ids}")


def _as_the_client_would_say(question: Question) -> tuple[str, bool, Work]:
    if question.local:
        return "rate_limit", question.retryable is not False, "not_sent"
    error = client_error_of(question.status, question.code or "", question.message)
    code = error.code if question.code is None else question.code
    return code, error.retryable if question.retryable is None else question.retryable, error.work


def _built_in(snapshot: Snapshot) -> tuple[str, ...]:
    """The paths of the built-in policies, but for those that the configuration writes itself."""
    kept = [
        *(
            f"runner_policies.{name}."
            for name, policy in BUILT_IN_RUNNER_POLICIES.items()
            if snapshot.runner_policies.get(name) is policy
        ),
        *(
            f"runtime_policies.{name}."
            for name, policy in BUILT_IN_RUNTIME_POLICIES.items()
            if snapshot.runtime_policies.get(name) is policy
        ),
    ]
    return tuple(kept)


# -- in words ----------------------------------------------------------------------------------------------------


def _by_the_gateway(decisions: Decisions, info: FailureInfo, where: _Where) -> tuple[Told, ...]:
    """The two decisions that are the gateway-wide policy's."""
    demotion = () if decisions.demote is None else (_demotion(decisions, where),)
    return (_failover(decisions, info, where), *demotion)


def _retry(decisions: Decisions, work: Work, where: _Where) -> Told:
    decision = decisions.retry
    retry, budget = where.policies.runtime_policy.retry_policy, where.policies.runner_policy.retry_budget
    if decision.reason == "local_rate_limit_wait_queue":
        sentence = "The same candidate is not tried again at once: the run may wait for its capacity in the queue."
    elif decision.retry:
        sentence = f"The same candidate may be tried again, {retry.max_attempts} tries in all, after a backoff."
        if budget.enabled:
            sentence += f" It costs {RETRY_COSTS[work]} of the {budget.capacity} tokens of the retry budget."
        if retry.max_attempts == 1:
            sentence = "The same candidate might be tried again, but maxAttempts is 1."
    else:
        sentence = "The same candidate is not tried again."
    written = where.written(decision.match)
    return Told("retry", "yes" if decision.retry else "no", sentence, decision.reason, decision.match, written)


def _failover(decisions: Decisions, info: FailureInfo, where: _Where) -> Told:
    decision = decisions.failover
    seconds = f"{decision.cooldown_seconds:g} s"
    match decision.action:
        case "stop":
            sentence = "The run stops: no other candidate is tried."
        case "cooldown_and_next":
            sentence = f"The next candidate is tried, and {where.covered(info.category)} is left out for {seconds}."
        case "disable_and_next":
            recheck_seconds = where.failover_policy.recheck_seconds
            until = (
                f"for {recheck_seconds:g} s, when one run checks it" if recheck_seconds else "until somebody enables it"
            )
            sentence = f"The next candidate is tried, and this one is left out {until}."
        case _:
            sentence = "The next candidate is tried; nothing happens to this one."
    return Told("failover", decision.action, sentence, decision.reason, decision.match, where.written(decision.match))


def _demotion(decisions: Decisions, where: _Where) -> Told:
    decision = decisions.demote
    assert decision is not None  # noqa: S101 - the caller has asked
    sentence = "This candidate keeps its rank."
    if decision.demote:
        restore_seconds = where.policies.runner_policy.priority_demote_policy.restore_seconds
        lasting = f"it wears off after {restore_seconds:g} s" if restore_seconds else "until somebody restores it"
        sentence = f"This candidate is ranked {decision.step} lower, once for this incident; {lasting}."
    written = where.written(decision.match)
    return Told("demotion", "yes" if decision.demote else "no", sentence, decision.reason, decision.match, written)


@dataclass(frozen=True, slots=True)
class _Where:
    """Finds where in the configuration a rule is written."""

    model: str
    candidate: Candidate
    index: int
    policies: EffectivePolicies
    built_in: tuple[str, ...]

    @property
    def failover_policy(self) -> FailoverPolicy:
        """The one that holds for the candidate."""
        return overlaid(self.policies.runner_policy.failover_policy, self.policies.failover_override)

    def covered(self, category: str) -> str:
        """What a cooldown for this category leaves out, in words."""
        written = {name.strip().lower(): scope for name, scope in self.policies.runner_policy.scopes.items()}
        match {**DEFAULT_SCOPES, **written}.get(category, "candidate"):
            case "credential":
                return "every candidate with this one's credential"
            case "credential_model":
                return "every candidate with this one's credential and model"
            case "provider":
                return "every candidate of this one's provider"
            case _:
                return "this one"

    def written(self, match: Match | None) -> str:
        """The path of the rule, or who said it."""
        if match is None:
            return ""
        path = self._path(match)
        return f"{path} (built in)" if path.startswith(self.built_in) else path

    def _path(self, match: Match) -> str:
        match match.source.partition(".")[0]:
            case "provider_client":
                return "the provider client's own word; no list matched"
            case "gateway_rate_limits":
                return self._runtime("rateLimitPolicy")
            case "runtime_policy_override":
                policy = self.policies.failover_override
                return f"{self._override()}.failoverPolicy.{_item(policy, match)}"
            case "model_runtime_policy_sets":
                return f"{self._retry_list(match)}.{_item(self.policies.runtime_policy.retry_policy, match)}"
            case _:
                return self._gateway(match)

    def _gateway(self, match: Match) -> str:
        runner = self.policies.runner_policy
        path = f"runner_policies.{self.policies.runner_policy_name}"
        if match.policy == "runnerPolicy":
            return f"{path}.status"
        policy = getattr(runner, to_snake(match.policy))
        return f"{path}.{match.policy}.{_item(policy, match)}"

    def _retry_list(self, match: Match) -> str:
        own = self.candidate.runtime_policy_override.retry_policy
        if own is not None and to_snake(match.rule) in own.model_fields_set:
            return f"{self._override()}.retryPolicy"
        return self._runtime("retryPolicy")

    def _runtime(self, policy: str) -> str:
        return f"runtime_policies.{self.policies.runtime_policy_name}.{policy}"

    def _override(self) -> str:
        return f"models.{self.model}.candidates[{self.index}].runtimePolicyOverride"


def _item(policy: object, match: Match) -> str:
    """The rule's list with the place of the item in it, or the rule's field."""
    written: object = getattr(policy, to_snake(match.rule), None)
    if not isinstance(written, list):
        return match.rule
    items = cast("list[object]", written)
    folded = match.value.lower()
    index = next((index for index, item in enumerate(items) if str(item).strip().lower() == folded), 0)
    return f"{match.rule}[{index}]"
