"""What `/metrics` tells, as plain values: what was counted, and what stands now. `_metrics.py` writes it down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Final, Literal

from standby.runner import CandidateStatus, Runner

from ._counts import Counts, Histogram, Key

STATUSES: Final = ("usable", "half_open", "probing", "cooling", "disabled")
PARTS: Final = ("catalog", "state", "history")

Readings = Mapping[str, Mapping[Key, float | Histogram]]
"""Values by the metric's name and the values of its labels."""
_Values = dict[str, dict[Key, float | Histogram]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name, with the unit.
        type: How Prometheus reads it.
        labels: The names of its labels.
        meaning: What it is, for its help text and the documentation.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


_OF_CANDIDATE: Final = ("model", "candidate")

METRICS: Final = (
    Metric("standby_runs_total", "counter", ("model", "ending"), "Runs that are over, by how they ended."),
    Metric(
        "standby_run_duration_seconds",
        "histogram",
        ("model",),
        "How long runs took that were answered, to the end of their streams.",
    ),
    Metric("standby_runs_in_progress", "gauge", (), "Runs that are under way now."),
    Metric("standby_attempts_total", "counter", (*_OF_CANDIDATE, "outcome"), "Calls to providers, by their outcome."),
    Metric(
        "standby_attempt_duration_seconds",
        "histogram",
        _OF_CANDIDATE,
        "How long calls took that were answered, to the end of their streams.",
    ),
    Metric(
        "standby_time_to_first_content_seconds",
        "histogram",
        _OF_CANDIDATE,
        "From the call of a stream to its first content, when the run commits to it.",
    ),
    Metric("standby_retries_total", "counter", _OF_CANDIDATE, "Failures after which the candidate was tried again."),
    Metric(
        "standby_retries_refused_total",
        "counter",
        (*_OF_CANDIDATE, "reason"),
        "Retries that the retry budget did not pay for.",
    ),
    Metric(
        "standby_failovers_total",
        "counter",
        (*_OF_CANDIDATE, "reason"),
        "Failures after which this candidate was given up for the next, by the reason of that decision.",
    ),
    Metric("standby_hedges_total", "counter", _OF_CANDIDATE, "Calls made beside another one that was still silent."),
    Metric(
        "standby_skips_total",
        "counter",
        (*_OF_CANDIDATE, "reason"),
        "Times that a run passed the candidate by without a call, by the reason.",
    ),
    Metric(
        "standby_tokens_total",
        "counter",
        (*_OF_CANDIDATE, "type"),
        "Tokens of answers, as the providers counted them where they did.",
    ),
    Metric("standby_queue_waiting_runs", "gauge", ("model",), "Runs that wait for local capacity now."),
    Metric(
        "standby_queue_wait_seconds",
        "histogram",
        ("model",),
        "How long runs waited for local capacity, of those that did and are over.",
    ),
    Metric(
        "standby_candidate_info",
        "gauge",
        (*_OF_CANDIDATE, "provider", "provider_model"),
        "Always 1: whose candidate it is, to be joined.",
    ),
    Metric(
        "standby_candidate_status",
        "gauge",
        (*_OF_CANDIDATE, "status"),
        "1 for the status that it has, 0 for others.",
    ),
    Metric(
        "standby_candidate_effective_priority",
        "gauge",
        _OF_CANDIDATE,
        "Its priority with its demotion; the smallest is tried first.",
    ),
    Metric(
        "standby_candidate_cooldowns_in_row",
        "gauge",
        _OF_CANDIDATE,
        "Cooldowns that count for the length of its next one.",
    ),
    Metric(
        "standby_candidate_retry_budget_tokens",
        "gauge",
        _OF_CANDIDATE,
        "Tokens left for its retries, in the failure domain that has the fewest.",
    ),
    Metric("standby_candidate_limit", "gauge", (*_OF_CANDIDATE, "limit"), "Its own limit."),
    Metric("standby_candidate_limit_used", "gauge", (*_OF_CANDIDATE, "limit"), "How much of that is used now."),
    Metric("standby_key_limit", "gauge", ("credential", "limit"), "The limit of all that use a provider's key."),
    Metric("standby_key_limit_used", "gauge", ("credential", "limit"), "How much of that is used now."),
    Metric("standby_store_trouble", "gauge", ("part",), "1 while this part of the stores is in trouble, else 0."),
    Metric(
        "standby_store_trouble_since_timestamp_seconds",
        "gauge",
        ("part",),
        "When that began, while it lasts and the store says so.",
    ),
    Metric("standby_store_pending_writes", "gauge", ("part",), "What waits to be written, where anything can wait."),
    Metric("standby_store_dropped_writes_total", "counter", ("part",), "What was given up before it could be written."),
    Metric("standby_catalog_version", "gauge", (), "The version of the catalog that new runs have."),
    Metric("standby_build_info", "gauge", ("version",), "Always 1: the version of Standby."),
    Metric(
        "standby_worker_up",
        "gauge",
        (),
        "With several workers: whether this one told its numbers lately; of one that did not there are counts only.",
    ),
)
"""All of them, in the order in which they are told. With several workers each has the label ``worker`` as well."""


def readings(runner: Runner, counts: Counts) -> Readings:
    """What was counted, and what stands now, in this process. The keys are those of `METRICS`."""
    values: _Values = {metric.name: {} for metric in METRICS}
    values |= {
        "standby_runs_total": {**counts.runs},
        "standby_run_duration_seconds": {**counts.run_seconds},
        "standby_attempts_total": {**counts.attempts},
        "standby_attempt_duration_seconds": {**counts.attempt_seconds},
        "standby_time_to_first_content_seconds": {**counts.first_content_seconds},
        "standby_retries_total": {**counts.retries},
        "standby_retries_refused_total": {**counts.retries_refused},
        "standby_failovers_total": {**counts.failovers},
        "standby_hedges_total": {**counts.hedges},
        "standby_skips_total": {**counts.skips},
        "standby_tokens_total": {**counts.tokens},
        "standby_queue_wait_seconds": {**counts.queued_seconds},
        "standby_runs_in_progress": {(): runner.held["runs"]},
        "standby_catalog_version": {(): runner.catalog.snapshot().version},
        "standby_build_info": {(_version(),): 1},
    }
    statuses = {status.key: status for status in runner.statuses()}
    for status in statuses.values():
        _read_candidate(values, status)
    _read_retry_budgets(values, runner, statuses)
    _read_stores(values, runner)
    return values


@cache
def _version() -> str:
    return version("standby")


def _read_candidate(values: _Values, status: CandidateStatus) -> None:
    own = status.model, status.id
    values["standby_queue_waiting_runs"][status.model,] = status.waiting
    values["standby_candidate_info"][*own, status.provider, status.provider_model] = 1
    for each in STATUSES:
        values["standby_candidate_status"][*own, each] = int(each == status.status)
    values["standby_candidate_effective_priority"][own] = status.effective_priority
    values["standby_candidate_cooldowns_in_row"][own] = status.cooldowns_in_row
    for limit in status.limits:
        whose, of = ("candidate", own) if limit.of == "candidate" else ("key", (limit.credential,))
        for kind, most, used in (
            ("concurrency", limit.concurrency, limit.in_flight),
            ("requests_per_minute", limit.requests_per_minute, limit.requests),
            ("tokens_per_minute", limit.tokens_per_minute, limit.tokens),
        ):
            if most is not None:
                values[f"standby_{whose}_limit"][*of, kind] = most
                values[f"standby_{whose}_limit_used"][*of, kind] = used


def _read_retry_budgets(values: _Values, runner: Runner, statuses: Mapping[str, CandidateStatus]) -> None:
    for model in runner.catalog.snapshot().models:
        for candidate in runner.route(model).candidates:
            if candidate.retry_budget.enabled:
                left = statuses[candidate.key].retry_budget.values()
                fewest = min(left, default=candidate.retry_budget.capacity)
                values["standby_candidate_retry_budget_tokens"][model, candidate.id] = fewest


def _read_stores(values: _Values, runner: Runner) -> None:
    troubles = {trouble.part: trouble.since for trouble in runner.troubles()}
    for part in PARTS:
        values["standby_store_trouble"][part,] = int(part in troubles)
        if (since := troubles.get(part)) is not None:
            values["standby_store_trouble_since_timestamp_seconds"][part,] = since
    for part, name, number in _writes(runner):
        values[name][part,] = number


def _writes(runner: Runner) -> Iterator[tuple[str, str, int]]:
    # As with `trouble`, a store says what it has; one in memory writes nothing.
    for part, store in (("state", runner.state), ("history", runner.history)):
        pending: int | None = getattr(store, "pending", None)
        dropped: int | None = getattr(store, "dropped", None)
        if pending is not None:
            yield part, "standby_store_pending_writes", pending
        if dropped is not None:
            yield part, "standby_store_dropped_writes_total", dropped
