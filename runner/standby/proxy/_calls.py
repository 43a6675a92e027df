"""A caller's request: read, checked, run, answered. A caller that goes away cancels its run."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from standby.clients import Body, InvalidBody
from standby.clients import Request as ModelRequest
from standby.runner import (
    Lease,
    Limits,
    Refused,
    RunFailed,
    Runner,
    RunResult,
    UnknownCandidate,
    UnknownModel,
    estimated_tokens,
    new_run_id,
)

from ._access import Caller, Callers
from ._answers import Refusal, error_answer, record_headers, refusal_of

JSON_ENDPOINTS: Final = (
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "moderations",
    "images/generations",
)
NOBODY_TO_ANSWER: Final = Response(status_code=499)
"""Never sent: the connection is closed."""

PASSED_ON: Final = ("traceparent", "tracestate")
"""The caller's headers that go on to the provider; everything else stays here."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of its run, in headers."""

    timeout_seconds: float | None
    only: tuple[str, ...] | None
    may_fail_over: bool


class Calls:
    """Answers the OpenAI endpoints from a runner.

    Args:
        runner: Who runs the requests.
        callers: Who may call.
        max_body_bytes: A larger body is refused.
    """

    def __init__(self, runner: Runner, callers: Callers, max_body_bytes: int) -> None:
        self._runner = runner
        self._callers = callers
        self._max_body_bytes = max_body_bytes
        self._limits = Limits()

    def endpoint(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one JSON endpoint."""

        async def handle(request: Request) -> Response:
            try:
                return await self._answer(request, path, run_id_of(request))
            except ClientDisconnect:
                return NOBODY_TO_ANSWER

        return handle

    async def _answer(self, request: Request, path: str, run_id: str) -> Response:
        caller = self._callers.of(request)
        options = options_of(request)
        body = await self._body(request)
        model = model_of(body)
        if not caller.may_use(model):
            raise Refusal(403, "permission_error", "model_not_allowed", f"This key may not use {model!r}.", "model")
        if body.data.get("stream") is True:
            raise not_yet("`stream`")
        passed_on = {name: value for name in PASSED_ON if (value := request.headers.get(name))}
        sent = ModelRequest(model, body, path, passed_on)
        lease = self._admit(caller, body)
        try:
            result = await self._run_while_connected(request, sent, options, run_id, caller)
        except UnknownModel as error:
            raise Refusal(404, "invalid_request_error", "model_not_found", str(error), "model") from None
        except UnknownCandidate as error:
            raise Refusal(400, "invalid_request_error", "unknown_candidate", str(error)) from None
        except RunFailed as failed:
            return error_answer(refusal_of(failed), run_id, record_headers(failed.record))
        finally:
            if lease is not None:
                lease.end()
        if result is None:
            return NOBODY_TO_ANSWER
        if lease is not None and result.record.usage is not None:
            lease.settle(result.record.usage.total_tokens)
        response, headers = result.response, record_headers(result.record)
        return Response(response.content, response.status, headers, media_type="application/json")

    async def _run_while_connected(
        self, request: Request, sent: ModelRequest, options: Options, run_id: str, caller: Caller
    ) -> RunResult | None:
        """Run; `None` where the caller goes away first, and the run is cancelled."""
        result: RunResult | None = None
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                result = await self._runner.run(
                    sent,
                    timeout_seconds=options.timeout_seconds,
                    only=options.only,
                    may_fail_over=options.may_fail_over,
                    run_id=run_id,
                    caller=caller.name,
                )
            except (UnknownModel, UnknownCandidate, RunFailed) as error:
                failed = error  # raised outside: a task group would wrap it
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return result

    def _admit(self, caller: Caller, body: Body) -> Lease | None:
        """Take the caller's own capacity for one call; `None` where nothing limits it."""
        capacity = self._limits.capacity(caller.name, caller.rate_limit)
        if capacity is None:
            return None
        tokens = estimated_tokens(body) if capacity.counts_tokens else 0
        now = self._runner.now()
        taken = Limits.take(capacity, tokens, now)
        if isinstance(taken, Refused):
            seconds = taken.free_at - now if taken.free_at < math.inf else 1.0
            raise Refusal(
                429, "rate_limit_error", "key_rate_limit_exceeded", "This key is at its own rate limit.", None, seconds
            )
        return taken

    async def _body(self, request: Request) -> Body:
        content = await bounded_body(request, self._max_body_bytes)
        try:
            return Body(content)
        except InvalidBody as error:
            raise Refusal(400, "invalid_request_error", "invalid_json", f"The body is {error}.") from None


async def bounded_body(request: Request, max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        Refusal: It is larger than ``max_bytes``; what is too much is not read.
    """
    too_large = Refusal(
        413, "invalid_request_error", "request_too_large", f"The body is larger than {max_bytes:,} bytes."
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def model_of(body: Body) -> str:
    """The model that a body names.

    Raises:
        Refusal: It names none.
    """
    model = body.data.get("model")
    if not isinstance(model, str) or not model:
        message = "`model` is missing." if model is None else "`model` must be a string that is not empty."
        raise Refusal(400, "invalid_request_error", "missing_model", message, "model")
    return model


def options_of(request: Request) -> Options:
    """What the caller asks of its run.

    Raises:
        Refusal: A header has a value that it cannot have.
    """
    headers = request.headers
    timeout_seconds = None
    if written := headers.get("x-standby-timeout"):
        timeout_seconds = _seconds(written)
    only = None
    if (written := headers.get("x-standby-candidates")) is not None:
        only = tuple(name for part in written.split(",") if (name := part.strip()))
        if not only:
            raise _bad_header("x-standby-candidates", "must name at least one candidate")
    written = headers.get("x-standby-no-failover", "0").strip()
    if written not in ("0", "1"):
        raise _bad_header("x-standby-no-failover", "must be 1 or 0")
    return Options(timeout_seconds, only, may_fail_over=written == "0")


def run_id_of(request: Request) -> str:
    """The run's id: the caller's own where it is a valid one, else a new one; the same for the whole request."""
    run_id: str | None = request.scope.get("standby.run_id")
    if run_id is None:
        given = request.headers.get("x-standby-run-id", "")
        run_id = given if _RUN_ID.match(given) else new_run_id(time.time())
        request.scope["standby.run_id"] = run_id
    return run_id


def not_yet(what: str) -> Refusal:
    """The answer to what the contract names and this version cannot do."""
    return Refusal(501, "not_implemented_error", "not_supported_yet", f"{what} is not supported yet.")


def _seconds(written: str) -> float:
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _bad_header("x-standby-timeout", "must be a number of seconds above 0")
    return seconds


def _bad_header(name: str, rule: str) -> Refusal:
    return Refusal(400, "invalid_request_error", "invalid_header", f"The header {name} {rule}.", name)
