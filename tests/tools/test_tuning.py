"""Block and chunk sizes that tune tries, measures and recommends."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from builders import adata_of, tiny, write

import annpipes as ap
from annpipes.errors import FieldError, ParameterError, ParameterTypeError, SourceError
from annpipes.tools import speeds as _speeds
from annpipes.tools.tuning import Mixing, Tuning, mixing_of, tune
from annpipes.tools.tuning.results import TuningPoint, recommend

QUICK: dict[str, Any] = {"seconds": 0.01}


def labelled(n_obs: int = 300) -> anndata.AnnData:
    """Cells sorted by type, as files often are, with some types missing."""
    adata = tiny(n_obs)
    adata.obs["type"] = pd.Categorical(np.array(["B", "NK", "T"])[np.arange(n_obs) * 3 // n_obs])
    adata.obs.loc[adata.obs_names[::7], "type"] = None
    adata.obs["share"] = np.arange(n_obs) / 7
    return adata


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(labelled(), tmp_path_factory.mktemp("tuning") / "cells.h5ad", "gzip")


@pytest.mark.parametrize(
    "how",
    [
        {"shuffle": False},
        {"block_size": 1},
        {"block_size": 64},
        {"block_size": 16, "chunk_size": 32},
        {"block_size": 8, "rows": range(40, 200)},
        {"block_size": 8, "rows": [5, 6, 200, 7, 6, 201]},
        {"block_size": 4, "chunk_size": 64, "rank": 1, "world_size": 3},
        {"balance": "type", "num_rows": 250},
        {"tail": "fill", "block_size": 2},
    ],
    ids=str,
)
def test_mixing_from_the_plan_is_that_of_the_batches_read(path: Path, how: dict[str, Any]) -> None:
    loader = ap.stream(path, 16, fields=["rows", "obs/type:code"], seed=3, **how)
    codes = np.full(300, -2)
    for epoch in range(3):
        planned = mixing_of(loader, "type", epoch=epoch)
        loader.set_epoch(epoch)
        read = [(batch["rows"].numpy(), batch["obs_type"].numpy()) for batch in loader]
        for rows, labels in read:
            codes[rows] = labels
        measured = Mixing.of([rows for rows, _ in read], codes)
        assert (planned.n_batches, planned.of_batches) == (len(read), len(read))
        assert planned.entropy == measured.entropy
        assert planned.neighbours == measured.neighbours
        if not how.keys() & {"rank", "tail"}:  # where the batches are not all of the rows, or repeat some
            assert planned.random_entropy == pytest.approx(measured.random_entropy)
            assert planned.random_neighbours == pytest.approx(measured.random_neighbours)


def test_mixing_is_of_the_next_epoch_unless_told_otherwise(path: Path) -> None:
    loader = ap.stream(path, 16, fields=["rows"], block_size=4)
    list(loader)
    assert mixing_of(loader, "type") == mixing_of(loader, "type", epoch=1) != mixing_of(loader, "type", epoch=0)


def test_mixing_does_not_read_x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ap.stream(write(labelled(), tmp_path / "cells.h5ad"), 16)
    monkeypatch.setattr(type(loader.source.store), "read", None)
    assert mixing_of(loader, "type").of_batches == 19


def test_sorted_cells_in_order_are_mixed_badly_and_shuffled_ones_well(path: Path) -> None:
    in_order = mixing_of(ap.stream(path, 16, shuffle=False), "type")
    shuffled = mixing_of(ap.stream(path, 16, block_size=1), "type")
    assert in_order.ratio < 0.7 < 0.95 < shuffled.ratio
    assert in_order.neighbours > 0.9 > 0.1 > shuffled.neighbours


def test_without_a_label_the_place_in_the_file_tells(path: Path) -> None:
    assert (
        mixing_of(ap.stream(path, 16, shuffle=False)).ratio < 0.7 < mixing_of(ap.stream(path, 16, block_size=1)).ratio
    )


def point(
    block: int, chunk: int, speed: float, ratio: float, together: float = 0.0, random: float = 0.0
) -> TuningPoint:
    return TuningPoint(block, chunk, 1000 * chunk, speed, 0.0, 1, Mixing(ratio, 1.0, ratio, together, random, 9, 9))


@pytest.mark.parametrize(
    ("points", "chosen", "why"),
    [
        ([point(1, 8, 10, 1.0), point(4, 8, 30, 0.96), point(16, 8, 50, 0.9)], (4, 8), "the fastest with"),
        ([point(4, 8, 98, 0.99), point(16, 8, 100, 0.96)], (4, 8), "mix better"),
        ([point(4, 8, 94, 0.99), point(16, 8, 100, 0.96)], (16, 8), "the fastest with"),
        ([point(4, 32, 100, 0.99), point(4, 8, 98, 0.99)], (4, 8), "need less memory"),
        ([point(4, 8, 98, 0.99), point(16, 8, 100, 0.99)], (4, 8), "are smaller"),
        ([point(4, 8, 98, 1.0), point(16, 8, 100, 1.02)], (4, 8), "are smaller"),  # above 1 is chance
        (
            [point(8, 8, 50, 1.0, 0.99), point(4, 8, 30, 1.0, 0.5)],
            (4, 8),
            "the fastest with",
        ),  # always the same batches
        ([point(8, 8, 50, 1.0, 0.97, 0.95), point(4, 8, 30, 1.0, 0.95, 0.95)], (8, 8), "the fastest with"),
        ([point(8, 8, 50, 1.0, 0.99), point(4, 8, 30, 0.9, 0.4)], (4, 8), "with at most 50% of neighbours together"),
        ([point(1, 8, 10, 0.8), point(4, 8, 30, 0.7)], (1, 8), "No setting reaches a mixing of 0.95"),
        ([point(1, 8, 10, 0.801), point(1, 32, 30, 0.799)], (1, 32), "No setting reaches a mixing of 0.95"),
    ],
)
def test_the_fastest_of_the_well_mixed_is_recommended(
    points: Sequence[TuningPoint], chosen: tuple[int, int], why: str
) -> None:
    for order in itertools.permutations(points):
        best, reason = recommend(order, 0.95, 0.05)
        assert (best.block_size, best.chunk_size) == chosen
        assert why in reason


def run(code: str, **names: Any) -> ap.Loader:
    loader = eval(code, {"ap": ap, **names})  # noqa: S307 (our own line)
    assert isinstance(loader, ap.Loader)
    return loader


@pytest.mark.parametrize("name", ["cells.h5ad", 'a "quoted" name.h5ad', "Zellen aus Köln.h5ad", "back\\slash.h5ad"])
def test_the_code_line_runs_and_has_the_recommended_sizes(tmp_path: Path, name: str) -> None:
    path = write(labelled(), tmp_path / name)
    tuning = tune(path, "type", batch_size=32, fields=["X", "obs/type:code"], form="csr", seed=5, **QUICK)
    loader = run(tuning.code)
    best = tuning.recommended
    assert (loader.planned().schedule.batch_size, loader.planned().schedule.chunk_size) == (32, best.chunk_size)
    assert (loader.source.plan.block_size, loader.seed) == (best.block_size, 5)
    batch = next(iter(loader))
    assert list(batch) == ["X", "obs_type"]
    assert isinstance(batch["X"], ap.CsrTensors)


def test_the_code_line_names_data_that_has_no_path(path: Path) -> None:
    adata, second = labelled(), labelled(50)
    assert next(iter(run(tune(adata, **QUICK).code, adata=adata)))["X"].shape == (256, 3)
    assert run(tune([path, str(path)], **QUICK).code).source.plan.n_rows == 600
    assert run(tune([adata, second], **QUICK).code, data=[adata, second]).source.plan.n_rows == 350
    collection = ap.Collection([adata, second])
    assert run(tune(collection, **QUICK).code, data=collection).source.plan.n_rows == 350


def test_sizes_follow_from_storage_and_memory(path: Path) -> None:
    row_bytes = ap.IndexSource(path).store.row_bytes(["X"])
    tuning = tune(path, batch_size=4, memory=int(2 * row_bytes * 100), seconds=20)
    assert [p.chunk_size for p in tuning.points if p.block_size == 1] == [4, 16, 64]
    assert all(p.memory <= 2 * row_bytes * 100 for p in tuning.points)
    advised = ap.IndexSource(path).plan.block_size  # all 300 rows: one storage chunk
    assert sorted({p.block_size for p in tuning.points}) == [1, advised // 16]
    assert [p.block_size for p in tune(path, batch_size=30, chunks=[300], seconds=20).points] == [1, 18, 75]
    assert not tuning.left_out


def test_all_rows_are_one_chunk_where_memory_holds_them(path: Path) -> None:
    assert (
        max(p.chunk_size for p in tune(path, batch_size=32, **QUICK).points + tune(path, batch_size=32).points) == 320
    )


def test_sizes_can_be_given(path: Path) -> None:
    tuning = tune(path, batch_size=10, blocks=[8, 2], chunks=[39, 100], seconds=20)
    assert [(p.block_size, p.chunk_size) for p in tuning.points] == [(2, 30), (8, 30), (2, 100), (8, 100)]


def test_what_would_take_too_long_is_left_out_and_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_speeds, "_rate", lambda loader, epoch: 1000.0)
    tuning = tune(path, batch_size=10, blocks=[2], chunks=[30, 100], seconds=1e-9)
    assert [(p.block_size, p.chunk_size) for p in tuning.points] == [(2, 30)]
    assert tuning.left_out == ((2, 100),)
    assert "Left out for lack of time (raise seconds): chunks of 100 with blocks of 2." in str(tuning)
    assert "Timed once each (more seconds give a median)." in str(tuning)


def test_the_speed_is_the_median_of_turns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {0: 100.0, 1: 300.0, 2: 120.0, 3: 110.0, 4: 90.0}
    monkeypatch.setattr(_speeds, "_rate", lambda loader, epoch: speeds[epoch])
    tuning = tune(path, blocks=[2], chunks=[256], mixing=0.9)
    assert tuning.recommended.cells_per_second == 110
    assert tuning.recommended.spread == pytest.approx(210 / 110)
    assert "the machine was busy" in str(tuning)


def test_only_what_could_be_recommended_is_timed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {(1, 64): 100.0, (8, 64): 29.0, (64, 64): 900.0, (1, 256): 90.0, (8, 256): 290.0, (64, 256): 280.0}
    timed: list[tuple[int, int]] = []

    def rate(loader: ap.Loader, epoch: int) -> float:
        timed.append((loader.source.plan.block_size, loader.planned().schedule.chunk_size))
        return speeds[timed[-1]]

    monkeypatch.setattr(_speeds, "_rate", rate)
    tuning = tune(path, "type", batch_size=32, blocks=[1, 8, 64], chunks=[64, 256], mixing=0.8)
    unmixed = {(p.block_size, p.chunk_size) for p in tuning.points if p.mixing.ratio < 0.8}
    assert unmixed == {(64, 64)}
    slow = {(8, 64), (1, 256)}  # less than a third of the fastest mixed
    assert {(p.block_size, p.chunk_size) for p in tuning.points if p.turns == 1} == unmixed | slow
    assert timed[6:9] == timed[9:12][::-1] == timed[12:15]  # every other turn backwards


def test_a_rate_is_of_whole_epochs_or_of_chunks_under_way(path: Path) -> None:
    whole, long = ap.stream(path, 32, chunk_size=96), ap.stream(path, 4, chunk_size=8)
    assert _speeds._timed_whole(whole)
    assert not _speeds._timed_whole(long)
    assert _speeds._rate(whole, 0) > 0
    assert _speeds._rate(long, 3) > 0
    assert (long.epoch, long._at) == (
        4,
        (3, 73),
    )  # 37 chunks of 38; some have a batch less


def test_progress_reaches_its_total(path: Path) -> None:
    seen: list[tuple[int, int]] = []
    tune(path, blocks=[1, 4], chunks=[256], progress=lambda done, total: seen.append((done, total)), **QUICK)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_report_goes_through_json_and_pickle_and_marks_one_row(path: Path) -> None:
    tuning = tune(path, "type", batch_size=32, blocks=[1, 16], chunks=[32, 320], **QUICK)
    plain = json.loads(json.dumps(tuning.to_dict(), allow_nan=False))
    assert plain["recommended"]["mixing"]["ratio"] == tuning.recommended.mixing.ratio
    assert plain["code"] == tuning.code
    assert pickle.loads(pickle.dumps(tuning)) == tuning
    lines = str(tuning).splitlines()
    assert len([line for line in lines if line.startswith(">")]) == 1
    assert lines[-1] == tuning.code
    assert max(map(len, lines[:-1])) <= 110


@pytest.mark.parametrize("n_obs", [1, 2, 3])
def test_a_few_rows_can_be_tuned_for(tmp_path: Path, n_obs: int) -> None:
    path = write(tiny(n_obs), tmp_path / "few.h5ad", "gzip")
    assert len(next(iter(run(tune(path, **QUICK).code)))["X"]) == n_obs


@pytest.mark.parametrize("x", ["csr", "dense"])
def test_every_kind_of_x_can_be_tuned_for(tmp_path: Path, x: str) -> None:
    path = write(adata_of(x=x), tmp_path / "cells.h5ad")
    assert isinstance(tune(path, "cell_type", batch_size=8, fields=["X", "layers/counts"], **QUICK), Tuning)
    assert isinstance(tune(path, batch_size=8, fields=["obs/donor"], **QUICK), Tuning)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"label": "no such"}, FieldError, "no obs column 'no such'"),
        ({"label": "share"}, FieldError, "share"),
        ({"fields": ["Y"]}, FieldError, "no field 'Y'"),
        ({"memory": "lots"}, ParameterError, "memory must be bytes"),
        ({"memory": 10}, ParameterError, "memory must hold two chunks of at least one batch"),
        ({"batch_size": 0}, ParameterError, "batch_size must be at least 1"),
        ({"mixing": 1.5}, ParameterError, "mixing must be a number from 0 to 1, got 1.5"),
        ({"seconds": 0}, ParameterError, "seconds must be more than 0, got 0"),
        ({"seed": -1}, ParameterError, "seed must be at least 0"),
        ({"blocks": [0]}, ParameterError, "each of blocks must be at least 1, got 0"),
        ({"chunks": [1.5]}, ParameterTypeError, "each of chunks must be an integer"),
        ({"form": "sparse"}, ParameterError, "form must be"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_once(
    path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tune(path, **arguments)


def test_a_label_of_one_class_or_no_rows_is_refused(tmp_path: Path) -> None:
    adata = tiny(20)
    adata.obs["same"] = pd.Categorical(["T"] * 20)
    with pytest.raises(ParameterError, match="'same' has one class"):
        tune(adata, "same")
    with pytest.raises(ParameterError, match=r"empty\.h5ad has none"):
        tune(write(adata[:0], tmp_path / "empty.h5ad"))
    with pytest.raises(SourceError, match=r"gone\.h5ad"):
        tune(tmp_path / "gone.h5ad")
    with pytest.raises(ParameterTypeError, match="loader must be a Loader"):
        mixing_of("cells.h5ad")  # type: ignore[arg-type]
