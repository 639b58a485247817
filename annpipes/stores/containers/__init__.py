"""File formats that hold arrays, and where the storage chunks of an array lie.

`hdf5`    an HDF5 file that each process opens for itself
`layout`  where the bytes of an HDF5 dataset lie
`slabs`   rows read by HDF5 itself, in slabs of bounded size
"""

from __future__ import annotations

__all__: list[str] = []
