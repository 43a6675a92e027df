"""The configuration file, followed: whoever edits it need not tell the server.

The folder is watched and not the file: editors write a new file and rename it, and orchestrators swap a link. What is
read is compared with what was read before, so that what else happens in the folder makes no version.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from standby.store import InvalidConfig, StoreError, read

log = logging.getLogger("standby.proxy")

SETTLE_MS: Final = 100
"""A file that is being written is left alone for so long."""


async def follow(config: str | os.PathLike[str], reload: Callable[[], Awaitable[int]]) -> None:
    """Call ``reload`` whenever the document in ``config`` is another one, until cancelled.

    A document that is wrong is said to be so in the log, with all that is wrong; the old version goes on.
    """
    from watchfiles import awatch  # noqa: PLC0415 - starts a thread, and only servers follow their file

    path = Path(config)
    known = _document(path)
    async for _ in awatch(*_folders(path), debounce=SETTLE_MS, recursive=False):
        found = _document(path)
        if found is None or found == known:
            continue
        known = found
        await take(path, "was changed", reload)


async def take(config: str | os.PathLike[str], why: str, reload: Callable[[], Awaitable[int]]) -> None:
    """Call ``reload`` where nobody waits for the answer: the log has what came of it."""
    try:
        log.info("%s %s: version %d of the catalog is served", config, why, await reload())
    except (InvalidConfig, StoreError) as error:
        # No traceback for an operator's mistake.
        log.error("%s %s, and is not taken: the old version goes on. %s", config, why, error)  # noqa: TRY400
    except Exception:
        log.exception("%s %s, and cannot be taken: the old version goes on", config, why)


def _folders(path: Path) -> set[Path]:
    """Where the file is, and where it only seems to be."""
    return {path.resolve().parent, path.absolute().parent}


def _document(path: Path) -> Mapping[str, Any] | str | None:
    """What the file says, or what is wrong with it; `None` where there is no file just now."""
    if not path.exists():
        return None
    try:
        return read(path)
    except InvalidConfig as error:
        return str(error)
