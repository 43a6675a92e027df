"""An answer of OpenAI's chat completions, read and written whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from standby.clients._openai_wire import objects, usage_of
from standby.clients._protocols import Usage

from ._chat_parts import (
    arguments_of,
    signature_of,
    thoughts_of,
    written_call,
    written_thoughts,
)
from ._protocols import NotAnAnswer
from ._reading import as_object, as_objects, as_text
from ._signatures import marked
from ._values import Answer, Choice, Finish, Logprob, Refusal, Text, Thinking, ToolCall

__all__ = [
    "answer_of",
    "body_of_answer",
    "finish_of",
    "logprobs_of",
    "said_in",
    "thought_in",
    "written_finish",
    "written_id",
    "written_logprobs",
    "written_usage",
]

_FINISHES: Final[Mapping[str, Finish]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "length",  # Mistral: docs.mistral.ai/api
}
_NATIVE: Final[Mapping[str, Finish]] = {"refusal": "refusal", "pause_turn": "pause"}
"""What OpenRouter tells beside it, in the model's own vendor's words: openrouter.ai/docs/api-reference/overview."""

_REASONS: Final[Mapping[Finish, str]] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
}
_ID: Final = "chatcmpl-"

# -- read --------------------------------------------------------------------------------------------------------


def answer_of(data: Mapping[str, Any], signer: str = "") -> Answer:
    """A whole answer.

    Args:
        data: Its body.
        signer: Whose its signatures are, so that they are known again; empty where they are to bear no name.

    Raises:
        NotAnAnswer: It is none.
    """
    choices = objects(data.get("choices"))
    if not choices:
        raise NotAnAnswer("the answer has no choices")
    created = data.get("created")
    return Answer(
        as_text(data.get("id")),
        as_text(data.get("model")),
        tuple(_choice(choice, signer) for choice in choices),
        usage_of(data.get("usage")),
        created if isinstance(created, int) else 0,
    )


def _choice(choice: Mapping[str, Any], signer: str) -> Choice:
    message = as_object(choice.get("message"))
    if not message:
        raise NotAnAnswer("a choice of the answer has no message")
    refusal = as_text(message.get("refusal"))
    calls = tuple(_calls(message))
    refused = (Refusal(refusal),) if refusal else ()
    parts = (*thought_in(message, signer), *said_in(message.get("content")), *refused, *calls)
    finish, sequence = finish_of(choice, refused=bool(refused), called=bool(calls))
    return Choice(parts, finish, sequence, logprobs_of(choice.get("logprobs")))


def thought_in(message: Mapping[str, Any], signer: str) -> tuple[Thinking, ...]:
    """What was thought, wherever servers put it."""
    texts = (message.get(key) for key in ("reasoning_content", "reasoning", "thinking"))
    content = as_objects(message.get("content"))
    # Mistral thinks in parts of the content: docs.mistral.ai/capabilities/reasoning
    parts = [part["thinking"] for part in content if part.get("type") == "thinking" and "thinking" in part]
    thought = "".join(each.text for part in parts for each in said_in(part))
    found = thoughts_of(message.get("reasoning_details"), next((text for text in texts if text), thought))
    return tuple(replace(each, signature=marked(each.signature, signer)) for each in found) if signer else found


def said_in(content: object) -> Iterator[Text]:
    """What was said: a text, or some parts."""
    if isinstance(content, str) and content:
        yield Text(content)
    for part in as_objects(content):
        if part.get("type") == "text" and (text := as_text(part.get("text"))):
            yield Text(text)


def _calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    for index, call in enumerate(as_objects(message.get("tool_calls"))):
        function = as_object(call.get("function"))
        if not (name := as_text(function.get("name"))):
            raise NotAnAnswer("a call of a tool has no name")
        arguments = arguments_of(function.get("arguments")) or "{}"
        yield ToolCall(
            as_text(call.get("id")) or f"call_{index}", name, arguments, signature_of(call.get("extra_content"))
        )


def finish_of(choice: Mapping[str, Any], *, refused: bool, called: bool) -> tuple[Finish, str]:
    """Why a choice ended, and the stop sequence that ended it where the server says.

    Raises:
        NotAnAnswer: It does not say why.
    """
    reason, native, sequence = (choice.get(key) for key in ("finish_reason", "native_finish_reason", "stop_reason"))
    if not isinstance(reason, str) or not reason:
        raise NotAnAnswer("a choice of the answer has no finish_reason")
    finish = _FINISHES.get(reason, "stop")
    if isinstance(native, str) and native in _NATIVE:
        finish = _NATIVE[native]
    elif finish == "stop" and isinstance(sequence, str) and sequence:  # vLLM
        return "stop_sequence", sequence
    elif finish == "stop" and refused:
        finish = "refusal"
    elif finish == "stop" and called:  # so it is where the tool was named by the caller
        finish = "tool_calls"
    return finish, ""


def logprobs_of(logprobs: object) -> tuple[Logprob, ...]:
    """How likely the tokens were, of the text or of the refusal."""
    told = as_object(logprobs)
    tokens = as_objects(told.get("content")) or as_objects(told.get("refusal"))
    return tuple(
        Logprob(token, likely, tuple((other, its) for other, its, _ in _tokens(top)))
        for token, likely, top in _tokens(tokens)
    )


def _tokens(tokens: Iterable[dict[str, Any]]) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
    for each in tokens:
        token, likely = each.get("token"), each.get("logprob")
        if isinstance(token, str) and isinstance(likely, int | float):
            yield token, likely, as_objects(each.get("top_logprobs"))


# -- written -----------------------------------------------------------------------------------------------------


def body_of_answer(answer: Answer) -> dict[str, Any]:
    """A whole answer."""
    body: dict[str, Any] = {
        "id": written_id(answer.id),
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [_written_choice(choice, index) for index, choice in enumerate(answer.choices)],
    }
    return body | ({} if answer.usage is None else {"usage": written_usage(answer.usage)})


def _written_choice(choice: Choice, index: int) -> dict[str, Any]:
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    has_text = any(isinstance(part, Text) for part in choice.parts)
    return {
        "index": index,
        "message": _written_message(choice),
        "logprobs": written_logprobs(choice.logprobs, refusal=refused and not has_text),
        **written_finish(choice.finish, choice.stop_sequence, refused=refused),
    }


def _written_message(choice: Choice) -> dict[str, Any]:
    content = "".join(part.text for part in choice.parts if isinstance(part, Text))
    refusal = "".join(part.text for part in choice.parts if isinstance(part, Refusal))
    thoughts = [part for part in choice.parts if isinstance(part, Thinking)]
    calls = [written_call(part) for part in choice.parts if isinstance(part, ToolCall)]
    body: dict[str, Any] = {
        "role": "assistant",
        "content": content or (None if calls or refusal else ""),
        "refusal": refusal or None,
    }
    if thoughts:
        body["reasoning_details"] = written_thoughts(thoughts)
    if thought := "".join(each.text for each in thoughts):
        body["reasoning_content"] = thought
    return body | ({"tool_calls": calls} if calls else {})


def written_id(answer_id: str) -> str:
    """The id of an answer, as OpenAI's are."""
    return answer_id if answer_id.startswith(_ID) else f"{_ID}{answer_id}"


