"""A pipe run as epochs.

`loader`        epochs in one exact order, however they are run
`making`        batches made of chunks, by threads and processes
`nodes`         a loader as a node of torchdata
`steps`         stretches of a pipe as functions that a worker can call
`pool`          processes that live from pass to pass
`workers`       functions run ahead of whoever takes their results
`placing`       batches pinned and moved to a device, to a GPU ahead of their use
`ranks`         which process of a distributed job this is
`statistics`    how fast a pass was, and what it waited for
`resuming`      a pipe as a dataset whose position torchdata can save
"""

from __future__ import annotations

__all__: list[str] = []
