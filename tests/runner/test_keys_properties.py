"""Runs over candidates with several keys each: whatever fails, each key has one turn, and only where a key is to blame
another one of its candidate has its turn.
"""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from standby.runner import RunFailed
from standby.runner.testing import Fail, VirtualLoop, answer
from tests.runner.conftest import gateway

OF_THE_KEY = [
    Fail("auth_failed", status=401, scope="credential", work="rejected"),
    Fail("rate_limit", status=429, retryable=True, scope="credential_model", work="rejected"),
    Fail("insufficient_balance", status=402, scope="credential", work="rejected"),
]
OF_THE_CANDIDATE = [
    Fail("server_error", status=500, retryable=True, work="rejected"),
    Fail("network", retryable=True, work="not_sent"),
    Fail("overloaded", status=529, retryable=True, scope="provider", work="rejected"),
]
POLICY = {
    "failoverPolicy": {
        "allowCategories": [
            *("auth_error", "rate_limit", "insufficient_balance"),
            *("provider_5xx", "network", "provider_overloaded"),
        ],
        "ejectAfter": 0,
    }
}
outcomes = st.sampled_from([*OF_THE_KEY, *OF_THE_CANDIDATE, answer()])
scripts = st.dictionaries(
    st.sampled_from("abc"), st.dictionaries(st.sampled_from(["k1", "k2", "k3"]), outcomes, min_size=2), min_size=1
)


def tries_of_one_run(given_scripts, chance):
    """Who was called with which key, and what came of it, of a run that calls as many as it may."""
    once = {name: {key: [outcome] for key, outcome in keys.items()} for name, keys in given_scripts.items()}
    gate = gateway(once, policy=POLICY, chance=chance)

    async def run():
        async with gate.runner:
            try:
                return (await gate.ask()).record
            except RunFailed as failed:
                return failed.record

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        record = runner.run(run())
    return [(tried.candidate, tried.key_id, tried.failure) for tried in record.tries]


@given(given_scripts=scripts, drawn=st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40))
def test_each_key_has_one_turn_and_only_blame_gives_the_next_one_its_own(given_scripts, drawn):
    """Candidate after candidate, until one answers or nobody is left."""
    tried = tries_of_one_run(given_scripts, iter(drawn).__next__)
    called = [(candidate, key) for candidate, key, _ in tried]
    assert len(set(called)) == len(called)

    errors = [failure.error for _, _, failure in tried if failure is not None]
    assert len(errors) >= len(tried) - 1, "an answer ends the run"

    blame = {id(fail.error) for fail in OF_THE_KEY}
    order = list(dict.fromkeys(candidate for candidate, _ in called))
    assert [candidate for candidate, _ in called] == sorted((each for each, _ in called), key=order.index)
    for candidate in order:
        turns = [failure for each, _, failure in tried if each == candidate]
        *earlier, last = turns
        assert all(id(failure.error) in blame for failure in earlier)
        if last is not None and id(last.error) in blame:
            assert len(turns) == len(given_scripts[candidate]), "no key is left"
    if tried[-1][2] is not None:
        assert set(order) == set(given_scripts), "nobody is left"
