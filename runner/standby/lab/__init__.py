"""Tools that ask the runner's own core what it would do."""

from ._cases import Case, answer_case, answer_lines, told

__all__ = ["Case", "answer_case", "answer_lines", "told"]
