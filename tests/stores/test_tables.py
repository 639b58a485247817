"""Tables and matrices as anndata has written them since version 0.5; the oracle is anndata reading the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from builders import dense, expected_column, tiny, write
from contracts import chunk_of
from scipy import sparse
from table_files import (
    DRAWN,
    modern,  # noqa: F401 (fixtures)
    modern_obs,
)

from annpipes import AnnDataset, IndexSource, stream
from annpipes.errors import FieldError, FormatError
from annpipes.stores import open_store


@pytest.mark.parametrize("column", list(modern_obs()))
class TestColumnsOfToday:
    def test_it_is_encoded_as_its_name_says(self, modern: Path, column: str) -> None:
        with h5py.File(modern) as file:
            found, named = file["obs"][column].attrs["encoding-type"], column.split()[0]
            assert found == named or (named, found) == ("string-array", "nullable-string-array")  # with pandas 3

    def test_values(self, modern: Path, column: str) -> None:
        expected = expected_column(anndata.read_h5ad(modern).obs[column])[DRAWN]
        for source in (modern, anndata.read_h5ad(modern)):
            read = open_store(source).read(chunk_of(DRAWN), [f"obs/{column}"])[f"obs_{column}"]
            np.testing.assert_array_equal(read, expected)
            assert read.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")

    def test_codes(self, modern: Path, column: str) -> None:
        for source in (modern, anndata.read_h5ad(modern)):
            store = open_store(source)
            values = anndata.read_h5ad(modern).obs[column]
            if pd.api.types.is_float_dtype(values.dtype):
                with pytest.raises(FieldError, match=f"obs column '{column}' holds numbers"):
                    store.check([f"obs/{column}:code"])
                continue
            if isinstance(values.dtype, np.dtype) and not values.dtype.isnative:  # which pandas does not factorize
                values = values.astype(values.dtype.newbyteorder("="))
            labels = pd.Categorical(values)
            numbers = pd.api.types.is_numeric_dtype(values.dtype)
            assert store.categories(column) == tuple(map(int if numbers else str, labels.categories))
            codes = store.read(chunk_of(DRAWN), [f"obs/{column}:code"])[f"obs_{column}"]
            assert codes.tolist() == labels.codes[DRAWN].tolist()

    def test_as_a_tensor_or_a_list(self, modern: Path, column: str) -> None:
        values = expected_column(anndata.read_h5ad(modern).obs[column])
        (batch,) = stream(modern, 7, fields=[f"obs/{column}", "rows"])
        if values.dtype == object:
            assert batch[f"obs_{column}"] == values[batch["rows"].numpy()].tolist()
        else:
            assert torch.is_tensor(batch[f"obs_{column}"])
            np.testing.assert_array_equal(batch[f"obs_{column}"], values[batch["rows"].numpy()])


class TestMatricesOfToday:
    @pytest.mark.parametrize("kind", ["bool", "float16", "float32", "float64", "int8", "int64", "uint16", ">f4"])
    def test_dense_matrices_keep_their_type_until_they_are_tensors(self, tmp_path: Path, kind: str) -> None:
        adata = tiny(7)
        adata.obsm["m"] = (np.arange(14).reshape(7, 2) % 5).astype(kind)
        adata.layers["m"] = (np.arange(21).reshape(7, 3) % 3).astype(kind)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            read = open_store(source).read(chunk_of(DRAWN), ["obsm/m", "layers/m"])
            for group in ("obsm", "layers"):
                values = getattr(adata, group)["m"][DRAWN]
                np.testing.assert_array_equal(read[f"{group}_m"], values)
                assert read[f"{group}_m"].dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
            (batch,) = stream(source, 7, fields=["obsm/m", "rows"])
            assert batch["obsm_m"].dtype == torch.float32
            np.testing.assert_array_equal(batch["obsm_m"], adata.obsm["m"][batch["rows"].numpy()].astype(np.float32))

    @pytest.mark.parametrize("maker", [sparse.csr_matrix, sparse.csr_array])
    def test_sparse_obsm(self, tmp_path: Path, maker: Any) -> None:
        adata = tiny(7)
        adata.obsm["near"] = maker(sparse.random(7, 9, 0.3, "csr", random_state=np.random.default_rng(0)))
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            store = open_store(source)
            read = store.read(chunk_of(DRAWN), ["obsm/near"])["obsm_near"]
            np.testing.assert_array_equal(dense(read), dense(adata.obsm["near"])[DRAWN])
            some = store.read(chunk_of(DRAWN), ["obsm/near", "X"], store.genes([1]))
            np.testing.assert_array_equal(dense(some["obsm_near"]), dense(adata.obsm["near"])[DRAWN])
            (batch,) = stream(source, 7, fields=["obsm/near", "rows"])
            expected = dense(adata.obsm["near"])[batch["rows"].numpy()].astype(np.float32)
            np.testing.assert_array_equal(batch["obsm_near"], expected)

    @pytest.mark.parametrize(
        "columns",
        [
            {"a": range(7)},
            {"a": range(7), "b": np.arange(7, dtype=np.float32)},
            {"a": np.arange(7, dtype=np.float32), "b": np.arange(7, dtype=np.float32) / 3},
            {"flag": [True, False] * 3 + [True]},
            {"flag": [True, False] * 3 + [True], "n": range(7)},
            {"n": pd.array([1, None, 3, 4, 5, None, 7], "Int32")},
            {"n": pd.array(range(7), "Int32"), "flag": pd.array([True, None] * 3 + [True], "boolean")},
            {},
        ],
        ids=lambda columns: ", ".join(columns) or "no columns",
    )
    def test_a_table_of_numbers_in_obsm(self, tmp_path: Path, columns: dict[str, Any]) -> None:
        adata = tiny(7)
        adata.obsm["table"] = pd.DataFrame(columns, index=adata.obs_names)
        expected = np.zeros((7, len(columns)))
        for number, column in enumerate(adata.obsm["table"]):
            expected[:, number] = adata.obsm["table"][column].to_numpy(np.float64, na_value=np.nan)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            read = open_store(source).read(chunk_of(DRAWN), ["obsm/table"])["obsm_table"]
            assert read.dtype.kind in "biuf"
            np.testing.assert_array_equal(read.astype(np.float64), expected[DRAWN])
            (batch,) = stream(source, 7, fields=["obsm/table", "rows"])
            np.testing.assert_array_equal(batch["obsm_table"], expected[batch["rows"].numpy()].astype(np.float32))

    @pytest.mark.parametrize(
        "words", [list("abcdefg"), pd.Categorical(list("abababa")), pd.Categorical([1, 2, 1, 2, 1, 2, 1])]
    )
    def test_a_table_of_other_things_in_obsm_is_refused_with_the_remedy(self, tmp_path: Path, words: Any) -> None:
        adata = tiny(7)
        adata.obsm["table"] = pd.DataFrame({"n": range(7), "words": words}, index=adata.obs_names)
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            for use in (stream, AnnDataset):
                with pytest.raises(FormatError, match=r"obsm/table of .* column 'words' holds .*copy it to obs"):
                    use(source, fields=["obsm/table"])
            assert len(list(stream(source, fields=["X"]))) == 1  # the rest stays usable

    @pytest.mark.parametrize("place", ["layers/m", "obsm/m"])
    def test_columns_on_disk_are_refused_with_the_remedy(self, tmp_path: Path, place: str) -> None:
        adata = tiny(7)
        getattr(adata, place.split("/")[0])["m"] = sparse.csc_matrix(np.eye(7, 3, dtype=np.float32))
        path = write(adata, tmp_path / "cells.h5ad")
        reached = f"adata.{place.split('/')[0]}['m']"
        for use in (stream, AnnDataset, lambda data, fields: IndexSource(data).sort_within_chunks(2).read_rows(fields)):
            with pytest.raises(FormatError, match=f"{place} of .* by columns") as refusal:
                use(path, fields=[place])
            assert f"{reached} = {reached}.tocsr()" in str(refusal.value)

    def test_an_array_of_lists_of_any_length_is_refused(self, tmp_path: Path) -> None:
        """As anndata writes an awkward array; made by hand, as the package awkward may be missing."""
        path = write(tiny(7), tmp_path / "cells.h5ad")
        with h5py.File(path, "r+") as file:
            group = file.create_group("obsm/reads")
            group.attrs.update({"encoding-type": "awkward-array", "encoding-version": "0.1.0", "length": 7})
            group["node0-offsets"], group["node1-data"] = np.arange(8), np.arange(7)
        for use in (stream, AnnDataset):
            with pytest.raises(FormatError, match=r"obsm/reads of .* encoded as 'awkward-array', .*leave it out, or"):
                use(path, fields=["obsm/reads"])
        assert len(list(stream(path, fields=["X"]))) == 1

    def test_an_awkward_array_is_refused(self, tmp_path: Path) -> None:
        awkward = pytest.importorskip("awkward", reason="makes arrays of lists of any length")
        adata = tiny(7)
        adata.obsm["reads"] = awkward.Array([[1.0] * i for i in range(7)])
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            with pytest.raises(FormatError, match=r"obsm/reads of .*leave it out, or store the part you need"):
                stream(source, fields=["obsm/reads"])
            assert len(list(stream(source, fields=["X"]))) == 1

    @pytest.mark.parametrize("field", ["obsp/near", "varm/PCs", "varp/net", "uns/colors", "var/n"])
    def test_what_has_no_rows_along_obs_is_refused(self, tmp_path: Path, field: str) -> None:
        adata = tiny(7)
        adata.obsp["near"], adata.varm["PCs"], adata.varp["net"] = sparse.eye(7).tocsr(), np.eye(3), np.eye(3)
        adata.uns["colors"], adata.var["n"] = ["red"], range(3)
        group = field.split("/")[0]
        for source in (adata, write(adata, tmp_path / "cells.h5ad")):
            assert not [other for other in open_store(source).fields if other.startswith(f"{group}/")]
            for use in (stream, AnnDataset):
                with pytest.raises(FieldError, match=f"'{field}' has no rows along obs: {group} is not a field"):
                    use(source, fields=[field])
