"""A provider behind a client of a vendor's SDK, and behind one of ours: no sockets."""

import json

import httpx
import httpx2
import pytest

from standby.clients import ClientError


class Provider:
    """Answers, and remembers what it was asked."""

    def __init__(self, status=200, content=b"", *, headers=None, raises=None):
        self.status, self.content, self.headers, self.raises = status, content, headers or {}, raises
        self.seen = []

    def _asked(self, request, http):
        self.seen.append(request)
        if self.raises is not None:
            raise self.raises
        return http.Response(self.status, headers=self.headers, stream=in_pieces(self.content, http))

    def over_httpx(self):
        return httpx.MockTransport(lambda request: self._asked(request, httpx))

    def over_httpx2(self, **options):
        transport = httpx2.MockTransport(lambda request: self._asked(request, httpx2))
        return httpx2.AsyncClient(transport=transport, **options)


def in_pieces(content, http):
    class Stream(http.AsyncByteStream):
        async def __aiter__(self):
            for start in range(0, len(content), 100):
                yield content[start : start + 100]

    return Stream()


def answering(data, **more):
    return Provider(content=json.dumps(data).encode(), headers={"content-type": "application/json"}, **more)


async def failure_of(client, request):
    with pytest.raises(ClientError) as caught:
        await client.send(request)
    return caught.value


async def read(client, request):
    async with client.stream(request) as stream:
        blocks = []
        while (block := await stream.read()) is not None:
            blocks.append(block)
    return b"".join(block.raw for block in blocks)
