"""Cases of the decision contract: a policy, a candidate and an error in, three decisions out, as JSON lines.

This is how another program asks the decision engine what it would do, without a gateway or a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from standby.runner import Decisions, FailureInfo, classify, compile_rules, decide
from standby.store import RetryPolicy, RunnerPolicy, RuntimePolicy, RuntimePolicyOverride

Null = BeforeValidator(lambda value: {} if value is None else value)


class CaseError(BaseModel):
    """The error of a case; see the decision contract for its types."""

    model_config = ConfigDict(strict=True)

    type: Literal["client", "local_rate_limit", "other"]
    code: str = ""
    message: str = ""
    status: int = 0
    retryable: bool = False


class CaseCandidate(BaseModel):
    """The candidate of a case: its effective retry policy, and its own override."""

    model_config = ConfigDict(alias_generator=to_camel)

    retry_policy: Annotated[RetryPolicy, Null] = RetryPolicy()
    runtime_policy_override: Annotated[RuntimePolicyOverride, Null] = RuntimePolicyOverride()


class Case(BaseModel):
    """One case. Keys beside these are not the case's own, `expect` among them, and are passed over."""

    id: str | int | None = None
    runner_policy: Annotated[RunnerPolicy, Null] = RunnerPolicy()
    candidate: Annotated[CaseCandidate, Null] = CaseCandidate()
    error: CaseError


def answer_case(case: Case) -> dict[str, Any]:
    """The decisions about ``case``, shaped as the decision contract's `expect` is."""
    rules = compile_rules(
        case.runner_policy,
        RuntimePolicy(retry_policy=case.candidate.retry_policy),
        case.candidate.runtime_policy_override.failover_policy,
    )
    error = case.error
    local = error.type == "local_rate_limit"
    match error.type:
        case "client":
            info = classify(error.code, error.message, error.status)
        case "local_rate_limit":
            info = classify("rate_limit", error.message, 0)
        case "other":
            info = classify("", error.message, 0)
    retryable = error.retryable and error.type != "other"
    return {"id": case.id, **told(info, decide(rules, info, retryable=retryable, local=local))}


def told(info: FailureInfo, decisions: Decisions) -> dict[str, Any]:
    """A failure and what was decided about it, as a JSON object."""
    failover = asdict(decisions.failover)
    failover["cooldown_seconds"] = _whole(decisions.failover.cooldown_seconds)
    return {
        "info": info._asdict(),
        "retry": asdict(decisions.retry),
        "failover": failover,
        "demote": None if decisions.demote is None else asdict(decisions.demote),
    }


def answer_lines(lines: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Answer each line that is not blank: whether it was a case, and the line to print, without its end."""
    for line in lines:
        if line.strip():
            yield _answer_line(line)


def _answer_line(line: bytes) -> tuple[bool, bytes]:
    try:
        raw: object = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return False, orjson.dumps({"id": None, "error": f"not JSON: {error}"})
    try:
        return True, orjson.dumps(answer_case(Case.model_validate(raw)))
    except ValidationError as error:
        found = "; ".join(f"{_path(each['loc'])}: {each['msg']}" for each in error.errors(include_input=False))
        return False, orjson.dumps({"id": _id_of(raw), "error": found})


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "the line"


def _id_of(raw: object) -> object:
    found: object = raw.get("id") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str | int) else None


def _whole(seconds: float) -> float:
    """Seconds as the contract writes them: without a fraction where there is none."""
    return int(seconds) if seconds == int(seconds) else seconds
