"""Tables of labels that the caller gives in place of the data's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, expected_column, write
from contracts import StageContract
from hypothesis import given
from hypothesis import strategies as st
from label_ways import (  # noqa: F401 (fixtures)
    CODES,
    TABLES,
    WAYS,
    adata,
    by_row,
    codes_by,
    dataset_of,
    every_way,
    labels,
    loaded,
    pandas_codes,
    pandas_table,
    reader_of,
    source,
    stream_of,
)

import annpipes
from annpipes import AnnDataset, Collection, IndexSource, Loader, split, stream
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, StateError
from annpipes.stores import open_store
from annpipes.stores.labels import LabelTables


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
    @pytest.mark.filterwarnings("ignore:.*chooses no row")
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
        (["obs/float64:code"], {"categories": {"float64": ["1"]}}, FieldError, "obs column 'float64' holds numbers"),
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
