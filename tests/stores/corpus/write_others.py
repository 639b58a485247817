"""The files of the corpus that writers in R and Julia would leave: ``python write_others.py FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

N_OBS, N_VARS = 6, 4
CELLS = [f"cell-{i}" for i in range(N_OBS)]
GENES = ["Gène A", "B.1", "C", "D"]
VALUES = np.array([[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0], [0, 4, 5, 6], [0, 0, 0, 7], [0, 8, 0, 0]])
TEXT = h5py.string_dtype()
Writer = Callable[[h5py.File], None]
WRITERS: dict[str, Writer] = {}


def written(function: Writer) -> Writer:
    WRITERS[function.__name__.replace("_", "-")] = function
    return function


def fixed(strings: Any, coding: str = "utf-8") -> Any:
    """Strings of fixed length, padded with zeros."""
    encoded = [text.encode() for text in strings]
    return np.array(encoded, h5py.string_dtype(coding, max(map(len, encoded))))


def tag(element: Any, kind: str, version: str = "0.2.0", how: Callable[[str], Any] = str) -> Any:
    element.attrs["encoding-type"], element.attrs["encoding-version"] = how(kind), how(version)
    return element


def fixed_attribute(text: str) -> Any:
    return np.array(text.encode(), h5py.string_dtype("utf-8", len(text)))


def frame(file: Any, name: str, names: Any, columns: dict[str, Any], index: str = "_index", **options: Any) -> Any:
    """A table whose columns are arrays, or functions that write themselves."""
    how = options.get("how", str)
    group = tag(file.create_group(name), "dataframe", options.get("version", "0.2.0"), how)
    group.attrs["_index"] = how(index)
    group.attrs["column-order"] = np.array(list(columns), TEXT)
    for key, values in {index: names, **columns}.items():
        if callable(values):
            values(group, key)
        elif isinstance(values, list):
            group.create_dataset(key, data=np.array(values, object), dtype=TEXT)
        else:
            group.create_dataset(key, data=values)
        if options.get("tagged", True) and not callable(values):
            text = h5py.check_string_dtype(group[key].dtype) is not None
            tag(group[key], "string-array" if text else "array", how=how)
    return group


def csr(file: Any, name: str, values: Any, how: Callable[[str], Any] = str, shape_type: Any = "int64") -> Any:
    group = tag(file.create_group(name), "csr_matrix", "0.1.0", how)
    rows, columns = np.nonzero(values)
    group["data"], group["indices"] = values[rows, columns].astype("float64"), columns.astype("int32")
    group["indptr"] = np.concatenate([[0], np.cumsum((values != 0).sum(axis=1))]).astype("int32")
    group.attrs["shape"] = np.array(values.shape, shape_type)
    return group


def categorical(codes: Any, labels: Any, how: Callable[[str], Any] = str, ordered: Any = False) -> Any:
    def write(group: Any, key: str) -> None:
        made = tag(group.create_group(key), "categorical", how=how)
        made["codes"] = codes
        made.create_dataset("categories", data=labels, dtype=TEXT if isinstance(labels, list) else labels.dtype)
        tag(made["codes"], "array", how=how)
        tag(made["categories"], "string-array", how=how)
        made.attrs["ordered"] = ordered

    return write


def nullable(values: Any, mask: Any, kind: str, how: Callable[[str], Any] = str) -> Any:
    def write(group: Any, key: str) -> None:
        made = tag(group.create_group(key), kind, "0.1.0", how)
        made["values"], made["mask"] = values, mask
        for part in ("values", "mask"):
            tag(made[part], "string-array" if h5py.check_string_dtype(made[part].dtype) else "array", how=how)

    return write


def aside(group: Any, key: str, codes: Any, labels: list[str]) -> None:
    """A category as anndata 0.7 kept it."""
    group[key] = codes
    kept = group.require_group("__categories")
    kept.create_dataset(key, data=labels, dtype=TEXT)
    group[key].attrs["categories"] = kept[key].ref


def groups(file: Any, how: Callable[[str], Any] = str) -> None:
    """Empty ones that anndata and its likes always write."""
    tag(file, "anndata", "0.1.0", how)
    for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        tag(file.require_group(name), "dict", "0.1.0", how)


@written
def seuratdisk(file: Any) -> None:
    """SeuratDisk's Convert: the layout of anndata 0.7, no encodings but of tables and matrices, int32 codes."""
    csr(file, "X", VALUES)
    csr(file, "raw/X", VALUES[:, [0, 1, 2, 3, 0]])
    frame(file, "raw/var", [*GENES, "E"], {}, version="0.1.0", tagged=False)
    obs = {"nCount_RNA": VALUES.sum(axis=1).astype(float), "nFeature_RNA": (VALUES > 0).sum(axis=1).astype("int32")}
    made = frame(file, "obs", CELLS, obs, version="0.1.0", tagged=False)
    aside(made, "orig.ident", np.array([0, 1, 0, 1, 0, 1], "int32"), ["pbmc", "tumour β"])
    aside(made, "seurat_clusters", np.array([0, 2, 1, -1, 0, 1], "int32"), ["0", "1", "2"])
    made.attrs["column-order"] = np.array([*obs, "orig.ident", "seurat_clusters"], TEXT)
    var = frame(file, "var", GENES, {"vst.mean": VALUES.mean(axis=0)}, "features", version="0.1.0", tagged=False)
    var["vst.variable"] = np.array([1, 0, 1, 0], "int32")
    var.attrs["column-order"] = np.array(["vst.mean", "vst.variable"], TEXT)
    file["obsm/X_pca"], file["obsm/X_umap"] = np.arange(18.0).reshape(6, 3), np.arange(12.0).reshape(6, 2)


