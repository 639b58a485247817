"""What every stage and every store must do; each one's test class inherits it."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import dense, expected_column
from gene_contract import GeneContract
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterDataPipe

import annpipes
from annpipes import Batch, Chunk
from annpipes.errors import FieldError, ParameterError
from annpipes.stores import Store

REQUESTS = {
    "nothing": [],
    "one": [4],
    "as they stand": list(range(29)),
    "backwards": list(range(28, -1, -1)),
    "scattered": [17, 3, 28, 0, 12, 13, 14],
    "twice and thrice": [5, 5, 2, 28, 2, 5, 0, 0],
    "empty rows alone": [28, 0, 7, 14, 21, 7],
}

UNKNOWN = {
    "obs/celltype": r"no obs column 'celltype' in .*; columns: int8, .*cell_type",
    "layers/count": r"no field 'layers/count' in .*; fields: X, .*layers/counts",
    "x": r"no field 'x' in .*; fields: X, ",
    "X:code": r"no field 'X:code'",
    "obs": r"no field 'obs'",
    "obsp/distances": r"'obsp/distances' has no rows along obs",
    "uns/colors": r"'uns/colors' has no rows along obs",
}
"""What no store has, and how it says so."""


def chunk_of(drawn: Sequence[int]) -> Chunk:
    """The chunk that hands on these rows in this order."""
    rows = np.array(drawn, np.int64)
    by_row = np.argsort(rows, kind="stable")
    return Chunk(rows[by_row], np.argsort(by_row))


def rows_seen(item: Any) -> list[int]:
    """The rows of whatever a stage yields: a block, a chunk, a batch or a dict of tensors."""
    if isinstance(item, Chunk):
        return item.drawn.tolist()
    return [int(row) for row in (item["rows"] if isinstance(item, Batch | dict) else item)]


def all_rows(items: Iterable[Any]) -> list[int]:
    """The rows of all items, in their order."""
    return [row for item in items for row in rows_seen(item)]


class StageContract:
    """A stage pickles, repeats, has a repr, keeps no file open and agrees for 0 and 2 workers.

    A test class gives the pipe that ends with its stage twice: chained, and by constructors. What the stage
    yields holds the field ``rows``, and the pipe visits the rows of the file once.
    """

    shuffled = False

    def chained(self, path: Path) -> IterDataPipe[Any]:
        raise NotImplementedError

    def constructed(self, path: Path) -> IterDataPipe[Any]:
        raise NotImplementedError

    def complete(self, pipe: IterDataPipe[Any]) -> IterDataPipe[Any]:
        """The pipe with what a plain DataLoader needs; stages before the chunker are not dealt out."""
        return pipe

    def passed(self, pipe: IterDataPipe[Any], seed: int = 5) -> list[int]:
        """The rows of one pass with a fixed order."""
        if self.shuffled:
            for stage in torch_pipes(pipe):
                if hasattr(stage, "set_seed"):
                    stage.set_seed(seed)
        return all_rows(pipe)

    def test_every_row_once(self, h5ad: Path) -> None:
        assert sorted(all_rows(self.chained(h5ad))) == list(range(29))

    def test_can_be_iterated_twice(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        assert self.passed(pipe) == self.passed(pipe)

    def test_begins_anew_after_a_pass_that_was_given_up(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        next(iter(pipe))
        assert self.passed(pipe) == self.passed(self.chained(h5ad))

    def test_the_chained_name_and_the_constructor_give_the_same_pipe(self, h5ad: Path) -> None:
        chained, constructed = self.chained(h5ad), self.constructed(h5ad)
        assert type(chained) is type(constructed)
        assert repr(chained) == repr(constructed)
        assert self.passed(chained) == self.passed(constructed)

    def test_repr_could_be_typed_back(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        typed = eval(repr(pipe), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert repr(typed) == repr(pipe) == str(pipe)
        assert self.passed(typed) == self.passed(pipe)

    def test_pickles_fresh_and_used(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        fresh = pickle.loads(pickle.dumps(pipe))
        rows = self.passed(pipe)
        used = pickle.loads(pickle.dumps(pipe))
        assert self.passed(fresh) == self.passed(used) == rows
        assert repr(fresh) == repr(used) == repr(pipe)

    def test_keeps_no_file_open(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        all_rows(pipe)
        for stage in torch_pipes(pipe):
            assert not any(isinstance(value, h5py.HLObject) for value in vars(stage).values())
        del pipe, stage
        gc.collect()
        assert not opened(h5ad)

    def test_a_length_is_the_number_of_items(self, h5ad: Path) -> None:
        pipe = self.chained(h5ad)
        try:
            length = len(pipe)
        except TypeError:  # as torch wants it of a pipe that does not know
            return
        assert length == len(list(pipe))

    def test_same_rows_for_0_and_2_workers(self, h5ad: Path) -> None:
        pipe = self.complete(self.chained(h5ad))
        for workers in (0, 2):
            loader = DataLoader(pipe, batch_size=None, num_workers=workers)
            assert sorted(all_rows(loader)) == list(range(29))


def torch_pipes(pipe: IterDataPipe[Any]) -> list[IterDataPipe[Any]]:
    """The stages of a straight pipe, the last one first."""
    stages = [pipe]
    while (source := getattr(stages[-1], "source_datapipe", None) or vars(stages[-1]).get("datapipe")) is not None:
        stages.append(source)
    return stages


def opened(path: Path) -> list[str]:
    """The file descriptors of this process that lead to ``path``."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.resolve()
        except OSError:  # the one that listed the folder is gone
            continue
        if target == path.resolve():
            found.append(descriptor.name)
    return found


