"""Every exception that annpipes raises on purpose.

::

    AnnpipesError
    ├── ParameterError      (ValueError)         an argument has an invalid value
    ├── ParameterTypeError  (TypeError)          an argument has the wrong type
    ├── RowIndexError       (IndexError)         a row is outside 0 … n_obs-1
    ├── FieldError          (LookupError)        the data have no such field or column
    ├── SourceError         (FileNotFoundError)  there is no file with this name
    │   └── RemoteError     (ConnectionError)    a request failed, and so did every repetition of it
    ├── FormatError         (ValueError)         a file, or a field of it, cannot be read by rows
    ├── DamageError         (OSError)            the bytes of a file are inconsistent
    │   └── ChangedError    (RuntimeError)       the data have changed since they were first read
    ├── BusyError           (BlockingIOError)    another process has the file open for writing
    ├── PipelineError       (RuntimeError)       stages do not fit together
    ├── StateError          (ValueError)         a saved position belongs to other data or parameters
    ├── DiskSpaceError      (OSError)            the disk has too little space for the output
    ├── RankError           (RuntimeError)       ranks have different data or parameters
    └── WorkerError         (RuntimeError)       a worker process has died
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
    """The base of all errors that annpipes raises; catch it to catch them all."""

    remedy: str = ""
    """What to do about it, in one line, if there is such a line; the message has it, too."""

    def with_remedy(self, remedy: str) -> Self:
        """The same error with its `remedy`."""
        self.remedy = remedy
        return self


class ParameterError(AnnpipesError, ValueError):
    """An argument has an invalid value."""


class ParameterTypeError(AnnpipesError, TypeError):
    """An argument has the wrong type."""


class RowIndexError(AnnpipesError, IndexError):
    """A row is outside 0 … n_obs-1."""


class FieldError(AnnpipesError, LookupError):
    """The data have no such field or column."""


class SourceError(AnnpipesError, FileNotFoundError):
    """There is no file with this name."""


class RemoteError(SourceError, ConnectionError):
    """A request for remote bytes failed, even when repeated; the message names the address, the range and the cause."""


class FormatError(AnnpipesError, ValueError):
    """A file, or a field of it, cannot be read by rows."""


class DamageError(AnnpipesError, OSError):
    """The bytes of a file are inconsistent, or the file changed while in use."""

    reason: str = ""
    """What is wrong, without the place, if it was raised `at` a place."""

    @classmethod
    def at(cls, where: str, reason: str) -> Self:
        """The error that says where something is wrong, and what."""
        error = cls(f"{where}: {reason}")
        error.reason = reason
        return error


class ChangedError(DamageError, RuntimeError):
    """A file, or an AnnData in memory, has changed since a source was made from it."""


class BusyError(AnnpipesError, BlockingIOError):
    """Another process has the file open for writing."""


class PipelineError(AnnpipesError, RuntimeError):
    """Stages do not fit together."""


class StateError(AnnpipesError, ValueError):
    """A saved position belongs to other data or other parameters, or is corrupt."""


class DiskSpaceError(AnnpipesError, OSError):
    """The disk has too little space for the output."""


class RankError(AnnpipesError, RuntimeError):
    """The ranks of a job have different data or parameters."""


class WorkerError(AnnpipesError, RuntimeError):
    """A worker process has died."""
