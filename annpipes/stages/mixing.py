"""Several sources in fixed proportions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from annpipes.errors import ParameterError, PipelineError
from annpipes.messages.reprs import brief, call_repr
from annpipes.plans.base import Plan
from annpipes.plans.mixture import Mixed
from annpipes.stages.base import PlanStage, RandomStage, plan_before
from annpipes.stages.graph import upstream
from annpipes.stages.origins import Source
from annpipes.stores import Collection, Store

__all__ = ["SourceMixer"]


class SourceMixer(RandomStage, Source):
    """Rows of several sources, each in its own order, mixed in fixed proportions.

    >>> b, t = (IndexSource("pbmc.h5ad", rows=f"phase == '{phase}'") for phase in ("S", "G1"))
    >>> mixer = SourceMixer({"S": b.shuffle_blocks(), "G1": t.shuffle_blocks()}, {"S": 0.75, "G1": 0.25})
    >>> loader = Loader(mixer.sort_within_chunks(256).read_rows(["obs/phase"]).batch_rows(64).collate_rows())
    >>> len(loader), sum(batch["obs_phase"].count("S") for batch in loader) / (64 * len(loader))
    (32, 0.73388671875)

    A source that ends before the epoch starts again, in a new order. If one source is not shuffled, the blocks of
    the others stay together, too.

    Parameters
    ----------
    sources
        Pipes by name, each ending with `IndexSource`, `BlockShuffler`, `RowSampler` or another stage with a plan.
    proportions
        How often rows of each source come, by the same names; only the ratios count.
    until
        When an epoch ends: when the ``"first"`` source named has been visited once, or the one that
        takes ``"longest"``.
    **collection
        How the data of all sources is joined: as for `Collection`.

    Raises
    ------
    ParameterError
        A name has no proportion, a proportion is not positive, or a source has no rows.
    PipelineError
        A source is not a stage with a plan.
    """

    def __init__(
        self,
        sources: Mapping[str, PlanStage],
        proportions: Mapping[str, float],
        *,
        until: Literal["first", "longest"] = "longest",
        **collection: Any,
    ) -> None:
        super().__init__()
        if not sources or set(sources) != set(proportions):
            raise ParameterError(
                f"proportions must name the sources ({', '.join(sources)}), got {', '.join(proportions) or 'none'}"
            )
        if until not in ("first", "longest"):
            raise ParameterError(f"until must be 'first' or 'longest', got {until!r}")
        for name, proportion in proportions.items():
            if not (math.isfinite(proportion) and proportion > 0):
                raise ParameterError(f"proportions must be above 0, got {proportion} for {name!r}")
        self.sources: dict[str, PlanStage] = dict(sources)
        self.proportions: dict[str, float] = dict(proportions)
        self.until: Literal["first", "longest"] = until
        stores: list[Store] = []
        plans, first_rows = [], []
        for name, stage in sources.items():
            if not isinstance(stage, PlanStage):
                raise PipelineError(f"source {name!r} must be a stage with a plan, such as IndexSource, got {stage!r}")
            plan = plan_before(stage, f"source {name!r}", Plan)
            if plan.set_rows > 1:
                raise PipelineError(f"source {name!r} draws sets, which a mixture of rows would split")
            if plan.n_rows == 0:
                raise ParameterError(f"source {name!r} has no rows")
            first_rows.append(sum(store.n_obs for store in stores))
            stores.append(upstream(stage, Source, "SourceMixer").store)
            plans.append(plan)
        self.store: Store = Collection(stores, **collection)
        self._collection = collection
        total = sum(proportions.values())
        shares = [proportions[name] / total for name in sources]
        mixed = Mixed(plans, first_rows, shares, shuffled=all(plan.shuffled for plan in plans))
        _check_turns(mixed, list(sources))
        lengths = [mixed.length(number) for number in range(len(plans) if until == "longest" else 1)]
        self.plan: Mixed = replace(mixed, n_rows=max(lengths))

    def __repr__(self) -> str:
        joined = "".join(f", {name}={brief(value)}" for name, value in self._collection.items())
        return f"{call_repr(self)[:-1]}{joined})"


def _check_turns(mixed: Mixed, names: Sequence[str]) -> None:
    """Refuse proportions that leave a source without a turn in a round."""
    for name, turns, share in zip(names, mixed.turns, mixed.proportions, strict=True):
        if not turns:
            raise ParameterError(
                f"proportions are exact to 1 in {mixed.turns.sum():,}, but {name!r} has only {share:.2g} of all rows"
            )
