"""Inner loops, compiled: they hold no lock and index nothing that was not checked before.

`kernels`  copies and checks
`calling`  C functions called by address
"""

from __future__ import annotations

__all__: list[str] = []
