"""What a trace says should happen, and what a run did, in the same words.

A file of traces has a trace under each name. A trace has a ``rule`` in plain English, parts of a configuration document
as an operator writes them, and what happens, in order of time: runs, and what comes between them. A run has its steps:

- ``call``: a candidate is called; it ``gets`` an answer that counts so many ``tokens``, an error of some ``status``, or
  a ``fault`` of the connection, and that ``takes`` some seconds. What follows is expected: ``then`` is `retry after N s`,
  `next` or `stop`; ``because`` and ``rule`` say which rule made it so, ``source`` where that is written, and ``why``
  what kept the run from trying again. ``budgets`` are the tokens left to the domains that have not all of them, when the
  next step begins.
- ``refuse``: a candidate that local limits leave no room for.
- ``wait``: the run waits so many seconds for somebody to be well.
- ``queue``: the run waits so many seconds for local capacity.

What is left out is expected not to be there; only ``source`` is not looked at then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from standby.demo.faults import Answer, Behaviour, Hang, Reset, chat_answer, error_answer
from standby.runner import RunRecord
from standby.runner._record import Try
from standby.store import Cool, Demote, Disable, Effect, Enable, Failed, Restore, Snapshot, Succeeded, parse

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a run; exactly one of the first four says which."""

    call: str = ""
    refuse: str = ""
    wait: float | None = None
    queue: float | None = None
    gets: Mapping[str, Any] = field(default_factory=dict)
    takes: float = 0.0
    category: str = "ok"
    then: str = ""
    because: str = ""
    rule: str = ""
    source: str | None = None
    why: str = ""
    effects: tuple[str, ...] = ()
    observed: Mapping[str, str] | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, Any]:
        """What `told` should say of the try."""
        said = {
            "call": self.call,
            "refuse": self.refuse,
            "category": self.category,
            "then": self.then,
            "because": self.because,
            "rule": self.rule,
            "why": self.why,
            "effects": list(self.effects),
            "observed": self.observed,
        }
        return said if self.source is None else {**said, "source": self.source}

    @property
    def heard(self) -> bool:
        """Whether the provider hears of it."""
        return bool(self.call) and self.gets.get("fault") != "refused"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: when it begins, what it asks for, its steps and its end.

    ``skips`` are the candidates that were passed by, each with the reason.
    """

    at: float
    steps: tuple[Step, ...] = ()
    max_tokens: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    skips: tuple[str, ...] = ()
    ending: str = ""
    retry_after: float | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What the caller sends."""
        return {"messages": []} if self.max_tokens is None else {"messages": [], "max_tokens": self.max_tokens}


@dataclass(frozen=True, kw_only=True)
class Between:
    """What happens between two runs: an operator enables a domain, or another run has its probe for some seconds."""

    at: float
    enable: str = ""
    probed_elsewhere: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One trace; ``no_sockets`` says why it is read by the kernel alone."""

    rule: str
    happens: tuple[Run | Between, ...]
    models: Mapping[str, Any]
    runner_policies: Mapping[str, Any] = field(default_factory=dict)
    runtime_policies: Mapping[str, Any] = field(default_factory=dict)
    providers: Mapping[str, Any] = field(default_factory=dict)
    no_sockets: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        """Its runs, without what comes between them."""
        return tuple(each for each in self.happens if isinstance(each, Run))

    @property
    def names_of_providers(self) -> list[str]:
        """The providers of all candidates."""
        return list(dict.fromkeys(candidate["provider"] for candidate in self.models["chat"]["candidates"]))

    def snapshot(self, addresses: Mapping[str, str]) -> Snapshot:
        """The catalog that the trace's document describes, with each provider at its address."""
        providers = {
            name: {"client": "openai", "base_url": addresses[name], **self.providers.get(name, {})}
            for name in self.names_of_providers
        }
        document = {
            "version": 1,
            "providers": providers,
            "runner_policies": self.runner_policies,
            "runtime_policies": self.runtime_policies,
            "models": self.models,
        }
        return parse(document).snapshot()


@cache
def traces() -> dict[str, Trace]:
    """Every trace by its name, which begins with that of its file."""
    return {
        f"{file.stem}: {name}": trace_of(raw)
        for file in sorted(DATA.glob("*.yaml"))
        for name, raw in yaml.safe_load(file.read_text()).items()
    }


def trace_of(raw: Mapping[str, Any]) -> Trace:
    """A trace as it is written; what it cannot mean is an error."""
    happens = tuple(_run(each) if "ending" in each else Between(**each) for each in raw["happens"])
    return Trace(**{**raw, "happens": happens})


def _run(raw: Mapping[str, Any]) -> Run:
    steps = tuple(Step(**{**each, "effects": tuple(each.get("effects", ()))}) for each in raw.get("steps", ()))
    return Run(**{**raw, "steps": steps, "skips": tuple(raw.get("skips", ()))})


def behaviour_of(step: Step) -> Behaviour | None:
    """What the provider does; `None` where nobody listens."""
    match dict(step.gets):
        case {"tokens": tokens, **rest} if not rest:
            usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
            return Answer(body={**chat_answer("Hello.").body, "usage": usage})
        case {"status": status, "body": body, **rest}:
            return Answer(status, body, **rest)
        case {"status": status, "message": message, **rest}:
            return error_answer(status, message, **rest)
        case {"fault": "reset"}:
            return Reset()
        case {"fault": "silence"}:
            return Hang()
        case {"fault": "refused"}:
            return None
        case other:
            raise ValueError(f"nobody gets {other}")


# -- what a run did ----------------------------------------------------------------------------------------------


def told(tried: Try, step: Step) -> dict[str, Any]:
    """A try in the words of a trace, as far as ``step`` looks at it."""
    reason, match = tried.rule
    wait = f" after {_number(tried.wait_seconds)} s" if tried.did == "retry" else ""
    said = {
        "call": tried.candidate if tried.n else "",
        "refuse": "" if tried.n else tried.candidate,
        "category": tried.outcome,
        "then": f"{tried.did or ''}{wait}",
        "because": reason,
        "rule": str(match or ""),
        "why": tried.why,
        "effects": [_effect(effect) for effect in tried.effects],
        "observed": _observed(tried),
    }
    return said if step.source is None else {**said, "source": match.source if match else ""}


def told_skips(record: RunRecord) -> list[str]:
    """Who was passed by, and why."""
    return [f"{skip.candidate} {skip.reason}" for skip in record.skips]


def _effect(effect: Effect) -> str:
    match effect:
        case Failed(domain):
            return f"{domain} failed"
        case Cool(domain, at, until):
            return f"{domain} cools for {_number(until - at)} s"
        case Demote(domain, step=step, restore_seconds=restore_seconds):
            return f"{domain} is demoted by {step}, restored after {_number(restore_seconds)} s"
        case Disable(domain, at, recheck_at=recheck_at):
            return f"{domain} is disabled" + (f", rechecked after {_number(recheck_at - at)} s" if recheck_at else "")
        case Succeeded(domain):
            return f"{domain} is well"
        case Enable() | Restore():
            raise AssertionError("no run does what an operator does")


def _observed(tried: Try) -> dict[str, str] | None:
    if tried.observed is None:
        return None
    retry, failover, demote = tried.observed
    return {
        "retry": retry.reason,
        "failover": f"{failover.reason}, {failover.action}",
        "demote": "" if demote is None else f"{demote.reason}, {demote.step}",
    }


def _number(seconds: float) -> str:
    return f"{round(seconds, 3):.12g}"
