"""Every exception that annpipes raises on purpose.

::

    AnnpipesError
    ├── ParameterError      (ValueError)         an argument has a value that cannot work
    ├── ParameterTypeError  (TypeError)          an argument has the wrong type
    ├── RowIndexError       (IndexError)         a row outside 0 … n_obs-1
    ├── FieldError          (LookupError)        a field or column that the data does not have
    ├── SourceError         (FileNotFoundError)  no file where one was named
    │   └── RemoteError     (ConnectionError)    a request that failed, and again each time that it was repeated
    ├── FormatError         (ValueError)         a file, or a field of it, that cannot be read by rows
    ├── DamageError         (OSError)            a file whose bytes contradict themselves
    │   └── ChangedError    (RuntimeError)       data that is no longer what it was when it was first seen
    ├── BusyError           (BlockingIOError)    a file that another process has open for writing
    ├── PipelineError       (RuntimeError)       stages that do not fit together
    ├── StateError          (ValueError)         a saved position that belongs to something else
    ├── DiskSpaceError      (OSError)            too little room for what is to be written
    ├── RankError           (RuntimeError)       ranks that were not given the same
    └── WorkerError         (RuntimeError)       a worker process that is gone
"""

from __future__ import annotations

from typing import Self

__all__ = [
    "AnnpipesError",
    "BusyError",
    "ChangedError",
    "DamageError",
    "DiskSpaceError",
    "FieldError",
    "FormatError",
    "ParameterError",
    "ParameterTypeError",
    "PipelineError",
    "RankError",
    "RemoteError",
    "RowIndexError",
    "SourceError",
    "StateError",
    "WorkerError",
]


class AnnpipesError(Exception):
    """Anything that annpipes refuses; catch this to catch them all."""

    remedy: str = ""
    """What to do about it, in a line by itself, where that can be said so; the message has it as well."""

    def with_remedy(self, remedy: str) -> Self:
        """The same error with its `remedy`."""
        self.remedy = remedy
        return self


class ParameterError(AnnpipesError, ValueError):
    """An argument has a value that cannot work."""


class ParameterTypeError(AnnpipesError, TypeError):
    """An argument has the wrong type."""


class RowIndexError(AnnpipesError, IndexError):
    """A row outside 0 … n_obs-1."""


class FieldError(AnnpipesError, LookupError):
    """A field or column that the data does not have."""


class SourceError(AnnpipesError, FileNotFoundError):
    """No file where one was named."""


class RemoteError(SourceError, ConnectionError):
    """A request for remote bytes that failed for good: the message names the address, the range and the cause."""


class FormatError(AnnpipesError, ValueError):
    """A file, or a field of it, that cannot be read by rows."""


class DamageError(AnnpipesError, OSError):
    """A file whose bytes contradict themselves, or that changed while in use."""

    reason: str = ""
    """What is wrong, without where, if it was raised `at` a place."""

    @classmethod
    def at(cls, where: str, reason: str) -> Self:
        """The error that says where something is wrong, and what."""
        error = cls(f"{where}: {reason}")
        error.reason = reason
        return error


class ChangedError(DamageError, RuntimeError):
    """A file, or an AnnData in memory, that is no longer what it was when a source was made of it."""


class BusyError(AnnpipesError, BlockingIOError):
    """A file that another process has open for writing."""


class PipelineError(AnnpipesError, RuntimeError):
    """Stages that do not fit together."""


class StateError(AnnpipesError, ValueError):
    """A saved position that belongs to other data or other parameters."""


class DiskSpaceError(AnnpipesError, OSError):
    """Too little room on the disk for what is to be written."""


class RankError(AnnpipesError, RuntimeError):
    """Ranks of one job that were not given the same data and parameters."""


class WorkerError(AnnpipesError, RuntimeError):
    """A worker process that is gone."""
