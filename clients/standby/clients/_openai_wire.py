"""What goes to an OpenAI-compatible server, and what its answers mean. Pure: values in, values out.

The request goes out as it came in but for the model's name. The answer comes back as it was sent; it is read far enough
to know that it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import orjson

from ._answers import Scrub, success, unusable
from ._body import Body, InvalidBody
from ._errors import ClientError
from ._http_answer import HttpAnswer, request_id_of
from ._protocols import Request, Response, Usage

Json = dict[str, Any] | list[Any] | str | float | bool | None
"""What JSON is decoded to."""

# -- request -> wire ---------------------------------------------------------------------------------------------


def written(request: Request) -> bytes:
    """The bytes of a plain call.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for one that asks
            for a stream, which this call cannot give.
    """
    try:
        body = Body.of(request.body)
        if body.data.get("stream"):
            raise refused("unsupported_parameter", "a plain call cannot be answered with a stream", status=400)
        return body.with_model(request.model)
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error


class Asked(NamedTuple):
    """A streamed call, ready to be sent.

    Attributes:
        content: The bytes to send.
        choices: How many choices are asked for.
        hide_usage: Whether the event that only counts tokens was asked for by us, and is not for the caller.
    """

    content: bytes
    choices: int
    hide_usage: bool


def written_as_stream(request: Request) -> Asked:
    """The bytes of a streamed call; the tokens are asked for where they must be counted.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for an endpoint
            whose streams are not understood.
    """
    endpoint = request.endpoint.strip("/")
    if not endpoint.endswith("completions") and endpoint != "responses":
        raise refused("unsupported_parameter", f"{request.endpoint[:100]} cannot be streamed yet", status=400)
    try:
        body = Body.of(request.body)
        data, content = body.data, body.with_model(request.model)
        more: dict[str, Any] = {} if data.get("stream") is True else {"stream": True}
        hide_usage = False
        if request.count_tokens and endpoint != "responses":  # those count unasked
            options = _object(data.get("stream_options"))
            hide_usage = options.get("include_usage") is not True
            if hide_usage:
                more["stream_options"] = {**options, "include_usage": True}
        if more:
            replaces = more.keys() & data.keys()
            content = Body({**Body(content).data, **more}).encoded() if replaces else added(content, more)
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error
    return Asked(content, _choices_asked(data), hide_usage)


def _choices_asked(data: Mapping[str, Any]) -> int:
    each, prompts = data.get("n"), data.get("prompt")
    count = each if isinstance(each, int) and each > 0 else 1
    if isinstance(prompts, list) and prompts:
        several = cast("list[object]", prompts)
        # A list of numbers is one prompt, in tokens.
        count *= 1 if isinstance(several[0], int) else len(several)
    return count


def _object(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def added(content: bytes, more: Mapping[str, Any]) -> bytes:
    """A JSON object's bytes with keys that it does not have added at its end; every other byte stays as it is."""
    start = content.rstrip().removesuffix(b"}").rstrip()
    comma = b"" if start.endswith(b"{") else b","
    return start + comma + orjson.dumps(more)[1:]


def refused(code: str, message: str, status: int = 0) -> ClientError:
    """A call that is not made, since it could not be answered."""
    return ClientError(code, message, status=status, scope="request", work="rejected" if status else "not_sent")


# -- wire -> values ----------------------------------------------------------------------------------------------


def answered(endpoint: str, answer: HttpAnswer, *, now: float, scrub: Scrub, dropped: tuple[str, ...] = ()) -> Response:
    """The answer as a value.

    Args:
        endpoint: What was called; it says what an answer looks like.
        answer: The answer.
        now: The time, in seconds since the epoch.
        scrub: Takes secrets out of a text.
        dropped: What was left out of the request.

    Raises:
        ClientError: For an answer that is a failure, or none at all.
    """
    status, headers = answer.status, answer.headers
    body = success(answer, now=now, scrub=scrub)
    promise = next((promise for ending, promise in _PROMISES.items() if endpoint.strip("/").endswith(ending)), None)
    problem = promise(body) if promise is not None else None
    if problem is not None:
        code = "empty_response" if problem is _EMPTY else "invalid_response"
        raise unusable(code, problem, status, headers)
    usage = usage_of(body.get("usage"))
    return Response(status, headers, answer.content, body, usage, request_id_of(headers), dropped)


_EMPTY: Final = "the answer is complete and has nothing in it"

