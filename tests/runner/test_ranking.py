"""The order in which candidates are tried."""

import random
from collections import Counter

import pytest

from standby.runner.testing import Fail
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio

DOWN = Fail("server_error", "down", status=500, retryable=True)


async def test_the_smaller_priority_is_tried_first():
    """The order in the document does not matter."""
    gate = gateway({"a": [], "b": []}, candidates={"a": {"priority": 2}, "b": {"priority": 1}})
    assert (await gate.ask()).candidate == "b"


async def test_equals_share_by_weight():
    """Of four runs, a weight of three has three, over many runs."""
    equal = {"priority": 1}
    gate = gateway(
        {"a": [], "b": []},
        candidates={"a": {**equal, "weight": 3}, "b": {**equal, "weight": 1}},
        chance=random.Random(7).random,
    )
    served = Counter([(await gate.ask()).candidate for _ in range(2000)])
    assert 1400 < served["a"] < 1600


async def test_every_equal_has_its_turn_in_a_failing_run():
    """A draw leaves nobody out and takes nobody twice."""
    equal = {"priority": 1}
    gate = gateway(
        {name: [DOWN] for name in "abcde"} | {"z": []},
        candidates=dict.fromkeys("abcde", equal),
        policy={"failoverPolicy": {"ejectAfter": 0}},
        chance=random.Random(1).random,
    )
    for _ in range(50):
        tried = [tried.candidate for tried in (await gate.ask()).record.tries]
        assert sorted(tried) == [*"abcdez"]
        assert tried[-1] == "z"


async def test_a_draw_at_the_end_of_the_scale_is_still_a_candidate():
    """Rounding of the summed weights never draws nobody."""
    equal = {"priority": 1, "weight": 0.1}
    gate = gateway({name: [] for name in "abc"}, candidates=dict.fromkeys("abc", equal), chance=lambda: 1.0)
    assert (await gate.ask()).candidate == "c"
