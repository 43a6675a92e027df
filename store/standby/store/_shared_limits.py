"""What the runner asks of whoever counts for many processes: room for one call within limits that they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ._models import RateLimitPolicy


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call needs of one limit.

    Attributes:
        key: Whose limit it is: ``chat/primary``, ``credential:openai``, ``caller:app``.
        policy: The limit.
        tokens: How many tokens the call will use, by estimate; no more than the limit has.
    """

    key: str
    policy: RateLimitPolicy
    tokens: int


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room now.

    Attributes:
        free_in_seconds: Of each key that has none: after how long time alone gives some; infinity where that is for a
            call that ends to tell.
    """

    free_in_seconds: Mapping[str, float]


class Grant(Protocol):
    """Room for one call, of all the limits that were asked for."""

    def end(self, *, used: bool, tokens: int | None = None) -> None:
        """Give it back, once. Never waits.

        Args:
            used: Whether a call was made; where not, it counts for nothing.
            tokens: How many the provider counted, where it did.
        """
        ...


@runtime_checkable
class SharedLimits(Protocol):
    """Limits that many processes share. Every process holds to them by itself as well, and asks here only then."""

    @property
    def share(self) -> float | None:
        """What part of every limit this process may use: 1 while the others are heard, else its share, 1/processes.

        `None` where it was never heard how many there are.
        """
        ...

    def listen(self, room: Callable[[Collection[str]], None], share_changed: Callable[[], None]) -> None:
        """Begin to take part.

        Args:
            room: Is told keys of which there may be room again, as far as somebody waits for them.
            share_changed: Is told that `share` is another than before.
        """
        ...

    async def take(self, asked: Sequence[Asked], waited_seconds: float, *, in_line: bool) -> Grant | Full:
        """Room for one call, of all of these or of none; whoever has waited longer, anywhere, goes first.

        Where nobody can be asked it is granted: the share is what holds then. A caller that is cancelled holds nothing.

        Args:
            asked: What the call needs.
            waited_seconds: How long it has waited, and what its priority is worth.
            in_line: Whether it goes on waiting where there is no room: then room is kept for it, and told by ``room``.
        """
        ...

    def leave(self, keys: Collection[str]) -> None:
        """Nobody here waits for these any more."""
        ...
