"""What is held against one failure domain, and how each effect of a run or an operator changes it. Pure.

A domain is a string: ``candidate:chat/primary``, ``credential:openai``, ``credential_model:openai/gpt-4o`` or
``provider:openai``. Every store keeps one `Standing` a domain and changes it by `changed()` alone, so memory, SQL and
shared stores cannot disagree about what an effect means. Four rules make that safe with many writers:

1. A cooldown is extended, never shortened, but by an operator or by a success of a later attempt.
2. A demotion counts once per incident: a failure of an attempt that began before the last demotion adds nothing.
3. A success of an attempt that began before the last cooldown proves nothing, and changes nothing.
4. A success ends a cooldown, and not the memory of it: how long the next one is wears off while the domain stays well,
   one cooldown in a row for each time that it has been well as long as it was out. Who comes and goes is not new
   each time.

All times are seconds since the epoch; all durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, assert_never

MIN_DECAY_SECONDS: Final = 1.0
"""A cooldown that took no time would be forgotten at once."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one failure domain. The defaults mean: nothing is held against it."""

    cooling_until: float = 0.0
    cooled_at: float = 0.0
    cooldowns_in_row: int = 0
    cooled_for: str = ""
    recovered_at: float = 0.0
    decay_seconds: float = 0.0
    failures_in_row: int = 0
    disabled_at: float = 0.0
    disabled_by: str = ""
    disabled_why: str = ""
    recheck_at: float = 0.0
    demoted: int = 0
    demoted_at: float = 0.0
    demoted_for: str = ""
    demote_step: int = 0
    restore_seconds: float = 0.0
    probe_holder: str = ""
    probe_until: float = 0.0

    @property
    def disabled(self) -> bool:
        """Left out until an operator enables it, or a recheck does."""
        return self.disabled_at > 0

    def heeds_success(self, now: float) -> bool:
        """Whether a success at ``now`` would change anything."""
        if self.failures_in_row or self.recheck_at:
            return True
        return self.cooldowns_in_row > 0 and not (self.recovered_at and self.in_row(now))

    def cooling(self, now: float) -> bool:
        """Left out for now."""
        return self.cooling_until > now

    def half_open(self, now: float) -> bool:
        """Its cooldown has ended, or its recheck is due, and nobody has proved it well yet: one run may probe."""
        if self.disabled_at:
            return 0 < self.recheck_at <= now
        return self.cooldowns_in_row > 0 and not self.recovered_at and self.cooling_until <= now

    def in_row(self, now: float) -> int:
        """How many cooldowns in a row count at ``now``: one fewer for each `decay_seconds` that it has been well."""
        if not self.recovered_at or not self.cooldowns_in_row:
            return self.cooldowns_in_row
        well_seconds = now - self.recovered_at
        if well_seconds < self.decay_seconds:
            return self.cooldowns_in_row
        return max(0, self.cooldowns_in_row - int(well_seconds / self.decay_seconds))

    def demotion(self, now: float) -> int:
        """What is added to the candidate's priority at ``now``: it wears off one step each ``restore_seconds``."""
        if not self.demoted or not self.restore_seconds:
            return self.demoted
        return max(0, self.demoted - self._steps_worn_off(now) * self.demote_step)

    def demotion_changes_at(self, now: float) -> float:
        """When `demotion` is next smaller than it is at ``now``; infinity where it stays."""
        if not self.restore_seconds or not self.demotion(now):
            return float("inf")
        return self.demoted_at + (self._steps_worn_off(now) + 1) * self.restore_seconds

    def _steps_worn_off(self, now: float) -> int:
        # Another process's clock may be ahead of this one's: a demotion of the future has not begun to wear off.
        return max(0, int((now - self.demoted_at) / self.restore_seconds))


CLEAN = Standing()


@dataclass(frozen=True, slots=True)
class Cool:
    """Leave the domain out until ``until``; ``in_row`` counts this cooldown and those before it without a success.

    ``by`` is who asked for it, where that was an operator: then it is audited.
    """

    domain: str
    at: float
    until: float
    in_row: int
    cause: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Disable:
    """Leave the domain out until somebody enables it, or a probe at or after ``recheck_at`` does; 0 is never."""

    domain: str
    at: float
    by: str
    why: str
    recheck_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Enable:
    """An operator's word: no longer disabled."""

    domain: str
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class Restore:
    """An operator's word: cooldown, demotion and counted failures are forgotten; a disablement is not."""

    domain: str
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class Demote:
    """Add ``step`` to the domain's demotion, unless the failed attempt began before the last demotion.

    The demotion grows up to ``at_most``, where given; at that it begins anew to wear off.
    """

    domain: str
    at: float
    began_at: float
    step: int
    restore_seconds: float
    cause: str
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """One more failure in a row."""

    domain: str
    at: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt that began at ``began_at`` succeeded: the domain is well."""

    domain: str
    at: float
    began_at: float


Effect = Cool | Disable | Enable | Restore | Demote | Failed | Succeeded


def changed(standing: Standing, effect: Effect) -> Standing:
    """The standing after ``effect``; the same object where the effect changes nothing."""
    match effect:
        case Cool(_, at, until, in_row, cause, _):
            return _cooled(standing, at, until, in_row, cause)
        case Disable():
            return _disabled(standing, effect)
        case Enable():
            return _enabled(standing) if standing.disabled else standing
        case Restore():
            restored = Standing(
                disabled_at=standing.disabled_at,
                disabled_by=standing.disabled_by,
                disabled_why=standing.disabled_why,
                recheck_at=standing.recheck_at,
            )
            return standing if restored == standing else restored
        case Demote():
            return _demoted(standing, effect)
        case Failed():
            return replace(standing, failures_in_row=standing.failures_in_row + 1)
        case Succeeded(_, at, began_at):
            return _succeeded(standing, at, began_at)
        case _:
            assert_never(effect)


def leased(standing: Standing, holder: str, now: float, until: float) -> Standing | None:
    """The standing with its probe in the hands of ``holder``; `None` where it is left out, or another one's probe."""
    if standing.cooling(now) or (standing.disabled and not standing.half_open(now)):
        return None
    if standing.probe_until > now and standing.probe_holder != holder:
        return None
    return replace(standing, probe_holder=holder, probe_until=until)


