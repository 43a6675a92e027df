"""A gzip decoder that notices a cut and never swells beyond a bound.

The HTTP libraries' own decoders do neither: a body cut in the middle of its compressed stream looks complete to them,
and a small one may decompress to any size before somebody counts.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP_WINDOW: Final = 31


class GzipDecoder:
    """Decodes one body, piece by piece."""

    __slots__ = ("_begun", "_decompressor")

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(_GZIP_WINDOW)
        self._begun = False

    def feed(self, content: bytes, max_bytes: int) -> bytes:
        """What ``content`` adds to the body, at most one byte more than ``max_bytes``.

        Raises:
            zlib.error: For bytes that are not gzip.
        """
        if not content:
            return b""
        self._begun = True
        decoded = self._decompressor.decompress(content, max_bytes + 1)
        while self._decompressor.eof and self._decompressor.unused_data.lstrip(b"\0") and len(decoded) <= max_bytes:
            rest = self._decompressor.unused_data  # another member; zeros after the last are padding
            self._decompressor = zlib.decompressobj(_GZIP_WINDOW)
            decoded += self._decompressor.decompress(rest, max_bytes + 1 - len(decoded))
        return decoded

    def finish(self) -> None:
        """The body has ended.

        Raises:
            EOFError: It was cut: its compressed stream goes on.
        """
        if self._begun and not self._decompressor.eof:
            raise EOFError("the compressed answer was cut")
