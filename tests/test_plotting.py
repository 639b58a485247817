"""Pictures: that they are files of their kind, and that what is drawn is what was measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import tiny
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.stats import entropy as scipy_entropy

import annpipes as ap
from annpipes.errors import ParameterError, ParameterTypeError
from annpipes.plotting import Recorder, plot_coverage, plot_mixing, plot_throughput, plot_tuning
from annpipes.tools.tuning import Mixing
from annpipes.tools.tuning.results import Tuning, TuningPoint


def cells(n_obs: int = 240) -> anndata.AnnData:
    adata = tiny(n_obs)
    adata.obs["type"] = pd.Categorical(np.array(["B", "NK", "T"])[np.arange(n_obs) * 3 // n_obs])
    return adata


def tuned() -> Tuning:
    points = tuple(
        TuningPoint(block, chunk, 1000, speed, 0.1, 3, Mixing(ratio * 2, 2.0, ratio, 0.1, 0.1, 9, 9))
        for block, chunk, speed, ratio in [
            (1, 64, 100, 1.0),
            (16, 64, 900, 0.7),
            (1, 256, 300, 1.0),
            (16, 256, 950, 0.97),
        ]
    )
    return Tuning(
        "cells.h5ad", 999, 32, ("X",), "csr", "type", 0.95, 0.05, (0.5, 1.0), points, (), points[3], "Why.", "ap.…"
    )


def pictures(**where: Any) -> dict[str, Any]:
    loader = ap.stream(cells(), 16, block_size=4)
    recorder = Recorder(ap.stream(cells(), 16, block_size=4))
    list(recorder)
    return {
        "tuning": lambda: plot_tuning(tuned(), **where),
        "mixing": lambda: plot_mixing(loader, "type", **where),
        "throughput": lambda: plot_throughput(recorder, **where),
        "coverage": lambda: plot_coverage(loader, **where),
    }


@pytest.mark.parametrize("name", ["tuning", "mixing", "throughput", "coverage"])
def test_pictures_are_what_their_suffix_says_and_have_labelled_axes(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "picture.png", tmp_path / "picture.svg"):
        axes = pictures(save=path)[name]()
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert imread(tmp_path / "picture.png").std() > 0.05  # something is drawn
    assert ElementTree.parse(tmp_path / "picture.svg").getroot().tag.endswith("svg")  # noqa: S314 (our own file)


@pytest.mark.parametrize("name", ["tuning", "mixing", "throughput", "coverage"])
def test_pictures_can_be_drawn_into_axes_one_has(name: str) -> None:
    axes = Figure().add_subplot()
    assert pictures(ax=axes)[name]() is axes
    assert axes.has_data()


def test_each_chunk_size_is_a_line_of_mixing_and_speed() -> None:
    axes = plot_tuning(tuned())
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}  # type: ignore[union-attr]
    assert lines["64 rows"] == [[1.0, 100], [0.7, 900]]
    assert lines["256 rows"] == [[1.0, 300], [0.97, 950]]
    assert lines["recommended"] == [[0.97, 950]]
    assert [point[0] for point in lines["asked for: 0.95"]] == [0.95, 0.95]
    assert {text.get_text() for text in axes.texts} == {"1", "16"}


def test_mixing_is_drawn_batch_by_batch() -> None:
    adata = cells()
    loaders = {"shuffled": ap.stream(adata, 16, fields=["rows"]), "in order": ap.stream(adata, 16, shuffle=False)}
    axes = plot_mixing(loaders, "type")
    drawn = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    read = [scipy_entropy(adata.obs["type"].iloc[b["rows"]].value_counts(), base=2) for b in loaders["shuffled"]]
    np.testing.assert_allclose(drawn["shuffled"], np.column_stack([np.arange(15), read]))  # type: ignore[arg-type]
    assert drawn["in order"][:, 1].tolist() == [0] * 15  # type: ignore[index] # 80 of each type: no batch has two


def test_mixing_of_a_long_epoch_is_drawn_as_a_mean_with_a_band() -> None:
    adata = cells(2400)
    axes = plot_mixing(ap.stream(adata, 2, block_size=1), "type")
    line = next(line for line in axes.get_lines() if line.get_label() == "batches")
    assert len(line.get_xdata()) == 100  # type: ignore[arg-type]
    # Two rows are of two types, which is 1 bit, two times out of three.
    assert np.mean(line.get_ydata()) == pytest.approx(2 / 3, abs=0.03)  # type: ignore[arg-type]
    assert len(axes.collections) == 1


def test_throughput_is_rows_over_time() -> None:
    recorder = Recorder([])
    recorder.seconds, recorder.rows = [0.1 * (number + 1) for number in range(64)], [10] * 64
    axes = plot_throughput(recorder)
    (stairs,) = axes.patches
    rates, edges, _ = stairs.get_data()  # type: ignore[attr-defined]
    assert edges.tolist() == pytest.approx([0, 1.6, 3.2, 4.8, 6.4])
    assert (rates * np.diff(edges)).sum() == pytest.approx(640)
    assert axes.get_lines()[0].get_xydata() == pytest.approx(np.array([[0, 100], [6.4, 100]]))


def test_batches_that_come_chunk_by_chunk_make_no_comb() -> None:
    recorder = Recorder([])
    for chunk in range(1, 13):  # 32 batches at once, each second
        recorder.seconds += [chunk + 0.001 * number for number in range(32)]
        recorder.rows += [10] * 32
    (stairs,) = plot_throughput(recorder).patches
    rates = stairs.get_data()[0]  # type: ignore[attr-defined]
    assert len(rates) == 4
    assert rates.tolist() == pytest.approx([320] * 4, rel=0.4)


@pytest.mark.parametrize("seconds", [[0.5], [0.2, 0.21, 0.22], [9.0, *np.linspace(9.01, 9.1, 99)]])
def test_a_pass_too_short_for_a_course_is_its_mean_with_a_stroke_for_each_batch(seconds: list[float]) -> None:
    recorder = Recorder([])
    recorder.seconds, recorder.rows = seconds, [10] * len(seconds)
    axes = plot_throughput(recorder)
    assert not axes.patches
    mean, strokes = axes.get_lines()
    np.testing.assert_allclose(mean.get_ydata(), 10 * len(seconds) / seconds[-1])
    assert strokes.get_xdata().tolist() == seconds  # type: ignore[union-attr]


@pytest.mark.parametrize("n_points", [1, 24])
def test_words_beside_points_cover_no_other_word(n_points: int) -> None:
    mixing = [Mixing(ratio * 2, 2.0, ratio, 0.1, 0.1, 9, 9) for ratio in 1 - np.geomspace(1e-4, 0.3, n_points)]
    points = tuple(
        TuningPoint(2**number, 64 * (number % 3 + 1), 1, 1e5 * (1 + number), 0.1, 3, mixing[number])
        for number in range(n_points)
    )
    tuning = replace(tuned(), points=points, recommended=points[-1])
    axes = plot_tuning(tuning)
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert axes.texts[0].get_text() == f"{points[-1].block_size:,}"
    assert len(boxes) >= n_points / 2
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_a_picture_by_itself_shows_itself_and_pyplot_keeps_nothing_open() -> None:
    axes = plot_tuning(tuned())
    png, size = axes._repr_png_()  # type: ignore[attr-defined]
    assert imread(BytesIO(png)).shape[:2] == (630, 1050)
    assert size == {"width": 700, "height": 420}
    assert axes.figure._repr_png_()[0] == png  # type: ignore[union-attr]
    assert not pyplot.get_fignums()


def test_axes_one_has_are_saved_as_well(tmp_path: Path) -> None:
    axes = Figure().add_subplot()
    assert plot_tuning(tuned(), ax=axes, save=tmp_path / "picture.pdf") is axes
    assert (tmp_path / "picture.pdf").read_bytes().startswith(b"%PDF")


def test_a_recorder_has_the_length_of_what_it_records() -> None:
    assert len(Recorder(ap.stream(cells(50), 16))) == len(list(Recorder(ap.stream(cells(50), 16)))) == 4
    with pytest.raises(TypeError, match="generator has no length"):
        len(Recorder(batch for batch in [1]))
    assert len(list(Recorder(batch for batch in [[1]]))) == 1


def test_a_recorder_yields_what_it_was_given_and_counts_rows() -> None:
    loader = ap.stream(cells(50), 16, form="csr", fields=["X", "obs/type"])
    recorder = Recorder(loader)
    assert [batch["X"].shape[0] for batch in recorder] == recorder.rows == [16, 16, 16, 2]
    assert recorder.seconds == sorted(recorder.seconds)
    assert sum(len(batch["X"].crow_indices) - 1 for batch in recorder) == sum(recorder.rows) == 50  # another pass
    for one in (np.zeros((7, 2)), (np.zeros((7, 2)), np.zeros(7)), {"names": ["a"] * 7}, ["a"] * 7):
        only = Recorder([one])
        list(only)
        assert only.rows == [7]


def density(axes: Any) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = axes.collections[0].get_array().data
    return values  # (parts of the file, parts of the epoch)


def test_coverage_of_rows_as_they_stand_is_a_diagonal() -> None:
    found = density(plot_coverage(ap.stream(cells(2500), 10, shuffle=False)))
    assert found.shape == (10, 10)
    np.testing.assert_allclose(found, 10 * np.eye(10))


def test_coverage_of_shuffled_rows_is_even() -> None:
    found = density(plot_coverage(ap.stream(cells(2500), 10, block_size=1)))
    np.testing.assert_allclose(found.mean(axis=0), 1)  # each moment has its share of rows
    np.testing.assert_allclose(found.mean(axis=1), 1)  # each part of the file is visited once
    assert found.max() < 2


def test_coverage_shows_rows_that_are_never_visited() -> None:
    found = density(plot_coverage(ap.stream(cells(2500), 10, block_size=1, rows=range(1250, 2500))))
    assert found[: len(found) // 2].max() == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: plot_tuning(tuned(), save="picture.jpg"),
            ParameterError,
            r"save must end in \.png, \.svg or \.pdf, got 'picture",
        ),
        (lambda: plot_tuning(tuned(), save=5), ParameterTypeError, "save must be a path, got int"),
        (lambda: plot_tuning(tuned(), ax="a.png"), ParameterTypeError, "ax must be matplotlib's Axes, got str"),
        (lambda: plot_tuning("a.h5ad"), ParameterTypeError, "tuning must be what tune returned, got str"),
        (lambda: plot_mixing("a.h5ad"), ParameterTypeError, "expected a Loader"),
        (lambda: plot_mixing({}), ParameterError, "at least one Loader"),
        (lambda: plot_coverage("a.h5ad"), ParameterTypeError, "loader must be a Loader"),
        (lambda: plot_throughput(Recorder([])), ParameterError, "recorders must have been iterated"),
        (lambda: plot_coverage(ap.stream(cells()[:0])), ParameterError, "loader must have batches"),
        (lambda: plot_mixing(ap.stream(cells()[:0])), ParameterError, "loaders must have batches"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


WITHOUT = """
import sys
sys.modules["matplotlib"] = None
from annpipes.plotting import Recorder, plot_throughput
recorder = Recorder([[1]])
list(recorder)
try:
    plot_throughput(recorder)
except ImportError as error:
    print(error)
"""

GLOBAL = """
import sys
import annpipes.plotting
print("matplotlib" in sys.modules)
recorder = annpipes.plotting.Recorder([[1]])
list(recorder)
annpipes.plotting.plot_throughput(recorder, save=sys.argv[1])
print("matplotlib.pyplot" in sys.modules)
"""


def test_a_missing_matplotlib_is_named_with_its_remedy() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "pip install 'annpipes[plot]'" in ran.stdout


def test_no_display_and_no_global_state_of_matplotlib_is_touched(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GLOBAL, str(tmp_path / "picture.png")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
