"""Whose a thought is. A vendor refuses signatures that are not its own, and to everybody else they are mere letters.

A caller sends back what it was given, to whichever candidate answers next. So a wire marks the signatures that it reads
with its vendor's name, and knows its own again. Signatures without a mark are those of the vendor whose dialect the
caller speaks. All are in base64, so that a colon is in none of them.
"""

from __future__ import annotations

from typing import Final

from ._features import parts_of
from ._values import Conversation, Thinking

__all__ = ["SIGNS_CALLS", "has_others_thoughts", "marked", "own"]

SIGNS_CALLS: Final = "gemini"
"""The one vendor that signs calls of tools too. A dialect that has no place for that signature has it on a thought
without words, right before the call."""


def marked(signature: str, vendor: str) -> str:
    """The signature with its vendor's name; nothing where there is none."""
    return f"{vendor}:{signature}" if signature else ""


def own(signature: str, vendor: str = "") -> str:
    """The signature as the vendor knows it; nothing where it is somebody else's.

    Args:
        signature: As it came from a caller.
        vendor: Whose it must be; empty for one that has no mark.
    """
    whose, _, bare = signature.rpartition(":")
    return bare if whose == vendor else ""


def has_others_thoughts(conversation: Conversation, vendor: str = "") -> bool:
    """Whether there are signed thoughts that the vendor would refuse."""
    return any(
        isinstance(part, Thinking) and bool(part.signature) and not own(part.signature, vendor)
        for part in parts_of(conversation)
    )
