"""How long a provider asks to be left alone, in every way in which providers say it."""

import math
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standby.clients import retry_hint
from standby.clients._answers import failed_answer
from standby.clients._http_answer import HttpAnswer

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
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("1700000030", 30.0),
        ("1700000030000", 30.0),
        ("2023-11-14T22:13:50Z", 30.0),
        ("1m30s", 90.0),
    ],
)
def test_retry_after(text, seconds):
    """`Retry-After` is seconds, whole or not, or an HTTP date; some send what others put into reset headers."""
    assert hint({"retry-after": text}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "0", "-5", "+5", "NaN", "inf", "1e3", "1_000", "0x10", "5 s", "٣", "9" * 400),
        *(
            "1699999990",
            "Tue, 14 Nov 2023 22:13:20 GMT",
            "Tue, 14 Nov 2023 22:12:20 GMT",
            "Mon, 99 Foo 2023",
            "Tue, 14 Nov 0000 22:14:20 GMT",
            "a" * 10_000,
        ),
    ],
)
def test_retry_after__nonsense(text):
    """Nonsense, nothing and the past are no hint."""
    assert hint({"retry-after": text}) is None


def test_retry_after_ms():
    """`retry-after-ms` is finer than `Retry-After` and wins over it."""
    assert hint({"retry-after-ms": "1500", "retry-after": "2"}) == 1.5


@pytest.mark.parametrize("text", ["NaN", "-1500", "0", "inf", "1.5s"])
def test_retry_after_ms__nonsense(text):
    """A broken one leaves the word to the next."""
    assert hint({"retry-after-ms": text, "retry-after": "2"}) == 2.0


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
        ("2023-11-14t22:13:50z", 30.0),
        ("2023-11-14 22:13:50Z", 30.0),
        ("2023-11-14T22:13:50.123456789Z", 30.123456),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        *("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "ratelimit-reset"),
        *("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-reset"),
        *("anthropic-ratelimit-input-tokens-reset", "anthropic-ratelimit-output-tokens-reset"),
    ],
)
def test_reset(name, text, seconds):
    """Reset headers are Go durations, seconds, times in seconds or milliseconds, or RFC 3339 times."""
    assert hint({name: text}) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "6x", "m", "1h2", "-1s", "0s", "NaN", "inf", "-5", "1699999990", "1699999990000"),
        *("2023-11-14T22:13:10Z", "2023-13-45T00:00:00Z", "2023-11-15"),
    ],
)
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


def test_reset__exhausted_of_anthropic():
    """Anthropic's names have the word in another place; the limit that was hit counts there too."""
    headers = {
        "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2023-11-14T22:19:20Z",
        "anthropic-ratelimit-tokens-remaining": "4000",
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


BEHIND = {"date": "Tue, 14 Nov 2023 22:08:20 GMT"}  # five minutes

points_in_time = pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retry-after", "Tue, 14 Nov 2023 22:08:50 GMT"),
        ("retry-after", "1699999730"),
        ("x-ratelimit-reset-requests", "1699999730"),
        ("x-ratelimit-reset", "1699999730000"),
        ("anthropic-ratelimit-tokens-reset", "2023-11-14T22:08:50Z"),
    ],
)


@points_in_time
def test_date(name, text):
    """A point in time is one on the provider's clock, whatever ours says: it counts from the answer's `Date`."""
    assert hint({name: text} | BEHIND) == 30.0


@points_in_time
def test_date__missing(name, text):
    """Without a `Date`, our own clock has to do: by it, these are past."""
    assert hint({name: text}) is None


@pytest.mark.parametrize(
    "date",
    [
        *("", "now", "NaN", "1699999700", "2023-11-14T22:08:20Z", "Tue, 99 Nov 2023 22:08:20 GMT", "a" * 10_000),
        *("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"),
        *("Mon, 13 Nov 2023 22:13:19 GMT", "Wed, 15 Nov 2023 22:13:21 GMT"),
    ],
)
def test_date__nonsense(date):
    """A `Date` that is none, or more than a day from our clock, does not count: our own clock has to do."""
    assert hint({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": date}) == 60.0


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({"retry-after": "7"}, None, 7.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None, 360.0),
        ({"x-ratelimit-reset-tokens": "33.5"}, None, 33.5),
        ({}, {"error": {"details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "3s"}]}}, 3.0),
    ],
)
def test_date__durations(headers, body, seconds):
    """A duration is no matter of clocks."""
    assert hint(headers | BEHIND, body) == seconds


@pytest.mark.parametrize("text", ["Tue, 14 Nov 2023 22:08:20 GMT", "Tue, 14 Nov 2023 22:07:00 GMT"])
def test_date__past(text):
    """What is not after the answer's own `Date` is past."""
    assert hint({"retry-after": text} | BEHIND) is None


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


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("3.5s", 3.5),
        ("0.000000001s", 1e-9),
        ({"seconds": "3", "nanos": 500_000_000}, 3.5),
        ({"seconds": 3}, 3.0),
        ({"nanos": 500_000_000}, 0.5),
    ],
)
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
        *(retry_info(None), retry_info("soon"), retry_info("-1s"), retry_info("NaN"), retry_info(""), retry_info(5)),
        *(retry_info({}), retry_info({"seconds": "x"}), retry_info({"seconds": -3}), retry_info({"seconds": math.nan})),
        *(retry_info({"seconds": None}), retry_info({"seconds": 3, "nanos": [1]})),
    ],
)
def test_retry_info__nonsense(body):
    """Any other body is no hint."""
    assert hint(body=body) is None


