"""Tools that ask the runner's own core what it would do."""

from ._cases import Case, answer_case, answer_lines, told
from ._explain import Explanation, Question, Told, UnknownName, ask, explain
from ._reference import reference

__all__ = [
    "Case",
    "Explanation",
    "Question",
    "Told",
    "UnknownName",
    "answer_case",
    "answer_lines",
    "ask",
    "explain",
    "reference",
    "told",
]
