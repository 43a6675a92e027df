"""How long a provider asks to be left alone, in every way in which providers say it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import retry_hint

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
A_YEAR = 365 * 24 * 3600.0


def hint(headers=None, body=None, **options):
    return retry_hint(headers or {}, body, NOW, **options)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("120", 120.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("1700000030", 30.0),
    ],
)
def test_retry_after(text, seconds):
    """`Retry-After` is seconds, whole or not, or an HTTP date; some send the time in seconds since the epoch."""
    assert hint({"retry-after": text}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "0", "-5", "+5", "NaN", "inf", "1e3", "1_000", "0x10", "5 s", "٣", "9" * 400),
        *("Tue, 14 Nov 2023 22:12:20 GMT", "Mon, 99 Foo 2023", "Tue, 14 Nov 0000 22:14:20 GMT", "a" * 10_000),
    ],
)
def test_retry_after__nonsense(text):
    """Nonsense, nothing and the past are no hint."""
    assert hint({"retry-after": text}) is None


def test_retry_after_ms():
    """`retry-after-ms` is finer than `Retry-After` and wins over it."""
    assert hint({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5


def test_retry_after_ms__nonsense():
    """A broken one leaves the word to the next."""
    assert hint({"retry-after-ms": "NaN", "retry-after": "2"}) == 2.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("120ms", 0.12),
        ("35.2µs", 3.52e-05),
        ("2m59.56s", 179.56),
        ("33011.382867", 33011.382867),
        ("1700000042", 42.0),
        ("1700000042500", 42.5),
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-14T23:13:50+01:00", 30.0),
        ("2023-11-14T22:13:50", 30.0),
    ],
)
@pytest.mark.parametrize(
    "name",
    ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset", "ratelimit-reset"],
)
def test_reset(name, text, seconds):
    """Reset headers are Go durations, seconds, times in seconds or milliseconds, or RFC 3339 times."""
    assert hint({name: text}) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "6x", "m", "1h2", "-1s", "2023-11-14T22:13:10Z", "2023-13-45T00:00:00Z", "0s"])
def test_reset__nonsense(text):
    """Nonsense and the past are no hint."""
    assert hint({"x-ratelimit-reset-requests": text}) is None


def test_reset__exhausted():
    """The limit that was hit counts, not the one that has room."""
    headers = {
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-tokens": "6m0s",
        "x-ratelimit-remaining-tokens": "4000",
    }
    assert hint(headers) == 1.0


def test_reset__unknown_which():
    """Where nothing says which limit was hit, the longest counts."""
    assert hint({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}) == 360.0


def test_reset__off():
    """Reset headers come with every answer; they count only where a limit was hit."""
    assert hint({"x-ratelimit-reset-requests": "1s"}, resets=False) is None


def test_reset__after_retry_after():
    """What was said outright wins over what has to be worked out."""
    assert hint({"retry-after": "3", "x-ratelimit-reset-tokens": "6m0s"}) == 3.0


def retry_info(delay):
    return {
        "error": {
            "code": 429,
            "details": [
                {"@type": "type.googleapis.com/google.rpc.Help"},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ],
        }
    }


@pytest.mark.parametrize(("delay", "seconds"), [("3.5s", 3.5), ({"seconds": "3", "nanos": 500_000_000}, 3.5)])
def test_retry_info(delay, seconds):
    """Google says it in the body."""
    assert hint(body=retry_info(delay)) == seconds


def test_retry_info__in_an_array():
    """Google's OpenAI-compatible endpoint wraps its errors in an array."""
    assert hint(body=[retry_info("3s")]) == 3.0


@pytest.mark.parametrize(
    "body",
    [
        *(None, "text", [], [[]], {}, {"error": "text"}, {"error": {"details": "text"}}, {"error": {"details": [1]}}),
        *(retry_info(None), retry_info("soon"), retry_info("-1s"), retry_info({"seconds": "x"}), retry_info(5)),
    ],
)
def test_retry_info__nonsense(body):
    """Any other body is no hint."""
    assert hint(body=body) is None


@pytest.mark.parametrize("headers", [{"retry-after": "99999999"}, {"x-ratelimit-reset-tokens": "999999h"}])
def test_a_year(headers):
    """Nobody is waited for longer than a year; how much less is the runner's policy."""
    assert hint(headers) == A_YEAR


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "details", "@type", "retryDelay", "x"]), inner, max_size=3)
    ),
)
names = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests", "x"]
)


@given(st.dictionaries(names, st.text(max_size=40)), json_values)
def test_any_answer(headers, body):
    """Whatever comes, the hint is none, or a number of seconds that makes sense."""
    seconds = retry_hint(headers, body, NOW)
    assert seconds is None or (math.isfinite(seconds) and 0 < seconds <= A_YEAR)
