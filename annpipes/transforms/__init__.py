"""Functions of a cell's X.

`base`      what a transform is, and several one after the other
`standard`  those that single-cell data usually goes through
`applying`  a transform applied to a field of a batch
"""

from __future__ import annotations

__all__: list[str] = []
