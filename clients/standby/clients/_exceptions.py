"""What an exception of an HTTP library means: one table, by name, so that nothing is imported for it.

httpx, httpcore, aiohttp, anyio and the standard library all have their own words for the same few things. The most
specific class that the table knows decides. Where an exception was wrapped on its way up (httpx-aiohttp calls a server
that disconnects a connect timeout, vendors' SDKs call everything a connection error), the original decides. httpx2 and
httpcore2, on which the SDKs run, have the classes of httpx and httpcore, and the table knows them by those names.

Nothing here looks at a status: an answer that arrived whole is judged elsewhere.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from ._errors import Blame, ClientError, Work


class Rule(NamedTuple):
    """What one kind of exception becomes."""

    code: str
    work: Work
    retryable: bool = True
    scope: Blame = "candidate"


UNREACHED: Final = Rule("network", "not_sent")
BROKEN: Final = Rule("network", "unknown")
CONNECT_TIMEOUT: Final = Rule("timeout", "not_sent")
TIMEOUT: Final = Rule("timeout", "unknown")
POOL_TIMEOUT: Final = Rule("pool_timeout", "not_sent", scope="local")
UNUSABLE: Final = Rule("invalid_response", "billed")
REDIRECT: Final = Rule("invalid_response", "rejected", retryable=False)
BAD_CALL: Final = Rule("invalid_request", "not_sent", retryable=False, scope="request")
DEFECT: Final = Rule("client_error", "unknown", retryable=False, scope="local")
"""Our own misuse of the library, or an exception that nobody has seen yet."""
NO_CREDENTIAL: Final = Rule("auth_failed", "not_sent", retryable=False, scope="credential")

_SDK_RULES: Final[Mapping[str, Rule]] = {
    "APITimeoutError": TIMEOUT,
    "APIConnectionError": BROKEN,
    "APIError": UNUSABLE,
    "OpenAIError": NO_CREDENTIAL,  # what is left is raised before anything is sent, and concerns who sends it
    "AnthropicError": NO_CREDENTIAL,
}
_SDKS: Final = ("openai", "anthropic")

_RULES: Final[Mapping[str, Rule]] = {
    **{f"{sdk}.{name}": rule for sdk in _SDKS for name, rule in _SDK_RULES.items()},
    # httpx
    "httpx.ConnectTimeout": CONNECT_TIMEOUT,
    "httpx.PoolTimeout": POOL_TIMEOUT,
    "httpx.TimeoutException": TIMEOUT,
    "httpx.ConnectError": UNREACHED,
    "httpx.ProxyError": UNREACHED,
    "httpx.UnsupportedProtocol": BAD_CALL,
    "httpx.LocalProtocolError": BAD_CALL,
    "httpx.InvalidURL": BAD_CALL,
    "httpx.TooManyRedirects": REDIRECT,
    "httpx.RequestError": BROKEN,  # what is left: read, write, close, framing, decoding
    "httpx.HTTPError": DEFECT,
    "httpx.StreamError": DEFECT,
    "httpx.CookieConflict": DEFECT,
    # httpcore, where a transport does not translate
    "httpcore.ConnectTimeout": CONNECT_TIMEOUT,
    "httpcore.PoolTimeout": POOL_TIMEOUT,
    "httpcore.TimeoutException": TIMEOUT,
    "httpcore.ConnectError": UNREACHED,
    "httpcore.ProxyError": UNREACHED,
    "httpcore.NetworkError": BROKEN,
    "httpcore.UnsupportedProtocol": BAD_CALL,
    "httpcore.LocalProtocolError": BAD_CALL,
    "httpcore.ProtocolError": BROKEN,
    "httpcore.ConnectionNotAvailable": UNREACHED,
    # h11, below httpcore
    "h11.LocalProtocolError": BAD_CALL,
    "h11.ProtocolError": BROKEN,
    # aiohttp
    "aiohttp.ConnectionTimeoutError": CONNECT_TIMEOUT,
    "aiohttp.ServerTimeoutError": TIMEOUT,
    "aiohttp.ClientConnectorError": UNREACHED,
    "aiohttp.ServerFingerprintMismatch": UNREACHED,
    "aiohttp.ClientHttpProxyError": UNREACHED,
    "aiohttp.ClientConnectionError": BROKEN,
    "aiohttp.ClientPayloadError": BROKEN,
    "aiohttp.ClientResponseError": BROKEN,  # raised by itself where the answer is not HTTP
    "aiohttp.TooManyRedirects": REDIRECT,
    "aiohttp.RedirectClientError": REDIRECT,
    "aiohttp.ContentTypeError": UNUSABLE,
    "aiohttp.WSServerHandshakeError": DEFECT,
    "aiohttp.WSMessageTypeError": DEFECT,
    "aiohttp.InvalidURL": BAD_CALL,
    "aiohttp.NonHttpUrlClientError": BAD_CALL,
    "aiohttp.ClientError": BROKEN,
    "aiohttp.HttpProcessingError": BROKEN,
    # anyio
    "anyio.ConnectionFailed": UNREACHED,
    "anyio.BrokenResourceError": BROKEN,
    "anyio.ClosedResourceError": BROKEN,
    "anyio.EndOfStream": BROKEN,
    "anyio.IncompleteRead": BROKEN,
    # the standard library
    "builtins.ConnectionRefusedError": UNREACHED,
    "socket.gaierror": UNREACHED,
    "socket.herror": UNREACHED,
    "ssl.SSLError": UNREACHED,
    "ssl.CertificateError": UNREACHED,
    "builtins.TimeoutError": TIMEOUT,
    "builtins.OSError": BROKEN,
    "builtins.EOFError": BROKEN,
    "zlib.error": BROKEN,
}

_SUCCESSORS: Final[Mapping[str, str]] = {"httpx2": "httpx", "httpcore2": "httpcore"}
_WRAPPERS: Final = frozenset(f"{sdk}.{name}" for sdk in _SDKS for name in ("APIConnectionError", "APITimeoutError"))

_HEAD_TOO_LARGE: Final = frozenset({"aiohttp.LineTooLong"})
_STATUS_OF_TOO_LARGE_HEAD: Final = 431  # what h11 would answer; its exceptions say so

_OUR_SIDE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Out of files, memory or ports: this machine is to blame, and no provider."""

