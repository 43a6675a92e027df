"""The ASGI application: which path is answered by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from standby.clients import COUNT_TOKENS
from standby.runner import Runner
from standby.store import ServerSettings

from ._access import Callers, Operators
from ._admin import Admin, Tools
from ._answers import error_answer, json_answer
from ._asked import path_of, run_id_of
from ._calls import ENDPOINTS, Calls
from ._meter import Meter
from ._refusals import Refusal, not_found, not_yet, quoted

NOT_YET: Final = (("/", "GET"),)
"""Paths of the HTTP contract that this version answers with 501."""

NOBODY_TO_ANSWER: Final = 499
"""Never sent: the connection is closed."""


def create_app(runner: Runner, settings: ServerSettings | None = None, tools: Tools | None = None) -> Starlette:
    """The gateway as an ASGI application, to serve or to mount in one's own.

    Args:
        runner: Who runs the requests; it is opened and closed by the caller.
        settings: Callers' keys, the admin key and the largest body; nobody needs a key where left out.
        tools: What the admin API and the metrics need beside the runner.
    """
    settings = settings or ServerSettings()
    tools = tools or Tools()
    callers, operators = Callers(settings.keys), Operators(settings.admin_key)
    calls = Calls(runner, callers, settings.max_body_bytes)
    models = Models(runner, callers)
    admin = Admin(runner, operators, tools)
    routes = [
        *(Route(f"/v1/{path}", calls.endpoint(path), methods=["POST"]) for path in ENDPOINTS),
        Route(f"/v1/{COUNT_TOKENS}", calls.count, methods=["POST"]),
        Route("/v1/models", models.listed, methods=["GET"]),
        Route("/v1/models/{model:path}", models.one, methods=["GET"]),
        Route("/healthz", _alive, methods=["GET"]),
        Route("/readyz", _ready(runner), methods=["GET"]),
        Route("/metrics", _metrics(operators, tools.meter or Meter(runner)), methods=["GET"]),
        *admin.routes(),
        *(Route(path, _not_yet(callers), methods=[method]) for path, method in NOT_YET),
    ]
    handlers = {Refusal: _refused, HTTPException: _http_error, ClientDisconnect: _gone, Exception: _defect}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # the contract has no redirects, and they would repeat a Host that may be a lie
    return app


class Models:
    """The models that a caller may ask for, as OpenAI lists them."""

    def __init__(self, runner: Runner, callers: Callers) -> None:
        self._runner = runner
        self._callers = callers

    async def listed(self, request: Request) -> Response:
        """All of them."""
        return json_answer({"object": "list", "data": [_model(name) for name in self._of(request)]})

    async def one(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["model"]
        if name not in self._of(request):
            raise not_found("model_not_found", f"No model is named {quoted(name)}.", "model")
        return json_answer(_model(name))

    def _of(self, request: Request) -> list[str]:
        caller = self._callers.of(request)
        return [name for name in self._runner.catalog.snapshot().models if caller.may_use(name)]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "standby"}


async def _alive(_: Request) -> Response:
    return json_answer({"status": "ok"})


def _ready(runner: Runner) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_: Request) -> Response:
        usable = dict.fromkeys(runner.catalog.snapshot().models, 0)
        for status in runner.statuses():
            usable[status.model] += status.status in ("usable", "half_open", "probing")
        # A store is reached before anything is served. One that is lost later fails no run: were it a reason not to be
        # ready, its outage would take every gateway out of the balancer at once.
        ready = all(usable.values())
        troubles = runner.troubles()
        store = " ".join(trouble.told for trouble in troubles) or "ok"
        told = {"ready": ready, "store": store, "troubles": troubles, "usable_candidates": usable}
        return json_answer(told, 200 if ready else 503)

    return handle


def _metrics(operators: Operators, meter: Meter) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        operators.check(request)
        from ._metrics import exposition  # noqa: PLC0415 - a server that is not asked does not wait for the library

        content, media_type = exposition(await meter.read(), request.headers.get("accept", ""))
        return Response(content, headers={"content-type": media_type})

    return handle


def _not_yet(callers: Callers) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        path = path_of(request.scope)
        if path == "/":
            raise not_yet("The operator's page (see /admin/candidates and /readyz)")
        callers.of(request)
        raise not_yet(quoted(path))

    return handle


# -- exceptions become answers, all of them here; Starlette would run a handler that is not `async` in a thread -------


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - Starlette's table says so, its types do not
    return error_answer(path_of(request.scope), error, run_id_of(request))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, or not with this method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    path = path_of(request.scope)
    message, code = {
        404: (f"There is nothing at {quoted(path)}.", "not_found"),
        405: (f"{quoted(request.method)} is not allowed at {quoted(path)}.", "method_not_allowed"),
    }.get(error.status_code, ("The request cannot be answered.", "bad_request"))
    refusal = Refusal(error.status_code, "invalid_request_error", code, message)
    return error_answer(path, refusal, run_id_of(request), error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=NOBODY_TO_ANSWER)


async def _defect(request: Request, _: Exception) -> Response:
    """A defect of ours: the server's log has the traceback, the caller has the run's id to ask by."""
    refusal = Refusal(500, "server_error", "internal_error", "The gateway failed; its log says how.")
    return error_answer(path_of(request.scope), refusal, run_id_of(request))
