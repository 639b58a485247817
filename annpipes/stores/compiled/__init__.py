"""Inner loops, compiled: they hold no lock and index nothing that was not checked before.

`kernels`  copies, checks, and what codecs share
"""

from __future__ import annotations

__all__: list[str] = []