_MAX_CHAIN: Final = 8


def rule_for(exception: type[BaseException]) -> Rule | None:
    """What the table says of a class of exceptions; `None` where it knows none of its bases."""
    for base in exception.__mro__:
        rule = _RULES.get(_name(base))
        if rule is not None:
            return rule
    return None


def failure_of(
    error: Exception, *, status: int = 0, request_id: str = "", scrub: Callable[[str], str] = str
) -> ClientError:
    """The `ClientError` for an exception of an HTTP library.

    Args:
        error: The exception. The caller raises the result ``from`` it.
        status: The answer's status, where its head had arrived.
        request_id: The vendor's id of the call, where it had arrived.
        scrub: Takes secrets out of a text: an exception may quote what the other side sent back.
    """
    chain = tuple(_chain(error))
    told = next((link for link in chain if _name(type(link)).startswith("aiohttp.")), None) or _unwrapped(chain)
    rule = rule_for(type(told)) or DEFECT
    if any(_says_head_too_large(link) for link in chain):
        rule = UNUSABLE
    scope: Blame = rule.scope
    if any(isinstance(link, OSError) and link.errno in _OUR_SIDE for link in chain):
        scope = "local"
    return ClientError(
        rule.code,
        scrub(_message(told, rule)),
        status=status,
        retryable=rule.retryable,
        scope=scope,
        # What was answered was sent, whatever the name of the exception.
        work="unknown" if status and rule.work == "not_sent" else rule.work,
        request_id=request_id,
    )


def _name(kind: type[BaseException]) -> str:
    library = kind.__module__.partition(".")[0]
    return f"{_SUCCESSORS.get(library, library)}.{kind.__name__}"


def _unwrapped(chain: tuple[BaseException, ...]) -> BaseException:
    return next((link for link in chain if _name(type(link)) not in _WRAPPERS), chain[0])


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if link is None:
            return
        yield link
        # The context may be the failure of an earlier try. httpcore's is the exception that it translated.
        translated = link.__context__ if _name(type(link)).startswith("httpcore.") else None
        link = link.__cause__ or translated


def _says_head_too_large(link: BaseException) -> bool:
    return _name(type(link)) in _HEAD_TOO_LARGE or getattr(link, "error_status_hint", 0) == _STATUS_OF_TOO_LARGE_HEAD


def _message(error: BaseException, rule: Rule) -> str:
    kind = type(error).__name__
    if rule is BAD_CALL or rule is DEFECT:
        return kind  # these quote what was to be sent, and a header may be a secret
    text = str(error)
    return f"{kind}: {text}" if text else kind
