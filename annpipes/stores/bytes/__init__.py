"""Bytes by offset and size: where they come from, and whether they are still the same.

`protocol`     what bytes can be read from, whatever holds them
`local`        a file: its bytes, its stamp, and the lock that keeps writers out
`files`        many files, as one source
`mapping`      a file mapped into memory, whose lost pages are reported
`memory`       an array in memory
`remote`       an address, and how it is reached
`objects`      remote objects, as one source
`remote_file`  a remote object as the only one of its address
`blocks`       a remote object as a file of Python, for h5py
`merging`      ranges of bytes that are read by one request
`requesting`   requests that are repeated while there is hope
`clients`      what is asked of a library that makes requests
`by_obstore`   requests by obstore
`by_fsspec`    requests by fsspec
`calls`        what obstore is asked, here or in a program of its own
`helping`      that program, for a process that was forked
"""

from __future__ import annotations

__all__: list[str] = []
