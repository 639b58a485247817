"""Classes of pandas as annotations name them.

Only in the stubs of pandas are they generic: an annotation ``pd.Series[Any]`` means something to type checkers, but
`typing.get_type_hints` could not evaluate it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

__all__ = ["AnyIndex", "AnySeries"]

if TYPE_CHECKING:
    AnyIndex: TypeAlias = pd.Index[Any]
    AnySeries: TypeAlias = pd.Series[Any]
else:
    AnyIndex, AnySeries = pd.Index, pd.Series
