"""An answer that is a failure, read and judged: the contract of client errors, as a function. Pure.

The vendor's words (`_vocabulary.py`) say what failed; where they say nothing, the status does; the hint comes from
`_hints.py`. Clients of every dialect can use this: what they add is what a complete answer looks like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

import orjson

from ._errors import MAX_MESSAGE_CHARACTERS, Blame, ClientError, Work, redacted
from ._hints import retry_hint
from ._http_answer import HttpAnswer, request_id_of
from ._vocabulary import TYPES, meaning

Scrub = Callable[[str], str]
"""Takes the caller's own secrets out of a text; a vendor may repeat them."""

_READ_CHARACTERS: Final = 2 * MAX_MESSAGE_CHARACTERS  # a key taken out makes room for what comes after
_MAX_ERROR_BYTES: Final = 256 * 1024  # no error object is that large; what is, is not decoded
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 50
_MAX_PARTS: Final = 300
_MAX_NAME: Final = 100
_SAID_BY: Final = frozenset({"message", "Message", "detail", "msg", "code", "type", "__type", "object"})
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)


class Traits(NamedTuple):
    """What follows from a code, unless the status says otherwise."""

    retryable: bool
    scope: Blame
    work: Work


_TRAITS: Final[Mapping[str, Traits]] = {
    "bad_request": Traits(False, "request", "rejected"),
    "invalid_request": Traits(False, "request", "rejected"),
    "context_length_exceeded": Traits(False, "request", "rejected"),
    "content_filter": Traits(False, "request", "rejected"),
    "unsupported_parameter": Traits(False, "request", "rejected"),
    "unsupported_model": Traits(False, "candidate", "rejected"),
    "auth_failed": Traits(False, "credential", "rejected"),
    "invalid_api_key": Traits(False, "credential", "rejected"),
    "insufficient_balance": Traits(False, "credential", "rejected"),
    "timeout": Traits(True, "candidate", "unknown"),
    "conflict": Traits(True, "candidate", "rejected"),
    "rate_limit": Traits(True, "credential_model", "rejected"),
    "overloaded": Traits(True, "provider", "rejected"),
    "server_error": Traits(True, "candidate", "unknown"),
    "invalid_response": Traits(True, "candidate", "billed"),
    "empty_response": Traits(True, "candidate", "billed"),
}
_VENDORS_OWN: Final = Traits(True, "candidate", "unknown")
_NOT_IMPLEMENTED: Final = Traits(False, "candidate", "rejected")
_REDIRECTED: Final = Traits(False, "candidate", "rejected")

_STATUS_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "auth_failed",
    402: "insufficient_balance",
    403: "auth_failed",
    408: "timeout",
    413: "context_length_exceeded",
    429: "rate_limit",
    **dict.fromkeys((409, 423, 425, 449), "conflict"),
    **dict.fromkeys((498, 529), "overloaded"),  # 498 is Groq's
}
_RESETS_COUNT: Final = frozenset({429, 503, 529})


@dataclass(frozen=True, slots=True)
class VendorError:
    """An error object, whatever its form.

    Attributes:
        names: Its codes and types, in lower case, the most specific first.
        message: Its text.
        number: The status that the object itself names, or 0.
        whole: The object; `None` where there was only text.
    """

    names: tuple[str, ...] = ()
    message: str = ""
    number: int = 0
    whole: Mapping[str, Any] | None = None


def failed_answer(answer: HttpAnswer, *, now: float, scrub: Scrub) -> ClientError:
    """What an answer means whose status is no success."""
    try:
        data = orjson.loads(answer.content) if len(answer.content) <= _MAX_ERROR_BYTES else None
    except orjson.JSONDecodeError:
        data = None
    error = vendor_error(data) or VendorError(message=_plain_text(answer.content))
    if (name := _amazons(answer.headers.get("x-amzn-errortype"))) and name not in error.names:
        error = replace(error, names=(*error.names, name))
    return _failure(error, answer.status, answer.headers, data, now=now, scrub=scrub)


def success(answer: HttpAnswer, *, now: float, scrub: Scrub) -> Mapping[str, Any]:
    """The JSON object that a whole answer is.

    Args:
        answer: The answer.
        now: The time, in seconds since the epoch.
        scrub: Takes secrets out of a text.

    Raises:
        ClientError: For an answer whose status is no success, that is no JSON object, or that tells of an error.
    """
    status, headers = answer.status, answer.headers
    if not 200 <= status < 300:
        raise failed_answer(answer, now=now, scrub=scrub)
    try:
        data: object = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        found = f"{len(answer.content)} bytes of {headers.get('content-type', 'unknown type')[:100]}"
        raise unusable("invalid_response", f"the answer is not JSON: {found}", status, headers) from error
    first = cast("list[object]", data)[0] if isinstance(data, list) and data else None
    if isinstance(first, dict) and "error" in first:
        data = cast("object", first)  # so Google answers a failed call where a stream was asked for
    if not isinstance(data, dict):
        raise unusable("invalid_response", "the answer is not a JSON object", status, headers)
    body = cast("dict[str, Any]", data)
    if (failure := error_inside(status, headers, body, now=now, scrub=scrub)) is not None:
        raise failure
    return body


