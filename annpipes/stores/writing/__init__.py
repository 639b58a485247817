"""Rewritten files: parts, tables, and what is put together from them.

`carrying`    what a rewrite takes along, and what it leaves out
`gathering`   rows of the tables of several files
`parts`       the matrices of a part, in a file of their own
`datasets`    arrays written as storage chunks by all threads
`assembling`  a complete file
"""

from __future__ import annotations

__all__: list[str] = []
