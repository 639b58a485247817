"""Epochs that visit rows by weight or by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

from annpipes.errors import ParameterError
from annpipes.plans.rows import as_count
from annpipes.plans.weighted import Weighted
from annpipes.stages.base import PlanStage, RandomStage
from annpipes.stages.chaining import chained_by
from annpipes.stages.classes import as_weights, class_weights, source_of, weights_of_epoch

__all__ = ["RowSampler"]

Unit = Literal["rows", "blocks"]


@chained_by("sample_rows")
class RowSampler(RandomStage):
    """Rows drawn with replacement, by weights or so that classes come equally often.

    >>> source = IndexSource("pbmc.h5ad", block_size=8)
    >>> loader = Loader(source.sample_rows(balance="phase").sort_within_chunks(700).read_rows(["obs/phase:code"])
    ...                 .batch_rows(700).collate_rows())
    >>> np.bincount(next(iter(loader))["obs_phase"]).tolist()  # of 501, 17 and 182 cells
    [227, 240, 233]

    Parameters
    ----------
    source_datapipe
        The `IndexSource` whose rows are drawn.
    weights
        How often each row is drawn, relative to the others: an array with a number for every row of the data, even
        if the source has only some of them (a Series is aligned by the obs names that are its index); the name of
        an obs column of numbers; or a function of the epoch (0, 1, …) that returns such an array, always the same
        one for the same epoch. A saved state knows a function only by its name, and a plain `DataLoader` always
        calls it with epoch 0.
    balance
        In place of weights: an obs column of labels, or several. Their classes (or combinations of classes) come
        equally often. Rows without a label are never drawn.
    temperature
        From 0, equal frequencies of the classes, to 1, their frequencies in the data, which are raised to
        this power; 0 when None.
    frequencies
        In place of equal frequencies: how often each class comes, by label; classes not named are not drawn.
    num_rows
        Rows per epoch; as many as the source has when None.
    unit
        What is drawn: single ``"rows"``, or whole ``"blocks"`` of the source's ``block_size``, where the weight of a
        block is the sum of its rows' weights. Blocks read faster from compressed files, but a batch then holds
        neighbors, and classes that share a block cannot be drawn separately. All blocks have the same length: if the
        last one would be short, it begins earlier, and the rows it shares with the block before come twice as often.

    Raises
    ------
    ParameterError
        Weights have another length than the data, are negative, not finite or all zero; or a class has no rows.
    FieldError
        There is no such obs column, or it holds values of another kind.
    """

    def __init__(
        self,
        source_datapipe: PlanStage,
        *,
        weights: Any = None,
        balance: str | Sequence[str] | None = None,
        temperature: float | None = None,
        frequencies: Mapping[Any, float] | None = None,
        num_rows: int | None = None,
        unit: Unit = "rows",
    ) -> None:
        super().__init__()
        source, store = source_of(source_datapipe, "sample_rows")
        if (weights is None) == (balance is None):
            raise ParameterError("sample_rows needs either weights or balance")
        if balance is None and (temperature is not None or frequencies is not None):
            raise ParameterError("temperature and frequencies say how classes are balanced, so they need balance=")
        if temperature is not None and frequencies is not None:
            raise ParameterError("sample_rows takes either temperature or frequencies")
        if unit not in get_args(Unit):
            raise ParameterError(f"unit must be one of {', '.join(get_args(Unit))}, got {unit!r}")
        if source.n_rows == 0:
            raise ParameterError("there are no rows to draw from")
        self.source_datapipe: PlanStage = source_datapipe
        self.weights: Any = weights
        self.balance: str | Sequence[str] | None = balance
        self.temperature: float | None = temperature
        self.frequencies: Mapping[Any, float] | None = frequencies
        self.num_rows: int | None = num_rows
        self.unit: Unit = unit
        if balance is not None:
            found: Any = class_weights(store, source, balance, temperature or 0.0, frequencies)
        elif callable(weights):
            found = partial(weights_of_epoch, store, source, weights)
            found(0)
        else:
            found = as_weights(store, source, weights)
        self.plan: Weighted = Weighted(
            source,
            found,
            source.n_rows if num_rows is None else as_count(num_rows, "num_rows"),
            block_size=1 if unit == "rows" else source.block_size,
            name=getattr(weights, "__qualname__", "a function"),
        )
