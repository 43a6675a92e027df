"""How to talk to a provider: the client protocol, its values, and the clients that come with Standby."""

from ._body import Body, InvalidBody
from ._errors import Blame, ClientError, Work
from ._protocols import ProviderClient, Request, Response, Usage

__all__ = ["Blame", "Body", "ClientError", "InvalidBody", "ProviderClient", "Request", "Response", "Usage", "Work"]
