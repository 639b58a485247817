"""The cells that a model of scvi-tools is trained, validated and tested on, and its batches of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from numbers import Real
from typing import Any

import numpy as np

from annpipes.errors import ParameterError, ParameterTypeError, StateError
from annpipes.plans.rows import Rows
from annpipes.running.loader import Loader
from annpipes.splitting import split as split_rows
from annpipes.stores import Store

__all__ = ["LabeledBeside", "parts_of"]

_NAMES = ("train", "val", "test")


def parts_of(
    store: Store, split: Mapping[str, Any], groupby: str | None, stratify: str | None, seed: int
) -> dict[str, Rows]:
    """The rows of ``"train"``, ``"val"`` and ``"test"``, no row in two of them.

    Parameters
    ----------
    store
        The data.
    split
        For each of the three the share of its rows, or the rows themselves.
    groupby, stratify, seed
        As for `~annpipes.split`, for shares.

    Raises
    ------
    ParameterError, ParameterTypeError
        There is nothing to train on, or rows are in two parts.
    """
    if not isinstance(split, Mapping):
        raise ParameterTypeError(f"split must be a dict such as {{'train': 0.9, 'val': 0.1}}, got {split!r:.80}")
    if "train" not in split or not set(split) <= set(_NAMES):
        raise ParameterError(f"split must name train, and may name val and test, got {', '.join(map(str, split))}")
    if all(isinstance(share, Real) for share in split.values()):
        parts: dict[str, Rows] = dict(split_rows(store, split, groupby=groupby, stratify=stratify, seed=seed))
    elif groupby is not None or stratify is not None:
        raise ParameterError("groupby and stratify apply only to shares, but split gives rows")
    else:
        parts = {name: store.rows(rows, f"split[{name!r}]") for name, rows in split.items()}
        _refuse_shared(store, parts)
    if len(parts["train"]) == 0:
        raise ParameterError(f"split leaves no rows to train on, of {store.n_obs:,}: {split!r:.80}")
    return parts


def _refuse_shared(store: Store, parts: Mapping[str, Rows]) -> None:
    owner = np.full(store.n_obs, -1, np.int8)
    for number, (name, rows) in enumerate(parts.items()):
        taken = owner[np.asarray(rows, np.int64)]
        if (taken >= 0).any():
            other = [*parts][taken.max()]
            raise ParameterError(f"split has {int((taken >= 0).sum()):,} rows in both {other} and {name}")
        owner[np.asarray(rows, np.int64)] = number


class LabeledBeside:
    """The batches of a loader, each beside one of labeled cells, of which there are fewer: they begin again.

    Without labeled cells, each batch stands beside None, which scvi-tools understands. In 1.4 a batch by itself would
    do, but 1.5 takes a batch with both kinds of covariates for labeled cells.

    Parameters
    ----------
    every
        A loader of any cells.
    labeled
        A loader of labeled ones, if there are any. Each epoch of the first begins a new epoch of this one, known from
        its number.
    """

    def __init__(self, every: Loader, labeled: Loader | None) -> None:
        self.every: Loader = every
        self.labeled: Loader | None = labeled

    @property
    def epoch(self) -> int:
        """The epoch of any cells that the next pass will be."""
        return self.every.epoch

    @property
    def first_batch(self) -> int:
        """With which batch of it the next pass begins."""
        return self.every.first_batch

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass this epoch."""
        self.every.set_epoch(epoch)

    def state_dict(self, *, unused: int = 0, ended: bool | None = None) -> dict[str, Any]:
        """As for `Loader`: the place among any cells, from which that among labeled ones follows."""
        place = self.every.state_dict(unused=unused, ended=ended)
        labeled = None if self.labeled is None else self._beside(self.labeled, place["epoch"], place["batch"])
        return {**place, "labeled": labeled}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for `Loader`."""
        if not isinstance(state, Mapping) or "labeled" not in state:
            raise StateError("the state is not from a semi-supervised model: it lacks labeled")
        if (state["labeled"] is None) != (self.labeled is None):
            had, has = ("no" if none else "some" for none in (state["labeled"] is None, self.labeled is None))
            raise StateError(f"the state is from {had} labeled cells to train on, but the data have {has}")
        if self.labeled is not None:
            self.labeled.load_state_dict(state["labeled"])
        self.every.load_state_dict(state)

    def __len__(self) -> int:
        return len(self.every)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if self.labeled is not None:
            self.labeled.load_state_dict(self._beside(self.labeled, self.every.epoch, self.every.first_batch))
        with closing(self._again()) as labeled:
            for batch in self.every:
                yield batch, next(labeled)

    def _beside(self, labeled: Loader, epoch: int, batch: int) -> dict[str, Any]:
        """The place among labeled cells beside this batch of any cells."""
        turns = -(-len(self.every) // len(labeled))  # epochs of labeled cells within one of all
        turn, own = divmod(batch, len(labeled))
        return {**labeled.state_dict(), "epoch": epoch * turns + turn, "batch": own}

    def _again(self) -> Any:
        while True:
            yield from (None,) if self.labeled is None else self.labeled
