"""One DataPipe each, in the order of a pipe.

Who imports one stage has all: their verbs are methods of each other.

`base`          what every stage has
`origins`       the stage at which a pipe begins
`chaining`      verbs as methods of every stage
`graph`         the stages of a pipe, found by their class
`verbs`         what may follow what, for type checkers
`datapipes`     torch's DataPipes, and all that is used of them
`sources`       which rows there are
`mixing`        several sources in fixed proportions
`shuffling`     blocks in random order
`sampling`      rows by weight or by class
`grouping`      sets of rows with matched controls
`classes`       what sampling and grouping know of obs columns
`chunking`      blocks into chunks
`reading`       chunks into batches
`pairing`       sets parted from their controls
`transforming`  X transformed
`collating`     batches into tensors
"""

from __future__ import annotations

from annpipes.stages import (
    chunking,
    collating,
    grouping,
    mixing,
    pairing,
    reading,
    sampling,
    shuffling,
    sources,
    transforming,
)

__all__ = [
    "chunking",
    "collating",
    "grouping",
    "mixing",
    "pairing",
    "reading",
    "sampling",
    "shuffling",
    "sources",
    "transforming",
]
