"""The well-known servers that speak OpenAI's chat completions, and what each does otherwise, by the pages that say so.

What a server ignores without a word counts as what it lacks: nothing is lost silently. What only some of its models
lack is left to the server to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ._openai import OpenAIClient
from ._registry import ClientSettings
from .dialects._chat_server import ChatServer, nine_letters

_SYSTEM: Final = {"developer": "system"}
_OLD_BOUND: Final = {"max_completion_tokens": "max_tokens"}
_ANSWERS_THOUGHTS: Final = {"answer_thinking": ""}
_NO_MEDIA: Final = ("image_data", "image_url", "image_detail", "file_data", "file_id", "audio")

GROQ: Final = ChatServer(
    name="groq",
    pages=("console.groq.com/docs/openai", "console.groq.com/docs/api-reference", "console.groq.com/docs/reasoning"),
    has=_ANSWERS_THOUGHTS,
    lacks=(
        *("logprobs", "logit_bias", "names", "n", "frequency_penalty", "presence_penalty", "metadata", "store"),
        *("file_data", "file_id", "audio", "verbosity", "answer_logprobs", "answer_cache_write_tokens"),
    ),
    roles=_SYSTEM,
    responses=True,
)
MISTRAL: Final = ChatServer(
    name="mistral",
    pages=("docs.mistral.ai/api", "github.com/mistralai/mistral-common"),
    has=_ANSWERS_THOUGHTS,
    lacks=(
        *("logprobs", "logit_bias", "names", "user", "service_tier", "verbosity", "store"),
        *("file_data", "file_id", "audio", "answer_logprobs", "answer_refusal", "answer_cache_write_tokens"),
    ),
    keys={**_OLD_BOUND, "seed": "random_seed"},
    roles=_SYSTEM,
    max_stops=16,
    max_temperature=1.5,
    call_id=nine_letters,
    counts_when_asked=False,
)
DEEPSEEK: Final = ChatServer(
    name="deepseek",
    pages=("api-docs.deepseek.com/api/create-chat-completion", "api-docs.deepseek.com/guides/thinking_mode"),
    has={**_ANSWERS_THOUGHTS, "thinking": "their words"},
    lacks=(
        *("json_schema", "logit_bias", "n", "seed", "user", "metadata", "service_tier", "verbosity", "store"),
        *("parallel_tool_calls", "answer_refusal", "answer_cache_write_tokens", *_NO_MEDIA),
    ),
    keys=_OLD_BOUND,
    roles=_SYSTEM,
    max_stops=16,
    takes_parts=False,
)
TOGETHER: Final = ChatServer(
    name="together",
    pages=("docs.together.ai/reference/chat-completions-1",),
    has={**_ANSWERS_THOUGHTS, "top_k": ""},
    lacks=(
        *("logprobs", "user", "metadata", "service_tier", "verbosity", "store", "parallel_tool_calls"),
        *("file_data", "file_id", "audio", "image_detail", "answer_logprobs", "answer_refusal"),
        *("answer_cache_write_tokens",),
    ),
    keys=_OLD_BOUND,
    roles=_SYSTEM,
    counts_when_asked=False,
)
OPENROUTER: Final = ChatServer(
    name="openrouter",
    pages=(
        "openrouter.ai/docs/api-reference/parameters",
        "openrouter.ai/docs/use-cases/reasoning-tokens",
        "openrouter.ai/docs/features/prompt-caching",
        "openrouter.ai/docs/features/multimodal/pdfs",
    ),
    has={
        **_ANSWERS_THOUGHTS,
        "answer_signature": "",
        "thinking": "",
        "reasoning": "as an effort or a budget",
        "cache": "Anthropic's and Gemini's models",
        "file_url": "",
        "top_k": "",
    },
    lacks=("n", "store", "file_id"),
    thinks_in_full=True,
    shows_thoughts=None,
    responses=True,
)
XAI: Final = ChatServer(
    name="xai",
    pages=("docs.x.ai/docs/api-reference",),
    has=_ANSWERS_THOUGHTS,
    lacks=(
        *("logit_bias", "metadata", "service_tier", "verbosity", "store", "file_data", "audio"),
        "answer_cache_write_tokens",
    ),
    responses=True,
)
FIREWORKS: Final = ChatServer(
    name="fireworks",
    pages=("docs.fireworks.ai/api-reference/post-chatcompletions",),
    has={**_ANSWERS_THOUGHTS, "top_k": ""},
    lacks=(
        *("verbosity", "store", "file_data", "file_id", "audio", "image_detail"),
        *("answer_refusal", "answer_cache_write_tokens"),
    ),
    roles=_SYSTEM,
    responses=True,
)
OLLAMA: Final = ChatServer(
    name="ollama",
    pages=("docs.ollama.com/api/openai-compatibility",),
    has=_ANSWERS_THOUGHTS,
    lacks=(
        *("image_url", "image_detail", "file_data", "file_id", "audio", "names", "tool_choice", "parallel_tool_calls"),
        *("tool_strict", "logit_bias", "user", "n", "metadata", "service_tier", "verbosity", "store", "logprobs"),
        *("answer_logprobs", "answer_refusal", "answer_cached_tokens", "answer_cache_write_tokens"),
        "answer_reasoning_tokens",
    ),
    keys=_OLD_BOUND,
    roles=_SYSTEM,
    responses=True,
)
VLLM: Final = ChatServer(
    name="vllm",
    pages=("docs.vllm.ai/en/latest/serving/openai_compatible_server",),
    has={**_ANSWERS_THOUGHTS, "answer_stop_sequence": "", "top_k": ""},
    lacks=(
        *("metadata", "service_tier", "verbosity", "store", "file_data", "file_id"),
        *("answer_refusal", "answer_cache_write_tokens"),
    ),
    roles=_SYSTEM,
    max_stops=64,
    responses=True,
)


def _maker(server: ChatServer, base_url: str) -> Callable[[ClientSettings], OpenAIClient]:
    def made(settings: ClientSettings) -> OpenAIClient:
        return OpenAIClient(
            api_key=settings.api_key,
            base_url=settings.base_url or base_url,
            headers=settings.headers,
            http=settings.http,
            connect_seconds=settings.connect_seconds,
            streams_may_end_without_finish=settings.streams_may_end_without_finish,
            server=server,
        )

    return made


groq: Final = _maker(GROQ, "https://api.groq.com/openai/v1")
mistral: Final = _maker(MISTRAL, "https://api.mistral.ai/v1")
deepseek: Final = _maker(DEEPSEEK, "https://api.deepseek.com")
together: Final = _maker(TOGETHER, "https://api.together.xyz/v1")
openrouter: Final = _maker(OPENROUTER, "https://openrouter.ai/api/v1")
xai: Final = _maker(XAI, "https://api.x.ai/v1")
fireworks: Final = _maker(FIREWORKS, "https://api.fireworks.ai/inference/v1")
ollama: Final = _maker(OLLAMA, "http://localhost:11434/v1")
vllm: Final = _maker(VLLM, "http://localhost:8000/v1")
