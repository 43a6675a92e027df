"""Who decides and who drives: `Runner` runs a request, and fails over by policy."""

from standby.clients import Body, ClientError, InvalidBody, ProviderClient, Request, Response, Usage

from ._classify import FailureInfo, classify
from ._clients import ClientFactory
from ._clock import Clock, SystemClock
from ._decide import decide
from ._decisions import Decisions, DemoteDecision, FailoverDecision, Match, RetryDecision
from ._errors import NotTried, RunFailed, StandbyError, UnknownCandidate, UnknownModel
from ._record import Failure, RunRecord, Skip, Try
from ._rules import Rules, compile_rules
from ._runner import Runner, RunResult

__all__ = [
    "Body",
    "ClientError",
    "ClientFactory",
    "Clock",
    "Decisions",
    "DemoteDecision",
    "Failure",
    "FailoverDecision",
    "FailureInfo",
    "InvalidBody",
    "Match",
    "NotTried",
    "ProviderClient",
    "Request",
    "Response",
    "RetryDecision",
    "Rules",
    "RunFailed",
    "RunRecord",
    "RunResult",
    "Runner",
    "Skip",
    "StandbyError",
    "SystemClock",
    "Try",
    "UnknownCandidate",
    "UnknownModel",
    "Usage",
    "classify",
    "compile_rules",
    "decide",
]