@written
def seuratdisk_ascii(file: Any) -> None:
    """The same where hdf5r chose ASCII strings of fixed length, in attributes too; codes uint8."""
    csr(file, "X", VALUES, fixed_attribute)
    made = frame(file, "obs", fixed(CELLS, "ascii"), {}, version="0.1.0", tagged=False, how=fixed_attribute)
    aside(made, "ident", np.array([0, 1, 0, 1, 0, 1], "uint8"), ["a", "b"])
    made["barcode"] = fixed(["AC", "GT", "A", "", "TTTT", "C"], "ascii")
    made.attrs["column-order"] = fixed(["ident", "barcode"], "ascii")
    frame(file, "var", fixed(["A", "B", "C", "D"], "ascii"), {}, version="0.1.0", tagged=False, how=fixed_attribute)


@written
def zellkonverter(file: Any) -> None:
    """zellkonverter: anndata writes all but X and the assays, which HDF5Array adds: dense, packed, no attributes."""
    groups(file)
    file.create_dataset("X", data=VALUES.astype("float64"), chunks=(2, 4), compression=6, shuffle=True)
    file.create_dataset("layers/counts", data=VALUES.astype("int32"), chunks=(6, 1), compression=6)
    sizes = VALUES.sum(axis=1) / 7
    frame(
        file,
        "obs",
        CELLS,
        {"sizeFactor": sizes, "label": categorical(np.array([0, 1, 2, 0, 1, -1], "int8"), ["x", "y", "z"])},
    )
    frame(file, "var", GENES, {"ID": ["ENSG1", "ENSG2", "", "ENSG4"]})
    file.create_dataset("uns/X_name", data="counts")


@written
def anndatar(file: Any) -> None:
    """anndataR by rhdf5: UTF-8 of fixed length, attributes too; nullable columns; empty dataspaces."""
    how = fixed_attribute
    groups(file, how)
    tag(file.create_dataset("X", data=VALUES.astype("float64")), "array", how=how)
    csr(file, "layers/counts", VALUES, how)
    absent = np.array([0, 1, 0, 0, 1, 0], "uint8")
    obs = {
        "Int": nullable(np.arange(6, dtype="int32"), absent.astype(bool), "nullable-integer", how),
        "Bool": nullable(np.array([1, 0, 1, 0, 1, 0], bool), absent.astype(bool), "nullable-boolean", how),
        "factor": categorical(np.array([0, -1, 1, 1, 0, 0], "int32"), fixed(["α", "beta"]), how),
        "ordered": categorical(np.array([0, 1, 2, 1, 0, 0], "int32"), ["lo", "mid", "hi"], how, True),
        "text": fixed(["é", "", "long one", "b", "c", "dd"]),
        "number": np.array([0.5, np.nan, 1, 2, 3, -1]),
    }
    frame(file, "obs", fixed(CELLS), obs, how=how)
    frame(file, "var", fixed(GENES), {"n": np.arange(4, dtype="int32")}, how=how)
    tag(file.create_dataset("uns/nothing", data=h5py.Empty("float64")), "null", "0.1.0", how)


@written
def anndatar_integers(file: Any) -> None:
    """Logicals as integers: the values of a nullable boolean, which anndata refuses, and ``ordered``."""
    groups(file)
    csr(file, "X", VALUES)
    flags, absent = np.array([1, 0, 1, 0, 1, 0], "int8"), np.array([0, 1, 0, 0, 1, 0], bool)
    obs = {
        "flag": nullable(flags, absent, "nullable-boolean"),
        "factor": categorical(np.array([0, 1, 1, -1, 0, 0], "int64"), ["u", "v"], ordered=np.int32(1)),
    }
    frame(file, "obs", CELLS, obs)
    frame(file, "var", GENES, {})


@written
def no_x_no_columns(file: Any) -> None:
    """X of anndataR's None: an empty dataspace; tables without columns, whose order is empty."""
    groups(file)
    tag(file.create_dataset("X", data=h5py.Empty("float64")), "null", "0.1.0")
    for name, names in (("obs", CELLS), ("var", GENES)):
        frame(file, name, names, {})
        file[name].attrs["column-order"] = np.zeros(0, "float64")


