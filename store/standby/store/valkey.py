"""Run-time state that many machines share: `ValkeyState` keeps it in Valkey or Redis.

It needs the extra ``standby[valkey]``, and is therefore not imported by `standby.store`.
"""

from importlib.util import find_spec

from ._errors import MissingExtra, StoreError

if find_spec("redis") is None:
    raise MissingExtra("a state in Valkey needs redis: install standby[valkey]")

from ._valkey import ValkeyState

__all__ = ["ValkeyState", "StoreError", "MissingExtra"]
