"""A caller's request: admitted, run, answered. A caller that goes away cancels its run."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypedDict

import orjson
from starlette.requests import Request
from starlette.responses import Response

from standby.clients import COUNT_TOKENS, Body, InvalidBody, counts_tokens, estimated_count
from standby.clients import Request as ModelRequest
from standby.clients.dialects import InvalidRequest
from standby.runner import (
    Lease,
    Refused,
    RunFailed,
    Runner,
    RunRecord,
    RunStream,
    UnknownCandidate,
    UnknownModel,
)
from standby.store import PriorityClass

from ._access import Caller, Callers
from ._answers import error_answer, record_headers
from ._asked import (
    Options,
    body_of,
    form_of,
    invalid_body,
    model_of,
    options_of,
    passed_on,
    path_of,
    run_id_of,
    wants_stream,
)
from ._connected import while_connected
from ._refusals import Refusal, at_limit, bad_request, listed, not_found, not_yet, quoted, refusal_of
from ._streams import EventStream

SPEECH: Final = "audio/speech"
"""Its answer comes as it is spoken, whether or not it is asked for in events."""
FORM_ENDPOINTS: Final = ("audio/transcriptions", "audio/translations")
"""A recording comes in a form, and what is said in it need not go out as JSON."""
ENDPOINTS: Final = (
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "images/generations",
    "messages",
    SPEECH,
    *FORM_ENDPOINTS,
)
STREAMED_ENDPOINTS: Final = ("chat/completions", "completions", "messages", "responses", SPEECH, *FORM_ENDPOINTS)


class Calls:
    """Answers the endpoints of OpenAI and Anthropic from a runner.

    Args:
        runner: Who runs the requests.
        callers: Who may call.
        max_body_bytes: A larger body is refused.
    """

    def __init__(self, runner: Runner, callers: Callers, max_body_bytes: int) -> None:
        self._runner = runner
        self._callers = callers
        self._max_body_bytes = max_body_bytes

    def endpoint(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one endpoint."""
        read = form_of if path in FORM_ENDPOINTS else body_of

        async def handle(request: Request) -> Response:
            caller = self._callers.of(request)
            options = options_of(request)
            body = await read(request, self._max_body_bytes)
            model = self._model(caller, body)
            sent = ModelRequest(model, body, path, passed_on(request))
            if wants_stream(body) or path == SPEECH:
                return await self._stream(request, sent, options, caller)
            return await self._answer(request, sent, options, caller)

        return handle

    async def count(self, request: Request) -> Response:
        """The tokens of a request to Anthropic's Messages: as a vendor counts them who does, else an estimate."""
        caller = self._callers.of(request)
        options = options_of(request)
        body = await body_of(request, self._max_body_bytes)
        sent = ModelRequest(self._model(caller, body), body, COUNT_TOKENS, passed_on(request))
        if able := self._who_counts(sent.model, options.only):
            return await self._answer(request, sent, replace(options, only=able), caller)
        try:
            counted = estimated_count(body)
        except InvalidRequest as error:
            raise bad_request("invalid_request", f"{error}.", error.param) from None
        record = await self._runner.answer_here(
            sent, dropped=("exact_count",), run_id=run_id_of(request), caller=caller.name
        )
        return Response(orjson.dumps(counted), headers=record_headers(record), media_type="application/json")

    def _who_counts(self, model: str, only: tuple[str, ...] | None) -> tuple[str, ...]:
        """Of the candidates that may be called those that can count; names of nobody stay, to be refused."""
        candidates = self._runner.route(model).candidates
        unable = {candidate.id for candidate in candidates if not counts_tokens(candidate.client)}
        names = (candidate.id for candidate in candidates) if only is None else only
        return tuple(dict.fromkeys(name for name in names if name not in unable))

    def _model(self, caller: Caller, body: Body) -> str:
        model = model_of(body)
        if not caller.may_use(model):
            message = f"This key may not use {quoted(model)}."
            raise Refusal(403, "permission_error", "model_not_allowed", message, "model")
        if model not in self._runner.catalog.snapshot().models:
            raise self._unknown_model(caller, model)
        return model

    def _unknown_model(self, caller: Caller, model: str) -> Refusal:
        there_are = listed(name for name in self._runner.catalog.snapshot().models if caller.may_use(name))
        return not_found("model_not_found", f"No model is named {quoted(model)}; there are: {there_are}.", "model")

    async def _answer(self, request: Request, sent: ModelRequest, options: Options, caller: Caller) -> Response:
        lease, record = await self._admit(caller, Body.of(sent.body)), None
        try:
            result = await while_connected(
                request.receive, lambda: self._runner.run(sent, **_run_options(request, options, caller))
            )
            record = result.record
        except Exception as error:  # noqa: BLE001 - `_refused` raises what it has no answer to
            record = error.record if isinstance(error, RunFailed) else None
            return self._refused(error, request, sent, caller)
        finally:
            _give_back(lease, record)
        response, headers = result.response, record_headers(result.record)
        if sent.endpoint in FORM_ENDPOINTS:
            headers["content-type"] = response.headers.get("content-type", "application/json")
        return Response(response.content, response.status, headers, media_type="application/json")

    async def _stream(self, request: Request, sent: ModelRequest, options: Options, caller: Caller) -> Response:
        if sent.endpoint not in STREAMED_ENDPOINTS:
            raise not_yet(f"`stream` on /v1/{sent.endpoint}")
        lease = await self._admit(caller, Body.of(sent.body))
        counted = lease is not None and caller.rate_limit.tokens_per_minute is not None

        def begin() -> RunStream:
            return self._runner.stream(replace(sent, count_tokens=counted), **_run_options(request, options, caller))

        def ended(stream: RunStream | None) -> None:
            _give_back(lease, None if stream is None else stream.record)

        return EventStream(begin, ended, lambda error: self._refused(error, request, sent, caller))

    def _refused(self, error: Exception, request: Request, sent: ModelRequest, caller: Caller) -> Response:
        """The answer to a run that came to nothing; what is no such thing is raised."""
        match error:
            case RunFailed():
                headers = record_headers(error.record)
                return error_answer(path_of(request.scope), refusal_of(error), error.record.run_id, headers)
            case UnknownModel():  # a reload took it away since it was looked up
                raise self._unknown_model(caller, sent.model) from None
            case UnknownCandidate():
                raise bad_request("unknown_candidate", f"{error}.", "x-standby-candidates") from None
            case InvalidBody():
                raise invalid_body(error) from None
            case _:
                raise error

    async def _admit(self, caller: Caller, body: Body) -> Lease | None:
        """Take the caller's own capacity for one call; `None` where nothing limits it."""
        taken = await self._runner.lease(f"caller:{caller.name}", caller.rate_limit, body)
        if isinstance(taken, Refused):
            seconds = taken.free_at - self._runner.now() if taken.free_at < math.inf else None
            raise at_limit("key_rate_limit_exceeded", "This key is at its own rate limit.", seconds)
        return taken


class _RunOptions(TypedDict):
    timeout_seconds: float | None
    only: tuple[str, ...] | None
    may_fail_over: bool
    run_id: str
    caller: str
    priority: PriorityClass


def _run_options(request: Request, options: Options, caller: Caller) -> _RunOptions:
    return {
        "timeout_seconds": options.timeout_seconds,
        "only": options.only,
        "may_fail_over": options.may_fail_over,
        "run_id": run_id_of(request),
        "caller": caller.name,
        "priority": caller.priority,
    }


def _give_back(lease: Lease | None, record: RunRecord | None) -> None:
    """End the lease of a caller's own capacity; a request for which nobody was called counts for nothing."""
    if lease is None:
        return
    usage = None if record is None else record.usage
    tokens = None if usage is None else usage.total_tokens
    lease.end(used=record is None or record.attempts > 0, tokens=tokens)