SUBSTANCE: Final = frozenset(
    {
        *("content", "tool_calls", "refusal", "function_call", "reasoning", "reasoning_content", "reasoning_details"),
        *("thinking", "audio", "images"),
    }
)
"""Where servers put what a model has to say: text, calls, refusals, reasoning, sound, pictures."""


def _chat(body: Mapping[str, Any]) -> str | None:
    choices = objects(body.get("choices"))
    if not choices:
        return "the answer has no choices"
    messages = [choice.get("message") for choice in choices]
    if not all(isinstance(message, dict) for message in messages):
        return "a choice of the answer has no message"
    said = any(cast("dict[str, Any]", message).get(key) for message in messages for key in SUBSTANCE)
    return None if said or silence_is_explained(choices, body) else _EMPTY


def _completion(body: Mapping[str, Any]) -> str | None:
    choices = objects(body.get("choices"))
    if not choices:
        return "the answer has no choices"
    if not all(isinstance(choice.get("text"), str) for choice in choices):
        return "a choice of the answer has no text"
    said = any(choice["text"] for choice in choices)
    return None if said or silence_is_explained(choices, body) else _EMPTY


def silence_is_explained(choices: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> bool:
    """Whether it is clear why a complete answer has nothing in it, so that it is an answer all the same."""
    reasons = {choice.get("finish_reason") for choice in choices}
    # A model that thought until its tokens ran out has answered; its thoughts are hidden, and counted.
    return "content_filter" in reasons or ("length" in reasons and _hidden_reasoning(body.get("usage")))


def _hidden_reasoning(usage: object) -> bool:
    details = cast("dict[str, object]", usage).get("completion_tokens_details") if isinstance(usage, dict) else None
    return isinstance(details, dict) and bool(cast("dict[str, object]", details).get("reasoning_tokens"))


def response_problem(body: Mapping[str, Any]) -> str | None:
    output = objects(body.get("output"))
    if output is None:
        return "the answer has no output"
    if body.get("status") == "failed":
        return "the answer says that it failed, and not why"
    if body.get("status", "completed") != "completed":
        return None  # incomplete, with its reason; queued, in the background
    said = any(item.get("type") != "message" or objects(item.get("content")) for item in output)
    return None if said else _EMPTY


def _list_under(key: str) -> Callable[[Mapping[str, Any]], str | None]:
    def promise(body: Mapping[str, Any]) -> str | None:
        return None if isinstance(body.get(key), list) else f"the answer has no list under {key!r}"

    return promise


def _transcript(body: Mapping[str, Any]) -> str | None:
    # Silence has no words: an empty text is one.
    return None if isinstance(body.get("text"), str) else "the answer has no text"


_PROMISES: Final[Mapping[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _list_under("data"),
    "responses": response_problem,
    "moderations": _list_under("results"),
    "images/generations": _list_under("data"),
    "audio/transcriptions": _transcript,
    "audio/translations": _transcript,
}
"""What an answer must have, by the end of the endpoint; the first that fits."""


def objects(value: Json) -> list[dict[str, Any]] | None:
    """A list of JSON objects; `None` where it is anything else."""
    if not isinstance(value, list):
        return None
    for item in value:
        if not isinstance(item, dict):
            return None
    return value


def usage_of(usage: object) -> Usage | None:
    """The tokens that an answer counts; `None` where it counts none."""
    if not isinstance(usage, dict):
        return None
    counted = cast("dict[str, object]", usage)
    inputs = _count(counted, "prompt_tokens", "input_tokens")
    outputs = _count(counted, "completion_tokens", "output_tokens")
    if inputs is None and outputs is None:
        return None
    read = _object(counted.get("prompt_tokens_details") or counted.get("input_tokens_details"))
    said = _object(counted.get("completion_tokens_details") or counted.get("output_tokens_details"))
    inputs, outputs, thought = inputs or 0, outputs or 0, _count(said, "reasoning_tokens") or 0
    if thought and _count(counted, "total_tokens") == inputs + outputs + thought:
        outputs += thought  # xAI counts thoughts beside the answer: docs.x.ai/docs/guides/reasoning
    cached = _count(read, "cached_tokens")
    if cached is None:  # DeepSeek: api-docs.deepseek.com/guides/kv_cache
        cached = _count(counted, "prompt_cache_hit_tokens")
    return Usage(inputs, outputs, cached or 0, _count(read, "cache_write_tokens") or 0, thought)


def _count(usage: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
