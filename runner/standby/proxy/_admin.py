"""The operator's API: what is held against each candidate and why, what runs did, and the operator's own word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from standby.clients import Body, InvalidBody
from standby.runner import CandidateStatus, Runner
from standby.store import Cool, Disable, Effect, Enable, Restore

from ._access import Operators
from ._answers import Refusal
from ._calls import bounded_body, not_yet

MAX_BODY_BYTES: Final = 64 * 1024
DEFAULT_COOL_SECONDS: Final = 300.0
MAX_RUNS: Final = 1000


@dataclass(frozen=True, slots=True)
class Tools:
    """What the server that embeds the admin API lends it; a path whose tool is missing answers 501.

    Attributes:
        reload: Reads the configuration anew and returns the new version.
        explain: Takes a question and returns the decisions; a question that makes no sense is a `ValueError`.
    """

    reload: Callable[[], Awaitable[int]] | None = None
    explain: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


class Admin:
    """The admin API over one runner."""

    def __init__(self, runner: Runner, operators: Operators, tools: Tools) -> None:
        self._runner = runner
        self._operators = operators
        self._tools = tools

    def routes(self) -> list[Route]:
        """The paths of the API."""
        return [
            Route("/admin/candidates", self._handler(self._candidates), methods=["GET"]),
            Route("/admin/candidates/{id:path}/{action}", self._handler(self._act), methods=["POST"]),
            Route("/admin/runs", self._handler(self._runs), methods=["GET"]),
            Route("/admin/runs/{run_id}", self._handler(self._run), methods=["GET"]),
            Route("/admin/reload", self._handler(self._reload), methods=["POST"]),
            Route("/admin/explain", self._handler(self._explain), methods=["POST"]),
        ]

    def _handler(self, answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self._operators.check(request)
            return _json(await answer(request))

        return handle

    async def _candidates(self, _: Request) -> Any:
        return {"candidates": [status.as_dict() for status in self._runner.statuses()]}

    async def _act(self, request: Request) -> Any:
        action = request.path_params["action"]
        if action not in ("enable", "disable", "cool", "restore"):
            raise _not_found(f"no action is named {action!r}; there are enable, disable, cool and restore")
        found = self._find(request.path_params["id"])
        asked = await _object(request, {"by", "why", "seconds"} if action == "cool" else {"by", "why"})
        await self._runner.state.apply(self._effects(action, found, asked))
        return self._find(found.key).as_dict()

    def _effects(self, action: str, found: CandidateStatus, asked: Mapping[str, Any]) -> list[Effect]:
        now = self._runner.now()
        by, why = _words(asked, "by", "operator"), _words(asked, "why", "")
        own = found.domains.candidate
        match action:
            case "enable":
                return [Enable(own, now, by)]
            case "disable":
                return [Disable(own, now, by, why)]
            case "cool":
                seconds = asked.get("seconds", DEFAULT_COOL_SECONDS)
                if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 365 * 86400:
                    raise _bad("`seconds` must be a number above 0 and at most a year", "seconds")
                return [Cool(own, now, now + seconds, 1, f"cooled by {by}" + (f": {why}" if why else ""))]
            case _:
                # What leaves the candidate out may be held against its credential or provider: all of it goes.
                return [Restore(domain, now, by) for domain in found.domains.all()]

    def _find(self, name: str) -> CandidateStatus:
        """The candidate of this id, or of this ``model/id`` where several models use the id."""
        statuses = self._runner.statuses()
        found = [status for status in statuses if name in (status.key, status.id)]
        if not found:
            raise _not_found(f"no candidate is named {name!r}")
        if len(found) > 1:
            keys = ", ".join(status.key for status in found)
            message = f"{name!r} may be {keys}; name one of them."
            raise Refusal(409, "invalid_request_error", "ambiguous_candidate", message)
        return found[0]

    async def _runs(self, request: Request) -> Any:
        written = request.query_params.get("limit", "100")
        if not written.isdecimal() or not 0 < int(written) <= MAX_RUNS:
            raise _bad(f"`limit` must be a number from 1 to {MAX_RUNS}", "limit")
        before = request.query_params.get("before")
        return {"runs": [dict(record) for record in await self._runner.history.newest(int(written), before)]}

    async def _run(self, request: Request) -> Any:
        run_id = request.path_params["run_id"]
        record = await self._runner.history.get(run_id)
        if record is None:
            raise _not_found(f"no run is named {run_id!r}, or it is no longer kept")
        return dict(record)

    async def _reload(self, _: Request) -> Any:
        if self._tools.reload is None:
            raise not_yet("/admin/reload")
        return {"version": await self._tools.reload()}

    async def _explain(self, request: Request) -> Any:
        if self._tools.explain is None:
            raise not_yet("/admin/explain")
        asked = await _object(request, None)
        try:
            return self._tools.explain(asked)
        except ValueError as error:
            raise _bad(str(error), None) from None


async def _object(request: Request, keys: set[str] | None) -> Mapping[str, Any]:
    content = await bounded_body(request, MAX_BODY_BYTES)
    try:
        asked = Body(content or b"{}").data
    except InvalidBody as error:
        raise _bad(f"the body is {error}", None) from None
    if keys is not None and (unknown := sorted(set(asked) - keys)):
        raise _bad(f"unknown key {unknown[0]!r}; allowed: {', '.join(sorted(keys))}", unknown[0])
    return asked


def _words(asked: Mapping[str, Any], key: str, default: str) -> str:
    value = asked.get(key, default)
    if not isinstance(value, str) or len(value) > 500:
        raise _bad(f"`{key}` must be a text of at most 500 characters", key)
    return value


def _bad(message: str, param: str | None) -> Refusal:
    return Refusal(400, "invalid_request_error", "invalid_request", message[:1].upper() + message[1:] + ".", param)


def _not_found(message: str) -> Refusal:
    return Refusal(404, "invalid_request_error", "not_found", message[:1].upper() + message[1:] + ".")


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
