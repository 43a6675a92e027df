"""How much to think, in words and in tokens: some vendors take the one, some the other, and one stands for the other.

The budgets lie where vendors' own compatible endpoints and their SDKs have them: a thousand tokens is the least that
Anthropic takes, and the largest leaves room for an answer within the 32,000 that Claude 4 can write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ._values import Reasoning

__all__ = ["budget_of", "effort_of"]

_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 23552,
    "max": 23552,
}
_NAMED: Final = ("low", "medium", "high", "xhigh")
"""The efforts that a budget stands for: those that every vendor who takes efforts knows, and the next."""


def budget_of(reasoning: Reasoning) -> int:
    """How many tokens the thoughts may have: what was said, else what the effort stands for; 0 for none at all."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    return 0 if reasoning.effort == "none" else _BUDGETS.get(reasoning.effort, _BUDGETS["medium"])


def effort_of(reasoning: Reasoning) -> str:
    """The effort: what was said, else the least that the budget fits in; empty where nothing was said."""
    budget = reasoning.budget_tokens
    if reasoning.effort or budget is None:
        return reasoning.effort
    if budget <= 0:
        return "none" if budget == 0 else ""  # a negative one is Gemini's word for: as the model likes
    return next((effort for effort in _NAMED if budget <= _BUDGETS[effort]), "xhigh")
