"""Rewritten files: parts, tables, and what is put together from them.

`inputs`      what is read besides matrices
`carrying`    what a rewrite takes along, and what it leaves out
`gathering`   rows of the tables of several files
`parts`       the matrices of a part, in a file of their own
`datasets`    arrays written as storage chunks by all threads
`turning`     matrices stored by columns, written by rows
`assembling`  a complete file
"""

from __future__ import annotations

__all__: list[str] = []