def returned(standing: Standing, holder: str) -> Standing:
    """The standing without the probe of ``holder``; the same object where ``holder`` has none."""
    if standing.probe_holder != holder or not holder:
        return standing
    return replace(standing, probe_holder="", probe_until=0.0)


def _cooled(standing: Standing, at: float, until: float, in_row: int, cause: str) -> Standing:
    # Stores merge what several processes did in the order of their commits, which need not be the order of events:
    # two cooldowns must come to the same in either order, so the shorter one still counts as one.
    if standing.recovered_at:
        standing = replace(standing, cooling_until=0.0, cooldowns_in_row=0, recovered_at=0.0, decay_seconds=0.0)
    if until <= standing.cooling_until:
        at, in_row = max(at, standing.cooled_at), max(in_row, standing.cooldowns_in_row)
        if (at, in_row) == (standing.cooled_at, standing.cooldowns_in_row):
            return standing
        return replace(standing, cooled_at=at, cooldowns_in_row=in_row)
    return replace(
        standing,
        cooling_until=until,
        cooled_at=max(at, standing.cooled_at),
        cooldowns_in_row=max(in_row, standing.cooldowns_in_row),
        cooled_for=cause,
        probe_holder="",
        probe_until=0.0,
    )


def _disabled(standing: Standing, effect: Disable) -> Standing:
    if standing.disabled and not standing.recheck_at:
        return standing  # for good already
    if not effect.recheck_at or not standing.disabled:
        return replace(
            standing,
            disabled_at=effect.at,
            disabled_by=effect.by,
            disabled_why=effect.why,
            recheck_at=effect.recheck_at,
            probe_holder="",
            probe_until=0.0,
        )
    if effect.recheck_at <= standing.recheck_at:
        return standing
    return replace(standing, recheck_at=effect.recheck_at, probe_holder="", probe_until=0.0)


def _enabled(standing: Standing) -> Standing:
    return replace(standing, disabled_at=0.0, disabled_by="", disabled_why="", recheck_at=0.0)


def _demoted(standing: Standing, effect: Demote) -> Standing:
    if effect.began_at < standing.demoted_at:
        return standing
    demotion = standing.demotion(effect.at)
    demoted = demotion + effect.step
    if effect.at_most is not None:
        demoted = max(demotion, min(demoted, effect.at_most))
    return replace(
        standing,
        demoted=demoted,
        demoted_at=effect.at,
        demoted_for=effect.cause,
        demote_step=effect.step,
        restore_seconds=effect.restore_seconds,
    )


def _succeeded(standing: Standing, at: float, began_at: float) -> Standing:
    if began_at < standing.cooled_at:
        return standing
    if standing.disabled and standing.recheck_at:
        if began_at < standing.recheck_at:
            return standing
        return replace(
            _enabled(standing),
            cooling_until=0.0,
            cooled_for="",
            cooled_at=standing.recheck_at,
            cooldowns_in_row=max(1, standing.cooldowns_in_row),
            recovered_at=at,
            decay_seconds=max(standing.recheck_at - standing.disabled_at, MIN_DECAY_SECONDS),
            failures_in_row=0,
            probe_holder="",
            probe_until=0.0,
        )
    if standing.recovered_at and not standing.in_row(at):
        return replace(
            standing, cooled_at=0.0, cooldowns_in_row=0, recovered_at=0.0, decay_seconds=0.0, failures_in_row=0
        )
    if standing.recovered_at or not standing.cooldowns_in_row:
        return replace(standing, failures_in_row=0) if standing.failures_in_row else standing
    return replace(
        standing,
        cooling_until=0.0,
        cooled_for="",
        recovered_at=at,
        decay_seconds=max(standing.cooling_until - standing.cooled_at, MIN_DECAY_SECONDS),
        failures_in_row=0,
        probe_holder="",
        probe_until=0.0,
    )
