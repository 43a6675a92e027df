"""A client whose provider is respx: no sockets here, both event loops."""

import httpx
import pytest
import respx
from pydantic import SecretStr

from standby.clients import OpenAIClient

pytest.register_assert_rewrite("tests.clients.openai_streams")

KEY = "sk-test-0123456789abcdef"
NOW = 1_700_000_000.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def provider():
    """The provider's side: what it answers."""
    return respx.MockRouter(base_url="https://provider.test/v1", assert_all_called=False)


@pytest.fixture
def client(provider):
    """A client of that provider, at a fixed time."""
    return OpenAIClient(
        api_key=SecretStr(KEY),
        base_url="https://provider.test/v1",
        http=httpx.MockTransport(provider.async_handler),
        clock=lambda: NOW,
    )
