"""The decision contract: two thousand cases computed by its reference implementation."""

from pathlib import Path

import orjson
import pytest

from standby.lab import Case, answer_case

CASES = [
    orjson.loads(line) for line in (Path(__file__).parent / "data/decision_vectors.jsonl").read_bytes().splitlines()
]


def test_there_are_two_thousand_cases():
    """The file is whole."""
    assert len({case["id"] for case in CASES}) == 2000


@pytest.mark.parametrize("start", range(0, 2000, 100))
def test_every_case_is_decided_as_the_contract_says(start):
    """Info, retry, failover and demotion are equal to what the reference implementation computed."""
    for case in CASES[start : start + 100]:
        answer = answer_case(Case.model_validate(case))
        expected = {"demote": None, **case["expect"], "id": case["id"]}
        assert answer == expected, case["id"]
