"""A peer library in a process of its own, with packages of its own: it is told in lines what to do.

``python tests/bench/peer.py URL``, by the Python of `.bench/peers`. It must import nothing of ours.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import litellm
import openai


def router(url: str, deployments: int = 1, *, failing: bool = False) -> Callable[[dict[str, Any]], Awaitable[Any]]:
    """LiteLLM's Router; where it fails over, nobody is left out, so that each call goes the same way."""

    def deployment(name: str, number: int, path: str = "") -> dict[str, Any]:
        its = {"model": "openai/gpt-4o", "api_base": f"{url}{path}/v1", "api_key": f"key-{number}"}
        return {"model_name": name, "litellm_params": its}

    model_list = [deployment("chat", n, "/down" if failing else "") for n in range(deployments)]
    made = litellm.Router(
        model_list=[*model_list, deployment("backup", deployments)],
        fallbacks=[{"chat": ["backup"]}],
        num_retries=0,
        disable_cooldowns=True,
    )
    return lambda asked: made.acompletion(**asked)


def calls(url: str) -> dict[str, Callable[[dict[str, Any]], Awaitable[Any]]]:
    """Each takes what is asked, and gives what its users get."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key-0", max_retries=0)
    return {
        "openai SDK": lambda asked: client.chat.completions.create(**asked),
        "LiteLLM Router": router(url),
        "LiteLLM Router, 1,000 deployments": router(url, 1000),
        "LiteLLM Router, a 500 and then an answer": router(url, failing=True),
    }


async def milliseconds_each(call: Callable[[dict[str, Any]], Awaitable[Any]], asked: Any, count: int, at_once: int):
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            answer = await call(dict(asked))
            assert answer.choices[0].message.content

    gc.collect()
    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(worker())
    return (time.process_time() - began) / count * 1000


async def obey(url: str) -> None:
    litellm.suppress_debug_info = True
    known = calls(url)
    print(json.dumps(list(known)), flush=True)
    while told := await asyncio.to_thread(sys.stdin.readline):
        who, *rest = json.loads(told)
        print(json.dumps(await milliseconds_each(known[who], *rest)), flush=True)


if __name__ == "__main__":
    asyncio.run(obey(sys.argv[1]))
