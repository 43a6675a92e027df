"""What is counted while requests are sent: a few numbers a candidate, one a rule, and the times of every run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from standby.runner import RunRecord

from ._story import Counted, Storyteller, Telling

KEPT: Final = 40
"""How many things that happened are kept to be shown."""
_SAME_LINE: Final = 5
"""Among so many of the last lines, something that happens once more is counted on its line."""


class Ended(NamedTuple):
    """A run that has ended.

    Attributes:
        record: What happened.
        content_after: Of a stream: after how many seconds its caller had the first content.
    """

    record: RunRecord
    content_after: float | None = None


class Times(NamedTuple):
    """How long one run took, in seconds.

    Attributes:
        whole: From the question to the answer.
        own: What of it Standby itself took: deciding, and keeping what it learned.
        waited: What of it was waiting before a try of the same candidate, as its policy says.
        eventful: Whether there was something to decide, or to keep in the store: a failure, or a candidate taken back.
        content: From the question to the first content of a stream.
    """

    whole: float
    own: float
    waited: float
    eventful: bool
    content: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """A line about something that happened, and how often it did of late."""

    telling: Telling
    times: int = 1


@dataclass(slots=True)
class Tally:
    """Counts runs as they end.

    Attributes:
        answered: Runs that were answered completely.
        streamed: How many of these as a stream.
        served: Answers, by ``model/id``.
        failed: Calls that failed, by ``model/id``.
        decided: How often what was decided, for which reason, by which rule.
        recent: What happened last, the newest at the end.
        times: One for each run.
    """

    answered: int = 0
    unanswered: int = 0
    streamed: int = 0
    tries: int = 0
    failovers: int = 0
    served: Counter[str] = field(default_factory=Counter[str])
    failed: Counter[str] = field(default_factory=Counter[str])
    decided: Counter[Counted] = field(default_factory=Counter[Counted])
    recent: deque[Recent] = field(default_factory=lambda: deque[Recent](maxlen=KEPT))
    times: list[Times] = field(default_factory=list[Times])
    story: Storyteller = field(default_factory=Storyteller)

    @property
    def asked(self) -> int:
        """Requests that have ended."""
        return self.answered + self.unanswered

    def add(self, ended: Ended) -> list[Telling]:
        """Count one run, and return what is worth telling of it."""
        record, content_after = ended
        answered = record.ending == "answered"
        self.answered += answered
        self.unanswered += not answered
        self.streamed += answered and content_after is not None
        self.tries += record.attempts
        self.failovers += record.failovers
        for tried in record.tries:
            if tried.n:
                counts = self.served if tried.failure is None else self.failed
                counts[f"{record.model}/{tried.candidate}"] += 1
        waited = record.queued_seconds + sum(tried.wait_seconds for tried in record.tries)
        own, eventful = (
            max(0.0, record.own_seconds - waited),
            any(tried.failure or tried.effects for tried in record.tries),
        )
        self.times.append(Times(record.ended_at - record.began_at, own, waited, eventful, content_after))
        return self.tell(self.story.of_run(record))

    def tell(self, happened: Iterable[Telling]) -> list[Telling]:
        """Count what was decided, and keep it to be shown: what happens again and again is one line that counts."""
        tellings = list(happened)
        self.decided.update(decided.counted for telling in tellings for decided in telling.decided)
        for telling in tellings:
            last = list(self.recent)[-_SAME_LINE:]
            same = next((recent for recent in last if recent.telling.kind == telling.kind), None)
            if same is not None:
                self.recent.remove(same)
            self.recent.append(Recent(telling, 1 if same is None else same.times + 1))
        return tellings
