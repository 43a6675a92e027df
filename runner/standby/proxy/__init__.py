"""A thin HTTP server over the runner: `create_app` makes it, `serve` runs it, `supervise` runs it in several processes.

Whoever runs it otherwise than from a configuration file takes the parts of `serve`: `bound_socket` and `run_server`.
"""

from ._admin import Tools
from ._app import create_app
from ._serve import CannotListen, address_of, bound_socket, run_server, serve
from ._worker import Orphan, Parent, work
from ._workers import CannotStart, supervise

__all__ = [
    "CannotListen",
    "CannotStart",
    "Orphan",
    "Parent",
    "Tools",
    "address_of",
    "bound_socket",
    "create_app",
    "run_server",
    "serve",
    "supervise",
    "work",
]