def error_inside(
    status: int, headers: Mapping[str, str], data: Mapping[str, Any], *, now: float, scrub: Scrub
) -> ClientError | None:
    """What an error object means that came with a success; `None` where there is none.

    Args:
        status: The answer's status.
        headers: The answer's headers, names in lower case.
        data: The answer, or one event of a stream.
        now: The time, in seconds since the epoch.
        scrub: Takes secrets out of a text.
    """
    if not data.get("error") and data.get("object") != "error":
        failed = _failed_choice(data)
        if failed is None:
            return None
        data = failed
    error = vendor_error(data) or VendorError()
    return _failure(error, status, headers, data, now=now, scrub=scrub)


_FAILED_ENDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "error": {"error": {"message": "the answer ended with an error", "type": "server_error"}},
    "insufficient_system_resource": {"error": {"message": "the answer was broken off", "type": "overloaded"}},
}
"""Reasons for an end that are none: Mistral's (docs.mistral.ai/api), and DeepSeek's where it has no room
(api-docs.deepseek.com/api/create-chat-completion)."""


def _failed_choice(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """OpenRouter reports an error of the model's own host inside a choice; others end it with no more than a word."""
    choices = data.get("choices")
    for choice in cast("list[object]", choices) if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            told = cast("dict[str, Any]", choice)
            if isinstance(told.get("error"), dict):
                return told
            if (end := _FAILED_ENDS.get(str(told.get("finish_reason")))) is not None:
                return end
    return None


def unusable(
    code: str, message: str, status: int, headers: Mapping[str, str], vendor: Mapping[str, Any] | None = None
) -> ClientError:
    """A success that does not keep its promise: ``invalid_response``, ``empty_response``, or what it fails with."""
    traits = _TRAITS[code]
    return ClientError(
        code,
        message,
        status=status,
        retryable=_may_retry(headers, traits.retryable),
        scope=traits.scope,
        work=traits.work,
        request_id=request_id_of(headers),
        vendor=vendor,
    )


def client_error_of(status: int, code: str = "", message: str = "") -> ClientError:
    """What a client would say of such an answer: for those who ask what would be, and have no answer at hand.

    Args:
        status: The answer's status; 0 where none came.
        code: The vendor's code, or ours where no answer came.
        message: The vendor's text.
    """
    if not status:
        traits = _TRAITS.get(code, _VENDORS_OWN)
        return ClientError(code, message, retryable=traits.retryable, scope=traits.scope, work=traits.work)
    error = VendorError((code.strip().lower(),) if code else (), message)
    return _failure(error, status, {}, None, now=0.0, scrub=str)


def vendor_error(data: object) -> VendorError | None:
    """The error object in an answer, in any of the forms that vendors give it; `None` where there is none."""
    if isinstance(data, list) and data:
        data = cast("list[object]", data)[0]  # Google's OpenAI-compatible endpoint
    if not isinstance(data, dict):
        return None
    body = cast("dict[str, Any]", data)
    errors = body.get("errors")
    error = body.get("error") or (cast("list[object]", errors)[0] if isinstance(errors, list) and errors else None)
    if isinstance(error, str):  # Ollama, xAI: beside it a code, perhaps
        return VendorError(_names(body), error, whole={key: body[key] for key in ("code", "error") if key in body})
    whole = cast("dict[str, Any]", error) if isinstance(error, dict) else body
    if whole is body and _SAID_BY.isdisjoint(body):
        return None
    message = next((text for key in ("message", "Message", "detail", "msg") if (text := _text(whole.get(key)))), "")
    return VendorError(_names(whole), message, _number(whole), whole)


def _failure(
    error: VendorError, status: int, headers: Mapping[str, str], data: object, *, now: float, scrub: Scrub
) -> ClientError:
    code, traits = _judged(error, status)
    code = redacted(scrub(code))  # it may be the vendor's own
    resets = code in {"rate_limit", "overloaded"} or status in _RESETS_COUNT
    return ClientError(
        code,
        scrub(error.message[:_READ_CHARACTERS]),
        status=status,
        retryable=_may_retry(headers, traits.retryable),
        hint=retry_hint(headers, data, now, resets=resets),
        scope=traits.scope,
        work=traits.work,
        request_id=request_id_of(headers),
        vendor=None if error.whole is None else _Cleaner(scrub).cleaned(error.whole),
    )


def _judged(error: VendorError, status: int) -> tuple[str, Traits]:
    if 300 <= status < 400:
        return "invalid_response", _REDIRECTED
    told = error.number if status < 300 and error.number else status
    if told == 402:
        return "insufficient_balance", _TRAITS["insufficient_balance"]
    meant = meaning(error.names, error.message[:_READ_CHARACTERS], told)
    if meant is not None:
        code, scope = meant
        traits = _TRAITS[code]
        return code, traits if scope is None else traits._replace(scope=scope)
    if told in {501, 505}:
        return "server_error", _NOT_IMPLEMENTED
    if told >= 300:
        code = _STATUS_CODES.get(told, "server_error" if told >= 500 else "invalid_request")
        return code, _TRAITS[code]
    return _judged_by_type(error)


def _judged_by_type(error: VendorError) -> tuple[str, Traits]:
    """An error inside of a success, of which the vocabulary knows nothing."""
    code = next((TYPES[name] for name in error.names if name in TYPES), None)
    if code is None and error.names:
        return error.names[0], _VENDORS_OWN
    code = code or "invalid_response"
    return code, _TRAITS[code]


def _may_retry(headers: Mapping[str, str], otherwise: bool) -> bool:
    said = headers.get("x-should-retry", "").strip().lower()
    return said == "true" if said in {"true", "false"} else otherwise


def _names(error: Mapping[str, Any]) -> tuple[str, ...]:
    found = (str(name).strip().lower() for name in _said(error) if isinstance(name, str))
    return tuple(dict.fromkeys(name for name in found if name and len(name) <= _MAX_NAME))


def _said(error: Mapping[str, Any]) -> Iterator[object]:
    """Where vendors put codes and types: OpenAI, Azure, Google, OpenRouter, Amazon."""
    yield error.get("code")
    inner = error.get("innererror") or error.get("inner_error")
    if isinstance(inner, dict):
        yield cast("dict[str, Any]", inner).get("code")
    details = error.get("details")
    for detail in cast("list[object]", details)[:_MAX_ITEMS] if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield cast("dict[str, Any]", detail).get("reason")
    metadata = error.get("metadata")
    if isinstance(metadata, dict):
        yield cast("dict[str, Any]", metadata).get("error_type")
    yield error.get("status")
    yield error.get("type")
    yield _amazons(error.get("__type"))


def _amazons(name: object) -> str:
    """The name of an exception, which Amazon's services wrap: ``com.amazon.x#Name``, ``Name:http://...``."""
    return name.partition(":")[0].rpartition("#")[2].strip().lower() if isinstance(name, str) else ""


def _number(error: Mapping[str, Any]) -> int:
    for value in (error.get("code"), error.get("status"), error.get("status_code")):
        text = str(value) if isinstance(value, int | str) else ""  # what is nested deeply has no text
        if len(text) == 3 and text.isascii() and text.isdigit() and text >= "400":
            return int(text)
    return 0


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list) and value:  # FastAPI's `detail` is a list of findings
        try:
            return orjson.dumps(value)[: 4 * _READ_CHARACTERS].decode(errors="replace")
        except orjson.JSONEncodeError:  # it writes 254 levels and reads 1,024
            return ""
    return ""


