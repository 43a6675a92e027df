"""Paths through the queue's machine that chance takes seldom; the machine asserts its rules on the way."""

from __future__ import annotations

from standby.store import RateLimitPolicy
from tests.runner.machines.test_queue_machine import QueueMachine

ONE_AT_A_TIME = RateLimitPolicy(concurrency=1)
ONE_A_MINUTE = RateLimitPolicy(concurrency=1, requests_per_minute=1)
TEN_TOKENS = RateLimitPolicy(tokens_per_minute=10)
MANY = RateLimitPolicy(concurrency=100)


def queue(*, a=MANY, b=MANY, of_both=MANY):
    """A queue of which nobody has asked anything."""
    machine = QueueMachine()
    machine.configure(a=a, b=b, c=MANY, of_both=of_both)
    return machine


def join(machine, key, tokens=1):
    machine.join(wants=(key,), tokens=tokens, model="chat", priority="normal", ago=0.0)
    return machine.waiters[-1]


def test_what_is_kept_for_somebody_is_kept_only_as_long_as_they_lack_it():
    """The key's minute opens; then only its candidate's own limit is left to lack, and holds up nobody else."""
    machine = queue(b=ONE_AT_A_TIME, of_both=TEN_TOKENS)
    join(machine, "b", tokens=1)
    join(machine, "b", tokens=10)
    other = join(machine, "a", tokens=1)
    machine.time_passes(passed=60.0)
    assert other.ticket.key == "a"


def test_whoever_waits_for_a_call_to_end_waits_no_longer_than_for_the_minute_after_it():
    """When the call ends its minute is not over yet: nobody hands that over, so whoever waits must look."""
    machine = queue(a=ONE_A_MINUTE)
    join(machine, "a")
    waiter = join(machine, "a")
    machine.time_passes(passed=5.0)
    machine.give_back(number=0, used=True, tokens=None)
    machine.time_passes(passed=55.0)
    assert waiter.ticket.key == "a"
