"""Every exception of the HTTP libraries means something: none is left to chance."""

import errno
import inspect
import socket
import ssl
import zlib

import aiohttp
import anthropic
import anyio
import h11
import httpcore
import httpcore2
import httpx
import httpx2
import openai
import pytest
from aiohttp import client_exceptions, http_exceptions
from httpx_aiohttp.transport import map_aiohttp_exceptions

from standby.clients import ClientError, HttpPool
from standby.clients._exceptions import failure_of, rule_for
from standby.clients._http import seal


def exceptions_of(*namespaces):
    found = {
        value
        for namespace in namespaces
        for value in tuple(vars(namespace).values())
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def family_of(*roots):
    found = set(roots)
    for kind in found.copy():
        found |= family_of(*kind.__subclasses__()) if kind.__subclasses__() else set()
    return found


SDK_ERRORS = (openai.OpenAIError, anthropic.AnthropicError)
"""What their clients raise of a call; beside these they have one for a webhook that is not genuine."""

EVERY = [
    *exceptions_of(httpx, httpcore, httpx2, httpcore2),
    *(kind for kind in exceptions_of(openai, anthropic) if issubclass(kind, SDK_ERRORS)),
    *exceptions_of(client_exceptions, http_exceptions),
    *(h11.ProtocolError, h11.LocalProtocolError, h11.RemoteProtocolError),
    *(ssl.SSLError, ssl.SSLCertVerificationError, ssl.SSLEOFError, ssl.SSLZeroReturnError),
    *(OSError, ConnectionResetError, ConnectionRefusedError, BrokenPipeError, TimeoutError, socket.gaierror),
    *(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.ConnectionFailed),
    *(EOFError, zlib.error),
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_is_classified(kind):
    """The table knows every class of the libraries, and what it says is in the contract."""
    rule = rule_for(kind)
    assert rule is not None
    assert rule.code in {
        *("network", "timeout", "pool_timeout", "invalid_request", "invalid_response", "client_error"),
        "auth_failed",
    }


def test_the_walk_is_complete():
    """The list above has every class that the libraries' base classes have below them."""
    roots = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, http_exceptions.HttpProcessingError)
    roots += (httpx2.HTTPError, httpx2.StreamError, *SDK_ERRORS)
    families = {"httpx", "httpx2", "aiohttp", "openai", "anthropic"}
    ours = {kind for kind in family_of(*roots) if kind.__module__.partition(".")[0] in families}
    elsewhere = {kind for kind in ours if kind.__module__ not in {"httpx", "httpx2", *(m.__name__ for m in MODULES)}}
    assert ours - elsewhere <= set(EVERY)
    assert all(rule_for(kind) is not None for kind in elsewhere)


MODULES = (client_exceptions, http_exceptions)
SENT = httpx2.Request("POST", "https://provider.test/v1/x")


@pytest.mark.parametrize(
    ("error", "code", "work", "retryable", "scope"),
    [
        (httpx.ConnectError("refused"), "network", "not_sent", True, "candidate"),
        (httpx.ProxyError("no"), "network", "not_sent", True, "candidate"),
        (httpx.ConnectTimeout(""), "timeout", "not_sent", True, "candidate"),
        (httpx.ReadTimeout(""), "timeout", "unknown", True, "candidate"),
        (httpx.WriteTimeout(""), "timeout", "unknown", True, "candidate"),
        (httpx.PoolTimeout(""), "pool_timeout", "not_sent", True, "local"),
        (httpx.ReadError(""), "network", "unknown", True, "candidate"),
        (httpx.WriteError(""), "network", "unknown", True, "candidate"),
        (httpx.CloseError(""), "network", "unknown", True, "candidate"),
        (httpx.RemoteProtocolError("cut"), "network", "unknown", True, "candidate"),
        (httpx.DecodingError("cut"), "network", "unknown", True, "candidate"),
        (httpx.LocalProtocolError("bad"), "invalid_request", "not_sent", False, "request"),
        (httpx.UnsupportedProtocol("ftp"), "invalid_request", "not_sent", False, "request"),
        (httpx.InvalidURL("bad"), "invalid_request", "not_sent", False, "request"),
        (httpx.TooManyRedirects("many"), "invalid_response", "rejected", False, "candidate"),
        (httpx.StreamClosed(), "client_error", "unknown", False, "local"),
        (httpx2.ConnectError("refused"), "network", "not_sent", True, "candidate"),
        (httpx2.ReadTimeout(""), "timeout", "unknown", True, "candidate"),
        (httpx2.PoolTimeout(""), "pool_timeout", "not_sent", True, "local"),
        (httpx2.LocalProtocolError("bad"), "invalid_request", "not_sent", False, "request"),
        (httpcore2.ConnectTimeout(""), "timeout", "not_sent", True, "candidate"),
        (openai.APIConnectionError(request=SENT), "network", "unknown", True, "candidate"),
        (openai.APITimeoutError(request=SENT), "timeout", "unknown", True, "candidate"),
        (openai.OpenAIError("no key"), "auth_failed", "not_sent", False, "credential"),
        (anthropic.APIConnectionError(request=SENT), "network", "unknown", True, "candidate"),
        (anthropic.APITimeoutError(request=SENT), "timeout", "unknown", True, "candidate"),
        (anthropic.AnthropicError("no key"), "auth_failed", "not_sent", False, "credential"),
        (aiohttp.ServerDisconnectedError(), "network", "unknown", True, "candidate"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), "network", "unknown", True, "candidate"),
        (aiohttp.ClientPayloadError("cut"), "network", "unknown", True, "candidate"),
        (aiohttp.ConnectionTimeoutError(), "timeout", "not_sent", True, "candidate"),
        (aiohttp.SocketTimeoutError(), "timeout", "unknown", True, "candidate"),
        (aiohttp.InvalidURL("bad"), "invalid_request", "not_sent", False, "request"),
        (ConnectionRefusedError(), "network", "not_sent", True, "candidate"),
        (ConnectionResetError(), "network", "unknown", True, "candidate"),
        (socket.gaierror(-2, "unknown name"), "network", "not_sent", True, "candidate"),
        (ssl.SSLCertVerificationError("expired"), "network", "not_sent", True, "candidate"),
        (TimeoutError(), "timeout", "unknown", True, "candidate"),
        (zlib.error("bad"), "network", "unknown", True, "candidate"),
        (OSError(errno.EMFILE, "too many open files"), "network", "unknown", True, "local"),
        (KeyError("never seen"), "client_error", "unknown", False, "local"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_it_means(error, code, work, retryable, scope):
    """Each means what the contract says; what nobody has seen yet is our own defect, and not tried again."""
    failure = failure_of(error)
    assert (failure.code, failure.work, failure.retryable, failure.scope) == (code, work, retryable, scope)
    assert failure.status == 0


def test_answer_begun():
    """Once the head of an answer is there the request was sent, and the answer's status is told."""
    failure = failure_of(httpx.ConnectError("?"), status=200, request_id="req_1")
    assert (failure.status, failure.work, failure.request_id) == (200, "unknown", "req_1")


@pytest.mark.parametrize(
    ("error", "code", "work"),
    [
        (aiohttp.ServerDisconnectedError(), "network", "unknown"),
        (aiohttp.ClientOSError(errno.EPIPE, "broken pipe"), "network", "unknown"),
        (aiohttp.ConnectionTimeoutError(), "timeout", "not_sent"),
        (aiohttp.SocketTimeoutError(), "timeout", "unknown"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_translated_on_the_way(error, code, work):
    """httpx-aiohttp calls a disconnect a connect timeout: the original exception decides."""
    with pytest.raises(httpx.HTTPError) as caught, map_aiohttp_exceptions():
        raise error
    failure = failure_of(caught.value)
    assert (failure.code, failure.work) == (code, work)


@pytest.mark.parametrize("sdk", [openai, anthropic], ids=lambda sdk: sdk.__name__)
@pytest.mark.parametrize(
    ("cause", "code", "work", "scope"),
    [
        (httpx.ConnectError("refused"), "network", "not_sent", "candidate"),
        (httpx2.ConnectError("refused"), "network", "not_sent", "candidate"),
        (httpx2.ReadError("reset"), "network", "unknown", "candidate"),
        (httpx2.UnsupportedProtocol("ftp"), "invalid_request", "not_sent", "request"),
        (anyio.EndOfStream(), "network", "unknown", "candidate"),
        (KeyError("never seen"), "client_error", "unknown", "local"),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}" if isinstance(value, Exception) else None,
)
def test_wrapped_by_an_sdk(sdk, cause, code, work, scope):
    """The vendors' SDKs call everything a connection error: the original decides, of either httpx."""
    error = sdk.APIConnectionError(request=SENT)
    error.__cause__ = cause
    failure = failure_of(error)
    assert (failure.code, failure.work, failure.scope) == (code, work, scope)


@pytest.mark.parametrize("sdk", [openai, anthropic], ids=lambda sdk: sdk.__name__)
def test_wrapped_by_an_sdk__timeout(sdk):
    """Which timeout it was decides whether the request was sent."""
    error = sdk.APITimeoutError(request=SENT)
    error.__cause__ = httpx2.ConnectTimeout("")
    assert (failure_of(error).code, failure_of(error).work) == ("timeout", "not_sent")


def test_earlier_failure_is_no_cause():
    """An exception that was only being handled at the time says nothing about this one."""
    error = httpx.ConnectError("refused")
    error.__context__ = aiohttp.ServerTimeoutError()
    assert failure_of(error).code == "network"


def test_head_too_large():
    """A head too large for the library is an answer that cannot be used, as it is where we count ourselves."""
    error = httpx.RemoteProtocolError("Receive buffer too long")
    error.__cause__ = h11.RemoteProtocolError("Receive buffer too long", error_status_hint=431)
    assert failure_of(error).code == "invalid_response"


@pytest.mark.parametrize(("above", "below"), [(httpx, httpcore), (httpx2, httpcore2)], ids=["httpx", "httpx2"])
def test_head_too_large__httpcore(above, below):
    """The cause is forgotten when httpcore's pool raises an exception again; its context has it."""
    translated = below.RemoteProtocolError("Receive buffer too long")
    translated.__context__ = h11.RemoteProtocolError("Receive buffer too long", error_status_hint=431)
    error = above.RemoteProtocolError("Receive buffer too long")
    error.__cause__ = translated
    assert failure_of(error).code == "invalid_response"


def test_no_secret_in_the_message():
    """Libraries quote the header that they cannot send; we do not quote them."""
    failure = failure_of(httpx.LocalProtocolError("Illegal header value b'Bearer hunter2-hunter2'"))
    assert "hunter2" not in f"{failure} {failure!r}"


class Raising(httpx.AsyncBaseTransport):
    def __init__(self, error):
        self.error = error

    async def handle_async_request(self, request):
        raise self.error


@pytest.mark.anyio
async def test_cause_is_kept():
    """The library's own exception is the cause of ours."""
    original = httpx.ReadError("reset")
    async with HttpPool(Raising(original)) as pool:
        with pytest.raises(ClientError) as caught:
            await pool.call("POST", "http://provider.test/", seal({}))
    assert caught.value.__cause__ is original


@pytest.mark.anyio
async def test_cancellation_is_not_swallowed(anyio_backend):
    """To be cancelled is no failure: it goes through, and the place is given back."""

    class Waiting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            started.set()
            await anyio.sleep_forever()

    started = anyio.Event()
    outcomes = []
    async with HttpPool(Waiting(), max_connections=1) as pool:

        async def call():
            try:
                await pool.call("POST", "http://provider.test/", seal({}))
            except BaseException as error:
                outcomes.append(error)
                raise

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await started.wait()
            assert pool.in_use == 1
            tasks.cancel_scope.cancel()
        assert pool.in_use == 0
    assert isinstance(outcomes[0], anyio.get_cancelled_exc_class())