def _plain_text(content: bytes) -> str:
    text = content[: 4 * _READ_CHARACTERS].decode(errors="replace")
    title = _TITLE.search(text)
    return title.group(1).strip() if title else text


class _Cleaner:
    """Takes keys out of a vendor's object, and leaves out what is too deep or too much."""

    def __init__(self, scrub: Scrub) -> None:
        self._scrub = scrub
        self._left = _MAX_PARTS

    def cleaned(self, error: Mapping[str, Any]) -> Mapping[str, Any]:
        return {self._text(key): self._value(value, _MAX_DEPTH) for key, value in tuple(error.items())[:_MAX_ITEMS]}

    def _value(self, value: object, depth: int) -> object:
        self._left -= 1
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict | list) and (depth == 0 or self._left <= 0):
            return "..."
        if isinstance(value, dict):
            items = tuple(cast("dict[str, object]", value).items())[:_MAX_ITEMS]
            return {self._text(key): self._value(item, depth - 1) for key, item in items}
        if isinstance(value, list):
            return [self._value(item, depth - 1) for item in cast("list[object]", value)[:_MAX_ITEMS]]
        return value

    def _text(self, text: str) -> str:
        return redacted(self._scrub(text[: _READ_CHARACTERS if self._left > 0 else _MAX_NAME]))
