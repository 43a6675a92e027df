"""A client of a vendor's own SDK as a candidate, before one that Standby calls itself.

Whatever the SDK's client was given is kept: its address, its credential, its headers, its HTTP client with its proxies
and hooks. Its retries and its timeouts are not: the runner decides who is asked again, and when a call took too long.
"""

from collections.abc import Mapping
from typing import Any

import anyio
import openai

from standby.clients import adapt
from standby.demo.faults import FaultServer, chat_answer, error_answer
from standby.runner import ClientFactory, Request, open_gateway


async def main() -> None:
    # Two servers in this process stand in for the vendors: the first one is overloaded for a moment.
    async with (
        FaultServer([error_answer(503, "overloaded"), chat_answer("Hello from the SDK!")]) as vendor,
        FaultServer(chat_answer("Hello from the backup!")) as backup,
        openai.AsyncOpenAI(base_url=f"{vendor.url}/v1", api_key="sk-its-own", max_retries=5) as sdk,
    ):
        # An `openai.AsyncAzureOpenAI` with an Entra token provider, or an `anthropic.AsyncAnthropic`, goes as well.
        clients: dict[str, ClientFactory] = {"our_sdk": lambda _provider: adapt(sdk)}
        async with open_gateway(config(backup.url), clients=clients) as gateway:
            for _ in range(2):
                ask = Request("chat", {"messages": [{"role": "user", "content": "Hello!"}]})
                result = await gateway.runner.run(ask)
                print(f"{result.candidate}: {result.data['choices'][0]['message']['content']}")
        print(f"the SDK sent {vendor.requests} requests, {backup.requests} went to the backup")


def config(backup_url: str) -> Mapping[str, Any]:
    return {
        "version": 1,
        "providers": {
            "first": {"client": "our_sdk"},
            "second": {"client": "openai", "base_url": f"{backup_url}/v1"},
        },
        "runner_policies": {"careful": {"failoverPolicy": {"allowCategories": ["provider_overloaded"]}}},
        "runtime_policies": {"once": {"retryPolicy": {"maxAttempts": 1}}},
        "models": {
            "chat": {
                "runner_policy": "careful",
                "candidates": [
                    {"id": "sdk", "provider": "first", "model": "m", "priority": 10, "runtime_policy": "once"},
                    {"id": "backup", "provider": "second", "model": "m", "priority": 20},
                ],
            }
        },
    }


if __name__ == "__main__":
    anyio.run(main)
