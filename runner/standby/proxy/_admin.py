"""The operator's API: what is held against each candidate and why, what runs did, and the operator's own word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from standby.clients import Body, InvalidBody
from standby.runner import CandidateStatus, Runner
from standby.store import Cool, Disable, Effect, Enable, InvalidConfig, Restore, StoreError

from ._access import Operators
from ._answers import json_answer
from ._asked import bounded_body, invalid_body, number_of
from ._meter import Meter
from ._refusals import Refusal, bad_request, listed, not_found, not_yet, quoted

MAX_BODY_BYTES: Final = 64 * 1024
DEFAULT_COOL_SECONDS: Final = 300.0
MAX_COOL_SECONDS: Final = 365 * 86_400
MAX_LISTED: Final = 1000
MAX_WORDS_CHARACTERS: Final = 500
ACTIONS: Final = ("enable", "disable", "cool", "restore")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the server that embeds the application lends it; a path of the admin API whose tool is missing answers 501.

    Attributes:
        reload: Reads the configuration anew, for whom and why, for the audit, and returns the version that is served;
            may raise `InvalidConfig` and `StoreError`.
        explain: Takes a question and returns the decisions; a question that makes no sense is a `ValueError`.
        meter: Who counts for `/metrics`; one of the application's own where left out.
    """

    reload: Callable[[str, str], Awaitable[int]] | None = None
    explain: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    meter: Meter | None = None


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
            Route("/admin/audit", self._handler(self._audit), methods=["GET"]),
            Route("/admin/reload", self._handler(self._reload), methods=["POST"]),
            Route("/admin/explain", self._handler(self._explain), methods=["POST"]),
        ]

    def _handler(self, answer: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            self._operators.check(request)
            try:
                return json_answer(await answer(request))
            except StoreError as error:
                raise _store_unavailable(f"{error}.") from None

        return handle

    async def _candidates(self, _: Request) -> Any:
        return {"candidates": [status.as_dict() for status in self._runner.statuses()]}

    async def _act(self, request: Request) -> Any:
        action = request.path_params["action"]
        if action not in ACTIONS:
            raise not_found("not_found", f"No action is named {quoted(action)}; there are: {', '.join(ACTIONS)}.")
        found = self._find(request.path_params["id"])
        asked = await _object(request, ("by", "seconds", "why") if action == "cool" else ("by", "why"))
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
                cause = f"cooled by {by}" + (f": {why}" if why else "")
                return [Cool(own, now, now + _cool_seconds(asked), 1, cause, by)]
            case _:
                # What leaves the candidate out may be held against its credential or provider: all of it goes.
                each = [found.domains, *(key.domains for key in found.keys)]
                domains = dict.fromkeys(domain for domains in each for domain in domains.all())
                return [Restore(domain, now, by) for domain in domains]

    def _find(self, name: str) -> CandidateStatus:
        """The candidate of this id, or of this ``model/id`` where several models use the id."""
        statuses = self._runner.statuses()
        found = [status for status in statuses if name in (status.key, status.id)]
        if not found:
            raise not_found("not_found", f"No candidate is named {quoted(name)}.")
        if len(found) > 1:
            keys = listed(status.key for status in found)
            message = f"{quoted(name)} may be one of {keys}; name it in full."
            raise Refusal(409, "invalid_request_error", "ambiguous_candidate", message)
        return found[0]

    async def _runs(self, request: Request) -> Any:
        before = request.query_params.get("before")
        return {"runs": [dict(record) for record in await self._runner.history.newest(_limit(request), before)]}

    async def _run(self, request: Request) -> Any:
        run_id = request.path_params["run_id"]
        record = await self._runner.history.get(run_id)
        if record is None:
            raise not_found("not_found", f"No run is named {quoted(run_id)}, or it is no longer kept.")
        return dict(record)

    async def _audit(self, request: Request) -> Any:
        limit, until = _limit(request), _until(request)
        return {"audit": [asdict(line) for line in await self._runner.history.audit(limit, until)]}

    async def _reload(self, request: Request) -> Any:
        if self._tools.reload is None:
            raise not_yet("/admin/reload")
        asked = await _object(request, ("by", "why"))
        try:
            return {"version": await self._tools.reload(_words(asked, "by", "operator"), _words(asked, "why", ""))}
        except InvalidConfig as error:
            raise bad_request("invalid_config", f"The old version goes on. {error}") from None
        except StoreError as error:
            raise _store_unavailable(f"The old version goes on. {error}.") from None

    async def _explain(self, request: Request) -> Any:
        if self._tools.explain is None:
            raise not_yet("/admin/explain")
        asked = await _object(request, None)
        try:
            return self._tools.explain(asked)
        except ValueError as error:
            raise bad_request("invalid_request", f"{error}.") from None


def _store_unavailable(message: str) -> Refusal:
    return Refusal(503, "service_unavailable_error", "store_unavailable", message)


def _limit(request: Request) -> int:
    limit = number_of(request.query_params.get("limit", "100"))
    if limit is None or not 0 < limit <= MAX_LISTED:
        raise bad_request("invalid_request", f"`limit` must be a whole number from 1 to {MAX_LISTED}.", "limit")
    return int(limit)


def _until(request: Request) -> float | None:
    written = request.query_params.get("until")
    if written is None:
        return None
    with suppress(ValueError):
        if isfinite(until := float(written)):
            return until
    raise bad_request("invalid_request", "`until` must be a time in seconds since the epoch.", "until")


async def _object(request: Request, keys: tuple[str, ...] | None) -> Mapping[str, Any]:
    """The JSON object that the request brings, empty where it brings nothing; with no other keys, where given."""
    try:
        asked = Body(await bounded_body(request, MAX_BODY_BYTES) or b"{}").data
    except InvalidBody as error:
        raise invalid_body(error) from None
    unknown = next((key for key in asked if keys is not None and key not in keys), None)
    if keys is not None and unknown is not None:
        message = f"Unknown key {quoted(unknown)}; allowed: {', '.join(keys)}."
        raise bad_request("invalid_request", message, unknown[:MAX_WORDS_CHARACTERS])
    return asked


def _words(asked: Mapping[str, Any], key: str, default: str) -> str:
    value = asked.get(key, default)
    # A line break would be another line of the audit, and no database keeps a NUL.
    if not isinstance(value, str) or len(value) > MAX_WORDS_CHARACTERS or not value.isprintable():
        message = f"`{key}` must be a text of at most {MAX_WORDS_CHARACTERS} printable characters, on one line."
        raise bad_request("invalid_request", message, key)
    return value


def _cool_seconds(asked: Mapping[str, Any]) -> float:
    seconds = asked.get("seconds", DEFAULT_COOL_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_COOL_SECONDS:
        raise bad_request("invalid_request", "`seconds` must be a number above 0, at most a year.", "seconds")
    return seconds
