"""Some genes of dense rows: storage chunks in which none of them lies are neither read nor decoded."""

from __future__ import annotations

import numpy as np

from annpipes.stores.engine.elements import Dataset, Direct
from annpipes.stores.genes import Genes

__all__ = ["narrowed"]


def narrowed(values: Dataset, genes: Genes) -> tuple[Dataset, Genes] | None:
    """The columns of storage chunks in which some genes lie, as an array, and the genes in that.

    None where they lie in all of them; and of what a cache keeps, for it keeps all.
    """
    if type(values) is not Direct or len(values.shape) != 2 or 0 in values.shape:
        return None
    width, there = values.layout.chunk_shape[1], genes.positions >= 0
    columns = np.unique(genes.positions[there] // width)
    if not len(columns) or len(columns) == -(-values.shape[1] // width):
        return None
    places = np.searchsorted(columns, genes.positions // width) * width + genes.positions % width
    layout = values.layout.narrowed(columns)
    some = Genes.of(np.where(there, places, -1), layout.shape[1], genes.names, raw=genes.raw)
    return Direct(values.origin, layout), some
