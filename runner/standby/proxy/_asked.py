"""What a caller asks: a body within its bounds, and options in headers. Everything wrong is a `Refusal`."""

from __future__ import annotations

import math
import re
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from standby.clients import Body, Form, InvalidBody
from standby.runner import new_run_id

from ._refusals import Refusal, bad_request

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_DIGITS = re.compile(r"[0-9]+")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
_BETA = re.compile(r"[A-Za-z0-9 ,._-]{1,2000}")
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of its run, in headers."""

    timeout_seconds: float | None
    only: tuple[str, ...] | None
    may_fail_over: bool


def options_of(request: Request) -> Options:
    """What the caller asks of its run.

    Raises:
        Refusal: A header has a value that it cannot have.
    """
    headers = request.headers
    written = headers.get("x-standby-timeout")
    timeout_seconds = None if written is None else _seconds(written.strip())
    only = None
    if lines := headers.getlist("x-standby-candidates"):
        only = tuple(name for part in ",".join(lines).split(",") if (name := part.strip()))
        if not only:
            raise _bad_header("x-standby-candidates", "must name at least one candidate")
    no_failover = headers.get("x-standby-no-failover", "0").strip()
    if no_failover not in ("0", "1"):
        raise _bad_header("x-standby-no-failover", "must be 1 or 0")
    return Options(timeout_seconds, only, may_fail_over=no_failover == "0")


def run_id_of(request: Request) -> str:
    """The run's id: the caller's own where it is a valid one, else a new one; the same for the whole request."""
    run_id: str | None = request.scope.get("standby.run_id")
    if run_id is None:
        given = request.headers.get("x-standby-run-id", "")
        run_id = given if _RUN_ID.fullmatch(given) else new_run_id(time.time())
        request.scope["standby.run_id"] = run_id
    return run_id


def path_of(scope: Scope) -> str:
    """What is asked for, wherever the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def passed_on(request: Request) -> dict[str, str]:
    """The caller's headers that go on to the provider; everything else stays here.

    A trace context that is none is left out, as its standard says: a provider must not be blamed for it.
    """
    beta = ",".join(request.headers.getlist("anthropic-beta"))
    passed = {"anthropic-beta": beta} if _BETA.fullmatch(beta) else {}
    parent = request.headers.get("traceparent", "")
    if not _TRACEPARENT.fullmatch(parent):
        return passed
    state = ",".join(request.headers.getlist("tracestate"))
    return {**passed, "traceparent": parent, **({"tracestate": state} if _TRACESTATE.fullmatch(state) else {})}


async def body_of(request: Request, max_bytes: int) -> Body:
    """The JSON object that the request brings.

    Raises:
        Refusal: It brings none, or too large a one.
    """
    content = await bounded_body(request, max_bytes)
    try:
        return Body(content)
    except InvalidBody as error:
        raise invalid_body(error) from None


async def form_of(request: Request, max_bytes: int) -> Form:
    """The form that the request brings.

    Raises:
        Refusal: It brings none, or too large a one.
    """
    content = await bounded_body(request, max_bytes)
    try:
        return Form(content, request.headers.get("content-type", ""))
    except InvalidBody as error:
        raise bad_request("invalid_form", f"The request's body: {error}.") from None


def invalid_body(error: InvalidBody) -> Refusal:
    """The answer to a body that is not a JSON object."""
    return bad_request("invalid_json", f"The request's body: {error}.")


async def bounded_body(request: Request, max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        Refusal: It is larger than ``max_bytes``; what is too much is not read.
    """
    message = f"The body is larger than {max_bytes:,} bytes."
    too_large = Refusal(413, "invalid_request_error", "request_too_large", message)
    declared = number_of(request.headers.get("content-length", ""))
    if declared is not None and declared > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            size += len(chunk)
            if size > max_bytes:
                raise too_large
            chunks.append(chunk)
    return b"".join(chunks)


def number_of(written: str) -> float | None:
    """The whole number that ``written`` is, infinity for one that nobody means; `None` where it is none."""
    if not _DIGITS.fullmatch(written):
        return None
    return int(written) if len(written) <= _MAX_DIGITS else math.inf


def model_of(body: Body) -> str:
    """The model that a body names.

    Raises:
        Refusal: It names none.
    """
    model = body.data.get("model")
    if not isinstance(model, str) or not model:
        message = "`model` is missing." if model is None else "`model` must be a string that is not empty."
        raise bad_request("missing_model", message, "model")
    return model


def wants_stream(body: Body) -> bool:
    """Whether the answer is to be a stream.

    Raises:
        Refusal: The body does not say so in a way that every provider understands alike.
    """
    wanted = body.data.get("stream")
    if wanted is not None and not isinstance(wanted, bool):
        raise bad_request("invalid_request", "`stream` must be true or false.", "stream")
    return wanted is True


def _seconds(written: str) -> float:
    seconds = float(written) if _SECONDS.fullmatch(written) else 0.0
    if not seconds:
        raise _bad_header("x-standby-timeout", "must be a number of seconds above 0, such as 2.5")
    return seconds


def _bad_header(name: str, rule: str) -> Refusal:
    return bad_request("invalid_header", f"The header {name} {rule}.", name)
