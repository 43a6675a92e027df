"""uvicorn's fast HTTP protocol with three things that it lacks.

- A bound on a request's head: the parser keeps it however long it is.
- A deaf ear to `Upgrade`: the parser stops reading at a head that offers another protocol, and the body that follows is
  lost. Java's client offers HTTP/2 that way with its first request.
- Word to every request of a connection that is lost, and not to the last one only: a caller who sends two at once and
  leaves would keep the first one running.

uvicorn's other protocol has the first two, and takes 0.25 ms more of processor time for every request.
"""

from __future__ import annotations

import re
import time
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from standby.runner import new_run_id

from ._answers import error_answer
from ._refusals import Refusal

MAX_HEAD_BYTES: Final = 64 * 1024

_NO_HTTP: Final = Refusal(400, "invalid_request_error", "invalid_http", "That is no request of HTTP/1.1.")
_TOO_LARGE: Final = Refusal(
    431, "invalid_request_error", "head_too_large", f"The head of a request may have {MAX_HEAD_BYTES} bytes."
)
_UPGRADE = re.compile(rb"(?<=\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
_UNHEARD: Final = b"unheard"


class HeadTooLarge(Exception):
    """Raised in the parser's callback, which makes the request one that is not HTTP."""


class Protocol(HttpToolsProtocol):
    """Answers 431 where the request line and the headers are longer than `MAX_HEAD_BYTES`, and closes."""

    _in_head = False
    _in_body = False
    _unfinished = 0
    _too_large = False
    _unanswered: tuple[RequestResponseCycle, ...] = ()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone."""
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head goes on and on: the parser would keep all of it."""
        was_in_head = self._in_head
        super().data_received(data if self._in_body else _without_upgrade(data))
        self._unfinished = self._unfinished + len(data) if was_in_head and self._in_head else 0
        if self._unfinished > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, in uvicorn's form
        """Answer what is no request as every other error is answered, and close."""
        refusal = _TOO_LARGE if self._too_large else _NO_HTTP
        answer = error_answer("/v1", refusal, new_run_id(time.time()), {"connection": "close"})
        head = STATUS_LINE[refusal.status] + b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        self.transport.write(head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """A head is complete; what came at once is bounded here."""
        self._in_head, self._in_body = False, True
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._too_large = True
            raise HeadTooLarge
        super().on_headers_complete()
        self._unanswered = (*(cycle for cycle in self._unanswered if not cycle.response_complete), self.cycle)

    def on_message_complete(self) -> None:
        """A head may follow."""
        self._in_body = False
        super().on_message_complete()


def _without_upgrade(data: bytes) -> bytes:
    """A head, or a part of one, and what follows it; the offer of another protocol has another name."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if _UPGRADE.search(head) is None:
        return data
    return _UPGRADE.sub(_UNHEARD, head) + data[len(head) :]
