"""The audit: what is done on purpose, by whom, when and why. Pure.

What runs do all day is in their records; here is what an operator did, what a policy did that lasts until somebody
undoes it, and where each version of the catalog came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ._standing import Cool, Disable, Effect, Enable, Restore, Standing, Succeeded


@dataclass(frozen=True, slots=True, eq=False)
class Audited:
    """Something that was done on purpose.

    Attributes:
        at: When, in seconds since the epoch.
        who: The operator, or ``policy``; of a reload who asked for it, or ``file``, ``import``, or a database's user.
        what: ``enable``, ``disable``, ``restore``, ``cool`` or ``reload``.
        target: The failure domain; of a reload ``catalog:`` and the version.
        why: In words, or empty; of a reload where the document came from.
    """

    at: float
    who: str
    what: str
    target: str
    why: str


Audit = Callable[[Sequence[Audited]], None]
"""Is told what was done, and keeps it: `History.note`, for one."""


def audited(effect: Effect, before: Standing, after: Standing) -> list[Audited]:
    """The line for an effect that somebody wanted: none where it changed nothing, or where it only happened."""
    if after == before:
        return []
    match effect:
        case Succeeded(domain, at) if before.disabled and not after.disabled:
            return [Audited(at, "policy", "enable", domain, "its recheck succeeded")]
        case _:
            return wanted(effect)


def wanted(effect: object) -> list[Audited]:
    """The same, whatever it changes."""
    match effect:
        case Enable(domain, at, by) | Restore(domain, at, by):
            why = ""
        case Disable(domain, at, by, why):
            pass
        case Cool(domain, at, _, _, why, by) if by:
            pass
        case _:
            return []
    return [Audited(at, by, type(effect).__name__.lower(), domain, why)]


def reloaded(at: float, by: str, version: int, origin: str, why: str = "") -> Audited:
    """The line for a new version of the catalog."""
    return Audited(at, by, "reload", f"catalog:{version}", f"{why} ({origin})" if why else origin)
