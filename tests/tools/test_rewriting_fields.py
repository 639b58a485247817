"""What a rewritten file has of each field, what may be left out, and what is refused before anything is written."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, tiny, write
from click.testing import CliRunner
from column_kinds import KINDS, LOSSY, concatenated_column, same_values

from annpipes import rewrite_shuffled
from annpipes.errors import FieldError, FormatError, ParameterError, StateError
from annpipes.tools.cli import annpipes


def rewritten(data: Any, folder: Path, **options: Any) -> anndata.AnnData:
    rewrite_shuffled(data, folder / "out.h5ad", codec="gzip", overwrite=True, **options)
    return anndata.read_h5ad(folder / "out.h5ad")


def two_files(folder: Path, **changes: tuple[Any, Any]) -> list[Path]:
    """Two files of other genes, g1 to g3 and g2 to g4; ``var_col=(one, two)`` or ``obs_col``; None: no such column."""
    paths = []
    for number in range(2):
        adata = tiny(2)
        adata.obs_names = [f"{number}-{i}" for i in range(2)]
        adata.var_names = [f"g{number + 1 + i}" for i in range(3)]
        for name, values in changes.items():
            if values[number] is not None:
                frame, column = name.split("_")
                getattr(adata, frame)[column] = values[number]
        paths.append(write(adata, folder / f"{number}.h5ad"))
    return paths


class TestWithout:
    @pytest.mark.parametrize(
        "name",
        ["X", "layers/counts", "raw", "obsm/near", "obs/donor", "var/length", "uns/notes", "varm/loads", "varp/d"],
    )
    def test_a_field_is_left_out_and_all_others_are_kept(self, tmp_path: Path, name: str) -> None:
        adata = adata_of()
        adata.var["length"] = np.arange(adata.n_vars)
        adata.uns["notes"], adata.uns["more"] = "text", {"a": 1}
        adata.varm["loads"], adata.varp["d"] = np.eye(adata.n_vars, 2), np.eye(adata.n_vars)
        source = write(adata, tmp_path / "in.h5ad")
        found = rewritten(source, tmp_path, without=[name])
        whole = rewritten(source, tmp_path)
        with h5py.File(tmp_path / "out.h5ad") as file:
            assert name in file
        rewrite_shuffled(source, tmp_path / "less.h5ad", without=name, codec="gzip")
        with h5py.File(tmp_path / "less.h5ad") as file, h5py.File(tmp_path / "out.h5ad") as full:
            names: dict[str, set[str]] = {"less": set(), "full": set()}
            file.visit(names["less"].add)
            full.visit(names["full"].add)
        gone = names["full"] - names["less"]
        assert gone
        assert all(path == name or path.startswith(f"{name}/") for path in gone)
        assert found.obs_names.tolist() == whole.obs_names.tolist()

    def test_what_was_left_out_is_told(self, tmp_path: Path) -> None:
        adata = adata_of()
        adata.uns["notes"] = "text"
        source = write(adata, tmp_path / "in.h5ad")
        done = rewrite_shuffled(
            source, tmp_path / "o.h5ad", without=["obs/donor", "layers/counts", "uns"], codec="gzip"
        )
        assert set(done.left_out) == {"obs/donor", "layers/counts", "uns/notes"}

    def test_unknown_names_are_refused_with_names_like_them(self, tmp_path: Path) -> None:
        source = write(adata_of(), tmp_path / "in.h5ad")
        with pytest.raises(FieldError, match=r"without: no 'layers/count' in in.h5ad; did you mean layers/counts"):
            rewrite_shuffled(source, tmp_path / "out.h5ad", without=["layers/count"])
        with pytest.raises(ParameterError, match="dtype is given for 'X'"):
            rewrite_shuffled(source, tmp_path / "out.h5ad", without=["X"], dtype="uint16")

    def test_a_field_that_cannot_be_rewritten_names_the_option(self, tmp_path: Path) -> None:
        adata = adata_of()
        adata.obsm["table of text"] = pd.DataFrame({"a": ["x", "y"] * (adata.n_obs // 2) + ["z"]}, adata.obs_names)
        adata.layers["complex"] = np.ones(adata.shape) * 1j
        source = write(adata, tmp_path / "in.h5ad")
        with pytest.raises(FormatError, match=r"without=\['layers/complex'\] \(--without layers/complex\)"):
            rewrite_shuffled(source, tmp_path / "out.h5ad")
        assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]
        command = ["shuffle", str(source), "-o", str(tmp_path / "out.h5ad"), "--codec", "gzip"]
        ran = CliRunner().invoke(annpipes, [*command, "--without", "layers/complex"])
        assert ran.exit_code == 0, ran.output
        with h5py.File(tmp_path / "out.h5ad") as file:
            assert set(file["layers"]) == {"counts", "logged"}

    def test_parts_of_a_rewrite_with_all_fields_are_not_taken_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write(adata_of(), tmp_path / "in.h5ad")
        monkeypatch.setattr("annpipes.tools.rewriting.make", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rewrite_shuffled(source, tmp_path / "out.h5ad")
        monkeypatch.undo()
        with pytest.raises(StateError, match="without was"):
            rewrite_shuffled(source, tmp_path / "out.h5ad", without="raw")


class TestObsm:
    @pytest.mark.parametrize("shape", [(2, 3), (2, 0), (2, 3, 2)])
    @pytest.mark.parametrize("n_files", [1, 2])
    def test_arrays_of_any_dimensions_are_carried_along(
        self, tmp_path: Path, shape: tuple[int, ...], n_files: int
    ) -> None:
        adatas = []
        for number in range(n_files):
            adata = tiny(40)
            adata.obs_names = [f"{number}-{i}" for i in range(40)]
            adata.obsm["a"] = np.random.default_rng(number).normal(size=(40, *shape)).astype(["f4", "f8"][number])
            adatas.append(adata)
        paths = [write(adata, tmp_path / f"{number}.h5ad") for number, adata in enumerate(adatas)]
        found = rewritten(paths, tmp_path)
        expected = anndata.concat(adatas)[found.obs_names].obsm["a"]
        np.testing.assert_array_equal(found.obsm["a"], expected)
        assert found.obsm["a"].dtype == expected.dtype

    def test_a_layer_of_three_dimensions_is_carried_along(self, tmp_path: Path) -> None:
        adata = tiny(5)
        source = write(adata, tmp_path / "in.h5ad")
        layer = np.arange(30.0).reshape(5, 3, 2)
        with h5py.File(source, "r+") as file:
            file["layers"]["spliced"] = layer
            file["layers/spliced"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        rewrite_shuffled(source, tmp_path / "out.h5ad", codec="gzip")
        with h5py.File(tmp_path / "out.h5ad") as file:  # which anndata 0.13 reads with a warning only
            names = file["obs/number"][:]
            np.testing.assert_array_equal(file["layers/spliced"][:], layer[names])

    def test_arrays_of_other_shapes_are_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        for number in range(2):
            adata = tiny(3)
            adata.obsm["a"] = np.zeros((3, 2, 2 + number))
            write(adata, tmp_path / f"{number}.h5ad")
        with pytest.raises(FormatError, match=r"obsm/a has shapes .* without=\['obsm/a'\]"):
            rewrite_shuffled([tmp_path / "0.h5ad", tmp_path / "1.h5ad"], tmp_path / "out.h5ad")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5ad", "1.h5ad"]

    def test_tables_with_labels_strings_and_nullable_columns_are_carried_along(self, tmp_path: Path) -> None:
        adata = tiny(6)
        columns = {
            "label": pd.Categorical(["a", None, "b", "a", "a", "b"]),
            "text": [f"text {i}" for i in range(6)],
            "count": pd.array([1, None, 3, 4, 5, 6], dtype="Int32"),
            "flag": pd.array([True, None, False, True, True, False], dtype="boolean"),
            "note": pd.array(["a", None, "c", "d", "e", "f"], dtype="string"),
        }
        adata.obsm["table"] = pd.DataFrame(columns, index=adata.obs_names)
        source = write(adata, tmp_path / "in.h5ad")
        found = rewritten(source, tmp_path)
        expected = anndata.read_h5ad(source).obsm["table"].loc[found.obs_names]
        pd.testing.assert_frame_equal(found.obsm["table"], expected)


VAR = {
    "bool": [True, False, True],
    "int": [1, 2, 3],
    "uint8": np.array([1, 2, 3], "u1"),
    "float32": np.array([1.0, 2.0, 3.0], "f4"),
    "str": np.array(["a", "b", "c"], object),
    "categorical": pd.Categorical(["a", "b", "a"]),
    "ordered": pd.Categorical(["a", "b", "a"], ["b", "a"], ordered=True),
    "numbers": pd.Categorical([7, 5, 7]),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "nullable": pd.array([1, None, 3], dtype="Int64"),
    "string": pd.array(["a", None, "c"], dtype="string"),
}


class TestVar:
    @pytest.mark.parametrize("join", ["inner", "outer"])
    @pytest.mark.parametrize("kind", VAR)
    @pytest.mark.parametrize("owner", [0, 1])
    def test_a_column_of_one_file_is_as_anndata_concatenates_it(
        self, tmp_path: Path, kind: str, join: Any, owner: int
    ) -> None:
        paths = two_files(tmp_path, var_col=(VAR[kind], None) if owner == 0 else (None, VAR[kind]))
        found = rewritten(paths, tmp_path, join=join).var["col"]
        read = [anndata.read_h5ad(path) for path in paths]
        expected = anndata.concat(read, join=join, merge="first").var["col"]
        assert found.index.tolist() == expected.index.tolist()
        same_values(found, expected)
        if kind not in ("bool", "str", "string") or join == "inner":  # anndata 0.12 writes no missing ones of these
            assert found.dtype == expected.dtype

    @pytest.mark.parametrize(
        ("one", "two", "joined"),
        [
            ([1, 2, 3], [2.0, 3.0, 4.5], [1, 2, 3, 4.5]),
            ([True, False, True], pd.array([False, True, None], dtype="boolean"), [True, False, True, None]),
            ([1, 2, 3], pd.array([2, None, 4], dtype="Int64"), [1, 2, 3, 4]),
            (pd.Categorical(["a", "b", "c"]), np.array(["b", "c", "d"], object), ["a", "b", "c", "d"]),
            (pd.Categorical([1, 2, 3]), pd.Categorical([2.0, 3.0, 4.5]), [1, 2, 3, 4.5]),
            (np.array([1, 2, 3], "u8"), np.array([2, 3, 4], "i8"), [1, 2, 3, 4]),
            ([2**60 + 1, 2, 3], None, [2**60 + 1, 2, 3, None]),
        ],
    )
    def test_columns_of_other_types_that_agree_are_joined(
        self, tmp_path: Path, one: Any, two: Any, joined: list[Any]
    ) -> None:
        found = rewritten(two_files(tmp_path, var_col=(one, two)), tmp_path, join="outer").var["col"]
        same_values(found, pd.Series(joined, dtype=object))

    @pytest.mark.parametrize("two", [[5, 6, 7], np.array(["2", "3", "4"], object)])
    def test_columns_that_contradict_each_other_are_dropped(self, tmp_path: Path, two: Any) -> None:
        found = rewritten(two_files(tmp_path, var_col=([1, 2, 3], two)), tmp_path, join="outer")
        assert "col" not in found.var


class TestObs:
    @pytest.mark.parametrize(("one", "two"), [*combinations_with_replacement(KINDS, 2)])
    def test_columns_are_joined_as_anndata_does(self, tmp_path: Path, one: str, two: str) -> None:
        paths = two_files(tmp_path, obs_col=(KINDS[one], KINDS[two]))
        if {one, two} in LOSSY:
            with pytest.raises(FormatError, match=r"obs/col of .* the integer \d+, which does not fit into float64"):
                rewritten(paths, tmp_path)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5ad", "1.h5ad"]
            return
        found = rewritten(paths, tmp_path).obs["col"].sort_index()
        expected, mixed = concatenated_column(KINDS[one], KINDS[two])
        if mixed and not isinstance(found.dtype, pd.CategoricalDtype):  # has no place for what is missing
            expected = expected.fillna("")
        same_values(found, expected)

    @pytest.mark.filterwarnings("ignore")
    def test_a_column_twice_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        source = write(tiny(3), tmp_path / "in.h5ad")
        with h5py.File(source, "r+") as file:
            file["obs"].attrs["column-order"] = ["number", "number"]
        with pytest.raises(FormatError, match=r"obs of .* has the column 'number' twice"):
            rewrite_shuffled(source, tmp_path / "out.h5ad")
        assert [path.name for path in tmp_path.iterdir()] == ["in.h5ad"]
