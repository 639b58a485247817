"""Many files as one source of rows."""

from annpipes._store import Collection

__all__ = ["Collection"]
