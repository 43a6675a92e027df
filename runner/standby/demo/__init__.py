"""The demonstration: providers that fail, on real sockets, and a gateway that keeps answering."""

from ._main import run_demo

__all__ = ["run_demo"]
