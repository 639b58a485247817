"""Epochs of sets: rows that share their labels, with matched controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from annpipes.errors import ParameterError
from annpipes.plans.order import InOrder
from annpipes.plans.rows import RowArray, as_count
from annpipes.plans.sets import Pools, Sets
from annpipes.stages.base import PlanStage, RandomStage
from annpipes.stages.chaining import chained_by
from annpipes.stages.classes import as_columns, class_numbers, source_of
from annpipes.stores import Store

__all__ = ["GroupSampler"]

Short = Literal["drop", "repeat", "error"]


@chained_by("sample_groups")
class GroupSampler(RandomStage):
    """Sets of rows that share their labels, optionally each with as many matched controls.

    >>> source = IndexSource("pbmc.h5ad", block_size=8)
    >>> sets = source.sample_groups("louvain", 4, control="phase == 'G1'", match="louvain", missing="drop")
    >>> pipe = sets.sort_within_chunks(64).read_rows(["X", "obs/louvain", "obs/phase"]).batch_rows(16).pair_controls()
    >>> batch = next(iter(Loader(pipe.collate_rows())))
    >>> batch["obs_louvain"], batch["control_obs_louvain"] == batch["obs_louvain"], set(batch["control_obs_phase"])
    (['1', '1', '1', '1', '7', '7', '7', '7'], True, {'G1'})

    The rows of a set are consecutive, followed by its controls. A batch must hold whole sets (its size is a
    multiple of ``set_size``, or of twice that with controls), and `ControlPairer` separates controls from the rest.

    Parameters
    ----------
    source_datapipe
        The `IndexSource` whose rows are drawn.
    groupby
        An obs column of labels, or several, in which the rows of a set agree. Rows without a label are left out.
    set_size
        How many rows a set has, and how many controls.
    replace
        Draw groups equally often and rows with replacement. Otherwise each row is in at most one set of an epoch.
    num_sets
        With ``replace``, sets per epoch; when None, as many as there would be without ``replace``.
    short
        Without ``replace``, what happens to rows that do not fill a set: ``"drop"`` leaves them out, ``"repeat"``
        fills their set up with others of the group, and with ``"error"`` every group must have at least one set.
    control
        The rows that others are compared with: an expression over obs columns (as for `IndexSource`), or rows.
        They are in no group.
    match
        The obs columns, among those of ``groupby``, that a set and its controls share.
    missing
        What happens to groups without any matching control: an ``"error"``, or ``"drop"`` leaves them out.

    Raises
    ------
    ParameterError
        No group is large enough, a group has no controls, or a parameter is invalid.
    FieldError
        There is no such obs column, or it holds floats.
    """

    attributes: ClassVar[Mapping[str, str]] = {"groupby": "columns"}

    def __init__(
        self,
        source_datapipe: PlanStage,
        groupby: str | Sequence[str],
        set_size: int,
        *,
        replace: bool = False,
        num_sets: int | None = None,
        short: Short = "drop",
        control: Any = None,
        match: str | Sequence[str] = (),
        missing: Literal["error", "drop"] = "error",
    ) -> None:
        super().__init__()
        source, store = source_of(source_datapipe, "sample_groups")
        if short not in get_args(Short):
            raise ParameterError(f"short must be one of {', '.join(get_args(Short))}, got {short!r}")
        if missing not in ("error", "drop"):
            raise ParameterError(f"missing must be 'error' or 'drop', got {missing!r}")
        if num_sets is not None and not replace:
            raise ParameterError("num_sets needs replace=True: without it, the rows determine how many sets there are")
        self.source_datapipe: PlanStage = source_datapipe
        # Named otherwise than the parameter: every DataPipe already has a method `groupby`, torch's.
        self.columns: tuple[str, ...] = as_columns(groupby)
        self.match: tuple[str, ...] = as_columns(match)
        self.set_size: int = as_count(set_size, "set_size")
        self.replace: bool = replace
        self.num_sets: int | None = num_sets
        self.short: Short = short
        self.control: Any = control
        self.missing: Literal["error", "drop"] = missing
        rows = np.asarray(source.row_set)
        groups, n_groups = class_numbers(store, source, self.columns)
        controls = pool_of = None
        if control is not None:
            is_control = np.zeros(store.n_obs, bool)
            is_control[np.asarray(store.rows(control, argument="control"))] = True
            chosen = is_control[rows]
            groups, controls, pool_of = self._with_controls(store, source, groups, n_groups, chosen)
        elif self.match or missing != "error":
            raise ParameterError("match and missing say how controls are chosen, so they need control=")
        pools = Pools.of(rows, groups, n_groups)
        self._check_sizes(store, source, pools)
        whole = int(np.sum(pools.sizes // self.set_size))
        wanted = (max(1, whole) if num_sets is None else as_count(num_sets, "num_sets")) if replace else None
        self.plan: Sets = Sets(pools, self.set_size, wanted, short == "repeat", controls, pool_of)

    @property
    def set_rows(self) -> int:
        """How many rows a set has with its controls; ``batch_size`` must be a multiple of it."""
        return self.plan.set_rows

    def _with_controls(
        self, store: Store, source: InOrder, groups: RowArray, n_groups: int, chosen: NDArray[np.bool_]
    ) -> tuple[RowArray, Pools, RowArray]:
        """The groups without controls among them, the controls in pools, and the pool of each group."""
        strange = [column for column in self.match if column not in self.columns]
        if strange:
            raise ParameterError(f"match has {strange[0]!r}, which is not in groupby ({', '.join(self.columns)})")
        if not chosen.any():
            raise ParameterError(f"control={self.control!r} is true for no row")
        kinds, n_kinds = class_numbers(store, source, self.match)
        targets = np.where(chosen, -1, groups)
        pools = Pools.of(np.asarray(source.row_set), np.where(chosen, kinds, -1), n_kinds)
        pool_of = np.zeros(n_groups, np.int64)
        pool_of[targets[targets >= 0]] = kinds[targets >= 0]  # all rows of a group have the same
        present = np.bincount(targets[targets >= 0], minlength=n_groups) > 0
        lacking = np.flatnonzero(present & (pools.sizes[pool_of] == 0))
        if len(lacking) and len(lacking) == present.sum():
            raise ParameterError(f"no group has a matching control: control={self.control!r}, match={self.match}")
        if len(lacking) and self.missing == "error":
            raise ParameterError(
                f"{len(lacking)} of {int(present.sum())} groups have no matching control, such as "
                f"{self._label(store, source, targets, int(lacking[0]))}; missing='drop' leaves them out"
            )
        return np.where(np.isin(targets, lacking), -1, targets), pools, pool_of

    def _check_sizes(self, store: Store, source: InOrder, pools: Pools) -> None:
        sizes = pools.sizes
        if not sizes.any():
            raise ParameterError(f"no row that is not a control has labels in all of {', '.join(self.columns)}")
        if self.replace or self.short == "repeat":
            return
        small = np.flatnonzero((sizes > 0) & (sizes < self.set_size))
        if len(small) and self.short == "error":
            raise ParameterError(
                f"{len(small)} groups have fewer than set_size={self.set_size} rows, the smallest "
                f"{sizes[small].min()}; short='drop' leaves them out, short='repeat' fills up their sets"
            )
        if sizes.max() < self.set_size:
            raise ParameterError(f"no group has set_size={self.set_size} rows, the largest has {sizes.max()}")

    def _label(self, store: Store, source: InOrder, groups: RowArray, group: int) -> str:
        row = int(np.asarray(source.row_set)[np.flatnonzero(groups == group)[0]])
        labels = [store.categories(column)[store.codes(column)[row]] for column in self.columns]
        return ", ".join(f"{column}={label!r}" for column, label in zip(self.columns, labels, strict=True))
