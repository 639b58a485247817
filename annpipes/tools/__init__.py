"""What the command does, and the functions behind it.

`inspecting`    what a file holds, how it is stored, and whether it is intact
`benching`      how fast a file is read on this machine, and what limits it
`tuning`        block and chunk size, chosen by measuring
`rewriting`     files rewritten in shuffled order
`keeping`       what a cache keeps, and its removal
`quickstart`    a classifier trained on cells, the first thing to try
`installation`  what annpipes runs with here
`probing`       what works here, tried by a process that may break
`timing`        how speed is measured
`speeds`        how fast loaders are, timed in turns
`diversity`     how mixed batches are
`pictures`      an empty picture, where it is saved, and words beside its points
`drawings`      figures that notebooks show by themselves
`terminal`      what the command writes
`cli`           the command line
"""

from __future__ import annotations

__all__: list[str] = []
