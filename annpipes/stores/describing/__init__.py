"""What a file holds and how it is stored, without reading more than a few rows.

`looks`   a look at a few rows of a field
`fields`  how each field is stored, whatever the container
`hdf5`    the same, asked of an `.h5ad` file
`zarr`    the same, asked of a Zarr store
`files`   the same, asked of either
`advice`  what is wrong with that, and what to do about it
"""

from __future__ import annotations

__all__: list[str] = []
