"""What `inspect` tells of a file agrees with h5py, anndata and scipy."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import N_OBS, adata_of, tiny, write
from inspections import found
from scipy import sparse
from storage_files import (
    create,
    csr_of,
    dense_file,
    matrix_values,
    relayout,
    text_of,
    with_plain_names,
)
from storage_files import write as write_x

from annpipes import IndexSource
from annpipes.errors import DamageError, FieldError, FormatError, ParameterError, ParameterTypeError, SourceError
from annpipes.tools.inspecting import inspect


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("x", ["csr", "dense", "csc"])
def test_sizes_types_and_counts_are_those_of_the_file(tmp_path: Path, x: str, compression: str | None) -> None:
    path = write(adata_of(x=x), tmp_path / "cells.h5ad", compression)
    report, adata = inspect(path), anndata.read_h5ad(path)
    assert (report.n_obs, report.n_vars) == adata.shape
    assert report.file_bytes == path.stat().st_size
    layers = {f"layers/{key}": adata.layers[key] for key in adata.layers if key is not None}  # which is X
    values = {"X": adata.X, "raw/X": adata.raw.X, **layers}
    values |= {f"obsm/{key}": value for key, value in adata.obsm.items()}
    with h5py.File(path) as file:
        for field, matrix in values.items():
            told, element = report[field], file[field]
            parts = list(element.values()) if isinstance(element, h5py.Group) else [element]
            assert told.shape == matrix.shape
            assert told.dtype == str(matrix.dtype)
            assert told.decoded_bytes == sum(part.nbytes for part in parts)
            assert told.stored_bytes == sum(part.id.get_storage_size() for part in parts)
            assert told.storage_chunk == (element["data"] if sparse.issparse(matrix) else element).chunks
            assert told.codec == (compression or "")
            if sparse.issparse(matrix):
                assert told.encoding == matrix.format
                assert (told.stored_values, told.index_dtype) == (matrix.nnz, str(matrix.indices.dtype))
                assert told.density == pytest.approx(matrix.nnz / np.prod(matrix.shape))
            if sparse.issparse(matrix) and matrix.format == "csr":
                counts = np.diff(matrix.indptr)
                per_row = (told.per_row.least, told.per_row.median, told.per_row.mean, told.per_row.most)
                assert per_row == (counts.min(), np.median(counts), counts.mean(), counts.max())


def test_every_field_is_told_and_no_more(h5ad: Path) -> None:
    fields = IndexSource(h5ad).store.fields
    assert [report.field for report in inspect(h5ad).fields] == [field for field in fields if field != "rows"]


@pytest.mark.parametrize(
    ("column", "encoding", "dtype", "categories"),
    [
        ("obs/int16", "numbers", "int16", None),
        ("obs/float64", "numbers", "float64", None),
        ("obs/bool", "booleans", "bool", None),
        ("obs/barcode", "strings", "text", None),
        ("obs/cell_type", "categories", "int8", 4),
        ("obs/alias", "nullable string", "text", None),
        ("obs/nullable_int", "nullable integer", "int64", None),
        ("obs/nullable_bool_absent", "nullable boolean", "bool", None),
        ("obs_names", "strings", "text", None),
    ],
)
def test_columns_are_told_by_their_encoding(
    h5ad: Path, column: str, encoding: str, dtype: str, categories: int | None
) -> None:
    report = inspect(h5ad)[column]
    if encoding == "strings" and text_of(h5ad, "obs/_index" if column == "obs_names" else column).endswith("/values"):
        encoding = "nullable string"  # what anndata 0.13 writes with pandas 3
    assert (report.encoding, report.dtype, report.categories) == (encoding, dtype, categories)
    assert (report.shape, report.error) == ((N_OBS,), "")


def test_a_table_in_obsm_is_told(tmp_path: Path) -> None:
    adata = tiny(9)
    adata.obsm["scores"] = pd.DataFrame({"a": np.arange(9.0), "b": 1}, index=adata.obs_names)
    adata.obsm["words"] = pd.DataFrame({"a": list("abcdefghi")}, index=adata.obs_names)
    report = inspect(write(adata, tmp_path / "cells.h5ad"))
    assert report["obsm/scores"].encoding == "table"
    assert report["obsm/scores"].route == "memory (a table)"
    assert "copy it to obs" in found(report, "obsm/words", "remark")


def test_blocks_and_memory_are_those_of_a_source(h5ad: Path) -> None:
    report, source = inspect(h5ad, chunk_size=10), IndexSource(h5ad)
    assert report.block_size == source.plan.block_size
    assert report.block_reason == source.block_reason
    x = anndata.read_h5ad(h5ad).X
    assert report.chunk_bytes == pytest.approx(10 * x.nnz / N_OBS * 8)
    assert report.loader_bytes == 2 * report.chunk_bytes
    assert inspect(h5ad).loader_bytes == inspect(h5ad).chunk_bytes  # there is but one chunk


def test_elements_that_are_no_fields_are_listed_with_their_size(tmp_path: Path) -> None:
    adata = tiny(9)
    adata.obsp["near"] = sparse.identity(9, format="csr")
    adata.uns["note"] = np.arange(5)
    others = {other.name: other.stored_bytes for other in inspect(write(adata, tmp_path / "cells.h5ad")).others}
    assert others == {"obsp": 9 * 8 + 9 * 4 + 10 * 4, "uns": 5 * 8}


def test_it_is_plain_values_for_machines(h5ad: Path) -> None:
    report = inspect(h5ad)
    values = json.loads(json.dumps(report.to_dict()))
    assert values["n_obs"] == N_OBS
    assert [field["field"] for field in values["fields"]] == [field.field for field in report.fields]


def test_a_matrix_is_not_read_as_a_whole(tmp_path: Path) -> None:
    values = np.ones((5000, 20), "f4")
    path = dense_file(tmp_path / "cells.h5ad", chunks=(10, 20), compression="gzip")
    write_x(path, values)
    relayout(path, "X", create(chunks=(10, 20), compression="gzip"))
    assert inspect(path)["X"].sample.rows == 256


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (4, 0), (1, 1)])
@pytest.mark.parametrize("make", [np.asarray, csr_of])
def test_small_files_have_no_problems(tmp_path: Path, shape: tuple[int, int], make: Any) -> None:
    report = inspect(write_x(tmp_path / "cells.h5ad", make(np.ones(shape, "f4"))))
    assert not report.findings
    assert str(report)


def test_names_may_be_odd(tmp_path: Path) -> None:
    adata = tiny(3)
    adata.layers["a: b (c)"] = adata.X.copy()
    adata.obs["Ümläut [%]"] = [1, 2, 3]
    report = inspect(write(adata, tmp_path / "odd: näme.h5ad"))
    assert report["layers/a: b (c)"].route == "direct (uncompressed)"
    assert "obs/Ümläut [%]" in str(report)


@pytest.mark.parametrize("data", [tiny(3), ["a.h5ad"], 7, None], ids=["AnnData", "list", "number", "None"])
def test_what_is_no_path_is_refused(data: Any) -> None:
    with pytest.raises(ParameterTypeError, match=r"path must be the path of one file, got .*write_h5ad"):
        inspect(data)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        inspect(tmp_path / "absent.h5ad")
    (tmp_path / "text.h5ad").write_text("obs,var")
    with pytest.raises(FormatError, match="not an HDF5 file"):
        inspect(tmp_path / "text.h5ad")
    path = write(tiny(3), tmp_path / "cut.h5ad")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamageError, match=r"cut\.h5ad"):
        inspect(path)


def test_parameters_are_checked(h5ad: Path) -> None:
    with pytest.raises(ParameterError, match="chunk_size must be at least 1, got 0"):
        inspect(h5ad, chunk_size=0)
    with pytest.raises(FieldError, match="no field 'Y' in"):
        inspect(h5ad)["Y"]


def test_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_plain_names(write_x(Path("small.h5ad"), csr_of(matrix_values())))
    for name in ("data", "indices"):
        relayout(path, f"X/{name}", create(chunks=16, compression="gzip"))
    with h5py.File(path) as file:  # what zlib makes of it is its own affair
        stored = sum(part.id.get_storage_size() for part in file["X"].values())
    decoded = np.count_nonzero(matrix_values()) * 8 + 24 * 4
    size, ratio = f"{path.stat().st_size / 1000:.3g} kB", f"{decoded / stored:.3g}"
    assert str(inspect(path)) == PRINTED.format(size=size, stored=f"{stored} B", ratio=ratio)


PRINTED = textwrap.dedent("""\
    small.h5ad: 23 rows × 9 genes, {size}

    matrix  encoding  dtype            columns  stored  ratio  codec  storage chunk      route
    X       csr       float32 + int32        9   {stored}   {ratio}  gzip   16 (about 4 rows)  direct

    values per row  least  median  mean  most  density
    X                   0       4     4     7    0.444

    column     encoding  dtype  stored  ratio  codec  storage chunk
    obs_names  strings   text        –      –  –      –

    blocks    8 rows: two storage chunks of about 4 rows, direct (gzip)
    memory    736 B for a chunk of 23 rows of X, 736 B for a Loader (one in use, one being read)

    remark    X: gzip: read directly and with all cores, but most of the time goes into decompressing it
              → where speed matters, `cache=` decodes it once; `annpipes shuffle` writes it with lz4, or
              uncompressed""")
