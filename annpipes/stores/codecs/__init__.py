"""How storage chunks are encoded.

`filters`    decoding outside HDF5
`encoding`   encoding outside HDF5
`inflating`  zlib streams, inflated by ISA-L
"""

from __future__ import annotations

__all__: list[str] = []
