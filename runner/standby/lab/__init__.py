"""Tools that ask the runner's own core what it would do."""

from ._cases import Case, answer_case, answer_lines, told
from ._explain import Explanation, Question, Told, UnknownName, ask, explain
from ._reference import reference
from ._state import NoState, state_in_words, state_of_server, state_of_stores

__all__ = [
    "Case",
    "Explanation",
    "NoState",
    "Question",
    "Told",
    "UnknownName",
    "answer_case",
    "answer_lines",
    "ask",
    "explain",
    "reference",
    "state_in_words",
    "state_of_server",
    "state_of_stores",
    "told",
]