def test_retry_info__after_retry_after():
    """The headers come first."""
    assert hint({"retry-after": "7"}, retry_info("3s")) == 7.0


def test_retry_info__before_resets():
    """What was said outright wins over what has to be worked out."""
    assert hint({"x-ratelimit-reset-tokens": "6m0s"}, retry_info("3s")) == 3.0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry-after": "99999999"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ({"retry-after-ms": "999999999999999999"}, None),
        ({"x-ratelimit-reset-tokens": "999999h"}, None),
        ({"x-ratelimit-reset-tokens": "999999999999999999"}, None),
        ({"anthropic-ratelimit-tokens-reset": "9999-12-31T23:59:59-23:59"}, None),
        ({}, retry_info("99999999999s")),
        ({}, retry_info({"seconds": 10**5000})),
    ],
)
def test_a_year(headers, body):
    """Nobody is waited for longer than a year; how much less is the runner's policy."""
    assert hint(headers, body) == A_YEAR


DEEP = b"[" * 1000 + b"]" * 1000


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        b'{"error":{"code":%s}}' % DEEP,
        b'{"error":{"message":%s}}' % DEEP,
        b'{"error":{"details":[{"@type":%s}]}}' % DEEP,
        b'{"error":{"details":[{"@type":"google.rpc.RetryInfo","retryDelay":{"seconds":%s}}]}}' % DEEP,
    ],
)
def test_a_deep_body(content):
    """A body nested as deeply as can be decoded does not cost the hint, nor the error that carries it."""
    answer = HttpAnswer(503, {"x-ratelimit-reset-tokens": "7s"}, content)  # looked for in the body first
    assert failed_answer(answer, now=NOW, scrub=str).hint == 7.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "details", "@type", "retryDelay", "x"]), inner, max_size=3)
    ),
)
delays = (
    json_values
    | st.from_regex(r"-?[0-9]{0,20}\.?[0-9]{0,10}s", fullmatch=True)
    | st.fixed_dictionaries({}, optional={"seconds": json_values, "nanos": json_values})
)
bodies = json_values | delays.map(retry_info) | delays.map(lambda delay: [retry_info(delay)])
names = st.sampled_from(
    [
        *("date", "retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
        *("anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining", "x"),
    ]
)
texts = st.one_of(
    st.text(max_size=40),
    st.text("0123456789.-+:eTZhmsµu ,GNovTuayF", max_size=40),  # almost a number, a duration, or a date
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: f"{moment:%a, %d %b %Y %H:%M:%S} GMT"),
)


@settings(deadline=None)
@given(st.dictionaries(names, texts), bodies)
def test_any_answer(headers, body):
    """Whatever comes, the hint is none, or a number of seconds that makes sense."""
    seconds = retry_hint(headers, body, NOW)
    assert seconds is None or (math.isfinite(seconds) and 0 < seconds <= A_YEAR)


@settings(deadline=None)
@given(skew=st.integers(-86_400, 86_400), seconds=st.integers(1, 10_000_000))
def test_any_skew(skew, seconds):
    """However far a provider's clock is from ours, up to a day, its HTTP date means the same wait."""
    headers = {
        "date": formatdate(NOW + skew, usegmt=True),
        "retry-after": formatdate(NOW + skew + seconds, usegmt=True),
    }
    assert hint(headers) == seconds == hint({"retry-after": formatdate(NOW + seconds, usegmt=True)})


@settings(deadline=None)
@given(date=texts, seconds=st.integers(1, 10_000_000))
def test_any_date(date, seconds):
    """Whatever the `Date`, a wait in seconds is what it says."""
    assert hint({"date": date, "retry-after": str(seconds)}) == seconds
