"""The files of the corpus that anndata itself writes, with the version that runs this: ``python write.py FOLDER``.

Runs under Python 3.8 and anndata 0.7 as under today's; README.md says how each environment is made. What a version
cannot write is left out of its files, found by trying each piece alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

try:
    from importlib.metadata import version
except ImportError:
    from importlib_metadata import version

N_OBS, N_VARS = 12, 5
VERSION = ".".join(version("anndata").split(".")[:2])
MINOR = int(VERSION.split(".")[1])
RECENT = MINOR >= 11
WHOLE = MINOR in (7, 13)  # the oldest and the newest write more files, and more types of numbers
PLACES = np.arange(N_OBS)
CELLS = [f"cell {i} é" for i in PLACES]
ABSENT = PLACES % 4 == 1


def column(values: Any, dtype: Any) -> pd.Series:
    return pd.Series(values, index=CELLS, dtype=dtype)


def with_absent(values: Any, dtype: str) -> pd.Series:
    return column(pd.array([None if ABSENT[i] else values[i] for i in PLACES], dtype=dtype), dtype)


def categories(labels: Any, codes: Any, ordered: bool = False) -> pd.Series:
    return column(pd.Categorical.from_codes(codes, pd.Index(labels), ordered=ordered), None)


def numbers() -> dict[str, Any]:
    """Columns of numbers and booleans of every width, at the ends of their ranges."""
    made: dict[str, Any] = {}
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(kind)
        # Beyond 2^31 and 2^53, but not beyond what torch's int64 holds.
        ends = [limits.min, min(limits.max, 2**63 - 1), 0, 1, min(limits.max, 2**53 + 1), min(limits.max, 2**31 + 5)]
        made[kind] = column(np.array(ends * 2, kind), kind)
    for kind in ("float16", "float32", "float64"):
        made[kind] = column(np.where(ABSENT, np.nan, PLACES / 7 - 0.5).astype(kind), kind)
    made["longdouble"] = column((PLACES / np.longdouble(3)).astype(np.longdouble), np.longdouble)
    made["complex128"] = column(PLACES + 1j, np.complex128)
    made["infinite"] = column(np.where(PLACES % 2, np.inf, -np.inf), float)
    made["mostly missing"] = column(np.where(PLACES == 7, 0.25, np.nan), float)
    made["all missing"] = column(np.full(N_OBS, np.nan), float)
    made["bool"] = column(PLACES % 3 == 0, bool)
    return made


def nullable_numbers() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for kind in ("Int8", "Int64", "UInt16", "UInt64") if WHOLE else ("Int64",):
        made[kind] = with_absent([int(i) for i in PLACES], kind)
    made["Int64 whole"] = column(pd.array([2**53 + int(i) for i in PLACES], dtype="Int64"), "Int64")
    made["boolean"] = with_absent([bool(i % 3) for i in PLACES], "boolean")
    made["boolean whole"] = column(pd.array([bool(i % 3) for i in PLACES], dtype="boolean"), "boolean")
    with suppress(TypeError):  # pandas 1.1 has none
        made["Float32"] = with_absent([float(i) for i in PLACES], "Float32")
    return made


def labels() -> dict[str, Any]:
    """Strings and categories of all that categories can be of."""
    some = np.where(ABSENT, -1, PLACES % 3)
    made = {
        "barcode": column([f"AC{i:02}–GT" for i in PLACES], None),
        "dotted.name": column(["a", "β", "a", "c d"] * 3, None),
        "größe:10 µm": column(["", "NaN", "nan", "None"] * 3, None),
        "absent strings": column([None if i in (1, 2) else "xyz"[i % 3] for i in PLACES], object),
        "absent barcodes": column([np.nan if i % 5 == 1 else f"b{i}" for i in PLACES], object),
        "nearly no strings": column([None if i != 3 else "one" for i in PLACES], object),
        "cell type": categories(["T", "never seen", "B", "NK"], some),
        "stage": categories(["early", "mid", "late"], some[::-1], ordered=True),
        "lane": categories([10, 2, -7], some),
        "dose": categories([0.1, 1.0, 2.5], some),
        "flag": categories([False, True], PLACES % 2),
        "no labels": categories(["a"], np.full(N_OBS, -1)),
        "string": column([f"s{i}" for i in PLACES], "string"),
        "absent string": with_absent([f"s{i % 2}" for i in PLACES], "string"),
    }
    if WHOLE:  # with codes of 16 bits
        made["of 150"] = categories([f"c{i}" for i in range(150)], np.where(ABSENT, -1, 149 - PLACES))
    if RECENT:
        made["of string"] = categories(pd.array(["u", "v", "w"], dtype="string"), some)
    return made


def obsm() -> dict[str, Any]:
    """Arrays, sparse matrices and tables beside X."""
    frame = pd.DataFrame({"i": PLACES.astype("int16"), "f": PLACES / 3, "b": PLACES % 2 == 0}, index=CELLS)
    absent = frame[["i"]].assign(n=with_absent([int(i) for i in PLACES], "Int32").to_numpy(object))
    mixed = frame[["f"]].assign(name=[f"n{i}" for i in PLACES], kind=pd.Categorical(["p", "q"] * (N_OBS // 2)))
    made = {
        "X_pca": (PLACES[:, None] / np.arange(2, 5)).astype("float64"),
        "no columns": np.zeros((N_OBS, 0), "float32"),
        "near": sparse.csr_matrix(np.eye(N_OBS, 7, 1, "float32")),
        "by columns": sparse.csc_matrix(np.eye(N_OBS, 7, 1, "float32")),
        "table": frame,
        "absent table": absent.astype({"n": "Int32"}),
        "mixed table": mixed,
        "images": np.arange(N_OBS * 4, dtype="float32").reshape(N_OBS, 2, 2),
        "strings": np.array([[f"a{i}", "b"] for i in PLACES], object),
        "complex": PLACES[:, None] * np.array([1, 1j]),
    }
    if WHOLE:
        made["ints"] = np.outer(PLACES, [1, -2]).astype("int32")
        made["half"] = np.outer(PLACES, [0.5, 0.25]).astype("float16")
        made["bool"] = np.outer(PLACES, [1, 0]) > 3
    return made


def values(dtype: str, seed: int = 0, n_obs: int = N_OBS, n_vars: int = N_VARS) -> Any:
    """Counts of which most are 0; every fifth row is empty."""
    found = np.random.RandomState(seed).poisson(0.8, (n_obs, n_vars))
    found[::5] = 0
    return found.astype(dtype) if dtype != "float64" else found / 3


def wide_indices(matrix: Any) -> Any:
    """The same with 64-bit indices, as large matrices have."""
    made = matrix.copy()
    made.indices, made.indptr = made.indices.astype("int64"), made.indptr.astype("int64")
    return made


def layers() -> dict[str, Any]:
    made: dict[str, Any] = {}
    dense, packed = ("int8", "int64", "float16", "bool"), ("uint16", "int64", "float64", "bool")
    if not WHOLE:  # the encodings are the same, and the types take turns
        dense, packed = dense[MINOR % 4 :][:1], packed[MINOR % 4 :][:1]
    for i, kind in enumerate(dense):
        made[f"dense {kind}"] = values(kind, i)
    for i, kind in enumerate(packed):
        made[f"csr {kind}"] = sparse.csr_matrix(values(kind, i + 10))
    if WHOLE:
        made["csr int64 indices"] = wide_indices(sparse.csr_matrix(values("float32", 30)))
        made["csr empty"] = sparse.csr_matrix((N_OBS, N_VARS), dtype="float32")
    made["csc"] = sparse.csc_matrix(values("float32", 31))
    if hasattr(sparse, "csr_array") and RECENT:
        made["csr_array"] = sparse.csr_array(values("float32", 32))
    made["complex"] = values("float32", 33) * 1j
    return made


def var_of(names: Any) -> pd.DataFrame:
    """What is known about genes: strings, categories, booleans and numbers."""
    var = var_named(names)
    places = np.arange(len(var))
    var["symbol"] = [f"S{i}" for i in places]
    var["chromosome"] = pd.Categorical(np.where(places % 2, "X", "1"))
    var["highly variable"] = places % 2 == 0
    var["n"] = places.astype("int32")
    return var


def var_named(names: Any) -> pd.DataFrame:
    return pd.DataFrame({"means": np.arange(len(names)) / 3}, index=pd.Index(names))


def adata_of(x: Any, obs: Any = None, var: Any = None, **more: Any) -> Any:
    n_obs, n_vars = (N_OBS, N_VARS) if x is None else x.shape
    obs = pd.DataFrame(index=CELLS[:n_obs]) if obs is None else obs
    var = var_named([f"gene-{i}" for i in range(n_vars)]) if var is None else var
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if x is None or MINOR >= 8:
            return anndata.AnnData(x, obs=obs, var=var, **more)
        return anndata.AnnData(x, obs=obs, var=var, dtype=x.dtype, **more)  # else anndata 0.7 casts to float32


def write(adata: Any, path: str, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_h5ad(path, **options)


def able(make: Any, save: Any = write, load: Any = anndata.read_h5ad, name: str = "a.h5ad") -> bool:
    """Whether this version saves what ``make`` makes, and loads it again."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            save(make(), os.path.join(folder, name))
            load(os.path.join(folder, name))
        except Exception:
            return False
    return True


