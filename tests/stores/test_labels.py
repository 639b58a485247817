"""What codes of obs columns stand for, in the data's own tables and in tables that are given; the oracle is pandas."""

from __future__ import annotations

import pickle
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import expected_column, tiny
from label_ways import (  # noqa: F401 (fixtures)
    CODES,
    TABLES,
    WAYS,
    adata,
    by_row,
    codes_by,
    dataset_of,
    every_way,
    loaded,
    pandas_codes,
    pandas_table,
    reader_of,
    source,
    stream_of,
)
from torch.utils.data import DataLoader

from annpipes import AnnDataset, IndexSource, stream
from annpipes.errors import AnnpipesError, FieldError, ParameterError, ParameterTypeError, RowIndexError
from annpipes.stores import open_store

COLUMNS = ["cell_type", "stage", "lane", "donor", "note", "barcode"]
"""Categories with missing and unused labels, ordered ones, of numbers; strings, some missing, all different."""


class TestTheDatasOwn:
    @pytest.mark.parametrize("column", COLUMNS)
    def test_table_is_that_of_pandas(self, source: Any, adata: anndata.AnnData, column: str) -> None:
        expected = pandas_table(adata, column)
        field = f"obs/{column}:code"
        assert expected
        for answers in (IndexSource(source), stream(source, fields=[field]), AnnDataset(source, fields=[field])):
            for name in (column, f"obs/{column}", field):
                assert answers.categories(name) == expected

    @every_way
    @pytest.mark.parametrize("column", COLUMNS)
    def test_codes_are_those_of_pandas(self, source: Any, adata: anndata.AnnData, way: str, column: str) -> None:
        codes = codes_by(way, source, column)
        assert codes == pandas_codes(adata, column)
        assert (-1 in codes) == adata.obs[column].isna().any()

    @pytest.mark.parametrize("column", COLUMNS)
    def test_decoded_codes_are_the_strings_of_the_column(
        self, source: Any, adata: anndata.AnnData, column: str
    ) -> None:
        expected = expected_column(adata.obs[column])
        loader = stream_of(source, [f"obs/{column}:code", "rows"])
        dataset = dataset_of(source, [f"obs/{column}:code", "rows"])
        for answers, batches in ((loader, loader), (dataset, loaded(dataset)), (IndexSource(source), loader)):
            for batch in batches:
                assert answers.decode(column, batch[f"obs_{column}"]) == expected[batch["rows"].numpy()].tolist()

    def test_table_needs_no_field(self, source: Any, adata: anndata.AnnData) -> None:
        for answers in (stream(source), AnnDataset(source, fields=["X"]), AnnDataset(source)):
            assert answers.categories("cell_type") == pandas_table(adata, "cell_type")

    @pytest.mark.parametrize("column", ["int8", "bool", "nullable_int_absent"])
    def test_whole_numbers_and_booleans_come_back(self, source: Any, adata: anndata.AnnData, column: str) -> None:
        values = [None if pd.isna(value) else value for value in adata.obs[column]]
        loader = stream_of(source, [f"obs/{column}:code", "rows"])
        dataset = dataset_of(source, [f"obs/{column}:code", "rows"])
        for answers, batches in ((loader, loader), (dataset, loaded(dataset)), (IndexSource(source), loader)):
            for batch in batches:
                decoded = answers.decode(column, batch[f"obs_{column}"])
                assert decoded == [values[row] for row in batch["rows"].tolist()]

    def test_floats_have_none(self, source: Any) -> None:
        for answers in (IndexSource(source), stream(source), AnnDataset(source, fields=["X"])):
            with pytest.raises(FieldError, match="obs column 'float64' holds numbers that are not whole; categories"):
                answers.categories("float64")

    def test_an_unknown_column_is_named_with_those_there_are(self, source: Any) -> None:
        for answers in (IndexSource(source), stream(source), AnnDataset(source, fields=["X"])):
            with pytest.raises(FieldError, match=r"no obs column 'celltype' in .*; columns: int8, .*cell_type"):
                answers.categories("celltype")
            with pytest.raises(FieldError, match=r"no obs column 'celltype' in"):
                answers.decode("celltype", [0])

    @pytest.mark.parametrize("column", [3, None, ["cell_type"]])
    def test_a_column_is_a_name(self, adata: anndata.AnnData, column: Any) -> None:
        with pytest.raises(FieldError, match="column must be the name of an obs column, got"):
            IndexSource(adata).categories(column)

    @pytest.mark.parametrize("name", ["a:code", "obs/a", "cell type", "Größe"])
    def test_odd_names_are_those_of_their_column(self, name: str) -> None:
        adata = tiny(3)
        adata.obs["a"] = pd.Categorical(["p", "q", "p"])
        adata.obs[name] = pd.Categorical(["z", "y", "z"])
        assert IndexSource(adata).categories(name) == ("y", "z")


