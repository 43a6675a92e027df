"""What a store raises.

- `StoreError`
    - `MissingExtra`, which is an `ImportError` too
"""

from __future__ import annotations


class StoreError(Exception):
    """A store cannot be opened, read or written. The message names it and says what to do."""


class MissingExtra(StoreError, ImportError):
    """A package that this store needs is not installed. The message names the extra that brings it."""