def writable(group: str, pieces: dict[str, Any], able: Any = able) -> dict[str, Any]:
    """Those pieces of a group that this version is ``able`` to write, each tried alone."""
    x = sparse.csr_matrix(values("float32"))

    def alone(name: str) -> Any:
        if group == "obs":
            return adata_of(x, obs=pd.DataFrame({name: pieces[name]}, index=CELLS))
        return adata_of(x, **{group: {name: pieces[name]}})

    return {name: pieces[name] for name in pieces if able(lambda name=name: alone(name))}


def table(pieces: dict[str, Any], name: Any = None) -> pd.DataFrame:
    return pd.DataFrame(writable("obs", pieces), index=pd.Index(CELLS, name=name))


def with_raw(adata: Any, x: Any) -> Any:
    """The same with genes in raw that x has not."""
    genes = [f"gene-{i}" for i in range(x.shape[1])]
    adata.raw = adata_of(x, obs=pd.DataFrame(index=adata.obs_names), var=var_named(genes))
    return adata


def at(folder: str, name: str) -> str:
    return os.path.join(folder, f"anndata-{VERSION}-{name}.h5ad")


def write_large(folder: str) -> None:
    float32 = values("float32")
    obs = {**numbers(), **nullable_numbers(), **labels()}
    write(adata_of(sparse.csr_matrix(float32), table(obs, "the barcode")), at(folder, "obs"))
    genes = var_of(["gène 1", "g.2", "3", "γ", "4 "]).rename_axis("gene id")
    matrices = adata_of(values("int32"), var=genes, layers=writable("layers", layers()), obsm=writable("obsm", obsm()))
    write(with_raw(matrices, sparse.csr_matrix(values("float64", 40, n_vars=8))), at(folder, "matrices"))