class TestDecode:
    @pytest.fixture
    def answers(self, adata: anndata.AnnData) -> IndexSource:
        return IndexSource(adata)  # cell_type: T, never seen, B, NK

    @pytest.mark.parametrize(
        "codes",
        [
            [3, -1, 0, 0, 2],
            (3, -1, 0, 0, 2),
            np.array([3, -1, 0, 0, 2]),
            np.array([3, -1, 0, 0, 2], np.int8),
            np.array([3, 9, -1, 9, 0, 9, 0, 9, 2])[::2],
            torch.tensor([3, -1, 0, 0, 2]),
            torch.tensor([3, -1, 0, 0, 2], dtype=torch.int32),
            pd.Series([3, -1, 0, 0, 2]),
            [torch.tensor(3), torch.tensor(-1), torch.tensor(0), torch.tensor(0), torch.tensor(2)],
        ],
        ids=lambda codes: type(codes).__name__,
    )
    def test_any_integers(self, answers: IndexSource, codes: Any) -> None:
        assert answers.decode("cell_type", codes) == ["NK", "", "T", "T", "B"]

    def test_unsigned_ones(self, answers: IndexSource) -> None:
        for kind in ("u1", "u2", "u4", "u8"):
            assert answers.decode("cell_type", np.array([3, 0], kind)) == ["NK", "T"]
            with pytest.raises(ParameterError, match=f"got {np.iinfo(kind).max}"):
                answers.decode("cell_type", np.array([3, np.iinfo(kind).max], kind))

    @pytest.mark.parametrize("codes", [[], np.array([], np.int64), torch.tensor([])], ids=repr)
    def test_none(self, answers: IndexSource, codes: Any) -> None:
        assert answers.decode("cell_type", codes) == []

    @pytest.mark.parametrize(("codes", "wrong"), [([0, 4], 4), ([-2, 0], -2), ([0, 1, 99, 5], 99)])
    def test_codes_that_stand_for_nothing(self, answers: IndexSource, codes: list[int], wrong: int) -> None:
        with pytest.raises(ParameterError, match=f"codes of 'cell_type' must lie in -1 … 3, got {wrong}$"):
            answers.decode("cell_type", codes)

    @pytest.mark.parametrize("codes", [[0.0], ["T"], [None], [True], torch.tensor([0.5]), [2**70]], ids=repr)
    def test_what_is_no_code(self, answers: IndexSource, codes: Any) -> None:
        with pytest.raises(ParameterTypeError, match="codes must be integers, got"):
            answers.decode("cell_type", codes)

    @pytest.mark.parametrize("code", [3, torch.tensor(3), np.int64(3)], ids=repr)
    def test_one_code_alone_is_decoded_or_refused(self, answers: IndexSource, code: Any) -> None:
        """Such as an item of an AnnDataset has; decode is documented for codes ``(n,)``."""
        with suppress(AnnpipesError):
            assert answers.decode("cell_type", code) in ("NK", ["NK"])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_codes_on_a_gpu(self, answers: IndexSource) -> None:
        assert answers.decode("cell_type", torch.tensor([3, -1], device="cuda")) == ["NK", ""]


class TestElsewhere:
    """Tables go wherever batches are made."""

    table = TABLES["with more labels"][1]
    fields = ("obs/cell_type:code", "rows")

    def how(self) -> dict[str, Any]:
        return {"categories": {"cell_type": self.table}}

    def test_in_workers_of_a_data_loader(self, h5ad: Path, adata: anndata.AnnData) -> None:
        expected = pandas_codes(adata, "cell_type", self.table)
        assert by_row(loaded(dataset_of(h5ad, self.fields, **self.how()), 2), "cell_type") == expected
        pipe = reader_of(h5ad, self.fields, **self.how()).batch_rows(4).collate_rows()
        assert by_row(DataLoader(pipe, batch_size=None, num_workers=2), "cell_type") == expected

    def test_in_workers_of_a_loader(self, h5ad: Path, adata: anndata.AnnData) -> None:
        expected = pandas_codes(adata, "cell_type", self.table)
        for method in ({"method": "thread"}, {"method": "process", "multiprocessing_context": "fork"}):
            loader = stream_of(h5ad, self.fields, num_workers=2, **method, **self.how())
            assert by_row(loader, "cell_type") == expected

    def test_after_pickling_fresh_and_used(self, source: Any, adata: anndata.AnnData) -> None:
        expected = pandas_codes(adata, "cell_type", self.table)
        reader, dataset = (make(source, self.fields, **self.how()) for make in (reader_of, dataset_of))
        for _ in range(2):
            copied = pickle.loads(pickle.dumps(dataset))
            assert by_row(loaded(copied), "cell_type") == expected
            assert copied.categories("cell_type") == tuple(self.table)
            assert copied.decode("cell_type", [0, -1]) == ["alpha", ""]
            pipe = pickle.loads(pickle.dumps(reader))
            assert by_row(pipe, "cell_type") == by_row(reader, "cell_type") == expected
            assert pipe.request.categories("cell_type") == tuple(self.table)

    def test_after_resuming(self, h5ad: Path, adata: anndata.AnnData) -> None:
        loader, other = (stream_of(h5ad, self.fields, **self.how()) for _ in range(2))
        batches = iter(loader)
        seen = [next(batches), next(batches)]
        other.load_state_dict(loader.state_dict())
        assert by_row([*seen, *other], "cell_type") == pandas_codes(adata, "cell_type", self.table)


@every_way
def test_a_row_outside_is_still_named_as_such(h5ad: Path, way: str) -> None:
    with pytest.raises(RowIndexError, match=r"must lie in 0 … 28"):
        WAYS[way](h5ad, CODES, rows=[29], categories={"cell_type": ["T"]})


@pytest.mark.parametrize(("labels", "n_bytes"), [(100, 1.5), (300, 3)])
def test_codes_are_never_wider_than_they_are_stored(tmp_path: Path, labels: int, n_bytes: float) -> None:
    n_obs = 1_000_000
    codes = np.random.default_rng(0).integers(-1, labels, n_obs).astype(np.int16)
    column = pd.Categorical.from_codes(codes, [f"t{number}" for number in range(labels)])
    obs = pd.DataFrame({"t": column}, index=pd.RangeIndex(n_obs).astype(str))
    anndata.AnnData(obs=obs).write_h5ad(tmp_path / "x.h5ad")
    store = open_store(tmp_path / "x.h5ad")
    tracemalloc.start()
    found = store.codes("t")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, codes)
    assert peak / n_obs < n_bytes
