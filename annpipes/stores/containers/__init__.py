"""File formats that hold arrays, and where the storage chunks of an array lie.

`base`           what a container answers of its arrays
`layout`         an array's storage chunks: in which byte source each lies, and where
`hdf5`           an HDF5 file that each process opens for itself
`hdf5_tables`    where the bytes of an HDF5 dataset lie
`kept_tables`    such tables of remote files, kept on this machine
`zarr`           a Zarr store
`zarr_tables`    where the bytes of a Zarr array lie
`zarr_places`    where the objects of a Zarr store lie
`zarr_archives`  such a store in a zip archive
`zarr_members`   what is in a group of such a store, where nothing lists it
`zarr_remote`    such a store at an address, or whatever else is there
`zarr_requests`  such a store for zarr itself
`slabs`          rows read by HDF5 itself, in slabs of bounded size
"""

from __future__ import annotations

__all__: list[str] = []
