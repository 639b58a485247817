"""What tuning measured, and which of it to take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from annpipes.messages.brevity import brief_bytes, brief_number
from annpipes.messages.reporting import Report
from annpipes.messages.showing import PAGE, Code, Part, Prose, Shown, Table, Title
from annpipes.stores import Cache
from annpipes.tools.diversity import Mixing

__all__ = ["Tuning", "TuningPoint", "code_line", "mixes", "most_together", "noise_of", "recommend"]

_LEAST_NOISE, _MOST_NOISE, _UNKNOWN_NOISE = 0.05, 0.25, 0.1
_EQUAL = 2  # ratios to random batches that agree to so many digits are taken for equal


@dataclass(frozen=True)
class TuningPoint(Report):
    """A block and chunk size, measured.

    Parameters
    ----------
    block_size, chunk_size
        As for `stream`.
    memory
        Bytes of two chunks: the one in use, and the one being read.
    cells_per_second
        The median over turns.
    spread
        The difference between the fastest and the slowest turn, over the median.
    turns
        How often it was timed.
    mixing
        How well mixed the batches are.
    """

    block_size: int
    chunk_size: int
    memory: int
    cells_per_second: float
    spread: float
    turns: int
    mixing: Mixing


@dataclass(frozen=True)
class Tuning(Report, Shown):
    """What `tune` measured and recommends; ``str`` and notebooks show it as a table.

    Parameters
    ----------
    name, n_obs
        Name of the data, and its number of rows.
    batch_size, fields, x
        What was streamed.
    label
        The obs column whose labels show how well batches are mixed; None for parts of the file.
    least_mixing
        The required ratio to random batches.
    noise
        Speeds whose relative difference is smaller count as equal.
    cached
        Share of the files in the page cache before and after; None if there are no files, or it can't be known.
    points
        All points that were measured.
    left_out
        Block and chunk sizes that would have taken too long.
    recommended
        The point chosen.
    reason
        Why it was chosen.
    code
        The line of code with these sizes.
    """

    name: str
    n_obs: int
    batch_size: int
    fields: tuple[str, ...]
    form: str
    label: str | None
    least_mixing: float
    noise: float
    cached: tuple[float, float] | None
    points: tuple[TuningPoint, ...]
    left_out: tuple[tuple[int, int], ...]
    recommended: TuningPoint
    reason: str
    code: str

    def __str__(self) -> str:
        return self.on(PAGE)

    def _shown(self) -> Sequence[Part]:
        judged = f"obs/{self.label}" if self.label is not None else "place in the file (64 parts)"
        head = (
            f"{self.name}: {self.n_obs:,} rows, batches of {self.batch_size:,}, {', '.join(self.fields)} as "
            f"{self.form}; mixing of {judged}"
        )
        rows = [
            [
                ">" if point is self.recommended else "",
                f"{point.block_size:,}",
                f"{point.chunk_size:,}",
                brief_bytes(point.memory),
                brief_number(point.cells_per_second),
                f"{point.spread / 2:.0%}" if point.turns > 1 else "",
                f"{point.mixing.ratio:.3f}",
                f"{point.mixing.entropy:.2f}",
                f"{point.mixing.random_entropy:.2f}",
                f"{point.mixing.neighbours:.1%}",
            ]
            for point in self.points
        ]
        header = ["", "block", "chunk", "memory", "cells/s", "±", "mixing", "entropy", "random", "neighbours"]
        table = Table(header, rows, numbers=range(1, len(header)))
        return [Title(head), table, Prose(_notes(self)), Code(self.reason, self.code)]


def _notes(tuning: Tuning) -> list[str]:
    most = max(point.turns for point in tuning.points)
    turns = "once each (more seconds give a median)" if most == 1 else f"in up to {most} turns, each with another epoch"
    cached = ""
    if tuning.cached is not None:
        before, after = tuning.cached
        cached = f" In the page cache: {before:.0%} of it before, {after:.0%} after."
    first = tuning.points[0].mixing
    notes = [
        "mixing: entropy of the labels in a batch, over that of random batches.",
        "neighbours: rows whose successor in the file is in the same batch.",
        f"Random batches have {first.random_neighbours:.1%} of them, mixed ones at most {most_together(first):.1%}.",
        f"Timed {turns}.{cached}",
    ]
    if tuning.noise >= _MOST_NOISE:
        notes.append("Speeds differ a lot from turn to turn: the machine was busy with something else, so try again.")
    if tuning.left_out:
        for chunk in sorted({chunk for _, chunk in tuning.left_out}):
            some = ", ".join(f"{block:,}" for block, other in tuning.left_out if other == chunk)
            notes.append(f"Left out for lack of time (raise seconds): chunks of {chunk:,} with blocks of {some}.")
    return notes


def mixes(mixing: Mixing, least: float) -> bool:
    """Whether labels are mixed to at least ``least``, and not because stretches of a mixed file stay together."""
    return mixing.ratio >= least and mixing.neighbours <= most_together(mixing)


def most_together(mixing: Mixing) -> float:
    """The largest share of neighbours in one batch that is taken for mixed: halfway from random batches to all."""
    return (1 + mixing.random_neighbours) / 2


def noise_of(points: Sequence[TuningPoint]) -> float:
    """By how much speeds differ from turn to turn, as a share; within reason."""
    spreads = [point.spread for point in points if point.turns > 1]
    return min(max(median(spreads) / 2, _LEAST_NOISE), _MOST_NOISE) if spreads else _UNKNOWN_NOISE


def recommend(points: Sequence[TuningPoint], least: float, noise: float) -> tuple[TuningPoint, str]:
    """The point to take, and a sentence that says why.

    The fastest one that `mixes`. Of those slower by at most ``noise``, a share, the best
    mixed; then the one with the least memory, the smallest blocks. If none is mixed well enough, the best mixed.
    """
    mixed = [point for point in points if mixes(point.mixing, least)]
    if not mixed:
        best = max(points, key=lambda point: (mixes(point.mixing, 0), _mixed(point), point.cells_per_second))
        return best, (
            f"No setting reaches a mixing of {least:g} with at most {most_together(best.mixing):.0%} of neighbours "
            f"together: {_sizes(best, 'b')} come closest with {best.mixing.ratio:.3f} and "
            f"{best.mixing.neighbours:.0%}. "
            f"Smaller blocks mix better, and so do larger chunks, which need more memory."
        )
    fastest = max(mixed, key=lambda point: point.cells_per_second)
    near = [point for point in mixed if point.cells_per_second >= (1 - noise) * fastest.cells_per_second]
    best = max(near, key=lambda point: (_mixed(point), -point.memory, -point.block_size))
    if best is fastest:
        return best, f"{_sizes(best, 'B')} are the fastest with a mixing of at least {least:g}."
    gains = {
        "mix better": _mixed(best) > _mixed(fastest),
        "need less memory": best.memory < fastest.memory,
        "are smaller": best.block_size < fastest.block_size,
    }
    gain = next((gain for gain, holds in gains.items() if holds), "mix no worse")
    return best, (
        f"{_sizes(best, 'B')} are as fast, within the noise of {noise:.0%}, as the fastest with a mixing of at least "
        f"{least:g} ({_sizes(fastest, 'b')}), and {gain}."
    )


def _mixed(point: TuningPoint) -> float:
    return round(min(point.mixing.ratio, 1.0), _EQUAL)


def _sizes(point: TuningPoint, first: str) -> str:
    return f"{first}locks of {point.block_size:,} in chunks of {point.chunk_size:,}"


def code_line(data: Any, plain: Mapping[str, Any], point: TuningPoint) -> str:
    """The line that streams ``data`` with these sizes."""
    options = {
        "batch_size": plain["batch_size"],
        "fields": list(plain["fields"]) if plain["fields"] != ("X",) else None,
        "form": plain["form"] if plain["form"] != "dense" else None,
        "block_size": point.block_size,
        "chunk_size": point.chunk_size,
        "seed": plain["seed"] or None,
        "cache": plain.get("cache"),
    }
    given = "".join(f", {name}={_spelled(value)}" for name, value in options.items() if value is not None)
    return f"ap.stream({_spelled(data)}{given})"


def _spelled(value: Any) -> str:
    """A value as it is typed; data that can't be is called by a name."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return f'"{value}"' if value.isprintable() and not {'"', "\\"} & set(value) else repr(value)
    if isinstance(value, list | tuple) and all(isinstance(part, str | os.PathLike) for part in value):
        return f"[{', '.join(map(_spelled, value))}]"
    if isinstance(value, Cache):
        return f"ap.{value!r}"
    if isinstance(value, int):
        return str(value)
    return "adata" if hasattr(value, "obs") and hasattr(value, "X") else "data"