@written
def muon_jl(file: Any) -> None:
    """Muon.jl: unsigned codes, 64-bit shapes and indices, nullable columns, obsm after the rows of Python."""
    groups(file)
    made = csr(file, "X", VALUES)
    for part in ("indices", "indptr"):
        kept = made[part][()].astype("int64")
        del made[part]
        made[part] = kept
    obs = {
        "ct": categorical(np.array([0, 1, 2, 0, 1, 1], "uint8"), ["B", "T", "NK"]),
        "wide": categorical(np.array([0, 1, 1, 0, 1, 1], "uint32"), ["p", "q"], ordered=np.uint8(0)),
        "n": nullable(np.arange(6), np.array([0, 0, 1, 0, 0, 1], bool), "nullable-integer"),
        "passed": np.array([1, 0, 1, 1, 0, 0], bool),
    }
    frame(file, "obs", CELLS, obs, "obs_names")
    frame(file, "var", GENES, {}, "var_names")
    tag(file.create_dataset("obsm/X_pca", data=np.arange(12, dtype="float32").reshape(2, 6).T), "array")


@written
def muon_jl_absent(file: Any) -> None:
    """Codes in which a missing label is the largest number, as an unsigned -1: anndata refuses them."""
    groups(file)
    csr(file, "X", VALUES)
    codes = np.array([0, 1, -1, 0, 1, -1])
    obs = {kind: categorical(codes.astype(kind), ["B", "T"]) for kind in ("uint8", "uint32")}
    frame(file, "obs", CELLS, {**obs, "n": np.arange(6)})
    frame(file, "var", GENES, {})


@written
def float_shape(file: Any) -> None:
    """A shape of R's numbers, which are floats; indices and indptr 64 bits wide."""
    groups(file)
    csr(file, "X", VALUES, shape_type="float64")
    csr(file, "layers/counts", VALUES, shape_type="int32")
    frame(file, "obs", CELLS, {"n": np.arange(6)})
    frame(file, "var", GENES, {})


def index_of(index: Any) -> Writer:
    """Names of rows and genes in another encoding: both tables have the same."""

    def write(file: Any) -> None:
        groups(file)
        csr(file, "X", VALUES)
        for name, names in (("obs", CELLS), ("var", GENES)):
            frame(file, name, index(names), {"n": np.arange(len(names))}, "names")

    return write


WRITERS["index-categories"] = index_of(lambda names: categorical(np.arange(len(names))[::-1].astype("int8"), names))
WRITERS["index-nullable"] = index_of(
    lambda names: nullable(np.array(names, TEXT), np.zeros(len(names), bool), "nullable-string-array")
)
WRITERS["index-integers"] = index_of(lambda names: np.arange(len(names)) * 10)


@written
def index_bytes(file: Any) -> None:
    """Names as bytes that nothing says to be text, and elements without encodings, as many scripts write them."""
    file["X"] = VALUES.astype("float32")
    for name, names in (("obs", CELLS), ("var", ["A", "B", "C", "D"])):
        group = tag(file.create_group(name), "dataframe", "0.1.0")
        group["names"], group["n"] = np.array([text.encode() for text in names]), np.arange(len(names))
        group.attrs["_index"], group.attrs["column-order"] = "names", np.array(["n"], TEXT)


@written
def anndata_0_6(file: Any) -> None:
    """anndata 0.5 and 0.6: tables and obsm as arrays of records, categories in uns, h5sparse."""
    x = file.create_group("X")
    rows, columns = np.nonzero(VALUES)
    x["data"], x["indices"] = VALUES[rows, columns].astype("float32"), columns.astype("int32")
    x["indptr"] = np.concatenate([[0], np.cumsum((VALUES != 0).sum(axis=1))]).astype("int32")
    x.attrs["h5sparse_format"], x.attrs["h5sparse_shape"] = "csr", np.array(VALUES.shape)
    obs = np.zeros(N_OBS, [("index", "S8"), ("n_genes", "i8"), ("louvain", "i1"), ("score", "f4")])
    obs["index"], obs["n_genes"], obs["louvain"], obs["score"] = CELLS, (VALUES > 0).sum(1), [0, 1, 0, 1, 1, 0], 0.5
    var = np.zeros(N_VARS, [("index", "S8"), ("n_cells", "i8")])
    var["index"], var["n_cells"] = ["A", "B", "C", "D"], (VALUES > 0).sum(axis=0)
    obsm = np.zeros(N_OBS, [("X_pca", "f4", (3,)), ("X_umap", "f4", (2,))])
    obsm["X_pca"], obsm["X_umap"] = np.arange(18).reshape(6, 3), np.arange(12).reshape(6, 2)
    file["obs"], file["var"], file["obsm"] = obs, var, obsm
    file["uns/louvain_categories"] = np.array([b"0", b"1"])
    file["raw.X"], file["raw.var"] = VALUES.astype("float32"), var


if __name__ == "__main__":
    for _name, _write in WRITERS.items():
        with h5py.File(Path(sys.argv[1]) / f"{_name}.h5ad", "w", libver=("v110", "v110")) as _file:
            _write(_file)
