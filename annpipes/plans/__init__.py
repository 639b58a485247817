"""Which rows come when: numbers only, no torch and no files.

`base`          what a plan answers
`streams`       what random words are drawn for
`sorting`       row numbers sorted and shuffled in compiled loops
`permutation`   random orders that are evaluated only where asked
`rows`          arithmetic on arrays of row numbers
`order`         rows as they stand, and blocks in random order
`weighted`      rows drawn by their weights
`sets`          rows that share their labels, with matched controls
`mixture`       rows of several plans in fixed proportions
`chunks`        a plan cut into chunks
`schedule`      the batches that every rank gets of an epoch
`state`         saved positions, and what they belong to
"""

from __future__ import annotations

__all__: list[str] = []
