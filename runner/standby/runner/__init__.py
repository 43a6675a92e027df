"""Who decides and who drives: `Runner` runs a request, and fails over by policy."""

from standby.clients import Block, Body, Chunk, ClientError, InvalidBody, ProviderClient, Request, Response, Usage

from ._budget import RETRY_COSTS
from ._classify import FailureInfo, classify
from ._clients import ClientFactory, unfit_clients
from ._clock import Clock, SystemClock
from ._decide import decide
from ._decisions import Decisions, DemoteDecision, FailoverDecision, Match, RetryDecision
from ._errors import NotTried, RunFailed, StandbyError, StreamInterrupted, UnknownCandidate, UnknownModel
from ._limits import Lease, Limits, Refused
from ._open import Gateway, open_gateway, open_state
from ._record import Failure, RunRecord, Skip, Try
from ._rules import Rules, compile_rules
from ._run import estimated_tokens
from ._runner import Runner, RunResult, new_run_id
from ._status import CandidateStatus, moment
from ._stream import RunStream
from ._troubles import Trouble

__all__ = [
    "RETRY_COSTS",
    "Block",
    "Body",
    "Chunk",
    "CandidateStatus",
    "ClientError",
    "ClientFactory",
    "Clock",
    "Decisions",
    "DemoteDecision",
    "Failure",
    "FailoverDecision",
    "FailureInfo",
    "Gateway",
    "InvalidBody",
    "Lease",
    "Limits",
    "Match",
    "NotTried",
    "ProviderClient",
    "Refused",
    "Request",
    "Response",
    "RetryDecision",
    "Rules",
    "RunFailed",
    "RunRecord",
    "RunResult",
    "RunStream",
    "Runner",
    "Skip",
    "StandbyError",
    "StreamInterrupted",
    "SystemClock",
    "Trouble",
    "Try",
    "UnknownCandidate",
    "UnknownModel",
    "Usage",
    "classify",
    "compile_rules",
    "decide",
    "estimated_tokens",
    "moment",
    "new_run_id",
    "open_gateway",
    "open_state",
    "unfit_clients",
]
