"""The store that outlives its process: `open_sql` keeps catalog, run-time state and history in SQLite or PostgreSQL.

It needs the extra ``standby[sql]``, and is therefore not imported by `standby.store`.
"""

from importlib.util import find_spec

from ._errors import MissingExtra, StoreError

# Asked here, all at once, because SQLAlchemy would miss its driver and its greenlets only when a file is opened.
_missing = [name for name in ("sqlalchemy", "greenlet", "aiosqlite", "alembic", "tenacity") if find_spec(name) is None]
if _missing:
    raise MissingExtra(f"an SQL store needs {', '.join(_missing)}: install standby[sql]")

from ._sql import SqlOptions, SqlStore, open_sql  # noqa: E402
from ._sql_catalog import SqlCatalog  # noqa: E402
from ._sql_history import SqlHistory  # noqa: E402
from ._sql_schema import NEWEST as SCHEMA  # noqa: E402
from ._sql_state import SqlState  # noqa: E402

__all__ = [
    "SCHEMA",
    "open_sql",
    "SqlStore",
    "SqlOptions",
    "SqlCatalog",
    "SqlState",
    "SqlHistory",
    "StoreError",
    "MissingExtra",
]
