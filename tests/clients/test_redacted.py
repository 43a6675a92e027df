"""Nothing that looks like a key is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standby.clients import ClientError, redacted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Incorrect API key provided: sk-abc12***6789. You can", "Incorrect API key provided: [redacted]. You can"),
        ("Incorrect API key provided: hunter2000. See", "Incorrect API key provided: [redacted]. See"),
        ("key sk-proj-aB3_xyz-0123456789 is unknown", "key [redacted] is unknown"),
        ("key gsk_aBcDeFgHiJkLmNoP is unknown", "key [redacted] is unknown"),
        ("hf_aBcDeFgHiJkLmNoP", "[redacted]"),
        ("ghp_aBcDeFgHiJkLmNoP123", "[redacted]"),
        ("authorization: Bearer abc.DEF-123, other", "authorization: Bearer [redacted], other"),
        ("https://user:pa55word@proxy.test:8080/", "https://[redacted]@proxy.test:8080/"),
        ("GET /v1?key=AIzaSyA1234567890&alt=sse", "GET /v1?key=[redacted]&alt=sse"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstu", "[redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[redacted]"),
        ("token 3Qk9ZfJ2mXw8Lr5Tn7Vb1Cy4Hd6Gs0PaEuOi", "token [redacted]"),
    ],
)
def test_keys(text, expected):
    """Keys by their look, by what stands before them, and by being long and random."""
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The model `Llama-4-Maverick-17B-128E-Instruct-FP8` does not exist",
        "accounts/fireworks/models/llama-v3p1-405b-instruct",
        "hf-internal-testing/tiny-random-gpt2",
        "keyword-arguments-are-unsupported",
        "risk-averse and task-based",
        "request id 4f1ab0c9d8e7f6a5b4c3d2e1f0a9b8c7",
        "req_011CSHoEeqs5C35K2UUqR7Fy",
        "org-aBcDeFgHiJkL0123456789",
        "649b2bbc-c541-9e16-9845-db7fe4fe5b2d",
        "This model's maximum context length is 8192 tokens.",
    ],
)
def test_no_keys(text):
    """Names of models, ids of requests and ordinary words stay readable."""
    assert redacted(text) == text


@given(st.text(max_size=300))
def test_twice(text):
    """To take keys out twice changes nothing more."""
    assert redacted(redacted(text)) == redacted(text)


def test_client_error():
    """An error says what it is in one line, and no key in any form of it."""
    error = ClientError("auth_failed", " Bearer hunter2-hunter2 ", status=401)
    assert str(error) == "auth_failed (status 401): Bearer [redacted]"
    assert "hunter2" not in f"{error!r} {error.args}"
