"""The configuration file, followed: whoever edits it need not tell the server.

The folder is watched and not the file: editors write a new file and rename it, and orchestrators swap a link. The file
is read where it is another one or was written, and not for what else happens in the folder: a store's file may be
there, and be written all the time. What is read is compared with what was read before: a comment makes no version.
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
LOOK_MS: Final = 1000
"""How often the file is looked at anyway, for what happened before it was watched, or where nobody tells of changes."""


async def follow(
    config: str | os.PathLike[str], reload: Callable[[], Awaitable[int]], known: Mapping[str, Any] | None = None
) -> None:
    """Call ``reload`` whenever the document in ``config`` is another one, until cancelled.

    A document that is wrong is said to be so in the log, with all that is wrong; the old version goes on. One that the
    store cannot take is tried again until it can.

    Args:
        config: The file.
        reload: Takes what it says now, and returns the version that is then served.
        known: What it said when it was last taken; what it says now where left out.
    """
    from watchfiles import awatch  # noqa: PLC0415 - starts a thread, and only servers follow their file

    path = Path(config)
    last = _document(path) if known is None else known
    untaken: Mapping[str, Any] | str | None = None
    seen: tuple[int, ...] | None = None
    changes = awatch(*_folders(path), debounce=SETTLE_MS, recursive=False, rust_timeout=LOOK_MS, yield_on_timeout=True)
    async for _ in changes:
        before, seen = seen, _identity(path)
        if seen is None or (seen == before and untaken is None):
            continue
        found = _document(path)
        if found is None or found == last:
            untaken = None
        elif await take(path, "was changed", reload, quiet=found == untaken):
            _tell_what_waits(path, last, found)
            last, untaken = found, None
        else:
            untaken = found


async def take(
    config: str | os.PathLike[str], why: str, reload: Callable[[], Awaitable[int]], *, quiet: bool = False
) -> bool:
    """Call ``reload`` where nobody waits for the answer: the log has what came of it.

    Returns:
        Whether that is settled; else the store is away, and the same may be taken later. ``quiet`` where that was said.
    """
    try:
        log.info("%s %s: version %d of the catalog is served", config, why, await reload())
    except InvalidConfig as error:
        # No traceback for an operator's mistake.
        log.error("%s %s, and is not taken: the old version goes on. %s", config, why, error)  # noqa: TRY400
    except StoreError as error:
        if not quiet:
            log.error("%s %s, and is not taken yet: the old version goes on. %s", config, why, error)  # noqa: TRY400
        return False
    except Exception:
        log.exception("%s %s, and cannot be taken: the old version goes on", config, why)
    return True


def _tell_what_waits(path: Path, last: Mapping[str, Any] | str | None, found: Mapping[str, Any] | str) -> None:
    """An operator who takes a caller's key away should not believe that it is gone."""
    if isinstance(last, Mapping) and isinstance(found, Mapping):
        changed = [name for name in ("server", "store") if last.get(name) != found.get(name)]
        if changed:
            log.warning("%s: what was changed of %s holds from the next start on", path, " and ".join(changed))


def _folders(path: Path) -> set[Path]:
    """Where the file is, and where it only seems to be."""
    return {path.resolve().parent, path.absolute().parent}


def _identity(path: Path) -> tuple[int, ...] | None:
    """Which file it is, and as of when; `None` where there is no file just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _document(path: Path) -> Mapping[str, Any] | str | None:
    """What the file says, or what is wrong with it; `None` where there is no file just now."""
    if not path.exists():
        return None
    try:
        return read(path)
    except InvalidConfig as error:
        return str(error)
