"""What is in a group of an AnnData's Zarr store, as its attributes tell where nothing lists it.

https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annpipes.errors import FormatError
from annpipes.messages.warning import warn

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


def names_told(attributes: Mapping[str, Any], where: str, *, whole: bool) -> list[str]:
    """What may be in a group with these attributes; nothing, and a warning, where keys are free.

    Parameters
    ----------
    attributes
        Of the group.
    where
        What it is called in messages.
    whole
        Whether it is the store itself.

    Raises
    ------
    FormatError
        It is, and no AnnData.
    """
    encoding = attributes.get("encoding-type")
    if encoding == "dataframe":
        return [*dict.fromkeys([str(attributes["_index"]), *map(str, attributes["column-order"])])]
    if encoding in _MEMBERS:
        return list(_MEMBERS[encoding])
    told = f"of what is in {where} nothing is known: its metadata is not consolidated, and a web server lists nothing"
    remedy = "call zarr.consolidate_metadata(path) where it was written, as anndata does"
    if whole:
        raise FormatError(f"{told}; {remedy}").with_remedy(remedy)
    warn(f"{told}; {remedy}")
    return []
