"""One run under way: what it asks for, what it holds, and what its calls are made of."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from standby.clients import Body, ClientError, Request
from standby.store import Effect, PriorityClass

from ._clock import Timeline
from ._limits import Lease
from ._plan import Plan
from ._recovery import Waiter
from ._route import RouteCandidate
from ._steps import Call

CLEAN_UP_SECONDS: Final = 1.0

T = TypeVar("T")
Attempt = Callable[[RouteCandidate], Awaitable[T]]
Report = Callable[[Call, T, float, float], tuple[Effect, ...]]
"""Takes an answer, and tells the plan of it: the call, the answer, when the call began, and when the answer came."""
Discard = Callable[[T], Awaitable[None]]
"""Closes an answer that came when another had been heard."""


class Held:
    """What a call holds and must give back.

    Attributes:
        lease: Local capacity.
        called: Whether that was used for a call.
        probe: The half-open domains whose probe it has.
    """

    __slots__ = ("called", "lease", "probe")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.called = False
        self.probe: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is anything to give back."""
        return self.lease is not None or bool(self.probe)


class Run:
    """One run under way: what it asks for, and what it holds.

    Attributes:
        held: What is held for the call that is under way, or the next one.
        came_up_at: When it first came up for the queue, where it keeps its place, by the steady clock; infinity before
            that.
        counted: Whether it counts as under way.
        turn: What it has before others who wait for somebody to be well again.
    """

    __slots__ = (
        "_body",
        "_request",
        "_tokens",
        "came_up_at",
        "counted",
        "held",
        "plan",
        "priority",
        "record",
        "timeline",
        "turn",
    )

    def __init__(self, plan: Plan, timeline: Timeline, request: Request, priority: PriorityClass) -> None:
        self.plan = plan
        self.record = plan.record
        self.timeline = timeline
        self.priority: PriorityClass = priority
        self.held = Held()
        self.came_up_at = math.inf
        self.counted = False
        self.turn: Waiter | None = None
        self._request = request
        self._body = Body.of(request.body)
        self._tokens: int | None = None

    def request_for(self, candidate: RouteCandidate) -> Request:
        """What ``candidate`` is sent."""
        request = self._request
        counted = request.count_tokens or candidate.counts_tokens
        return Request(candidate.model, self._body, request.endpoint, request.headers, counted, candidate.drop)

    def end_turn(self, *, answered: bool | None = None) -> None:
        """Say what came of its turn, where it has one: an answer, a failure, or no call after all."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.over(self.timeline.now(), answered=answered)

    def tokens(self) -> int:
        """An estimate of the tokens that the run will use; it is settled when the provider has counted."""
        if self._tokens is None:
            self._tokens = estimated_tokens(self._body)
        return self._tokens


def estimated_tokens(body: Body) -> int:
    """A rough count of a call's tokens: its bytes, and what the caller allows the answer to have.

    What is not JSON has none: the bytes of a recording say nothing about its words.
    """
    if body.content_type != "application/json":
        return 0
    data, tokens = body.data, body.estimated_tokens()
    allowed = data.get("max_completion_tokens") or data.get("max_tokens") or data.get("max_output_tokens")
    return tokens + allowed if isinstance(allowed, int) and allowed > 0 else tokens


def cut(call: Call, began_at: float) -> ClientError:
    """What it means that the clock of ``call`` cut it."""
    seconds = call.until - began_at
    if call.clock == "deadline":
        # The caller's time was over; that says nothing about the provider.
        return ClientError(
            "timeout", f"the run's deadline cut the call after {seconds:.3g} s", retryable=True, scope="caller"
        )
    return ClientError("timeout", f"no answer within {seconds:.3g} s ({call.clock})", retryable=True)
