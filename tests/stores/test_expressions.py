"""Rows chosen by an expression; the oracle is `pandas.DataFrame.query` on what anndata has."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import write
from hypothesis import given, settings
from hypothesis import strategies as st

from annpipes import AnnDataset, Collection, IndexSource
from annpipes.errors import ParameterError

N = 24

# Of expressions that no row meets, and of labels that no row has: tests/stores/test_unknown.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*(chooses no row|no row of)")


def table(seed: int = 0, n: int = N) -> pd.DataFrame:
    """A column of each kind, some values missing where the kind has such."""
    rng = np.random.default_rng(seed)
    gone = rng.random(n) < 0.3

    def some(values: Any) -> Any:
        return [None if absent else value for value, absent in zip(np.resize(values, n).tolist(), gone, strict=True)]

    return pd.DataFrame(
        {
            "whole": rng.integers(-3, 4, n),
            "real": np.where(gone, np.nan, rng.integers(-3, 4, n) / 2),
            "flag": rng.random(n) < 0.5,
            "leiden": pd.Categorical(some([0, 1, 2])),
            "score": pd.Categorical(some([0.5, 1.0, 2.5])),
            "doublet": pd.Categorical(some([True, False])),
            "stage": pd.Categorical(some(["lo", "hi", "mid"]), ["lo", "mid", "hi"], ordered=True),
            "cell type": pd.Categorical(some(["T cell", "B cell", "NK"])),
            "n.genes": pd.array(some([3, -2, 1, 0]), "Int64"),
            "maybe": pd.array(some([True, False, False]), "boolean"),
            "note": pd.array(some(["a", "b", "a b"]), "string"),
            "Größe": rng.integers(0, 9, n),
        },
        index=[f"cell{seed}-{i}" for i in range(n)],
    )


def adata_of(obs: pd.DataFrame) -> anndata.AnnData:
    return anndata.AnnData(np.ones((len(obs), 2), np.float32), obs=obs)


def wanted(obs: pd.DataFrame, expression: str) -> list[int] | None:
    """The rows that pandas chooses; None if it refuses."""
    try:
        return obs.index.get_indexer(obs.query(expression, engine="python").index).tolist()
    except Exception:  # whatever pandas raises
        return None


def chosen(data: Any, expression: str) -> list[int] | None:
    try:
        rows = np.asarray(IndexSource(data, rows=expression).plan.row_set).tolist()
    except ParameterError:
        return None
    assert np.asarray(AnnDataset(data, obs_subset=expression, fields=["rows"]).rows).tolist() == rows
    return rows


Forms = list[tuple[str, Any, pd.DataFrame]]


def forms_of(seed: int, folder: Path, n: int = N) -> Forms:
    """Data, and the obs that pandas is asked about: in memory, of a file, and of several."""
    memory = adata_of(table(seed, n))
    memory.obs["text"] = pd.Series(np.resize(np.array(["x", None, "y", np.nan], object), n), memory.obs_names, object)
    memory.obs["day"] = pd.date_range("2024-02-27", periods=n)
    files = [
        write(adata_of(table(other, n)), folder / f"{number}.h5ad") for number, other in enumerate([seed, seed + 1])
    ]
    tables = [anndata.read_h5ad(file).obs for file in files]
    joined = pd.concat(tables)
    for column in joined:
        one, two = (obs[column] for obs in tables)
        if not all(isinstance(values.dtype, pd.CategoricalDtype) for values in (one, two)):
            continue  # strings, too, are written as categories where few of them differ
        union = pd.CategoricalDtype(one.cat.categories.union(two.cat.categories))
        joined[column] = joined[column].astype(one.dtype if one.dtype == two.dtype else union)
    return [
        ("memory", memory, memory.obs),
        ("view", memory[::-2], memory[::-2].obs),  # of which anndata has dropped categories without rows
        ("file", files[0], tables[0]),
        ("collection", Collection(files), joined),
    ]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    return forms_of(0, tmp_path_factory.mktemp("tables"))


EXPRESSIONS = [
    *("leiden == 1", "leiden != 1", "leiden in [1, 2]", "leiden not in [1, 2] and whole > 0", "score == 0.5"),
    *("doublet == True", "doublet", "flag", "not flag", "~flag", "maybe", "maybe == True", "maybe.isna()"),
    *("stage < 'hi'", "stage >= 'mid'", "stage.isna()", "real.isna()", "real == real", "note.isna()", "note == note"),
    *("`cell type` == 'T cell'", "`n.genes` < 2", "`n.genes`.isna()", "Größe > 4", "`Größe` > 4", "note.str[0] == 'a'"),
    *("index == 'cell0-3'", "ilevel_0 == 'cell0-3'", "index.str.endswith('3')", "index in ['cell0-3', 'cell0-5']"),
    *("whole.between(-1, 2)", "whole == whole.max()", "real > real.mean()", "log1p(Größe) > 1", "whole % 2 == 0"),
    *(
        "`cell type`.cat.codes == 0",
        "note.str.cat(note) == 'aa'",
        "leiden.astype('float') > 1",
        "note.str.contains('a')",
        "note.fillna('z') == 'z'",
    ),
    *("whole > 0 | flag & real < 1", "0 < whole <= 2", "whole + real * 2 > 1", "leiden + 1 == 2", "leiden < 1"),
    *("leiden == '1'", "note > 3", "whole", "whole + 1", "['cell0-3', 'cell0-1'] == index", "flag.isna", "nowhere > 1"),
    *(
        "text.isna()",
        "text == text",
        "text != 'x'",
        "day > '2024-03-01'",
        "day.dt.month == 3",
        "day.dt.day_name() == 'Monday'",
    ),
    *("columns == 'whole'", "whole >", "", "whole > 0\nand flag", "1 == 1", "\n whole > 0 \n"),
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=repr)
def test_pandas_chooses_the_rows(forms: Forms, expression: str) -> None:
    for name, data, obs in forms:
        assert chosen(data, expression) == wanted(obs, expression), name


NUMBERS = st.sampled_from(["whole", "real", "Größe", "`n.genes`", "leiden", "score", "index", "stage", "note", "maybe"])
VALUES = st.sampled_from(
    ["0", "1", "-1", "0.5", "2.5", "'a'", "'hi'", "'T cell'", "True", "whole", "real", "`n.genes`"]
)
COMPARED = st.builds(
    "{} {} {}".format, NUMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), VALUES
) | st.builds("{} {} [{}, {}]".format, NUMBERS, st.sampled_from(["in", "not in"]), VALUES, VALUES)
ASKED = st.builds("{}.{}()".format, NUMBERS, st.sampled_from(["isna", "notna", "duplicated"]))
COUNTED = st.builds("{} {} {} > {}".format, NUMBERS, st.sampled_from("+-*/%"), NUMBERS, VALUES)
FLAGS = st.sampled_from(["flag", "maybe", "doublet", "not flag", "~maybe", "`cell type` == 'T cell'"])

TEXTS = st.sampled_from(["text == 'x'", "text.isna()", "text != text", "day > '2024-03-01'", "day.dt.day == 29"])


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(["and", "or", "&", "|"])
    return (
        st.builds("({}) {} ({})".format, inner, operator, inner)
        | inner.map("not ({})".format)
        | inner.map("~({})".format)
    )


@settings(max_examples=120, deadline=None)
@given(expression=st.recursive(COMPARED | ASKED | COUNTED | FLAGS, _combined, max_leaves=4))
def test_any_expression_is_pandas(forms: Forms, expression: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own, of both
        for name, data, obs in forms:
            assert chosen(data, expression) == wanted(obs, expression), name


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), expressions=st.lists(COMPARED | ASKED | FLAGS | TEXTS, min_size=3, max_size=6))
def test_any_table_is_pandas(tmp_path_factory: pytest.TempPathFactory, seed: int, expressions: list[str]) -> None:
    for name, data, obs in forms_of(seed, tmp_path_factory.mktemp("tables"), n=9):
        for expression in expressions:
            assert chosen(data, expression) == wanted(obs, expression), (name, expression)


@pytest.mark.parametrize(
    "expression",
    [
        *("note.to_csv('made')", "whole.to_pickle('made')", "index.to_frame()", "note.map(str)", "note.apply(print)"),
        *("note.pipe(print)", "note.transform(abs)", "whole.agg('max') > 1", "note.__class__", "note.str.__class__"),
        *("note.str._data", "@pd.io", "@x > whole", "whole > @x", "__pd_eval_local_x > whole", "print(whole)"),
        *("whole.eval('1')", "(lambda: whole)()", "[v for v in whole]", "f'{whole}' == '1'", "whole if flag else real"),
        *("whole['__import__(1)']", "whole[index]", "whole.fillna(0, inplace=True) == 1", "whole.clip(**real)"),
        *("{whole: 1}", "{whole}", "whole is None", "(w := whole)", "whole @ whole"),
        *(
            "whole.isna()()",
            "whole.values.partition(3)",
            "whole.values.tofile('made')",
            "datetime.now()",
            "whole.cell0",
            "x.y.z",
            "`@x` > 1",
        ),
    ],
)
def test_no_code_runs(expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = 1
    with pytest.raises(ParameterError, match="rows="):
        IndexSource(adata_of(table()), rows=expression)
    assert not list(tmp_path.iterdir())
    assert x == 1


def test_a_single_equals_sign_is_told() -> None:
    for expression in ("whole = 1", "note = 'a'"):
        with pytest.raises(ParameterError, match=r"did you mean ==\?"):
            IndexSource(adata_of(table()), rows=expression)


def test_an_at_sign_says_what_to_do() -> None:
    with pytest.raises(ParameterError, match="write its value into the expression"):
        AnnDataset(adata_of(table()), obs_subset="whole > @least")


def test_an_index_of_a_name_is_known_by_it(tmp_path: Path) -> None:
    obs = table()
    obs.index.name = "barcode"
    memory = adata_of(obs)
    for data in (memory, path := write(memory, tmp_path / "cells.h5ad")):
        for expression in ("barcode == 'cell0-3'", "index == 'cell0-3'", "ilevel_0 == 'cell0-3'"):
            assert chosen(data, expression) == wanted(anndata.read_h5ad(path).obs if data is path else obs, expression)


def test_only_what_is_mentioned_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = IndexSource(write(adata_of(table()), tmp_path / "cells.h5ad"))
    loaded: list[Any] = []
    plain = type(source.store).series

    def series(store: Any, column: Any) -> Any:
        loaded.append(column)
        return plain(store, column)

    monkeypatch.setattr(type(source.store), "series", series)
    source.store.rows("`n.genes` > 1 and flag and note != 'whole'")
    assert loaded == ["flag", "n.genes", "note"]


def test_columns_of_other_kinds_in_other_files_are_strings() -> None:
    first, second = table()[["whole", "leiden"]], table(1)[["whole", "leiden"]]
    second["whole"] = pd.Categorical(["a", "1"] * (N // 2))
    second["leiden"] = pd.Categorical(["1", "x"] * (N // 2))
    data = [adata_of(first), adata_of(second)]
    for column in ("whole", "leiden"):
        both = pd.concat([frame[column].astype(object).where(frame[column].notna(), None) for frame in (first, second)])
        assert chosen(data, f"{column} == '1'") == np.flatnonzero(both.map(str) == "1").tolist()
        assert chosen(data, f"{column}.isna()") == np.flatnonzero(both.isna()).tolist()


def test_a_column_that_a_file_lacks_is_missing_there() -> None:
    first, second = adata_of(table()), adata_of(table(1).drop(columns=["whole", "leiden", "note", "maybe"]))
    data = Collection([first, second], missing="fill")
    for column in ("whole", "leiden", "note", "maybe"):
        gone = [*np.flatnonzero(first.obs[column].isna()), *range(N, 2 * N)]
        assert chosen(data, f"{column}.isna()") == gone
    assert chosen(data, "leiden == 1") == np.flatnonzero(first.obs["leiden"] == 1).tolist()
