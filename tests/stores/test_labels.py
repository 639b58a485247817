"""What codes of obs columns stand for, in the data's own tables and in tables that are given; the oracle is pandas."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from builders import adata_of, expected_column, tiny, write
from contracts import StageContract
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import annpipes
from annpipes import AnnDataset, Collection, IndexSource, Loader, split, stream
from annpipes.errors import AnnpipesError, FieldError, ParameterError, ParameterTypeError, RowIndexError, StateError
from annpipes.stores import open_store
from annpipes.stores.labels import LabelTables

COLUMNS = ["cell_type", "stage", "lane", "donor", "note", "barcode"]
"""Categories with missing and unused labels, ordered ones, of numbers; strings, some missing, all different."""

TABLES = {
    "in another order": ("cell_type", ["NK", "T", "B"]),
    "with more labels": ("cell_type", ["alpha", "B", "beta", "NK", "T", "omega"]),
    "with an unused one": ("cell_type", ["never seen", "B", "NK", "T"]),
    "against the order": ("stage", ["late", "early"]),
    "of numbers": ("lane", [10, 2, 7]),
    "of strings": ("donor", ["dritte Spenderin", "d2", "d1", "d0"]),
    "of strings, some missing": ("note", [f"note {i}" for i in range(28, -1, -1)]),
    "a tuple": ("cell_type", ("NK", "T", "B")),
    "an array": ("cell_type", np.array(["NK", "T", "B"])),
    "an index": ("cell_type", pd.CategoricalDtype(["NK", "T", "B"]).categories),
}


def pandas_table(adata: anndata.AnnData, column: str) -> tuple[str, ...]:
    return tuple(map(str, pd.Categorical(adata.obs[column]).categories))


def pandas_codes(adata: anndata.AnnData, column: str, table: Sequence[Any] | None = None) -> list[int]:
    """The code of each row in a table, the column's own when None."""
    values = pd.Categorical(adata.obs[column])
    if table is None:
        return values.codes.tolist()
    labels = values.rename_categories(list(map(str, values.categories)))
    return labels.set_categories(list(map(str, table))).codes.tolist()


def by_row(batches: Iterable[Any], column: str) -> list[int]:
    """The codes of batches in the order of rows."""
    found = {}
    for batch in batches:
        codes = batch[f"obs_{column}"]
        assert codes.dtype in (torch.int64, np.int64)
        found.update(zip(batch["rows"].tolist(), codes.tolist(), strict=True))
    return [found[row] for row in sorted(found)]


def reader_of(data: Any, fields: Sequence[str], rows: Any = None, **how: Any) -> Any:
    return IndexSource(data, rows=rows, block_size=3).shuffle_blocks().sort_within_chunks(7).read_rows(fields, **how)


def stream_of(data: Any, fields: Sequence[str], **how: Any) -> Loader:
    return stream(data, 4, fields=fields, block_size=3, chunk_size=8, **how)


def dataset_of(data: Any, fields: Sequence[str], rows: Any = None, **how: Any) -> AnnDataset:
    return AnnDataset(data, fields=fields, obs_subset=rows, **how)


def loaded(dataset: AnnDataset, workers: int = 0) -> DataLoader[Any]:
    return DataLoader(dataset, 4, collate_fn=dataset.get_collate_fn(), num_workers=workers)


WAYS: dict[str, Callable[..., Any]] = {"RowReader": reader_of, "stream": stream_of, "AnnDataset": dataset_of}


def codes_by(way: str, data: Any, column: str, **how: Any) -> list[int]:
    """The codes of a column as one way of reading gives them, in the order of rows."""
    read = WAYS[way](data, [f"obs/{column}:code", "rows"], **how)
    return by_row(loaded(read) if way == "AnnDataset" else read, column)


every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(params=["memory", "view", "file", "backed"])
def source(request: pytest.FixtureRequest, h5ad: Path) -> Any:
    if request.param == "file":
        yield h5ad
    elif request.param == "backed":
        adata = anndata.read_h5ad(h5ad, backed="r")
        yield adata
        adata.file.close()
    else:
        yield adata_of()[:] if request.param == "view" else adata_of()


@pytest.fixture
def adata(request: pytest.FixtureRequest) -> anndata.AnnData:
    """What the source holds if the test has one; a view, for instance, has fewer categories than the whole."""
    if "source" not in request.fixturenames:
        return adata_of()
    source = request.getfixturevalue("source")
    return anndata.read_h5ad(source) if isinstance(source, Path) else source


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

    def test_numbers_have_none(self, source: Any) -> None:
        for answers in (IndexSource(source), stream(source), AnnDataset(source, fields=["X"])):
            for column in ("int8", "bool", "nullable_int_absent"):
                with pytest.raises(FieldError, match=f"obs column '{column}' holds numbers; only categories and str"):
                    answers.categories(column)

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


