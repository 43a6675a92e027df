"""What each of our clients' providers can do: the wires that they speak, by the client's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ._azure import AZURE_2024
from ._presets import DEEPSEEK, FIREWORKS, GROQ, MISTRAL, OLLAMA, OPENROUTER, TOGETHER, VLLM, XAI
from .dialects import Wire
from .dialects._chat import CHAT, Chat
from .dialects._converse import CONVERSE
from .dialects._gemini import GEMINI
from .dialects._messages import MESSAGES

__all__ = ["OWN_WIRES", "WIRES_LIKE_OPENAI"]

OWN_WIRES: Final[Mapping[str, Wire]] = {
    "openai": CHAT,
    "anthropic": MESSAGES,
    "gemini": GEMINI,
    "bedrock": CONVERSE,
}
"""Those that are vendors' own, in the order of the table in `docs/providers.md`."""

WIRES_LIKE_OPENAI: Final[Mapping[str, Wire]] = {
    server.name: Chat(server)
    for server in (AZURE_2024, GROQ, MISTRAL, DEEPSEEK, TOGETHER, OPENROUTER, XAI, FIREWORKS, OLLAMA, VLLM)
}
"""Those of compatible servers: OpenAI's, but for a few things. Azure's is that of its default version."""
