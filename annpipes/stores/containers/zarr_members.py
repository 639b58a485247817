"""What is in a group of an AnnData's Zarr store, as its attributes tell where nothing lists it.

https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["names_told"]

_MEMBERS = {
    "anndata": ("X", "layers", "obs", "obsm", "obsp", "raw", "uns", "var", "varm", "varp"),
    "categorical": ("codes", "categories"),
    "csc_matrix": ("data", "indices", "indptr"),
    "csr_matrix": ("data", "indices", "indptr"),
    "nullable-boolean": ("values", "mask"),
    "nullable-integer": ("values", "mask"),
    "nullable-string-array": ("values", "mask"),
    "raw": ("X", "var", "varm"),
}


def names_told(attributes: Mapping[str, Any]) -> Sequence[str] | None:
    """What may be in a group with these attributes; None where keys are free.

    >>> names_told({"encoding-type": "dataframe", "_index": "barcode", "column-order": ["donor"]})
    ('barcode', 'donor')
    """
    encoding = str(attributes.get("encoding-type"))
    if encoding == "dataframe":
        return tuple(dict.fromkeys([str(attributes["_index"]), *map(str, attributes["column-order"])]))
    return _MEMBERS.get(encoding)