class TestGiven:
    @every_way
    @pytest.mark.parametrize("table", TABLES)
    def test_codes_are_those_of_pandas(self, source: Any, adata: anndata.AnnData, way: str, table: str) -> None:
        column, labels = TABLES[table]
        expected = pandas_codes(adata, column, labels)
        assert codes_by(way, source, column, categories={column: labels}) == expected
        assert expected != pandas_codes(adata, column)
        assert [code == -1 for code in expected] == adata.obs[column].isna().tolist()

    @pytest.mark.parametrize("table", TABLES)
    def test_they_are_told_and_decoded(self, source: Any, adata: anndata.AnnData, table: str) -> None:
        column, labels = TABLES[table]
        expected = expected_column(adata.obs[column])
        fields = [f"obs/{column}:code", "rows"]
        for answers in (
            stream_of(source, fields, categories={column: labels}),
            dataset_of(source, fields, categories={column: labels}),
        ):
            assert answers.categories(column) == tuple(map(str, labels))
            for batch in loaded(answers) if isinstance(answers, AnnDataset) else answers:
                assert answers.decode(column, batch[f"obs_{column}"]) == expected[batch["rows"].numpy()].tolist()
            with pytest.raises(ParameterError, match=f"must lie in -1 … {len(labels) - 1}, got {len(labels)}"):
                answers.decode(column, [len(labels)])

    @every_way
    def test_labels_they_lack_are_missing_if_told_so(self, source: Any, adata: anndata.AnnData, way: str) -> None:
        for table in (["NK", "B"], ["x", "B"], ["never seen"], ["x"]):
            codes = codes_by(way, source, "cell_type", categories={"cell_type": table}, unknown="missing")
            assert codes == pandas_codes(adata, "cell_type", table)

    @every_way
    def test_labels_they_lack_are_an_error_that_names_them(self, source: Any, way: str) -> None:
        with pytest.raises(
            ParameterError, match=r"obs column 'cell_type' has 2 labels .* lack \('B', 'NK'\): add them, or pass unk"
        ):
            codes_by(way, source, "cell_type", categories={"cell_type": ["T"]})
        with pytest.raises(ParameterError, match=r"'barcode' has 29 labels that the .* \('AC000GT',"):
            codes_by(way, source, "barcode", categories={"barcode": ["T"]})

    @every_way
    def test_labels_that_no_row_has_need_not_be_there(self, source: Any, adata: anndata.AnnData, way: str) -> None:
        assert ("never seen" in pandas_table(adata, "cell_type")) is not adata.is_view
        table = ["T", "B", "NK"]
        codes = codes_by(way, source, "cell_type", categories={"cell_type": table}, unknown="error")
        assert codes == pandas_codes(adata, "cell_type", table)

    @every_way
    @pytest.mark.parametrize("form", ["positions", "mask", "names", "twice", "none"])
    def test_rows_that_are_not_read_need_no_label(
        self, source: Any, adata: anndata.AnnData, way: str, form: str
    ) -> None:
        chosen = np.flatnonzero(adata.obs["cell_type"].isin(["T"]) | adata.obs["cell_type"].isna())
        rows = {
            "positions": chosen,
            "mask": np.isin(np.arange(29), chosen),
            "names": adata.obs_names[chosen].tolist(),
            "twice": np.concatenate([chosen, chosen[:2]]),
            "none": [],
        }[form]
        expected = [] if form == "none" else np.array(pandas_codes(adata, "cell_type", ["T"]))[chosen].tolist()
        assert codes_by(way, source, "cell_type", rows=rows, categories={"cell_type": ["T"]}) == expected
        if form in ("positions", "mask"):
            more = np.arange(29) if form == "positions" else np.ones(29, bool)
            with pytest.raises(ParameterError, match=r"has 2 labels"):
                codes_by(way, source, "cell_type", rows=more, categories={"cell_type": ["T"]})

    def test_rows_of_an_expression_and_of_a_split(self, source: Any, adata: anndata.AnnData) -> None:
        fields, given_table = ["obs/cell_type:code", "rows"], {"cell_type": ["B"]}
        codes = by_row(stream_of(source, fields, rows="cell_type == 'B'", categories=given_table), "cell_type")
        assert codes == [0] * int((adata.obs["cell_type"] == "B").sum())
        for rows in split(source, [0.5, 0.5], groupby="cell_type"):
            present = adata.obs["cell_type"].iloc[rows].dropna().unique().tolist()
            codes = by_row(stream_of(source, fields, rows=rows, categories={"cell_type": present}), "cell_type")
            assert codes == np.array(pandas_codes(adata, "cell_type", present))[rows].tolist()

    def test_other_columns_stay_as_they_are(self, source: Any, adata: anndata.AnnData) -> None:
        fields = ["obs/cell_type:code", "obs/stage:code", "obs/donor", "obs/int8", "X", "rows"]
        loader = stream_of(source, fields, categories={"cell_type": ["NK", "B", "T"]})
        assert by_row(loader, "stage") == pandas_codes(adata, "stage")
        assert loader.categories("stage") == pandas_table(adata, "stage")
        for batch in loader:
            assert batch["obs_donor"] == adata.obs["donor"].iloc[batch["rows"].numpy()].tolist()
            assert batch["obs_int8"].tolist() == adata.obs["int8"].iloc[batch["rows"].numpy()].tolist()

    def test_several_at_once(self, source: Any, adata: anndata.AnnData) -> None:
        tables = {"cell_type": ["NK", "B", "T"], "donor": ["d1", "dritte Spenderin", "d2"], "lane": ["10", "2"]}
        loader = stream_of(source, [*(f"obs/{column}:code" for column in tables), "rows"], categories=tables)
        for column, table in tables.items():
            assert by_row(loader, column) == pandas_codes(adata, column, table)

    @every_way
    def test_the_data_stays_as_it_was(self, way: str) -> None:
        adata = adata_of()
        before = adata.obs.copy()
        codes_by(way, adata, "cell_type", categories={"cell_type": ["NK", "T", "B"]})
        pd.testing.assert_frame_equal(adata.obs, before)
        assert codes_by(way, adata, "cell_type") == pandas_codes(adata, "cell_type")

    @every_way
    def test_an_empty_one(self, source: Any, way: str) -> None:
        codes = codes_by(way, source, "cell_type", categories={"cell_type": []}, unknown="missing")
        assert codes == [-1] * 29

    def test_an_empty_one_is_told_and_decoded(self, source: Any) -> None:
        for use in (stream, AnnDataset):
            answers = use(source, fields=["obs/cell_type:code"], categories={"cell_type": []}, unknown="missing")
            assert answers.categories("cell_type") == ()
            assert answers.decode("cell_type", [-1]) == [""]
            with pytest.raises(ParameterError, match="codes of 'cell_type'"):
                answers.decode("cell_type", [0])

    def test_of_several_files(self, h5ad: Path, adata: anndata.AnnData, tmp_path: Path) -> None:
        other = adata_of()
        other.obs["cell_type"] = other.obs["cell_type"].cat.rename_categories({"T": "T cell"})
        data = Collection([h5ad, write(other, tmp_path / "other.h5ad")])
        table = ["T cell", "NK", "T", "B"]
        expected = pandas_codes(adata, "cell_type", table) + pandas_codes(other, "cell_type", table)
        for way in WAYS:
            assert codes_by(way, data, "cell_type", categories={"cell_type": table}) == expected
            first = codes_by(way, data, "cell_type", categories={"cell_type": ["NK", "T", "B"]}, rows=range(29))
            assert first == pandas_codes(adata, "cell_type", ["NK", "T", "B"])


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


