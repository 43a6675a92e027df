"""What the runner asks of a store: a catalog of models, the run-time state, and a history of runs.

The runner reads on its hot path and must never wait there: `Catalog.snapshot`, `State.standing` and `State.generation`
are synchronous and local. Everything that writes is asynchronous. A store that keeps its data elsewhere keeps a local
copy, goes on with that copy when the other side is gone, and says so in `trouble`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ._audit import Audited
from ._standing import Effect, Standing

if TYPE_CHECKING:
    from ._models import Model, RunnerPolicy, RuntimePolicy
    from ._providers import Provider


def _built_in_runner_policies() -> Mapping[str, RunnerPolicy]:
    from ._models import BUILT_IN_RUNNER_POLICIES  # noqa: PLC0415 - pydantic is only needed where there are policies

    return BUILT_IN_RUNNER_POLICIES


def _built_in_runtime_policies() -> Mapping[str, RuntimePolicy]:
    from ._models import BUILT_IN_RUNTIME_POLICIES  # noqa: PLC0415 - as above

    return BUILT_IN_RUNTIME_POLICIES


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole catalog at one version. Immutable: a run that holds one is not changed by a reload.

    The built-in policies are under the operator's own, which may replace them by name.
    """

    version: int
    models: Mapping[str, Model] = field(default_factory=dict[str, "Model"])
    providers: Mapping[str, Provider] = field(default_factory=dict[str, "Provider"])
    runner_policies: Mapping[str, RunnerPolicy] = field(default_factory=_built_in_runner_policies)
    runtime_policies: Mapping[str, RuntimePolicy] = field(default_factory=_built_in_runtime_policies)


@runtime_checkable
class Catalog(Protocol):
    """Candidates and policies, versioned and watchable."""

    def snapshot(self) -> Snapshot:
        """The newest valid version, from local memory."""
        ...

    async def changed(self, version: int) -> Snapshot:
        """Wait until the newest version is not ``version``, and return it."""
        ...


@runtime_checkable
class State(Protocol):
    """Run-time state: cooldowns, disablements, demotions and probe leases, one `Standing` a failure domain."""

    @property
    def generation(self) -> int:
        """Grows with every change of any standing, wherever it was made; what was computed from one may be kept."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why changes are at present not kept for others or for a restart; `None` when they are."""
        ...

    def standing(self, domain: str) -> Standing | None:
        """What is known of ``domain``; `None` where nothing is held against it."""
        ...

    def standings(self) -> Mapping[str, Standing]:
        """Every domain that something is known of."""
        ...

    async def apply(self, effects: Sequence[Effect]) -> None:
        """Make the effects true, all or none.

        They are visible in this process before the first ``await`` inside, so that the run that caused them sees them
        in its next step. On return they are as lasting as the store can make them; a store that cannot, returns all
        the same and says why in `trouble`. Being cancelled takes nothing back: a run that has its answer need not wait.
        """
        ...

    async def lease_probe(self, domains: Sequence[str], holder: str, now: float, until: float) -> bool:
        """Take the probe of every one of these half-open domains for ``holder``, or of none.

        ``now`` and ``until`` are seconds since the epoch. A lease that is past its ``until`` may be taken over.
        """
        ...

    async def return_probe(self, domains: Sequence[str], holder: str) -> None:
        """Give back what ``holder`` still holds of these; nothing else changes."""
        ...

    async def changed(self, generation: int) -> None:
        """Wait until `generation` is not ``generation``."""
        ...


@runtime_checkable
class History(Protocol):
    """The records of past runs, bounded; the newest are kept. A record is a JSON object with a ``run_id``.

    With it is the audit: what was done on purpose, by whom, when and why.
    """

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep one record. Never waits, never raises: a history that cannot keep up drops the oldest."""
        ...

    async def get(self, run_id: str) -> Mapping[str, Any] | None:
        """The record of one run; `None` where it is not, or no longer, known."""
        ...

    async def newest(self, limit: int = 100, before: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The newest records first, at most ``limit``; only those older than the run ``before``, where given."""
        ...

    def note(self, lines: Sequence[Audited]) -> None:
        """Keep lines of the audit. Never waits, never raises."""
        ...

    async def audit(self, limit: int = 100, until: float | None = None) -> Sequence[Audited]:
        """The newest lines of the audit first, at most ``limit``; none that is later than ``until``, where given.

        Raises:
            StoreError: It cannot be read.
        """
        ...
