"""What a store raises.

- `StoreError`
    - `Unreachable`
    - `MissingExtra`, which is an `ImportError` too
"""

from __future__ import annotations


class StoreError(Exception):
    """A store cannot be opened, read or written. The message names it and says what to do."""


class Unreachable(StoreError):
    """An engine cannot be used now, and may be later without anybody changing what it was told."""


class MissingExtra(StoreError, ImportError):
    """A package that this store needs is not installed. The message names the extra that brings it."""
