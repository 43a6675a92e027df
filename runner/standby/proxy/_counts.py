"""What is counted when a run ends, from its record alone: plain numbers, cheap to add to and to hand on. Pure.

Every key is made of names that the operator wrote or that the code has: nothing that a caller or a provider says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Final

from standby.runner import RunRecord, Try

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds; one set for all, from a first content that comes at once to the longest run by default."""

Key = tuple[str, ...]
"""The values of a metric's labels, in their order."""


class Histogram:
    """How many seconds something took, by `BUCKETS`, and all of them together."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * (len(BUCKETS) + 1)

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.sum += seconds
        self._counts[bisect_left(BUCKETS, seconds)] += 1

    def cumulated(self) -> list[int]:
        """How many took at most so long, bucket by bucket; at last all."""
        return list(accumulate(self._counts))


class Histograms(dict[Key, Histogram]):
    """A histogram for each key, made when it is first asked for."""

    def __missing__(self, key: Key) -> Histogram:
        made = self[key] = Histogram()
        return made


class Counts:
    """All that was counted since the start; keys begin with the model, and the candidate where there is one.

    Attributes:
        runs: By ending.
        run_seconds: Of runs that were answered, to the end of their streams.
        queued_seconds: Of runs that waited for local capacity, however they ended.
        attempts: Calls by outcome.
        attempt_seconds: Of calls that were answered; of streams until they are complete.
        first_content_seconds: From the call to the first content, of streams that were begun.
        retries: Failures after which the same candidate was tried again.
        failovers: Failures after which the next candidate was tried, by the reason.
        retries_refused: Retries that the budget did not pay for, by the reason.
        hedges: Calls that were made beside another one.
        skips: When a candidate was not called, by the reason; once a run and reason.
        tokens: As providers counted them, by type.
    """

    def __init__(self) -> None:
        self.runs: Counter[Key] = Counter()
        self.run_seconds = Histograms()
        self.queued_seconds = Histograms()
        self.attempts: Counter[Key] = Counter()
        self.attempt_seconds = Histograms()
        self.first_content_seconds = Histograms()
        self.retries: Counter[Key] = Counter()
        self.failovers: Counter[Key] = Counter()
        self.retries_refused: Counter[Key] = Counter()
        self.hedges: Counter[Key] = Counter()
        self.skips: Counter[Key] = Counter()
        self.tokens: Counter[Key] = Counter()

    def add(self, record: RunRecord) -> None:
        """A run is over."""
        model = record.model
        self.runs[model, record.ending or "abandoned"] += 1
        if record.ending == "answered":
            self.run_seconds[model,].observe(record.ended_at - record.began_at)
        if record.queued_seconds:
            self.queued_seconds[model,].observe(record.queued_seconds)
        for tried in record.tries:
            self._try(model, tried)
        for skip in record.skips:
            self.skips[model, skip.candidate, skip.reason] += 1
        if record.usage is not None and record.candidate is not None:
            self.tokens[model, record.candidate, "prompt"] += record.usage.input_tokens
            self.tokens[model, record.candidate, "completion"] += record.usage.output_tokens

    def _try(self, model: str, tried: Try) -> None:
        candidate = tried.candidate
        if not tried.n:
            self.skips[model, candidate, "capacity"] += 1
            return
        outcome = tried.outcome
        self.attempts[model, candidate, outcome] += 1
        if outcome == "ok":
            self.attempt_seconds[model, candidate].observe(tried.ended_at - tried.began_at)
        if tried.content_at is not None:
            self.first_content_seconds[model, candidate].observe(tried.content_at - tried.began_at)
        if tried.hedge:
            self.hedges[model, candidate] += 1
        if tried.did == "retry":
            self.retries[model, candidate] += 1
        elif tried.did == "next":
            self.failovers[model, candidate, tried.rule[0]] += 1
        if tried.refusal is not None:
            self.retries_refused[model, candidate, tried.refusal.reason] += 1
