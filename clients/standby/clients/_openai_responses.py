"""A call of OpenAI's Responses that is passed on: what is left out of it, and what the events of its stream tell.

The last event has the whole answer: that it is complete, or why it is not; and that it failed, which is no answer.
https://developers.openai.com/api/reference/resources/responses/streaming-events
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from ._answers import error_inside
from ._body import Body, InvalidBody, without
from ._errors import ClientError
from ._openai_wire import objects, refused, response_problem, usage_of
from ._passed_stream import PassedStream
from ._protocols import Request
from ._sse import Event
from .dialects import unsupported
from .dialects._chat_server import ChatServer
from .dialects._reading import as_object, as_text
from .dialects._responses_asked import LOGPROBS
from .dialects._responses_items import opened

__all__ = ["ResponsesStream", "fitted_responses"]

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "json_object": ("text.format",),
    "json_schema": ("text.format",),
    "logprobs": ("top_logprobs",),
    "max_tokens": ("max_output_tokens",),
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "user": ("user", "safety_identifier"),
    "verbosity": ("text.verbosity",),
}
"""Where what an operator leaves out stands in a body, if not under its own name."""

_ERROR: Final = b'"error"'
_FAILED: Final = b"response.failed"
_LOOK_CLOSER: Final = BytesAhoCorasick(
    [b"response.completed", b"response.incomplete", _FAILED, _ERROR, b"event: error", b"event:error"],
    matchkind=MatchKind.LeftmostFirst,
)
"""Where an event may tell something. A text may have some of these words in it: it is then looked at in vain."""

_NOT_YET: Final = frozenset({"message", "reasoning"})
"""Items whose deltas are their content. Of others, which are tools, it is content that the model asks for them."""


def fitted_responses(request: Request, server: ChatServer) -> tuple[Request, tuple[str, ...]]:
    """The request without what it may not have, and the names of what was left out; the same one where all is well.

    Raises:
        ClientError: ``bad_request`` for a body that is not a JSON object; ``unsupported_parameter`` for another
            vendor's thoughts where they may not be left out.
    """
    try:
        body = Body.of(request.body)
    except InvalidBody as error:
        raise refused("bad_request", f"the request's body: {error}") from error
    form = as_object(as_object(body.data.get("text")).get("format")).get("type")
    may_go = [name for name in request.drop if name not in ("json_object", "json_schema") or name == form]
    data, dropped = without(body.data, may_go, _PLACES)
    included = data.get("include")
    if "logprobs" in may_go and isinstance(included, list) and LOGPROBS in included:
        data = {**data, "include": [name for name in cast("list[object]", included) if name != LOGPROBS]}
        dropped = (*dropped, "logprobs")
    items = objects(data.get("input")) or []
    its_own = [own for item in items if (own := _its_own(item))]
    if its_own != items:
        if "thinking" not in may_go:
            raise unsupported(server.name, {"thinking": "only its own"})
        data = {**data, "input": its_own}
        dropped = (*dropped, "thinking")
    return (request if data is body.data else replace(request, body=data)), tuple(dict.fromkeys(dropped))


def _its_own(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what another vendor signed, which a caller sends back as it got it; nothing of a thought."""
    if item.get("type") == "reasoning" and opened(as_text(item.get("encrypted_content"))) is not None:
        return {}
    if "extra_content" in item:
        return {key: value for key, value in item.items() if key != "extra_content"}
    return item


class ResponsesStream(PassedStream):
    """One stream that is being read. It is complete when it says so, or why it is not."""

    _answer_said: Mapping[str, Any] | None = None

    def _note(self, data: Mapping[str, Any]) -> bool:
        match data.get("type"):
            case "response.completed" | "response.incomplete":
                self._answer_said = response = as_object(data.get("response"))
                self.usage = usage_of(response.get("usage"))
                self._done = True
            case "response.output_item.added":
                return as_object(data.get("item")).get("type", "message") not in _NOT_YET
            case str(kind) if kind.endswith(".delta"):
                return bool(data.get("delta"))
            case _:
                pass
        return False

    def _places(self, raw: bytes) -> list[int]:
        return [end for _, _, end in _LOOK_CLOSER.find_matches_as_indexes(raw)]

    def _tells(self, event: Event) -> bool:
        return bool(event.data) or event.type == "error"

    def _may_fail(self, event: Event) -> bool:
        return event.type == "error" or _ERROR in event.data or _FAILED in event.data

    def _error_in(self, event: Event, data: Mapping[str, Any]) -> ClientError | None:
        status, headers = self._answer.status, self._answer.headers
        told = data
        if data.get("type") == "response.failed":
            told = as_object(data.get("response"))
            if not told.get("error"):
                return self._unusable("invalid_response", "the answer says that it failed, and not why")
        elif "error" in (event.type, data.get("type")) and not data.get("error"):
            # Its `type` is that of the event, and not the error's.
            told = {"error": {key: data[key] for key in ("code", "message", "param") if data.get(key)} or "error"}
        return error_inside(status, headers, told, now=self._now, scrub=self._scrub)

    def _silence_is_explained(self) -> bool:
        return self._answer_said is not None and response_problem(self._answer_said) is None
