"""Every field of the files in ``corpus``, as annpipes reads it, is what the installed anndata reads."""

from __future__ import annotations

import atexit
import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata._io.specs.registry import IORegistryError
from builders import dense
from scipy import sparse

import annpipes as ap
from annpipes.errors import AnnpipesError, FormatError

CORPUS = Path(__file__).parent / "corpus"
FILES = {path.stem: path for path in sorted(CORPUS.glob("*.h5ad"))}
ARCHIVES = {path.name.removesuffix(".tar.xz"): path for path in sorted(CORPUS.glob("*.zarr.tar.xz"))}
ZARR = not version("anndata").startswith("0.11")  # which does not read with zarr 3
REFUSED_BY_ANNDATA = ("anndatar-integers", "muon-jl-absent")
READ = [name for name in [*FILES, *(ARCHIVES if ZARR else [])] if name not in REFUSED_BY_ANNDATA]

Reader = Callable[[Any, str], tuple[Any, Any]]

# anndata says so of files that it or others wrote long ago; here they are what is being read.
pytestmark = pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")


@cache
def path_of(name: str) -> Path:
    """A file of the corpus, or one of its stores, unpacked."""
    if name in FILES:
        return FILES[name]
    folder = Path(mkdtemp()) / name
    atexit.register(shutil.rmtree, folder.parent)
    shutil.unpack_archive(ARCHIVES[name], folder, filter="data")
    return folder


@cache
def oracle(name: str) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are no strings, of names that stand twice, of old encodings
        try:
            return anndata.read_zarr(path_of(name)) if name in ARCHIVES else anndata.read_h5ad(path_of(name))
        except IORegistryError as error:  # anndata 0.11 does not know elements that hold nothing
            if "encoding_type='null'" not in str(error):
                raise
    gc.collect()  # frames of the error hold h5py's lock in an iterator, and no other thread could read
    pytest.skip("this anndata cannot read the file")


def fields_of(adata: anndata.AnnData) -> Iterator[tuple[str, Any]]:
    """Each field but obs names, with what anndata has of it."""
    if adata.X is not None:
        yield "X", adata.X
    for key in adata.layers:
        if key is not None:  # anndata 0.13 has X there, too
            yield f"layers/{key}", adata.layers[key]
    if adata.raw is not None:
        yield "raw/X", adata.raw.X
    for key in adata.obsm:
        yield f"obsm/{key}", adata.obsm[key]
    for column in adata.obs:
        yield f"obs/{column}", adata.obs[column]


