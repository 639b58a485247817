"""Every exception that annpipes raises on purpose.

::

    AnnpipesError
    ├── ParameterError      (ValueError)         an argument has a value that cannot work
    ├── ParameterTypeError  (TypeError)          an argument has the wrong type
    ├── RowIndexError       (IndexError)         a row outside 0 … n_obs-1
    ├── FieldError          (LookupError)        a field or column that the data does not have
    ├── SourceError         (FileNotFoundError)  no file where one was named
    ├── FormatError         (ValueError)         a file, or a field of it, that cannot be read by rows
    ├── DamageError         (OSError)            a file whose bytes contradict themselves
    └── PipelineError       (RuntimeError)       stages that do not fit together
"""

from __future__ import annotations

__all__ = [
    "AnnpipesError",
    "DamageError",
    "FieldError",
    "FormatError",
    "ParameterError",
    "ParameterTypeError",
    "PipelineError",
    "RowIndexError",
    "SourceError",
]


class AnnpipesError(Exception):
    """Anything that annpipes refuses; catch this to catch them all."""


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


class FormatError(AnnpipesError, ValueError):
    """A file, or a field of it, that cannot be read by rows."""


class DamageError(AnnpipesError, OSError):
    """A file whose bytes contradict themselves, or that changed while in use."""


class PipelineError(AnnpipesError, RuntimeError):
    """Stages that do not fit together."""