class TestRowReaderWithTables(StageContract):
    shuffled = True

    def chained(self, path: Path) -> Any:
        tables = {"cell_type": ["NK", "B"], "donor": ("d2", "d1", "dritte Spenderin")}
        return reader_of(path, ["rows", "obs/cell_type:code", "obs/donor:code"], categories=tables, unknown="missing")

    constructed = chained

    def test_repr_could_be_typed_back(self, h5ad: Path) -> None:
        shown = repr(self.chained(h5ad))
        assert "categories={'cell_type': " in shown
        assert shown.endswith("unknown='missing')")
        super().test_repr_could_be_typed_back(h5ad)

    @pytest.mark.parametrize("table", [np.array(["NK", "T", "B"]), pd.Index(["NK", "T", "B"])], ids=["array", "index"])
    def test_repr_could_be_typed_back_whatever_the_table_was(self, h5ad: Path, table: Any) -> None:
        read = reader_of(h5ad, ["obs/cell_type:code"], categories={"cell_type": table})
        typed = eval(repr(read), dict(vars(annpipes)))  # noqa: S307 (our own repr)
        assert repr(typed) == repr(read)


CODES = ["obs/cell_type:code", "obs/donor", "X"]


@every_way
@pytest.mark.parametrize(
    ("fields", "how", "error", "message"),
    [
        (
            ["obs/donor"],
            {"categories": {"donor": ["d1"]}},
            ParameterError,
            r"for 'donor', .* 'obs/donor:code' \(it",
        ),
        (["X"], {"categories": {"donor": ["d1"]}}, ParameterError, r"for 'donor', but fields has no 'obs/donor:code'"),
        ([], {"categories": {"donor": ["d1"]}}, ParameterError, r"'obs/donor:code' \(it has nothing"),
        (CODES, {"categories": {"celltype": ["T"]}}, ParameterError, r"for 'celltype', .*no 'obs/celltype:code'"),
        (CODES, {"categories": {"cell_type": "T"}}, ParameterTypeError, "of 'cell_type' must be a list of .* got 'T'"),
        (CODES, {"categories": {"cell_type": ["T", "B", "NK", "B"]}}, ParameterError, "'cell_type' name 'B' twice"),
        (CODES, {"categories": {"cell_type": [1, "1"]}}, ParameterError, "categories of 'cell_type' name '1' twice"),
        (CODES, {"unknown": "ignore"}, ParameterError, "unknown must be one of error, missing, got 'ignore'"),
        (CODES, {"unknown": None}, ParameterError, "unknown must be one of error, missing, got None"),
        (["obs/int8:code"], {"categories": {"int8": ["1"]}}, FieldError, "obs column 'int8' holds numbers"),
        (
            ["obs/no:code"],
            {"categories": {"no": ["1"]}},
            FieldError,
            "no obs column 'no",
        ),
    ],
)
def test_wrong_tables_are_named(
    h5ad: Path, way: str, fields: list[str], how: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        WAYS[way](h5ad, fields, **how)


@every_way
def test_a_row_outside_is_still_named_as_such(h5ad: Path, way: str) -> None:
    with pytest.raises(RowIndexError, match=r"must lie in 0 … 28"):
        WAYS[way](h5ad, CODES, rows=[29], categories={"cell_type": ["T"]})


labels = st.sampled_from(["a", "b", "c", "d", ""])


@given(
    values=st.lists(st.none() | labels, min_size=1, max_size=12),
    own=st.permutations(["a", "b", "c", "d", ""]),
    table=st.lists(st.sampled_from(["a", "b", "c", "d", "", "e"]), unique=True),
    unknown=st.sampled_from(["error", "missing"]),
    data=st.data(),
)
def test_any_table_of_any_column(
    values: list[str | None], own: list[str], table: list[str], unknown: Any, data: st.DataObject
) -> None:
    column = pd.Categorical(values, own)
    rows = data.draw(st.none() | st.lists(st.integers(0, len(values) - 1)).map(lambda drawn: np.array(drawn, int)))
    store = open_store(anndata.AnnData(obs=pd.DataFrame({"c": column}, index=[f"c{i}" for i in range(len(values))])))
    some = column if rows is None else column[rows]
    lacking = set(some.dropna()) - set(table)
    if lacking and unknown == "error":
        with pytest.raises(ParameterError, match=f"has {len(lacking)} label"):
            LabelTables(store, {"c": table}, unknown, ["obs/c:code"], rows)
        return
    tables = LabelTables(store, {"c": table}, unknown, ["obs/c:code"], rows)
    recoded = tables.recode({"obs_c": some.codes.astype(np.int64), "rows": 3})
    assert recoded["obs_c"].tolist() == some.set_categories(table).codes.tolist()
    assert recoded["rows"] == 3
    if table:
        expected = some.set_categories(table).astype(object)
        assert tables.decode("c", recoded["obs_c"]) == ["" if pd.isna(label) else label for label in expected]


def test_a_state_belongs_to_its_table(h5ad: Path) -> None:
    def loader(table: list[str]) -> Loader:
        return stream(h5ad, 4, fields=["obs/donor:code"], categories={"donor": table}, unknown="missing")

    table = list(IndexSource(h5ad).categories("donor"))
    state = loader(table).state_dict()
    loader(table).load_state_dict(state)
    for other in (table[::-1], table[:-1]):
        with pytest.raises(StateError, match="categories"):
            loader(other).load_state_dict(state)
    with pytest.raises(StateError, match="categories"):
        stream(h5ad, 4, fields=["obs/donor:code"]).load_state_dict(state)
