"""How storage chunks are encoded: one module for each codec, which `registry` finds by itself.

Adding a codec is adding its module and its test; those are not listed here.

`base`       what a codec answers
`registry`   all codecs
`pipelines`  codecs one after the other: the filters of a dataset
`encoding`   what a rewritten file may be encoded with
"""

from __future__ import annotations

__all__: list[str] = []