class StoreContract(GeneContract):
    """A store gives of each field of each row what anndata gives, in the order asked.

    A test class brings two fixtures: ``store``, and ``adata``, the same data as anndata holds it in memory.
    """

    def test_knows_what_it_holds(self, store: Store, adata: anndata.AnnData) -> None:
        assert (store.n_obs, store.n_vars) == adata.shape
        assert store.obs_names.tolist() == adata.obs_names.tolist()
        assert store.var_names.tolist() == adata.var_names.tolist()
        assert set(store.fields) == {
            *("X", "obs_names", "rows", "raw/X"),
            *(f"layers/{key}" for key in adata.layers if key is not None),  # None is X since anndata 0.13
            *(f"obsm/{key}" for key in adata.obsm),
            *(f"obs/{column}" for column in adata.obs),
        }

    def test_every_matrix_row_is_anndatas(self, store: Store, adata: anndata.AnnData) -> None:
        expected = {field: dense(values) for field, values in matrices(adata).items()}
        for asked, drawn in REQUESTS.items():
            read = store.read(chunk_of(drawn), list(expected))
            for field, values in expected.items():
                rows = dense(read[field.replace("/", "_")])
                np.testing.assert_array_equal(rows, values[drawn], err_msg=f"{field}, {asked}")

    def test_every_obs_value_is_anndatas(self, store: Store, adata: anndata.AnnData) -> None:
        expected = {column: expected_column(adata.obs[column]) for column in adata.obs}
        for asked, drawn in REQUESTS.items():
            read = store.read(chunk_of(drawn), [f"obs/{column}" for column in adata.obs])
            for column, values in expected.items():
                np.testing.assert_array_equal(read[f"obs_{column}"], values[drawn], err_msg=f"{column}, {asked}")
                assert read[f"obs_{column}"].dtype == values.dtype, column

    def test_codes_are_pandas_codes(self, store: Store, adata: anndata.AnnData) -> None:
        for column in labelled(adata):
            labels = pd.Categorical(adata.obs[column])
            assert store.categories(column) == tuple(map(str, labels.categories)), column
            for drawn in REQUESTS.values():
                codes = store.read(chunk_of(drawn), [f"obs/{column}:code"])[f"obs_{column}"]
                assert codes.dtype == np.int64
                assert codes.tolist() == labels.codes[drawn].tolist(), column

    def test_rows_and_names(self, store: Store, adata: anndata.AnnData) -> None:
        for drawn in REQUESTS.values():
            read = store.read(chunk_of(drawn), ["rows", "obs_names"])
            assert read["rows"].tolist() == drawn
            assert read["obs_names"].tolist() == adata.obs_names[drawn].tolist()

    def test_rows_by_name(self, store: Store, adata: anndata.AnnData) -> None:
        drawn = REQUESTS["twice and thrice"]
        names = np.asarray(adata.obs_names[drawn])
        if adata.obs_names.is_unique:
            assert store.rows_named(names).tolist() == drawn
            with pytest.raises(FieldError, match=r"no obs name .*cell-x.* in .* \(1 of 2 names unknown\)"):
                store.rows_named(np.array(["cell-3", "cell-x"]))
        else:
            with pytest.raises(ParameterError, match=r"are not unique .* choose rows by position"):
                store.rows_named(names)

    def test_only_what_is_asked_for_comes(self, store: Store) -> None:
        assert list(store.read(chunk_of([1]), ["obs/donor", "X"])) == ["obs_donor", "X"]
        assert dict(store.read(chunk_of([1]), [])) == {}

    def test_whole_numbers_and_flags_are_labels_as_pandas_has_them(self, store: Store, adata: anndata.AnnData) -> None:
        drawn = REQUESTS["twice and thrice"]
        for column, kind in (("int8", int), ("bool", bool), ("nullable_int_absent", int)):
            labels, table = pd.Categorical(adata.obs[column]), store.categories(column)
            assert (table, {*map(type, table)}) == (tuple(map(kind, labels.categories)), {kind})
            codes = store.read(chunk_of(drawn), [f"obs/{column}:code"])[f"obs_{column}"]
            assert (codes.dtype, codes.tolist()) == (np.int64, labels.codes[drawn].tolist())

    def test_floats_have_no_codes(self, store: Store) -> None:
        with pytest.raises(FieldError, match="obs column 'float64' holds numbers that are not whole"):
            store.check(["obs/float64:code"])

    def test_a_field_it_lacks_is_named_with_those_it_has(self, store: Store) -> None:
        for field, message in UNKNOWN.items():
            with pytest.raises(FieldError, match=message):
                store.check([field])

    def test_pickles_before_and_after_reading(self, store: Store, adata: anndata.AnnData) -> None:
        drawn = REQUESTS["twice and thrice"]
        for _ in range(2):
            copy = pickle.loads(pickle.dumps(store))
            assert (copy.n_obs, copy.n_vars, copy.fields) == (store.n_obs, store.n_vars, store.fields)
            for field, values in matrices(adata).items():
                read = copy.read(chunk_of(drawn), [field])[field.replace("/", "_")]
                np.testing.assert_array_equal(dense(read), dense(values)[drawn])
            assert copy.read(chunk_of(drawn), ["obs/cell_type"])["obs_cell_type"].tolist() == (
                expected_column(adata.obs["cell_type"])[drawn].tolist()
            )
            store.read(chunk_of(drawn), ["X", "obs/cell_type"])

    def test_threads_may_read_at_once(self, store: Store, adata: anndata.AnnData) -> None:
        rng = np.random.default_rng(0)
        requests = [rng.integers(0, 29, 12).tolist() for _ in range(60)]
        with ThreadPoolExecutor(4) as threads:
            read = list(threads.map(lambda drawn: store.read(chunk_of(drawn), ["X", "obs/donor"]), requests))
        x, donors = dense(adata.X), expected_column(adata.obs["donor"])
        for drawn, fields in zip(requests, read, strict=True):
            np.testing.assert_array_equal(dense(fields["X"]), x[drawn])
            assert fields["obs_donor"].tolist() == donors[drawn].tolist()

    def test_what_was_read_stays_when_more_is_read(self, store: Store, adata: anndata.AnnData) -> None:
        first = store.read(chunk_of(range(10)), ["X", "obs/int32"])
        for start in range(19):
            store.read(chunk_of(range(start, start + 10)), ["X", "obs/int32"])
        np.testing.assert_array_equal(dense(first["X"]), dense(adata.X)[:10])
        assert first["obs_int32"].tolist() == adata.obs["int32"].tolist()[:10]


def matrices(adata: anndata.AnnData) -> dict[str, NDArray[Any]]:
    """Every matrix with rows along obs, by field."""
    return {
        "X": adata.X,
        "raw/X": adata.raw.X,
        **{f"layers/{key}": values for key, values in adata.layers.items() if key is not None},
        **{f"obsm/{key}": values for key, values in adata.obsm.items()},
    }


def labelled(adata: anndata.AnnData) -> list[str]:
    """The obs columns of categories and strings."""
    return [
        column
        for column in adata.obs
        if isinstance(adata.obs[column].dtype, pd.CategoricalDtype)
        or not pd.api.types.is_numeric_dtype(adata.obs[column].dtype)
    ]
