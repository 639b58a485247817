"""Many files as one source of rows."""

from annpipes.stores import Collection

__all__ = ["Collection"]
