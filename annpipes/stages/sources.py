"""Which rows there are, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annpipes.messages.brevity import brief_named
from annpipes.messages.showing import Labelled, Part, Title
from annpipes.plans.order import InOrder
from annpipes.plans.rows import as_count, brief_rows
from annpipes.stages.origins import Source
from annpipes.stores import Cache, Store, as_cache, open_store

__all__ = ["IndexSource"]


class IndexSource(Source):
    """The rows of some data, in blocks of consecutive rows.

    >>> source = IndexSource("pbmc.h5ad", rows=range(5), block_size=2)
    >>> [block.tolist() for block in source]
    [[0, 1], [2, 3], [4]]

    Parameters
    ----------
    data
        The path of an ``.h5ad`` file or a Zarr store, or an `anndata.AnnData` in memory (or a view of it) or backed.
        Or several: a list of these, a pattern such as ``"atlas/*.h5ad"``, or a `Collection`; rows are in sequence.
    rows
        Which rows: positions, a boolean mask of length ``n_obs``, a list of obs names, or an
        expression over obs columns such as ``"cell_type == 'B' and n_genes > 500"``, which chooses the same rows as
        `pandas.DataFrame.query`. A mask that is a Series with obs names as its index is aligned by these names.
        Order and duplicates are kept. All rows when None.
    block_size
        How many rows stay together in a shuffle. Smaller blocks mix better, larger ones read faster. When
        None, it follows from how X is stored: few rows where any row can be read singly,
        whole storage chunks where they must be decoded; the repr shows the number and
        ``block_reason`` says why.
    cache
        A `Cache`, or the path of its folder: decoded storage chunks are kept there, and later epochs
        read them like an uncompressed file. An AnnData in memory needs no decoding, so nothing is kept for it.

    Raises
    ------
    SourceError, FormatError
        There is no such file, or it cannot be read by rows.
    RowIndexError, ParameterError, ParameterTypeError
        ``rows`` or ``block_size`` is invalid.
    """

    def __init__(self, data: Any, rows: Any = None, block_size: int | None = None, cache: Any = None) -> None:
        self.cache: Cache | None = as_cache(cache)
        self.store: Store = open_store(data, self.cache)
        chosen = self.store.rows(rows)
        size, reason = self.store.block_advice() if block_size is None else (block_size, "as given")
        self.block_size: int = as_count(size, "block_size")
        self.block_reason: str = reason
        self.plan: InOrder = InOrder(chosen, self.block_size)

    def __len__(self) -> int:
        """How many blocks."""
        return self.plan.n_blocks

    def _shown(self) -> Sequence[Part]:
        n_rows, store = self.plan.n_rows, self.store
        some = "" if n_rows == store.n_obs else f" (of {store.n_obs:,})"
        return [
            Title(f"{type(self).__name__}: {n_rows:,} rows{some} × {store.n_vars:,} genes"),
            Labelled(
                [
                    ("data", repr(store)),
                    ("blocks", f"{len(self):,} of {self.block_size:,} rows: {self.block_reason}"),
                    ("fields", brief_named(store.fields)),
                ]
            ),
        ]

    def __repr__(self) -> str:
        chosen = self.plan.row_set
        whole = isinstance(chosen, range) and len(chosen) == self.store.n_obs
        rows = "" if whole else f", rows={brief_rows(chosen)}"
        cache = "" if self.cache is None else f", cache={self.cache!r}"
        return f"IndexSource({self.store!r}{rows}, block_size={self.block_size}{cache})"
