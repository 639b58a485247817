"""Bytes by offset and size: where they come from, and whether they are still the same.

`protocol`  what bytes can be read from, whatever holds them
`local`     a file: its bytes, its stamp, and the lock that keeps writers out
`mapping`   a file mapped into memory, of which a page that is gone is told
`memory`    an array in memory
"""

from __future__ import annotations

__all__: list[str] = []