def written_finish(finish: Finish, stop_sequence: str, *, refused: bool) -> dict[str, Any]:
    """Why a choice ended; beside it what OpenAI has no word for, in those of vLLM and OpenRouter.

    Args:
        finish: Why.
        stop_sequence: The one that ended it.
        refused: Whether the model declined in words, which is then no other end than any.
    """
    if finish == "refusal" and refused:
        return {"finish_reason": "stop"}
    native = next((word for word, each in _NATIVE.items() if each == finish), None)
    return {
        "finish_reason": _REASONS[finish],
        **({"native_finish_reason": native} if native else {}),
        **({"stop_reason": stop_sequence} if stop_sequence else {}),
    }


def written_logprobs(logprobs: tuple[Logprob, ...], *, refusal: bool) -> dict[str, Any] | None:
    """How likely the tokens were; `None` where that is not known."""
    if not logprobs:
        return None
    tokens = [
        {
            **_written_token(each.token, each.logprob),
            "top_logprobs": [_written_token(token, likely) for token, likely in each.top],
        }
        for each in logprobs
    ]
    return {"content": None, "refusal": tokens} if refusal else {"content": tokens, "refusal": None}


def _written_token(token: str, likely: float) -> dict[str, Any]:
    return {"token": token, "logprob": likely, "bytes": list(token.encode())}


def written_usage(usage: Usage) -> dict[str, Any]:
    """The tokens that were counted."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
