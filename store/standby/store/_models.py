"""What operators write: providers, policies, models and their candidates.

Pydantic stands at this border and nowhere deeper. A policy's keys are camelCase, as they are stored, and snake_case
is accepted too; everything around the policies is snake_case. Unknown keys, wrong types, negative numbers and unknown
categories or actions are errors, each with its path, all at once.

A value left out has the default written here. ``model_fields_set`` tells "left out" from "written as null or empty",
and that is what lets a candidate's override replace the gateway's policy key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from ._texts import Id
from ._words import CATEGORIES, Action, Scope


def _known_category(written: str) -> str:
    folded = written.strip().lower()
    if folded and folded not in CATEGORIES:
        raise PydanticCustomError(
            "unknown_category",
            "unknown category; allowed: {allowed}",
            {"allowed": ", ".join(CATEGORIES)},
        )
    return written


def _null_is_empty(value: Any) -> Any:
    return [] if value is None else value


_CATEGORY_SCHEMA = {"type": "string", "enum": list(CATEGORIES)}

WrittenCategory = Annotated[str, AfterValidator(_known_category), WithJsonSchema(_CATEGORY_SCHEMA)]
"""A category as the policy wrote it; case and padding are kept for the record and ignored in matching."""

StatusCode = Annotated[int, Field(ge=0, le=999)]

Categories = Annotated[
    list[WrittenCategory],
    BeforeValidator(_null_is_empty, json_schema_input_type=list[WrittenCategory] | None),
    Field(description="The failure's category, one of these."),
]
Codes = Annotated[
    list[str],
    BeforeValidator(_null_is_empty, json_schema_input_type=list[str] | None),
    Field(description="The failure's code, one of these, whatever its case and padding."),
]
StatusCodes = Annotated[
    list[StatusCode],
    BeforeValidator(_null_is_empty, json_schema_input_type=list[StatusCode] | None),
    Field(description="The failure's HTTP status, one of these; 0 matches nothing."),
]
Keywords = Annotated[
    list[str],
    BeforeValidator(_null_is_empty, json_schema_input_type=list[str] | None),
    Field(description="Found anywhere in the failure's code, category, status and message, whatever its case."),
]
Enabled = Annotated[bool, Field(description="False turns this policy off.")]

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveCount = Annotated[int, Field(gt=0)]
Feature = Annotated[str, Field(min_length=1, max_length=100)]
Rank = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]


class Section(BaseModel):
    """A part of the document whose keys are snake_case."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class Policy(Section):
    """A part of the document whose written keys are camelCase; snake_case is accepted too."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


P = TypeVar("P", bound=Policy)


def overlaid(base: P, over: P | None) -> P:
    """``over`` laid over ``base`` key by key: a key that ``over`` wrote, even empty or null, replaces the base's.

    A policy inside a policy (a retry policy's backoff) is laid over key by key in the same way.
    """
    if over is None or not over.model_fields_set:
        return base
    update: dict[str, Any] = {}
    for name in over.model_fields_set:
        below, value = getattr(base, name), getattr(over, name)
        both = isinstance(below, Policy) and isinstance(value, Policy)
        update[name] = overlaid(below, value) if both else value
    return base.model_copy(update=update)


# -- gateway-wide policies ---------------------------------------------------------------------------------------


class HardStopPolicy(Policy):
    """Failures after which nothing else is tried."""

    enabled: Enabled = True
    categories: Categories = []
    codes: Codes = []
    status_codes: StatusCodes = []
    keywords: Keywords = []


class FailoverPolicy(Policy):
    """Which failures move the run to the next candidate, and what that does to this one."""

    enabled: Enabled = True
    deny_categories: Categories = []
    deny_codes: Codes = []
    deny_status_codes: StatusCodes = []
    deny_keywords: Keywords = []
    allow_categories: Categories = []
    allow_codes: Codes = []
    allow_status_codes: StatusCodes = []
    allow_keywords: Keywords = []
    actions: dict[WrittenCategory, Action] | None = None
    """What happens to the candidate that is given up, by category; `next` where a category is missing."""
    cooldown_seconds: Seconds | None = None
    """How long `cooldown_and_next` leaves a candidate out, in seconds; 300 where missing or 0."""
    cooldown_multiplier: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Each cooldown in a row is this much longer than the one before."""
    max_cooldown_seconds: PositiveSeconds = 3600.0
    """No cooldown, grown or hinted, is longer than this, in seconds, but for jitter of at most a tenth."""
    eject_after: Annotated[int, Field(ge=0)] = 5
    """This many failures in a row cool a candidate down whatever the action; 0 turns it off. What no action asked for
    grows only while another candidate of the model is well."""
    recheck_seconds: Seconds = 0.0
    """What `disable_and_next` left out is probed by one run after this many seconds, and enabled if it answers; 0
    leaves that to an operator. What an operator disabled is never rechecked."""


class PriorityDemotePolicy(Policy):
    """Which failures lower a candidate's rank, by how much, and how that wears off."""

    enabled: Enabled = False
    categories: Categories = []
    codes: Codes = []
    status_codes: StatusCodes = []
    keywords: Keywords = []
    demote_step: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = None
    """What one incident adds to the candidate's effective priority; 100 where missing or 0. The most is five times that
    beside what puts the first of the model behind the last."""
    restore_seconds: Seconds = 600.0
    """A demotion wears off one step at a time, each after this many seconds; 0 keeps it until restored."""


class RetryBudget(Policy):
    """What keeps retries from becoming a storm: no failure domain is asked again more often than it earns by answering.

    A retry of rejected work costs 5 tokens, one of work whose fate is unknown 14; a success earns 1, and what its own
    retry cost. No clock is in it, so it holds for calls that last a minute. A first try, and a failover to a domain
    that did not fail, are never refused.
    """

    enabled: Enabled = True
    capacity: Annotated[int, Field(gt=0)] = 100
    """Tokens that each failure domain has when all is well."""
    max_in_flight_percent: Annotated[int, Field(ge=0, le=100)] = 20
    """Retries and hedges under way, at most this share of the runs under way; three are always allowed."""


class RunnerPolicy(Policy):
    """One gateway-wide policy (`gateway_runner_policies`)."""

    status: str = "active"
    """`active` (or empty); anything else disables the policy: every failure stops the run. With `observe` the record
    also says what the policy would have done."""
    hard_stop_policy: HardStopPolicy = HardStopPolicy()
    failover_policy: FailoverPolicy = FailoverPolicy()
    priority_demote_policy: PriorityDemotePolicy = PriorityDemotePolicy()
    scopes: dict[WrittenCategory, Scope] = {}
    """What a cooldown covers, by category, laid over the defaults."""
    retry_budget: RetryBudget = RetryBudget()


# -- per-candidate policies --------------------------------------------------------------------------------------


class Backoff(Policy):
    """How long to wait before the same candidate is tried again."""

    initial_seconds: Seconds = 0.5
    """The bound of the first wait."""
    max_seconds: Seconds = 8.0
    """No bound grows above this; where the server asks for longer, the run fails over instead of waiting."""
    multiplier: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    """Each bound is this many times the one before."""
    jitter: Literal["full", "none"] = "full"
    """`full` draws each wait between 0 and its bound, so that callers who failed together do not return together."""


class RetryPolicy(Policy):
    """Whether and how often the same candidate is tried again."""

    enabled: Enabled = True
    max_attempts: PositiveCount = 2
    """Tries of one candidate in one run, the first included."""
    deny_categories: Categories = []
    deny_codes: Codes = []
    deny_status_codes: StatusCodes = []
    deny_keywords: Keywords = []
    allow_categories: Categories = []
    allow_codes: Codes = []
    allow_status_codes: StatusCodes = []
    allow_keywords: Keywords = []
    backoff: Backoff = Backoff()


class RateLimitPolicy(Policy):
    """What we allow ourselves, so that the provider need not refuse; nothing is limited where left out."""

    requests_per_minute: PositiveCount | None = None
    """Calls sent in any minute."""
    tokens_per_minute: PositiveCount | None = None
    """Tokens asked for and answered in any minute."""
    concurrency: PositiveCount | None = None
    """Calls in flight at once."""
    shared: bool = True
    """Whether the limit is for all processes together: those that have one Valkey count together, and the workers of
    one server have a share each where there is none. Else every process may use all of it."""


class AttemptTimeouts(Policy):
    """The clocks of one try."""

    attempt_seconds: PositiveSeconds = 120.0
    """From the first byte sent to the whole answer; of a stream, to its first content."""
    first_token_seconds: PositiveSeconds = 60.0
    """From the first byte sent to the first content of a stream."""
    idle_seconds: PositiveSeconds = 30.0
    """Between two reads of a stream, once it has content."""
    min_useful_seconds: Seconds = 0.5
    """No try is started with less time left; or with less than half of the run's own time, where that is shorter."""


class RuntimePolicy(Policy):
    """One per-candidate policy set (`model_runtime_policy_sets`)."""

    retry_policy: RetryPolicy = RetryPolicy()
    rate_limit_policy: RateLimitPolicy = RateLimitPolicy()
    timeouts: AttemptTimeouts = AttemptTimeouts()


class RuntimePolicyOverride(Policy):
    """A candidate's own policies, each laid over the shared one key by key."""

    failover_policy: FailoverPolicy | None = None
    retry_policy: RetryPolicy | None = None
    rate_limit_policy: RateLimitPolicy | None = None
    timeouts: AttemptTimeouts | None = None


# -- models ------------------------------------------------------------------------------------------------------


class Candidate(Section):
    """One way to serve a model: a provider, its name of the model, and how it ranks."""

    id: Id
    """Its name in records, headers and the admin API: letters, digits and `_ . : -`."""
    provider: str
    """A name under `providers`."""
    model: Annotated[str, Field(min_length=1)]
    """The provider's name of the model."""
    priority: Rank = 100
    """Smaller is tried first; demotion adds to it."""
    drop: list[Feature] = []
    """What may be left out beside what its provider allows."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its share of first tries among candidates of equal rank."""
    runtime_policy: str | None = None
    """A name under `runtime_policies`; `recommended` where left out, or `bare` where the model's runner policy is."""
    runtime_policy_override: Annotated[RuntimePolicyOverride, Field(alias="runtimePolicyOverride")] = (
        RuntimePolicyOverride()
    )
    """This candidate's own policies, laid over the shared ones key by key."""

    model_config = ConfigDict(populate_by_name=True)


class Queue(Policy):
    """Where runs wait for local capacity."""

    max_waiting: Annotated[int, Field(ge=0)] = 100
    """How many runs may wait at once; 0 turns the queue off."""
    max_wait_seconds: Seconds = 30.0
    """No run waits longer than this."""


class ModelTimeouts(Policy):
    """The clock of one run."""

    total_seconds: PositiveSeconds = 600.0
    """From the call to `run` to its answer: every try, wait and queue included."""


class Commit(Policy):
    """When a run commits to a stream: what fails before is failed over, and the caller never hears of it."""

    at: Literal["first_content", "bytes", "seconds"] = "first_content"
    """At the first content, after so many bytes of the stream, or so many seconds after the first content."""
    value: PositiveSeconds | None = None
    """How many bytes, or seconds; only with these two."""

    @model_validator(mode="after")
    def _value_goes_with_at(self) -> Self:
        if self.at == "first_content" and self.value is not None:
            raise PydanticCustomError("commit_value", "`value` goes with `at: bytes` or `at: seconds`")
        if self.at != "first_content" and self.value is None:
            raise PydanticCustomError("commit_value", "`at: {at}` needs a `value`", {"at": self.at})
        return self


class Hedge(Policy):
    """When a second candidate is asked while the first is still silent; whoever has content first is heard.

    Only candidates of another provider, only before the first content, and only inside of the retry budget. The other
    call is cancelled at once, and nothing is held against it. A stream that commits later than at its first content is
    not hedged.
    """

    after_seconds: PositiveSeconds | None = None
    """So long after the try began."""
    after_percentile: Annotated[float, Field(gt=0, lt=100)] | None = None
    """When the try takes longer than this share of the candidate's last hundred did; not before it answered twenty
    times."""
    max_extra: Annotated[int, Field(ge=1, le=4)] = 1
    """How many more candidates are asked, one after the other."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.after_seconds is None) == (self.after_percentile is None):
            raise PydanticCustomError("hedge_after", "needs either `afterSeconds` or `afterPercentile`")
        return self


class Model(Section):
    """What callers ask for: a name, and its candidates."""

    runner_policy: str | None = None
    """A name under `runner_policies`; `recommended` where left out."""
    timeouts: ModelTimeouts = ModelTimeouts()
    queue: Queue = Queue()
    hedge: Hedge | None = None
    """Off where left out."""
    commit: Commit = Commit()
    candidates: Annotated[list[Candidate], Field(min_length=1)]
    """Who can serve it. They are ranked by `priority`, not by their order here."""

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for candidate in self.candidates:
            if candidate.id in seen:
                raise PydanticCustomError("repeated_candidate", "two candidates are named {id}", {"id": candidate.id})
            seen.add(candidate.id)
        return self


# -- built-in policies -------------------------------------------------------------------------------------------

_OUTAGES = ["timeout", "network", "stream_error", "provider_5xx"]

RECOMMENDED: Final = RunnerPolicy(
    failover_policy=FailoverPolicy(
        allow_categories=[
            "rate_limit",
            *["timeout", "network", "stream_error", "provider_overloaded", "provider_5xx"],
            *["auth_error", "insufficient_balance", "unsupported_model"],
        ],
        actions={
            "rate_limit": "cooldown_and_next",
            "provider_overloaded": "cooldown_and_next",
            "auth_error": "cooldown_and_next",
            "insufficient_balance": "cooldown_and_next",
        },
        cooldown_seconds=60.0,
    ),
    priority_demote_policy=PriorityDemotePolicy(enabled=True, categories=_OUTAGES, demote_step=100),
)
RECOMMENDED_RUNTIME: Final = RuntimePolicy(
    retry_policy=RetryPolicy(max_attempts=2, deny_categories=["rate_limit", "insufficient_balance"])
)
BUILT_IN_RUNNER_POLICIES: Final[Mapping[str, RunnerPolicy]] = {
    "recommended": RECOMMENDED,
    "bare": RunnerPolicy(),
}
BUILT_IN_RUNTIME_POLICIES: Final[Mapping[str, RuntimePolicy]] = {
    "recommended": RECOMMENDED_RUNTIME,
    "bare": RuntimePolicy(),
}
