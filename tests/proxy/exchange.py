"""One request as an ASGI server hands it over: piece by piece, from a caller who may go away."""

import anyio
import orjson


class Exchange:
    """A request of ``pieces``; the caller stays until `leave`.

    Attributes:
        taken: How many pieces the application has asked for.
        sent: What the application sent.
    """

    def __init__(self, *pieces, path="/v1/chat/completions", method="POST", headers=(), complete=True):
        self._pieces = pieces
        self._complete = complete
        self._gone = anyio.Event()
        self.taken = 0
        self.sent = []
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), *headers],
            "server": ("127.0.0.1", 8080),
            "client": ("127.0.0.1", 50_000),
            "root_path": "",
        }

    async def run(self, app):
        await app(self.scope, self._receive, self._send)

    def leave(self):
        self._gone.set()

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def json(self):
        return orjson.loads(b"".join(message.get("body", b"") for message in self.sent))

    async def _receive(self):
        if self.taken < len(self._pieces):
            piece = self._pieces[self.taken]
            self.taken += 1
            more = not self._complete or self.taken < len(self._pieces)
            return {"type": "http.request", "body": piece, "more_body": more}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent.append(message)
