"""A thin HTTP server over the runner: `create_app` makes it, `serve` runs it."""

from ._admin import Tools
from ._app import create_app
from ._serve import CannotListen, serve

__all__ = ["CannotListen", "Tools", "create_app", "serve"]