def is_number(dtype: Any) -> bool:
    """Whether a column of that type is documented to be read as numbers."""
    return not isinstance(dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(dtype)


def is_complex(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "c"


def readable(values: Any) -> bool:
    """Whether a field is documented to be read; long doubles may be."""
    if isinstance(values, pd.Series):
        return not is_complex(values.dtype)
    if isinstance(values, pd.DataFrame):
        return all(is_number(dtype) and not is_complex(dtype) for dtype in values.dtypes)
    if sparse.issparse(values) and values.format == "csc":
        return False
    return values.ndim == 2 and values.dtype.kind in "biuf"


def matrix_expected(values: Any) -> np.ndarray[Any, Any]:
    """As float32, which is what every matrix is after `collate_rows`."""
    if isinstance(values, pd.DataFrame):
        columns = [values[column].to_numpy(np.float64, na_value=np.nan) for column in values]
        return np.stack(columns, axis=1).astype(np.float32)
    return dense(values).astype(np.float32)


def labels_expected(column: pd.Series[Any]) -> tuple[list[str], np.ndarray[Any, Any], tuple[str, ...]]:
    """Strings with "" for missing ones, codes with -1, and the table: that of categories, or the sorted strings."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        table, codes = tuple(map(str, column.cat.categories)), column.cat.codes.to_numpy().astype(np.int64)
    else:
        known = [None if pd.isna(value) else str(value) for value in column]
        table = tuple(sorted({value for value in known if value is not None}))
        codes = np.array([-1 if value is None else table.index(value) for value in known], np.int64)
    return ["" if code < 0 else table[code] for code in codes], codes, table


def numbers_expected(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    if isinstance(column.dtype, np.dtype):
        return column.to_numpy()
    if column.isna().any():
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.to_numpy(column.dtype.numpy_dtype)  # type: ignore[attr-defined]


def key_of(field: str) -> str:
    return field.removesuffix(":code").replace("/", "_")


def by_stream(data: Any, field: str) -> tuple[Any, Any]:
    """All rows in shuffled order: the values, and which rows they are."""
    batches = list(ap.stream(data, batch_size=5, fields=[field, "rows"], seed=1))
    rows = np.concatenate([batch["rows"].numpy() for batch in batches]) if batches else np.zeros(0, int)
    values = [value for batch in batches for value in batch[key_of(field)]]
    return values, rows


def by_dataset(data: Any, field: str) -> tuple[Any, Any]:
    """Rows by position, the last first and one twice."""
    dataset = ap.AnnDataset(data, fields=[field])
    rows = np.r_[: len(dataset)][::-1]
    rows = np.r_[rows, rows[:1]]
    return [item[key_of(field)] for item in dataset.__getitems__(rows.tolist())] if len(rows) else [], rows


def same_array(got: Any, expected: Any, what: str) -> None:
    got = np.stack([np.asarray(value) for value in got])
    unsigned = expected.dtype.kind == "u" and got.dtype.kind == "i"  # torch has few operations on unsigned numbers
    wide = expected.dtype == np.longdouble  # torch has none
    assert got.dtype == expected.dtype or unsigned or wide, (what, got.dtype, expected.dtype)
    expected = expected.astype(np.float64) if wide else expected
    np.testing.assert_array_equal(got, expected, err_msg=what)


def compare(read: Reader, data: Any, field: str, values: Any) -> None:
    """One field; of labels the codes, too."""
    got, rows = read(data, field)
    if read is by_stream:
        assert sorted(rows.tolist()) == list(range(len(rows)))
    assert len(got) == len(rows) >= values.shape[0], "every row"
    if len(rows) == 0:
        return
    if not isinstance(values, pd.Series):
        same_array(got, matrix_expected(values)[rows], "values")
    elif is_number(values.dtype):
        same_array(got, numbers_expected(values)[rows], "values")
    else:
        strings, codes, table = labels_expected(values)
        assert list(got) == [strings[row] for row in rows], "strings"
        assert ap.IndexSource(data).categories(field.removeprefix("obs/")) == table, "categories"
        got, rows = read(data, f"{field}:code")
        same_array(got, codes[rows], "codes")


def refuses(read: Reader, data: Any, field: str) -> None:
    """The field is refused, by name, as what is not supported; nothing is called damaged."""
    with pytest.raises(AnnpipesError) as caught:
        read(data, field)
    assert isinstance(caught.value, FormatError), f"{caught.type.__name__}: {caught.value}"
    assert field.partition("/")[2] in str(caught.value), f"the message names no field: {caught.value}"


def problem_of(read: Reader, data: Any, field: str, values: Any) -> str:
    """What is wrong with how a field is read; "" if nothing is."""
    long = isinstance(values, pd.Series) and values.dtype == np.longdouble
    try:
        if not readable(values):
            refuses(read, data, field)
        elif long:  # torch has no such numbers: right, or refused
            try:
                compare(read, data, field, values)
            except FormatError:
                refuses(read, data, field)
        else:
            compare(read, data, field, values)
    except (Exception, pytest.fail.Exception) as error:  # each field is tried, whatever becomes of the others
        return f"{field}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def problems(read: Reader, name: str, data: Any) -> list[str]:
    adata = oracle(name)
    found = [problem_of(read, data, field, values) for field, values in fields_of(adata)]
    return [*filter(None, found), *filter(None, [names_problem(read, name, data)])]


def names_problem(read: Reader, name: str, data: Any) -> str:
    try:
        got, rows = read(data, "obs_names")
        names = [str(cell) for cell in oracle(name).obs_names]
        assert list(got) == [names[row] for row in rows], (got, names)
    except Exception as error:
        return f"obs_names: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def is_slow(finding: ap.reports.Finding) -> bool:
    """Whether it is only about speed: LZF is read, but by HDF5."""
    return finding.what.startswith("read through h5py")


def test_the_corpus_is_there() -> None:
    versions = {name.split("-")[1] for name in FILES if name.startswith("anndata-0.")}
    assert versions == {"0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13"}
    assert {name.split("-")[1] for name in ARCHIVES} == {f"{one}.zarr" for one in versions - {"0.7"}}
    assert {"seuratdisk", "zellkonverter", "anndatar", "muon-jl", "anndata-0-6"} <= set(FILES)


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in FILES.values()]
    assert max(sizes) < 100_000
    assert sum(sizes) < 1_000_000
    assert max(path.stat().st_size for path in ARCHIVES.values()) < 20_000


@pytest.mark.parametrize("name", READ)
def test_stream_reads_every_field_as_anndata_does(name: str) -> None:
    found = problems(by_stream, name, path_of(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", READ)
def test_dataset_reads_every_field_as_anndata_does(name: str) -> None:
    found = problems(by_dataset, name, path_of(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", READ)
def test_an_object_in_memory_is_read_as_its_file(name: str) -> None:
    found = problems(by_dataset, name, oracle(name))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", READ)
def test_fields_and_shape_are_those_of_anndata(name: str) -> None:
    adata, store = oracle(name), ap.IndexSource(path_of(name)).store
    assert (store.n_obs, store.n_vars) == adata.shape
    assert {*store.fields} - {"obs_names", "rows"} == {field for field, _ in fields_of(adata)}
    assert store.var_names.tolist() == [str(gene) for gene in adata.var_names]
    assert store.obs_names.tolist() == [str(cell) for cell in adata.obs_names]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("form", ["file", "object"])
def test_var_is_that_of_anndata(name: str, form: str) -> None:
    var = ap.IndexSource(path_of(name) if form == "file" else oracle(name)).var
    expected = oracle(name).var
    assert var.index.tolist() == [str(gene) for gene in expected.index]
    same_rows = var.reset_index(drop=True), expected.reset_index(drop=True)
    pd.testing.assert_frame_equal(*same_rows, check_column_type=False)  # of no columns, the type of their names


@pytest.mark.parametrize("name", READ)
def test_nothing_is_found_wrong(name: str) -> None:
    report = ap.check(path_of(name))
    assert report.healthy, str(report)
    refused = {field for field, values in fields_of(oracle(name)) if not readable(values)}
    inspection = ap.inspect(path_of(name))
    # Whether a long double is read or refused is left open, so it may be named.
    assert not [field.field for field in inspection.fields if "cannot be opened" in field.error]
    wrong = [finding for finding in inspection.findings if finding.level == "problem" and not is_slow(finding)]
    named = {field for finding in wrong for field in finding.field.split(", ")} - {"obs/longdouble"}
    assert named <= refused, str(wrong)
    assert (inspection.n_obs, inspection.n_vars) == oracle(name).shape


@pytest.mark.parametrize("name", REFUSED_BY_ANNDATA)
def test_a_column_that_anndata_refuses_spoils_no_other(name: str) -> None:
    """A nullable boolean of integers is no damage; codes without a category, which contradict the table, may be."""
    for field in sorted({*ap.IndexSource(path_of(name)).store.fields} - {"rows"}):
        try:
            got, rows = by_stream(path_of(name), field)
        except AnnpipesError as error:
            refused = ("obs/flag",) if isinstance(error, FormatError) else ("obs/uint8", "obs/uint32")
            if field not in refused or field not in str(error):
                raise
        else:
            assert len(got) == len(rows) == 6
