"""The clients that a provider may name: those that are installed, ours and others', and what ours want to be told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

GROUP: Final = "standby.clients"
"""The entry points that are clients: any package may have some."""


class Wants(NamedTuple):
    """What one of our clients wants to be told.

    Attributes:
        any_of: Of these keys at least one; nothing is wanted where it is empty.
        takes: The keys that mean something to it, beside those that mean something to all.
        unless: Where one of these is given nothing is wanted.
        beside: What a key wants beside it: at least one of these.
        apart: What a key must not be beside: none of these.
    """

    any_of: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    beside: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    apart: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_KEYS: Final = ("api_key", "api_keys", "headers")
_HOSTED: Final = Wants(any_of=_KEYS, unless=("base_url",))
_SIGNING: Final = ("access_key_id", "secret_access_key", "session_token")

OURS: Final[Mapping[str, Wants]] = {
    "openai": _HOSTED,
    **dict.fromkeys(("groq", "mistral", "deepseek", "together", "openrouter", "xai", "fireworks"), _HOSTED),
    **dict.fromkeys(("ollama", "vllm"), Wants()),
    "azure_openai": Wants(any_of=("base_url",), takes=("api_version",)),
    "anthropic": _HOSTED,
    "gemini": Wants(
        any_of=_KEYS,
        takes=("project", "location"),
        unless=("base_url",),
        beside={"project": ("location",), "location": ("project",)},
    ),
    "bedrock": Wants(
        any_of=("region", "base_url"),
        takes=("region", *_SIGNING),
        beside={
            "base_url": ("region", *_KEYS),
            "access_key_id": ("secret_access_key",),
            "secret_access_key": ("access_key_id",),
            "session_token": ("access_key_id",),
        },
        apart=dict.fromkeys(_SIGNING, ("api_key", "api_keys")),
    ),
}
ONLY_SOME_TAKE: Final = ("api_version", "project", "location", "region", *_SIGNING)
"""Keys of a provider that mean something to some clients only."""


class KnownClients(Collection[str]):
    """The names of the clients that are installed, and of those that a host brings. Looked up when first asked for."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._more = tuple(more)

    def __contains__(self, name: object) -> bool:
        return name in self._more or name in _installed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*_installed(), *self._more)))

    def __len__(self) -> int:
        return len(tuple(iter(self)))


CLIENTS: Final = KnownClients()


@cache
def _installed() -> tuple[str, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - takes a while, and only documents name clients

    names = {entry.name for entry in entry_points(group=GROUP)}
    ours = [name for name in OURS if name in names]
    return *ours, *sorted(names.difference(OURS))
