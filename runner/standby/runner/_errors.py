"""What a run raises.

::

    Exception
    └── StandbyError
        ├── UnknownModel          the request names no configured model
        ├── UnknownCandidate      the run was restricted to candidates that the model does not have
        ├── RunFailed             the run ended without an answer; also an ExceptionGroup of the failed tries
        └── StreamInterrupted     a stream broke after the caller had its first content

A leaf exists only where a caller would act differently: the first two are the caller's mistakes and nothing was tried;
`RunFailed.ending` tells the ways in which a run can fail, and `RunFailed.record` the whole story. Cancellation passes
through and is none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from standby.clients import Usage

from ._record import Failure, RunRecord


class StandbyError(Exception):
    """Anything that Standby's runner raises of its own."""


class UnknownModel(StandbyError):
    """The request names no configured model."""

    def __init__(self, model: str, known: Sequence[str]) -> None:
        super().__init__(f"no model is named {model!r}; configured: {', '.join(sorted(known)) or 'none'}")
        self.model = model


class UnknownCandidate(StandbyError):
    """The run was restricted to candidates that the model does not have."""

    def __init__(self, unknown: Sequence[str], model: str, known: Sequence[str]) -> None:
        names = ", ".join(repr(name) for name in unknown)
        super().__init__(f"the model {model!r} has no candidate {names}; it has: {', '.join(known)}")


class NotTried(StandbyError):
    """A candidate was not called; the message says which and why. Only ever inside a `RunFailed`."""


class StreamInterrupted(StandbyError):
    """A stream broke after the caller had its first content; nobody can take over. What broke it is ``__cause__``.

    Attributes:
        partial: The text that the caller has had, as far as it was kept.
        usage: What the provider counted, where it said so before.
        record: Every try, decision and effect of the run.
    """

    def __init__(self, message: str, partial: str, usage: Usage | None, record: RunRecord) -> None:
        super().__init__(f"the stream broke after its first content: {message} (run {record.run_id})")
        self.partial = partial
        self.usage = usage
        self.record = record


class RunFailed(StandbyError, ExceptionGroup[Exception]):
    """The run ended without an answer.

    Its exceptions are those of the failed tries, in order; where nothing was tried, a `NotTried` for each time that a
    candidate was passed by.

    Attributes:
        record: Every try, decision and effect of the run.
        retry_after_seconds: When somebody may be free; `None` where nobody knows.
    """

    def __new__(
        cls,
        message: str,
        exceptions: Sequence[Exception],
        record: RunRecord,  # noqa: ARG004 - an exception group is made by its message and exceptions alone
        retry_after_seconds: float | None,  # noqa: ARG004
    ) -> Self:
        return super().__new__(cls, message, exceptions)

    def __init__(
        self, message: str, exceptions: Sequence[Exception], record: RunRecord, retry_after_seconds: float | None
    ) -> None:
        super().__init__(message, exceptions)
        self.record = record
        self.retry_after_seconds = retry_after_seconds

    @property
    def ending(self) -> str:
        """How the run ended; see `RunRecord.ending`."""
        return self.record.ending or ""

    @property
    def last_failure(self) -> Failure | None:
        """The failure of the last try; `None` where nothing was tried."""
        return next((tried.failure for tried in reversed(self.record.tries) if tried.n), None)

    def derive(self, excs: Sequence[Exception], /) -> RunFailed:  # type: ignore[override]
        """Keep the record when the group is split."""
        return RunFailed(self.message, excs, self.record, self.retry_after_seconds)
