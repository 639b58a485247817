"""How mixed batches are, from the numbers of their rows and the rows' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from annpipes.messages.brevity import brief_number
from annpipes.messages.reporting import Report
from annpipes.plans.order import BlockShuffled, InOrder
from annpipes.plans.rows import RowArray, Rows, values_of
from annpipes.plans.schedule import ScheduledEpoch

__all__ = ["MOST_ROWS", "Mixing", "PlannedBatches", "Population", "batch_entropies", "file_parts", "population_of"]

MOST_ROWS = 2_000_000
"""An epoch with more rows is judged by chunks spread over it."""

_PARTS = 64
_PIECE = 1 << 22  # rows looked at together where there may be hundreds of millions


@dataclass(frozen=True)
class Mixing(Report):
    """How well mixed batches are, compared with batches drawn at random from the same rows without replacement.

    >>> batches = np.arange(8).reshape(2, 4)
    >>> print(Mixing.of(batches, np.array([0, 0, 0, 0, 0, 0, 1, 1])))
    label entropy 0.5 bits, 0.738 of the 0.678 of random batches; 75% of neighbours together, 37.5% at random

    Parameters
    ----------
    entropy
        Entropy of the labels within a batch, in bits; the mean over batches. Missing labels are a class of their own.
    random_entropy
        The exact expected entropy of random batches of these sizes.
    ratio
        ``entropy`` over ``random_entropy``; 1 if even random batches have no entropy.
    neighbours
        Share of rows whose successor in the file is in the same batch.
    random_neighbours
        The expected share in random batches.
    n_batches
        How many batches were judged.
    of_batches
        How many batches there are.
    """

    entropy: float
    random_entropy: float
    ratio: float
    neighbours: float
    random_neighbours: float
    n_batches: int
    of_batches: int

    @classmethod
    def of(cls, batches: Sequence[Any], codes: NDArray[Any], *, population: Population | None = None) -> Mixing:
        """The mixing of batches.

        Parameters
        ----------
        batches
            The row numbers of each batch.
        codes
            The label of every row of the data, missing: -1; shape ``(n_obs,)``.
        population
            What random batches would be drawn from; the rows of these batches when None.
        """
        return PlannedBatches([np.asarray(rows, np.int64) for rows in batches], len(batches)).mixing(codes, population)

    def __str__(self) -> str:
        some = "" if self.n_batches == self.of_batches else f" ({self.n_batches:,} of {self.of_batches:,} batches)"
        return (
            f"label entropy {brief_number(self.entropy)} bits, {brief_number(self.ratio)} of the "
            f"{brief_number(self.random_entropy)} of random batches; {brief_number(100 * self.neighbours)}% of "
            f"neighbours together, {brief_number(100 * self.random_neighbours)}% at random{some}"
        )


class PlannedBatches(NamedTuple):
    """The rows of batches, of all that there are or of some.

    Parameters
    ----------
    rows
        Of each batch, ``(n,)``.
    of_batches
        How many batches there are.
    places
        Which of them these are, ``(batches,)``; the first ones when None.
    """

    rows: list[RowArray]
    of_batches: int
    places: RowArray | None = None

    @classmethod
    def of(
        cls, epoch: ScheduledEpoch, rank: int = 0, world_size: int = 1, most_rows: int = MOST_ROWS
    ) -> PlannedBatches:
        """A rank's batches of an epoch; if it has more than ``most_rows``, those of chunks spread evenly over it."""
        schedule = epoch.schedule
        batch_size = schedule.global_batch // world_size
        batches_each = schedule.chunk_size // schedule.batch_size
        some = max(1, most_rows // (batches_each * batch_size))
        last = max(schedule.n_steps - 1, 0)
        steps = np.unique(np.linspace(0, last, min(schedule.n_steps, some)).round()).astype(np.int64)
        rows: list[RowArray] = []
        places: list[int] = []
        for step in steps.tolist():
            drawn = epoch.chunk(step, rank, world_size).drawn
            parts = [drawn[start : start + batch_size] for start in range(0, len(drawn), batch_size)]
            rows += parts
            places += range(schedule.first_batch(step), schedule.first_batch(step) + len(parts))
        return cls(rows, schedule.n_batches, np.array(places, np.int64))

    def mixing(self, codes: NDArray[Any], population: Population | None = None) -> Mixing:
        """How mixed they are, by the labels of all rows of the data."""
        sizes = np.array([len(batch) for batch in self.rows if len(batch)], np.int64)  # (batches,)
        visited = np.concatenate(self.rows) if len(sizes) else np.zeros(0, np.int64)
        known = population or Population.of(visited, codes)
        kinds, counts = np.unique(sizes, return_counts=True)
        entropy = float(batch_entropies(self.rows, codes).mean()) if len(sizes) else 0.0
        expected = _mean([known.entropy(size) for size in kinds.tolist()], counts)
        return Mixing(
            entropy=entropy,
            random_entropy=expected,
            ratio=entropy / expected if expected > 0 else 1.0,
            neighbours=_neighbours(self.rows),
            random_neighbours=_mean([known.neighbours(size) for size in kinds.tolist()], counts * kinds),
            n_batches=len(sizes),
            of_batches=self.of_batches,
        )


@dataclass(frozen=True, eq=False)
class Population:
    """What matters of the rows from which random batches would be drawn.

    Parameters
    ----------
    class_sizes
        How many rows each class has, ``(classes,)``.
    followed
        By how often a row's successor is among the rows (0, 1, or more where rows repeat): the share of such rows.
    """

    class_sizes: RowArray
    followed: dict[int, float]

    @classmethod
    def of(cls, rows: Rows, codes: NDArray[Any]) -> Population:
        """That of these rows."""
        sizes = np.zeros(int(codes.max(initial=-1)) + 2, np.int64)  # the first one for missing labels
        for start in range(0, len(rows), _PIECE):
            classes = values_of(codes, rows[start : start + _PIECE]).astype(np.int64) + 1
            sizes += np.bincount(classes, minlength=len(sizes))
        return cls(sizes, _followed(rows))

    @property
    def n_rows(self) -> int:
        """How many rows."""
        return int(self.class_sizes.sum())

    def entropy(self, batch_size: int) -> float:
        """The expected entropy, in bits, of so many rows drawn without replacement.

        Of a batch of n rows it is ``log2 n - Σ k log2 k / n`` over its classes, whose numbers of rows k are
        hypergeometric.
        """
        drawn = min(batch_size, self.n_rows)
        if drawn < 1:
            return 0.0
        kinds, counts = np.unique(self.class_sizes, return_counts=True)
        each = [_expected_k_log_k(self.n_rows, size, drawn) for size in kinds.tolist()]
        return float(np.log2(drawn) - np.dot(each, counts) / drawn)

    def neighbours(self, batch_size: int) -> float:
        """The expected share of rows with a successor among the other rows of a random batch of so many."""
        others, drawn = self.n_rows - 1, min(batch_size, self.n_rows) - 1
        if others < 1:
            return 0.0
        return float(sum(share * _any_drawn(others, copies, drawn) for copies, share in self.followed.items()))


def population_of(epoch: ScheduledEpoch, codes: NDArray[Any]) -> Population | None:
    """That of the source's rows, if an epoch visits each once; None where only batches tell (samplers, mixtures)."""
    plan: Any = epoch.schedule.plan
    source = plan.source if isinstance(plan, BlockShuffled) else plan
    return Population.of(source.row_set, codes) if isinstance(source, InOrder) else None


def batch_entropies(batches: Sequence[RowArray], codes: NDArray[Any]) -> NDArray[np.float64]:
    """The entropy of the labels within each batch, in bits; shape ``(batches,)``, empty ones left out."""
    rows, numbers, sizes = _joined(batches)
    classes = codes[rows].astype(np.int64) + 1
    width = classes.max(initial=0) + 1
    groups, counts = np.unique(numbers * width + classes, return_counts=True)
    summed = np.bincount(groups // width, weights=counts * np.log2(counts), minlength=len(sizes))
    entropies: NDArray[np.float64] = np.maximum(np.log2(sizes) - summed / sizes, 0.0)  # rounding may fall below 0
    return entropies


def file_parts(n_obs: int) -> NDArray[np.int8]:
    """For each row which of 64 equal parts of the file it lies in: a label for data without one; ``(n_obs,)``."""
    parts = min(_PARTS, max(n_obs, 1))
    edges = np.arange(parts + 1) * n_obs // parts
    return np.repeat(np.arange(parts, dtype=np.int8), np.diff(edges))


def _joined(batches: Sequence[RowArray]) -> tuple[RowArray, RowArray, RowArray]:
    """The rows of all batches ``(n,)``, the batch of each ``(n,)``, and the sizes of batches that are not empty."""
    full = [batch for batch in batches if len(batch)]
    sizes = np.array([len(batch) for batch in full], np.int64)
    rows = np.concatenate(full) if full else np.zeros(0, np.int64)
    return rows, np.repeat(np.arange(len(full)), sizes), sizes


def _neighbours(batches: Sequence[RowArray]) -> float:
    """The share of rows whose successor is in the same batch."""
    rows, numbers, _ = _joined(batches)
    keys = numbers * (rows.max(initial=0) + 2) + rows  # no two batches touch
    return float(np.isin(keys + 1, keys).mean()) if len(keys) else 0.0


def _followed(rows: Rows) -> dict[int, float]:
    if len(rows) == 0:
        return {}
    if isinstance(rows, range):
        return {0: 1 / len(rows), 1: 1 - 1 / len(rows)}
    if len(rows) > MOST_ROWS:  # too many to sort: a mark for each row that is there, and rows spread over all
        present = np.zeros(int(rows.max()) + 2, bool)
        present[rows] = True
        share = float(present[rows[:: len(rows) // MOST_ROWS] + 1].mean())
        return {0: 1 - share, 1: share}
    kinds, counts = np.unique(rows, return_counts=True)
    follower = np.searchsorted(kinds, kinds + 1)
    there = kinds[np.minimum(follower, len(kinds) - 1)] == kinds + 1
    copies = np.where(there, counts[np.minimum(follower, len(kinds) - 1)], 0)  # (rows that differ,)
    shares = np.bincount(copies, weights=counts) / len(rows)
    return {int(number): float(shares[number]) for number in np.flatnonzero(shares)}


def _any_drawn(others: int, copies: int, drawn: int) -> float:
    """The chance that at least one of ``copies`` is among ``drawn`` of ``others``."""
    numbers = np.arange(copies)
    missed = np.maximum(others - drawn - numbers, 0) / np.maximum(others - numbers, 1)
    return float(1 - np.prod(missed))


def _expected_k_log_k(n_rows: int, size: int, drawn: int) -> float:
    """The expectation of ``k log2 k`` if k of a class of ``size`` are among ``drawn`` of ``n_rows``.

    Each probability follows from the one before, so no factorial is needed.
    """
    least, most = max(0, drawn - (n_rows - size)), min(size, drawn)
    k = np.arange(least, most, dtype=np.float64)
    steps = np.log((size - k) * (drawn - k)) - np.log((k + 1) * (n_rows - size - drawn + k + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])  # (most - least + 1,)
    chances = np.exp(logs - logs.max())
    numbers = np.arange(least, most + 1)
    return float(np.dot(chances / chances.sum(), numbers * np.log2(np.maximum(numbers, 1))))


def _mean(values: Sequence[float], weights: RowArray) -> float:
    return float(np.average(values, weights=weights)) if len(values) else 0.0
