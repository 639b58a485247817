"""A state that belongs to something else, or was spoilt, is refused with the difference named: promise 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from builders import tiny, write
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import ids, loader_of, side_by_side
from running_once import PER_EPOCH, SHARED, N, take, through_json, through_torch, whole_run

from annpipes.errors import StateError


class TestRefusals:
    CHANGES = (
        ({"data": tiny(N - 1)}, "n_obs was 101 and is 100"),
        ({"data": tiny(N, n_vars=5)}, "n_vars was 3 and is 5"),
        ({"rows": range(100)}, "rows was '0:101' and is '0:100'"),
        ({"rows": np.arange(N)[::-1]}, "rows was '0:101' and is '101 rows, crc "),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"block_size": 5}, "block_size was 4 and is 5"),
        ({"chunk_size": 32}, "chunk_size was 24 and is 32"),
        ({"batch_size": 4}, "global_batch was 8 and is 4"),
    )

    @pytest.mark.parametrize(("change", "message"), CHANGES)
    def test_a_difference_is_named(self, change: dict[str, Any], message: str) -> None:
        loader = loader_of(SHARED)
        take(loader, 3)
        other = loader_of(**{"data": SHARED, **change})
        with pytest.raises(StateError, match="the state belongs to other data or parameters") as refusal:
            other.load_state_dict(loader.state_dict())
        assert message in str(refusal.value)
        assert other.epoch == 0  # a refused state changes nothing
        assert ids(other)[0] == ids(loader_of(**{"data": SHARED, **change}))[0]

    def test_every_difference_is_named(self) -> None:
        with pytest.raises(StateError, match=r"block_size was 4 and is 2; .*seed was 0 and is 9"):
            loader_of(SHARED, seed=9, block_size=2).load_state_dict(loader_of(SHARED).state_dict())

    def test_cells_in_another_order_are_other_data(self) -> None:
        with pytest.raises(StateError, match=r"obs_names was 'crc \w+' and is 'crc "):
            loader_of(SHARED[::-1]).load_state_dict(loader_of(SHARED).state_dict())

    def test_a_file_that_was_moved_is_the_same_and_one_with_more_in_it_is_not(self, tmp_path: Path) -> None:
        path = write(SHARED, tmp_path / "cells.h5ad")
        state = loader_of(path).state_dict()
        moved = path.rename(tmp_path / "moved.h5ad")
        loader_of(moved).load_state_dict(state)
        more = anndata.AnnData(SHARED.X, obs=SHARED.obs.assign(donor="d"), var=SHARED.var)
        with pytest.raises(StateError, match="file_bytes was"):
            loader_of(write(more, tmp_path / "more.h5ad")).load_state_dict(state)

    def test_an_explicit_tail_is_not_overruled_by_a_state(self) -> None:
        state = loader_of(SHARED, tail="drop").state_dict()
        with pytest.raises(StateError, match="tail was 'drop' and is 'repeat'"):
            loader_of(SHARED, tail="repeat").load_state_dict(state)

    def test_a_tail_that_follows_from_the_number_of_ranks_stays_what_it_was(self) -> None:
        many = [loader_of(SHARED, 8, rank=rank, world_size=2) for rank in (0, 1)]
        one = loader_of(SHARED, 16)
        one.load_state_dict(many[0].state_dict())
        assert ids(one) == list(side_by_side(many))
        assert one.tail_rows(0).tolist() == many[1].tail_rows(0).tolist()

    @pytest.mark.parametrize("state", [{}, {"version": 1}, {"version": 99, "epoch": 0}, {"epoch": 1, "batch": 2}])
    def test_what_is_no_state_is_refused(self, state: dict[str, Any]) -> None:
        with pytest.raises(StateError):
            loader_of(SHARED).load_state_dict(state)

    SPOILT = (
        ("epoch", [-1, 1.0, "0", None, True, 2**70]),
        ("batch", [-1, 0.5, [], PER_EPOCH + 1, 2**70]),
        ("version", [None, 2, "3", True]),
        ("belongs_to", [None, [], 7, "", {1: 2}]),
    )

    @pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in SPOILT for value in values])
    def test_a_spoilt_part_is_refused(self, part: str, value: Any) -> None:
        loader = loader_of(SHARED)
        with pytest.raises(StateError):
            loader.load_state_dict({**loader.state_dict(), part: value})
        assert ids(loader) == whole_run(1)

    @pytest.mark.parametrize("value", [None, [], {}, 0, -1, 3, 8.0, True, "8", 2**70, float("nan")])
    def test_any_spoilt_value_that_it_belongs_to_is_refused(self, value: Any) -> None:
        loader = loader_of(SHARED)
        state = loader.state_dict()
        for name, right in state["belongs_to"].items():
            if right is value or (right == value and type(right) is type(value)):
                continue
            with pytest.raises(StateError):
                loader.load_state_dict({**state, "belongs_to": {**state["belongs_to"], name: value}})
        assert loader.state_dict() == state

    @pytest.mark.parametrize("state", [None, 7, "state", [("epoch", 0)], b""])
    def test_what_is_no_dict_is_refused(self, state: Any) -> None:
        with pytest.raises(StateError, match="a state must be a dict"):
            loader_of(SHARED).load_state_dict(state)


class TestSize:
    @pytest.mark.parametrize("batch_size", [1, 100_000])
    def test_a_million_rows_make_no_larger_state(self, batch_size: int) -> None:
        # Taken after a batch: what is counted must be a number and no list of rows.
        rows = np.random.default_rng(0).integers(0, N, 10**6)
        loader = loader_of(SHARED, batch_size, rows=rows, chunk_size=100_000, block_size=1000, seed=2**63)
        take(loader, 2)
        state = loader.state_dict()
        assert len(json.dumps(state)) < 1000
        assert through_json(state) == through_torch(state) == state

    def test_nor_do_long_names(self, tmp_path: Path) -> None:
        adata = tiny(N)
        adata.obs["n" * 300] = 1
        adata.layers["l" * 300] = adata.X
        adata.obs_names = [f"{i:0200}" for i in range(N)]
        path = write(adata, tmp_path / f"{'f' * 200}.h5ad")
        for data in (path, adata):
            loader = loader_of(data, fields=["rows", f"layers/{'l' * 300}", f"obs/{'n' * 300}"])
            take(loader, 2)
            assert len(json.dumps(loader.state_dict())) < 1000

    @given(epoch=st.integers(0, 2**40), batch=st.integers(0, PER_EPOCH - 1))
    @settings(max_examples=20)
    def test_a_late_position_costs_no_replay(self, epoch: int, batch: int) -> None:
        loader = loader_of(SHARED)
        loader.set_epoch(epoch)
        expected = ids(loader)
        state = {**loader.state_dict(), "epoch": epoch, "batch": batch}
        loader.load_state_dict(state)
        assert ids(loader) == expected[batch:]
