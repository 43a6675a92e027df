"""Golden wire files: what a vendor publishes, and what it means in our values.

Each file names its ``page``, has the wire's form under ``request``, ``answer`` or ``events``, and under ``means`` the value:
``{"Text": {"text": "Hi."}}`` is ``Text(text="Hi.")``.
"""

import dataclasses
import json
from pathlib import Path

import pytest

from standby.clients import Usage, dialects

FOLDER = Path(__file__).parent / "golden"


def golden(vendor, kind):
    """The files of a vendor that have what ``kind`` says, as parameters of a test."""
    found = [(path.stem, json.loads(path.read_bytes())) for path in sorted((FOLDER / vendor).glob("*.json"))]
    return [pytest.param(content, id=name) for name, content in found if kind in content]


def meant(value):
    """The value that JSON stands for."""
    if isinstance(value, list):
        return tuple(meant(each) for each in value)
    if not isinstance(value, dict):
        return value
    [name] = value if len(value) == 1 else [""]
    if name[:1].isupper():
        kind = Usage if name == "Usage" else getattr(dialects, name)
        plain = {"parameters", "schema", "extra", "logit_bias", "metadata"} & {f.name for f in dataclasses.fields(kind)}
        return kind(**{key: each if key in plain else meant(each) for key, each in value[name].items()})
    return value
