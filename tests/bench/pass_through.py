"""The least that a gateway can be in Python: Starlette hands a body on by aiohttp, and its answer back. No more."""

from __future__ import annotations

import contextlib
import sys

import aiohttp
import uvicorn
import yarl
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route


def app(url: str) -> Starlette:
    """Hands on to the provider at ``url``."""
    endpoint, headers = yarl.URL(f"{url}/v1/chat/completions"), {"content-type": "application/json"}
    session: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def connected(_):
        nonlocal session
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield

    async def handle(request):
        async with session.post(endpoint, data=await request.body(), headers=headers) as answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)

    return Starlette(routes=[Route("/v1/chat/completions", handle, methods=["POST"])], lifespan=connected)


class Server(uvicorn.Server):
    """Says where it listens, as `standby serve` does."""

    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("listening on http://{}:{}".format(*self.servers[0].sockets[0].getsockname()), flush=True)


if __name__ == "__main__":
    config = uvicorn.Config(
        app(sys.argv[1]), port=0, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
    Server(config).run()
