"""Standby inside a FastAPI application: one runner for the life of the application, and no second server.

Run it with ``uvicorn embed_fastapi:app``. Name a configuration document in ``GATEWAY_CONFIG``, for example the
`gateway.yaml` beside this file; without one, two servers in this process stand in for two vendors, one of them down.
"""

import math
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel

from standby.demo.faults import FaultServer, chat_answer, error_answer
from standby.proxy import create_app
from standby.runner import Request, RunFailed, Runner, open_gateway


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        config = os.environ.get("GATEWAY_CONFIG") or await offline_config(stack)
        gateway = await stack.enter_async_context(open_gateway(config))
        app.state.runner = gateway.runner
        # Optional: the whole OpenAI-compatible API beside the application's own endpoints, admin API and all.
        app.mount("/llm", create_app(gateway.runner, gateway.document.server))
        yield


app = FastAPI(lifespan=lifespan)


def the_runner(request: HttpRequest) -> Runner:
    runner: Runner = request.app.state.runner
    return runner


class Question(BaseModel):
    question: str


@app.post("/ask")
async def ask(asked: Question, runner: Annotated[Runner, Depends(the_runner)], response: Response) -> dict[str, Any]:
    # No try-except around single providers: which failures lead to whom is written in the policies. If the caller of
    # this endpoint goes away and FastAPI cancels it, the run is cancelled with it.
    try:
        result = await runner.run(Request("chat", {"messages": [{"role": "user", "content": asked.question}]}))
    except RunFailed as failed:
        seconds = math.ceil(failed.retry_after_seconds or 1)
        raise HTTPException(503, "nobody can answer now", {"retry-after": str(seconds)}) from failed
    response.headers["x-standby-run-id"] = result.record.run_id
    return {"answer": result.data["choices"][0]["message"]["content"], "answered_by": result.candidate}


async def offline_config(stack: AsyncExitStack) -> Mapping[str, Any]:
    down = await stack.enter_async_context(FaultServer(error_answer(503)))
    well = await stack.enter_async_context(FaultServer(chat_answer("Forty-two.")))
    return {
        "version": 1,
        "providers": {
            "first": {"client": "openai", "base_url": f"{down.url}/v1"},
            "second": {"client": "openai", "base_url": f"{well.url}/v1"},
        },
        "models": {
            "chat": {
                "candidates": [
                    {"id": "primary", "provider": "first", "model": "some-model", "priority": 10},
                    {"id": "backup", "provider": "second", "model": "some-model", "priority": 20},
                ]
            }
        },
    }
