"""What the generations of Claude take, as their names tell: what one of them refuses the next one asks for.

A name that tells no generation is an alias, or another vendor's model behind the same API: it is asked as the newest
are, and what it refuses it says itself. From platform.claude.com/docs/en/about-claude/models/migration-guide and
docs/en/build-with-claude/extended-thinking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Claude", "claude_of"]

_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)*(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True)
class Claude:
    """A generation.

    Attributes:
        version: Such as ``(4, 5)``; `None` where the name does not tell.
    """

    version: tuple[int, int] | None = None

    @property
    def thinks(self) -> bool:
        """Whether it can think before it answers."""
        return self.version is None or self.version >= (3, 7)

    @property
    def adapts(self) -> bool:
        """Whether it takes an effort and decides itself how much to think; others take a budget of tokens."""
        return self.version is None or self.version >= (4, 6)

    @property
    def samples(self) -> bool:
        """Whether ``temperature``, ``top_p`` and ``top_k`` may be chosen."""
        return self.version is None or self.version < (4, 7)

    @property
    def samples_by_one(self) -> bool:
        """Whether it takes only one of ``temperature`` and ``top_p``."""
        return self.version is not None and self.version >= (4, 1)

    @property
    def max_tokens(self) -> int:
        """How long an answer may be where nobody said it, thoughts on a budget not counted; Anthropic must be told."""
        if self.version is None or (3, 5) <= self.version < (4, 6):
            return 8192
        return 4096 if self.version < (3, 5) else 32768


@lru_cache(256)
def claude_of(model: str) -> Claude:
    """The generation that the name of a model tells, on Anthropic's own API or another's."""
    found = _VERSION.search(model)
    return Claude() if found is None else Claude((int(found[1]), int(found[2] or 0)))
