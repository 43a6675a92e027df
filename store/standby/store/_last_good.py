"""A copy of the catalog in a file, for a start while its database is away.

What is copied is what the database holds, with ``${NAME}`` in its place: no secret gets onto the disk this way, and a
catalog in which one is written out is not copied. The file is a document like any other, and can be imported; its first
line, a comment, says which version it is a copy of.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from ._config import literal_secrets, read
from ._engine import log

_VERSION: Final = re.compile(r"# Version (\d{1,9}) of the catalog ")


class LastGood:
    """The copy at one path; its ending is ``.yaml``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def keep(self, version: int, document: Mapping[str, Any], source: str) -> None:
        """Copy a version, all of it or nothing: whoever reads meanwhile finds the copy before. Blocks.

        A copy that cannot be made is said in the log. Where that is for a secret in it, there is none afterwards: an
        older one would be mistaken for it.
        """
        secrets = ", ".join(literal_secrets(document))
        try:
            if secrets:
                self.path.unlink(missing_ok=True)
                log.warning("no last good copy is kept: better name what is secret, as ${NAME}, in %s", secrets)
            else:
                self._write(f"# Version {version} of the catalog in {source}, as it was last served.\n", document)
        except OSError as error:
            log.warning("the last good copy of the catalog, %s, cannot be written: %s", self.path, error.strerror)

    def read(self) -> tuple[int, dict[str, Any]] | None:
        """The version and the document that were copied last; `None` where there is no copy. Blocks.

        Raises:
            InvalidConfig: The file cannot be read, or is no document.
        """
        if not self.path.exists():
            return None
        document = read(self.path)
        with self.path.open(encoding="utf-8") as lines:
            told = _VERSION.match(lines.readline())
        return int(told[1]) if told else 0, document

    def _write(self, head: str, document: Mapping[str, Any]) -> None:
        text = head + yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
