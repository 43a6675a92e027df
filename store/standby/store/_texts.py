"""Texts that operators write and that must be of one form: names, addresses, header lines, keys.

Whatever would only fail when the first call is made (a line break in a key, an address without a host) is refused here,
when the text is read. No message repeats the text: some of these are secrets.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

ID_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,128}$"
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_PASSWORD: Final = re.compile(r"(?<=://)([^/@:]*:).*(?=@)|([?&][^=&]*password=)[^&]*")
_KEY: Final = re.compile(r"[\x21-\x7e]+")


def _ruled(holds: Callable[[str], bool], allowed: str) -> AfterValidator:
    def check(written: str) -> str:
        if not holds(written):
            raise PydanticCustomError("ill_formed", "must be {allowed}", {"allowed": allowed})
        return written

    return AfterValidator(check)


def _ruled_secret(holds: Callable[[str], bool], allowed: str) -> AfterValidator:
    def check(written: SecretStr) -> SecretStr:
        if not holds(written.get_secret_value()):
            raise PydanticCustomError("ill_formed", "must be {allowed}", {"allowed": allowed})
        return written

    return AfterValidator(check)


def _is_name(written: str) -> bool:
    return 0 < len(written) <= 256 and written == written.strip() and written.isprintable()


def is_http_address(written: str) -> bool:
    """Whether it is an address to add a path to: no user, no question, a port that there is."""
    if not written.isprintable() or set(written) & set(" ?#\\"):
        return False
    try:
        parts = urlsplit(written)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and not parts.netloc.endswith(":")
            and parts.port != 0
        )
    except ValueError:  # a port that is no number, a half-written IPv6 address
        return False


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's loopback."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class StoreUrl(str):
    """The address of a store, which may hold a password: it can be used, and not be seen."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.hidden)

    @property
    def hidden(self) -> str:
        """It without the password, for people."""
        return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", self)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(str))


Id = Annotated[str, _ruled(lambda text: bool(re.match(ID_PATTERN, text)), f"a name that matches {ID_PATTERN}")]
"""A name that is also used inside headers, records and domains."""

Name = Annotated[str, _ruled(_is_name, "1 to 256 printable characters with no space at either end")]

HttpAddress = Annotated[
    str,
    _ruled(is_http_address, "http://HOST or https://HOST with a port and a path if need be, without user, ? and #"),
    Field(json_schema_extra={"pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"}),
]

HeaderName = Annotated[str, _ruled(lambda text: bool(HEADER_NAME.fullmatch(text)), "the name of an HTTP header")]

HeaderValue = Annotated[
    SecretStr,
    _ruled_secret(lambda text: bool(_HEADER_VALUE.fullmatch(text)), "printable ASCII text on one line"),
]

Key = Annotated[
    SecretStr, _ruled_secret(lambda text: bool(_KEY.fullmatch(text)), "printable ASCII text, not empty, without spaces")
]
"""A secret that is sent, or compared with what is sent, in one header."""
