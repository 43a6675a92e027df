"""How far a provider's hint is followed: upward only, and by at most a tenth."""

import pytest

from standby.runner.testing import Fail, answer
from tests.runner.conftest import gateway

pytestmark = pytest.mark.anyio


def limited(hint):
    return Fail("rate_limit", "slow down", status=429, retryable=True, hint=hint)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 4.0), (0.5, 4.2), (0.999999, 4.4)])
async def test_a_hint_is_followed_upward_with_at_most_a_tenth_of_jitter(chance, seconds):
    """Never sooner than was asked for, and those who were told the same do not all return together."""
    backoff = {"initialSeconds": 0.5, "maxSeconds": 8}
    gate = gateway({"a": [limited(4), answer()]}, retry={"maxAttempts": 2, "backoff": backoff}, chance=lambda: chance)
    waited = (await gate.ask()).record.tries[0].wait_seconds
    assert waited == pytest.approx(seconds, abs=1e-4)
    assert 4.0 <= waited <= 4.4


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 40.0), (0.5, 42.0), (0.999999, 44.0)])
async def test_a_hinted_cooldown_is_at_most_a_tenth_longer(chance, seconds):
    """The same for what the next runs are kept from."""
    policy = {"failoverPolicy": {"actions": {"rate_limit": "cooldown_and_next"}}}
    gate = gateway({"a": [limited(40)], "b": []}, policy=policy, chance=lambda: chance)
    await gate.ask()
    standing = gate.state.standing("credential_model:a/m")
    assert standing.cooling_until - standing.cooled_at == pytest.approx(seconds, abs=1e-3)
