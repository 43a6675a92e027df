"""How long a provider asks to be left alone, from all the ways in which providers say it. Pure: the time is given.

A hint is a wish of somebody else's: it may be nonsense, negative, in the past, or a year away. What is no positive
number becomes `None`; what is more than a year becomes a year. How far a hint is followed is the runner's policy.
A point in time is one on the provider's clock: it is measured from the answer's own ``Date``, which was read off the
same clock, so that it does not matter how far that clock and ours are apart. Durations need no clock.

Sources: RFC 9110 sections 10.2.3 (``Retry-After``) and 6.6.1 (``Date``), OpenAI's and Azure's ``retry-after-ms`` and
``x-ratelimit-reset-*``, Anthropic's ``anthropic-ratelimit-*-reset``, the IETF's ``RateLimit-Reset`` draft, Google's
``google.rpc.RetryInfo``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

MAX_HINT_SECONDS: Final = 365 * 24 * 3600.0

_MAX_TEXT: Final = 64
_NUMBER: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_GO_DURATION: Final = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{1,18})?(?:h|ms|m|s|us|µs|μs|ns))+")
_GO_PART: Final = re.compile(r"([0-9.]+)(h|ms|m|s|us|µs|μs|ns)")
_GO_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_EPOCH_SECONDS_FROM: Final = 1e9  # a time, not a duration: 2001, or 31 years
_EPOCH_MILLISECONDS_FROM: Final = 1e12
_MAX_SKEW_SECONDS: Final = 24 * 3600.0  # drift and mistaken time zones are less; 1970 is a clock that was never set
_MAX_NUMBER: Final = 1e18  # an integer in JSON may be too large for a float


def retry_hint(headers: Mapping[str, str], body: object, now: float, *, resets: bool = True) -> float | None:
    """Seconds to wait, or `None` where the answer does not say.

    In this order: ``retry-after-ms``, ``Retry-After``, a ``RetryInfo`` in the body, the rate limits' reset headers.
    Of the resets the longest counts, of those that say that nothing remains if there are any.

    Args:
        headers: The answer's headers, names in lower case.
        body: The answer, decoded.
        now: The time by our clock, in seconds since the epoch; it counts where the answer has no usable ``Date``.
        resets: Whether reset headers count. They come with every answer, and mean something where a limit was hit.
    """
    since = _sent_at(headers, now)
    return (
        _bounded(_number(headers.get("retry-after-ms", "")), unit=1e-3)
        or _bounded(_seconds_until(headers.get("retry-after", ""), since))
        or _bounded(_retry_info(body))
        or (_bounded(_longest_reset(headers, since)) if resets else None)
    )


def _sent_at(headers: Mapping[str, str], now: float) -> float:
    """When the answer was sent, by the provider's clock; by ours where it does not say, or cannot be right."""
    sent = _http_date(headers.get("date", ""))
    return now if sent is None or abs(sent - now) > _MAX_SKEW_SECONDS else sent


def _bounded(seconds: float | None, unit: float = 1.0) -> float | None:
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds * unit, MAX_HINT_SECONDS)


def _longest_reset(headers: Mapping[str, str], since: float) -> float | None:
    exhausted: list[float] = []
    others: list[float] = []
    for name, text in headers.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        seconds = _seconds_until(text, since)
        if seconds is None or seconds <= 0:
            continue
        remaining = _number(headers.get(name.replace("reset", "remaining"), ""))
        (exhausted if remaining == 0 else others).append(seconds)
    return max(exhausted or others, default=None)


def _retry_info(body: object) -> float | None:
    return next((seconds for detail in _details(body) if (seconds := _delay(detail)) is not None), None)


def _details(body: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(body, list) and body:
        body = cast("list[object]", body)[0]  # Google's OpenAI-compatible endpoint wraps its errors in an array
    error = cast("Mapping[str, object]", body).get("error") if isinstance(body, dict) else None
    details = cast("Mapping[str, object]", error).get("details") if isinstance(error, dict) else None
    if isinstance(details, list):
        for detail in cast("list[object]", details):
            if isinstance(detail, dict):
                yield cast("dict[str, Any]", detail)


def _delay(detail: Mapping[str, Any]) -> float | None:
    kind = detail.get("@type")
    if not isinstance(kind, str) or not kind.endswith("RetryInfo"):
        return None
    delay = detail.get("retryDelay")
    if isinstance(delay, str):
        return _go_duration(delay)
    if isinstance(delay, dict):  # the message as its fields
        fields = cast("Mapping[str, object]", delay)
        seconds = _field(fields.get("seconds", 0))
        nanoseconds = _field(fields.get("nanos", 0))
        return None if seconds is None or nanoseconds is None else seconds + nanoseconds * 1e-9
    return None


def _field(value: object) -> float | None:
    """A number in a body; protobuf writes those of 64 bits as text."""
    if isinstance(value, str):
        return _number(value)
    return float(min(value, _MAX_NUMBER)) if isinstance(value, int | float) and value >= 0 else None


def _seconds_until(text: str, since: float) -> float | None:
    """Of a duration, its seconds; of a time, the seconds from `since` until then."""
    number = _number(text)
    if number is None:
        duration = _go_duration(text)
        if duration is not None:
            return duration
        moment = _iso_date(text) or _http_date(text)
        return None if moment is None else moment - since
    if number >= _EPOCH_MILLISECONDS_FROM:
        return number / 1000 - since
    return number - since if number >= _EPOCH_SECONDS_FROM else number


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _go_duration(text: str) -> float | None:
    text = text.strip()
    if len(text) > _MAX_TEXT or not _GO_DURATION.fullmatch(text):
        return None
    return sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(text))


def _iso_date(text: str) -> float | None:
    text = text.strip()
    if len(text) > _MAX_TEXT or ":" not in text:  # a day alone is no time
        return None
    try:
        return _timestamp(datetime.fromisoformat(text.upper()))  # RFC 3339 allows "t" and "z"; Python 3.11 no "z"
    except ValueError:
        return None


def _http_date(text: str) -> float | None:
    if not text or len(text) > _MAX_TEXT:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - takes a while, and few hints are dates

    try:
        return _timestamp(parsedate_to_datetime(text))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
