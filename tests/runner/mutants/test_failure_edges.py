"""What a client raised, as a failure: every field of it."""

import math

import pytest

from standby.clients import ClientError
from standby.runner._failure import failure_of, local_failure
from standby.runner._record import Failure

YEAR = 365 * 86400.0


def test_what_a_client_says_of_its_failure_is_kept():
    """Its code and message are classified; the rest is its own word."""
    error = ClientError(
        "Server_Error",
        "down",
        status=500,
        retryable=True,
        hint=7.0,
        scope="provider",
        work="rejected",
        request_id="req_1",
    )
    failure = failure_of(error)
    info = ("server_error", "down", 500, "provider_5xx", "server_error provider_5xx 500 down")
    assert failure == Failure(failure.info, True, 7.0, "provider", "rejected", "req_1", error)
    assert failure.info == info


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("choices"), "'choices'"),
        (ValueError(), "ValueError"),
        (ValueError("sent Bearer sk-live-0123456789abcdefABCDEF"), "sent Bearer [redacted]"),
    ],
    ids=["its words", "its name where it has none", "no key"],
)
def test_what_is_no_client_error_is_nobodys_word(error, message):
    """It has no code and no status, is not tried again, and what it did to the provider is unknown."""
    failure = failure_of(error)
    assert failure == Failure(failure.info, False, None, "candidate", "unknown", "", error)
    assert failure.info == ("", message, 0, "client_error", f"client_error 0 {message.lower()}")


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        (None, None),
        (-1.0, None),
        (math.nan, None),
        (0.0, 0.0),
        (0.5, 0.5),
        (YEAR, YEAR),
        (YEAR + 1, YEAR),
        (math.inf, YEAR),
    ],
)
def test_a_hint_is_bounded_and_never_believed(hint, seconds):
    """What is no number of seconds is none, and nothing is longer than a year."""
    assert failure_of(ClientError("rate_limit", hint=hint)).hint == seconds


def test_our_own_limit_is_a_failure_of_nobody_else():
    """Nothing was sent, and another candidate may be tried."""
    failure = local_failure()
    assert failure == Failure(failure.info, True, None, "local", "not_sent", "", failure.error)
    assert failure.info == (
        "rate_limit",
        "local capacity exceeded",
        0,
        "rate_limit",
        "rate_limit rate_limit 0 local capacity exceeded",
    )


def test_the_error_of_our_own_limit_says_the_same_as_its_failure():
    """It is what a caller sees where nobody else could be tried."""
    error = local_failure().error
    assert isinstance(error, ClientError)
    assert (str(error), error.retryable, error.scope, error.work) == (
        "rate_limit: local capacity exceeded",
        True,
        "local",
        "not_sent",
    )
