"""Tools that ask the runner's own core what it would do."""

from ._audit import audit_in_words, audit_of_server, audit_of_store
from ._cases import Case, answer_case, answer_lines, told
from ._catalog import catalog_of, refuse_missing_file
from ._explain import Explanation, Question, Told, UnknownName, ask, explain
from ._features import features
from ._reference import reference
from ._server import NoState
from ._state import state_in_words, state_of_server, state_of_stores

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
    "audit_in_words",
    "audit_of_server",
    "audit_of_store",
    "catalog_of",
    "explain",
    "features",
    "reference",
    "refuse_missing_file",
    "state_in_words",
    "state_of_server",
    "state_of_stores",
    "told",
]
