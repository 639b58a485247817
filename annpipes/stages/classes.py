"""Weights and classes of rows, from what the caller gives or obs columns say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import FieldError, ParameterError, ParameterTypeError
from annpipes.plans.order import InOrder
from annpipes.plans.rows import RowArray, values_of
from annpipes.stages.base import PlanStage, plan_before
from annpipes.stages.graph import upstream
from annpipes.stages.origins import Source
from annpipes.stores import Store

__all__ = ["as_columns", "as_weights", "class_numbers", "class_weights", "source_of", "weights_of_epoch"]


def source_of(stage: PlanStage, verb: str) -> tuple[InOrder, Store]:
    return plan_before(stage, verb, InOrder), upstream(stage, Source, verb).store


def weights_of_epoch(store: Store, source: InOrder, weights: Callable[[int], Any], epoch: int) -> NDArray[np.float64]:
    return as_weights(store, source, weights(epoch))


def as_weights(store: Store, source: InOrder, weights: Any) -> NDArray[np.float64]:
    """Weights of the source's rows, ``(n,)``, from those of all rows of the data."""
    if isinstance(weights, str):
        values = store.column_values(weights)
        if values.dtype.kind not in "biuf":
            raise FieldError(f"obs column {weights!r} holds labels, not weights: did you mean balance={weights!r}?")
    else:
        values = np.asarray(store.in_order(weights, "weights"))
    if values.shape != (store.n_obs,) or values.dtype.kind not in "biuf":
        raise ParameterError(
            f"weights must be {store.n_obs} numbers, one for each row of the data, got {values.dtype} of shape "
            f"{values.shape}"
        )
    chosen: NDArray[np.float64] = values_of(values, source.row_set).astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(chosen) & (chosen >= 0)))
    if len(wrong):
        row = source.row_set[int(wrong[0])]
        raise ParameterError(f"weights must be finite and not negative, got {chosen[wrong[0]]} for row {row}")
    if not chosen.any():
        raise ParameterError("weights are zero for all rows, so none can be drawn")
    if chosen.max() > np.finfo(float).max / 2 / len(chosen):
        raise ParameterError(f"weights are too large to add up: the largest is {chosen.max()}")
    return chosen


def class_weights(
    store: Store,
    source: InOrder,
    columns: str | Sequence[str],
    temperature: float,
    frequencies: Mapping[Any, float] | None,
) -> NDArray[np.float64]:
    """Weights of the source's rows, ``(n,)``, with which classes come as often as asked."""
    names = as_columns(columns)
    if not names:
        raise ParameterError("balance must name an obs column, or several, got none")
    _check_number(temperature, "temperature")
    if not np.isfinite(temperature) or temperature < 0:
        raise ParameterError(f"temperature must not be negative, got {temperature}")
    classes, n_classes = class_numbers(store, source, names)
    labelled = classes >= 0
    counts = np.bincount(classes[labelled], minlength=n_classes)  # (classes,)
    if not labelled.any():
        raise ParameterError(f"no row has a label in {', '.join(names)}")
    share = np.zeros(n_classes)
    if frequencies is None:
        share[counts > 0] = (counts[counts > 0] / counts.max()) ** float(temperature)
    else:
        if len(names) > 1:
            raise ParameterError("frequencies can be given for the classes of one column only")
        labels = store.categories(names[0])
        for label, frequency in frequencies.items():
            if label not in labels or counts[labels.index(label)] == 0:
                raise ParameterError(
                    f"class {label!r} of {names[0]!r} has no rows; there are "
                    f"{', '.join(str(known) for known, count in zip(labels, counts, strict=True) if count)}"
                )
            _check_number(frequency, f"frequencies[{label!r}]")
            if not np.isfinite(frequency) or frequency < 0:
                raise ParameterError(f"frequencies must not be negative, got {frequency} for {label!r}")
            share[labels.index(label)] = frequency
        if not share.any():
            raise ParameterError("frequencies are zero for all classes, so no row can be drawn")
    weights = np.zeros(len(classes))
    weights[labelled] = (share / np.maximum(counts, 1))[classes[labelled]]
    return weights


def class_numbers(store: Store, source: InOrder, columns: Sequence[str]) -> tuple[RowArray, int]:
    """The class of each of the source's rows, or the combination of classes; -1 where a label is missing."""
    classes, n_classes = np.zeros(source.n_rows, np.int64), 1
    for column in columns:
        codes = values_of(store.codes(column), source.row_set).astype(np.int64)
        size = len(store.categories(column))
        classes = np.where((classes < 0) | (codes < 0), -1, classes * size + codes)
        n_classes *= size
        if len(columns) > 1:  # only combinations that occur
            kinds, classes = np.unique(classes, return_inverse=True)
            missing = int(len(kinds) > 0 and kinds[0] < 0)
            classes, n_classes = classes.astype(np.int64) - missing, len(kinds) - missing
    return classes, n_classes


def _check_number(value: Any, argument: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ParameterTypeError(f"{argument} must be a number, got {value!r}")


def as_columns(columns: str | Sequence[str]) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if not isinstance(name, str):
            raise ParameterTypeError(f"columns must be names of obs columns, got {name!r}")
    return names
