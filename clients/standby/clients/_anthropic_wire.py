"""What goes to Anthropic in its own dialect, and what its answers mean. Pure: values in, values out.

The request goes out as it came in but for the model's name and what the operator has left out. The answer comes back as
it was sent; it is read far enough to know that it is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ._answers import Scrub, success, unusable
from ._body import Body, InvalidBody, without
from ._http_answer import HttpAnswer, request_id_of
from ._openai_wire import added, objects, refused
from ._protocols import Request, Response, Usage
from .dialects import unsupported
from .dialects._messages_answer import usage_of
from .dialects._signatures import own

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "cache": (),  # no keys of the body
    "json_schema": ("output_config.format", "output_format"),
    "reasoning": ("thinking", "output_config.effort"),
    "stop": ("stop_sequences",),
    "thinking": (),  # earlier thoughts; the key of this name is `reasoning`
    "user": ("metadata.user_id",),
}
"""Where what an operator leaves out stands in a body, if not under its own name."""

_THINKING: Final = b'thinking"'
"""How the types of thoughts end."""

# -- request -> wire ---------------------------------------------------------------------------------------------


def written(request: Request, *, stream: bool) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a call, and what was left out of them.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for a plain call
            that asks for a stream, and for another vendor's thoughts where they may not be left out.
    """
    try:
        body = Body.of(request.body)
        data, dropped = without(body.data, request.drop, _KEYS) if request.drop else (body.data, ())
        if _THINKING in body.encoded() and (its := _without_others_thoughts(data)) is not data:
            if "thinking" not in request.drop:
                raise unsupported("anthropic", {"thinking": "only its own"})
            data, dropped = its, (*dropped, "thinking")
        if data is not body.data:
            body = Body(data)
        content = body.with_model(request.model)
        if not stream and data.get("stream"):
            raise refused("unsupported_parameter", "a plain call cannot be answered with a stream", status=400)
        if stream and data.get("stream") is not True:
            more = {"stream": True}
            content = Body({**Body(content).data, **more}).encoded() if "stream" in data else added(content, more)
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error
    return content, dropped


def _without_others_thoughts(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without thoughts that another vendor signed: a caller sends back what it got. ``data`` if there are none."""
    turns: list[Any] = []
    found = False
    for turn in objects(data.get("messages")) or ():
        blocks = objects(turn.get("content"))
        left = [block for block in blocks or () if not _is_others_thought(block)]
        found |= len(left) < len(blocks or ())
        if left or not blocks:
            turns.append(turn if blocks is None else {**turn, "content": left})
    return {**data, "messages": turns} if found else data


def _is_others_thought(block: Mapping[str, Any]) -> bool:
    signature = {"thinking": block.get("signature"), "redacted_thinking": block.get("data")}.get(str(block.get("type")))
    return isinstance(signature, str) and signature != "" and not own(signature)


# -- wire -> values ----------------------------------------------------------------------------------------------


def answered(answer: HttpAnswer, dropped: tuple[str, ...], *, now: float, scrub: Scrub) -> Response:
    """A whole message as a value.

    Raises:
        ClientError: For an answer that is a failure, or none at all.
    """
    body = success(answer, now=now, scrub=scrub)
    content = objects(body.get("content"))
    if content is None:
        raise unusable("invalid_response", "the answer has no content", answer.status, answer.headers)
    usage = usage_of(body.get("usage"))
    if not any(map(says_something, content)) and not silence_is_explained((body.get("stop_reason"),), usage):
        empty = "the answer is complete and has nothing in it"
        raise unusable("empty_response", empty, answer.status, answer.headers)
    return _response(answer, body, usage, dropped)


def counted(answer: HttpAnswer, dropped: tuple[str, ...], *, now: float, scrub: Scrub) -> Response:
    """A count of tokens as a value: nothing was used for it.

    Raises:
        ClientError: For an answer that is a failure, or none at all.
    """
    body = success(answer, now=now, scrub=scrub)
    if not isinstance(body.get("input_tokens"), int):
        raise unusable("invalid_response", "the answer has no input_tokens", answer.status, answer.headers)
    return _response(answer, body, Usage(), dropped)


def _response(answer: HttpAnswer, body: Mapping[str, Any], usage: Usage | None, dropped: tuple[str, ...]) -> Response:
    return Response(answer.status, answer.headers, answer.content, body, usage, request_id_of(answer.headers), dropped)


def says_something(block: Mapping[str, Any]) -> bool:
    """Whether a block is content: words, thoughts, or of any other kind."""
    match block.get("type"):
        case "text":
            return bool(block.get("text"))
        case "thinking":
            return bool(block.get("thinking") or block.get("signature"))
        case _:
            return True


def silence_is_explained(reasons: Iterable[object], usage: Usage | None) -> bool:
    """Whether it is clear why a complete answer has nothing in it, so that it is an answer all the same."""
    for reason in reasons:
        if reason in ("refusal", "pause_turn"):
            return True
        if reason == "max_tokens" and usage is not None and (usage.reasoning_tokens or not usage.output_tokens):
            return True  # all went into thoughts, or none was asked for: that fills the cache
    return False
