"""What runs do to candidates, in the log: a line for each cooldown and disablement, with the rule that asked for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from standby.store import Cool, Demote, Disable, Effect

log = logging.getLogger("standby.runner")


def log_effects(effects: Sequence[Effect]) -> None:
    """Tell the operator who is left out, for how long and why."""
    for effect in effects:
        match effect:
            case Cool(domain, at, until, in_row, cause):
                log.warning("%s is left out for %.1f s (%d in a row): %s", domain, until - at, in_row, cause)
            case Disable(domain, at, by, why, recheck_at):
                lasting = "until somebody enables it"
                if recheck_at:
                    lasting = f"for {recheck_at - at:.0f} s, then checked again"
                log.warning("%s is left out %s, by %s: %s", domain, lasting, by, why)
            case Demote(domain, _, _, step, _, cause, _):
                log.info("%s is ranked %d lower: %s", domain, step, cause)
            case _:
                pass
