"""The library in ten lines: a request whose first provider fails and whose second one answers."""

import anyio

from standby.demo.faults import FaultServer, chat_answer, error_answer
from standby.runner import Request, Runner
from standby.store import MemoryCatalog


async def ask(catalog: MemoryCatalog) -> None:
    # -- the ten lines --
    async with Runner(catalog) as runner:
        result = await runner.run(Request("chat", {"messages": [{"role": "user", "content": "Hello?"}]}))
    print(f"{result.candidate}: {result.data['choices'][0]['message']['content']}")
    for tried in result.record.tries:
        reason, rule = tried.rule
        print(f"  {tried.candidate}, try {tried.n}: {tried.outcome}", tried.did or "", reason)
        if rule is not None:
            print(f"    by {rule.source}: {rule.rule} = {rule.value}")


async def main() -> None:
    # Two servers stand in for two vendors, so that this runs anywhere: the first is down.
    async with FaultServer(error_answer(503)) as down, FaultServer(chat_answer("Hello!")) as well:
        catalog = MemoryCatalog.from_mapping(
            {
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
        )
        await ask(catalog)


if __name__ == "__main__":
    anyio.run(main)