def few() -> pd.DataFrame:
    return pd.DataFrame({"number": PLACES, "label": pd.Categorical(["a", "b"] * (N_OBS // 2))}, index=CELLS)


def write_packed(folder: str) -> None:
    """Compressed, and in the format that HDF5 chooses when it is not told."""
    x = values("float32")
    name = "gzip" if MINOR == 7 else "lzf"
    write(adata_of(sparse.csr_matrix(x) if MINOR == 7 else x, few()), at(folder, name), compression=name)


def write_small(folder: str) -> None:
    float32 = values("float32")
    shapes: dict[str, Any] = {
        "no-x": lambda: adata_of(None, few()),
        "no-rows": lambda: adata_of(sparse.csr_matrix((0, N_VARS), dtype="float32"), few()[:0]),
        "no-genes": lambda: adata_of(np.zeros((N_OBS, 0), "float32"), few()),
        "csc": lambda: adata_of(sparse.csc_matrix(float32), few()),
    }
    for name, make in shapes.items():
        if able(make) and (MINOR == 13 or name in ("no-x", "csc")):
            write(make(), at(folder, name))


@contextmanager
def compactly() -> Iterator[None]:
    """HDF5's own choice takes kilobytes for each group; this is its format of version 1.10, as large files have it."""
    opening = h5py.File.__init__

    def open_compactly(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
        opening(self, name, mode, *args, **({"libver": ("v110", "v110"), **options} if mode == "w" else options))

    h5py.File.__init__ = open_compactly
    try:
        yield
    finally:
        h5py.File.__init__ = opening


if __name__ == "__main__":
    if RECENT and MINOR < 13:  # 0.13 is left as it comes: it writes nullable strings
        anndata.settings.allow_write_nullable_strings = True
    with compactly():
        write_large(sys.argv[1])
        if WHOLE:
            write_small(sys.argv[1])
    if WHOLE:
        write_packed(sys.argv[1])
