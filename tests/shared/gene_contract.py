"""What every store must do with a list of genes of which it has some; the oracle is `pandas.DataFrame.reindex`."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import dense
from numpy.typing import NDArray

from annpipes import Chunk
from annpipes.errors import FieldError
from annpipes.stores import Matching, Store

__all__ = ["GeneContract", "reindexed"]

DRAWN = np.array([5, 28, 0, 5, 7, 12])


def reindexed(matrix: Any, names: Any, genes: list[str]) -> NDArray[Any]:
    """A matrix in the columns asked for, zeros where it has none."""
    return pd.DataFrame(dense(matrix), columns=list(names)).reindex(columns=genes, fill_value=0).to_numpy()


class GeneContract:
    """A test class brings the fixtures ``store`` and ``adata``, as for a `StoreContract`."""

    def test_genes_that_it_lacks_are_zeros(self, store: Store, adata: anndata.AnnData) -> None:
        names = adata.var_names.astype(str)
        genes = ["not there", names[1], names[2], "nor this", names[0]]
        chosen = store.genes(genes, Matching(missing="fill"))
        layers = {f"layers/{key}": values for key, values in adata.layers.items() if key is not None}
        read = store.read(Chunk.of(DRAWN), ["X", *layers], chosen)
        for field, values in {"X": adata.X, **layers}.items():
            found = read[field.replace("/", "_")]
            assert found.shape == (len(DRAWN), 5)
            np.testing.assert_array_equal(dense(found), reindexed(dense(values)[DRAWN], names, genes), err_msg=field)
        found = store.found_genes(chosen)
        assert (found.asked, found.found, found.missing) == (5, 3, ("not there", "nor this"))
        assert sorted(file for file, _ in found.files) == sorted(store.files)

    def test_genes_of_raw_are_looked_up_there(self, store: Store, adata: anndata.AnnData) -> None:
        names = adata.raw.var_names.astype(str)
        genes = [names[14], "not there", names[2]]  # raw has four more than var
        chosen = store.genes(genes, Matching(missing="fill"), raw=True)
        found = store.read(Chunk.of(DRAWN), ["raw/X"], chosen)["raw_X"]
        np.testing.assert_array_equal(dense(found), reindexed(dense(adata.raw.X)[DRAWN], names, genes))

    def test_a_list_of_other_genes_is_no_list_of_its_genes(self, store: Store) -> None:
        with pytest.raises(FieldError, match=r"no gene 'a' in .* \(2 of 2 unknown\)"):
            store.genes(["a", "b"], Matching(missing="fill"))
