"""The rows of a matrix in a file, whatever the container: dense, CSR, a table, or refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from annpipes.errors import FormatError
from annpipes.stores.arrays import DenseByNumpy
from annpipes.stores.by_columns import columns_refused
from annpipes.stores.containers.base import Container
from annpipes.stores.matrices import open_csr, open_dense
from annpipes.stores.protocol import MatrixReader
from annpipes.stores.refusals import refuse_numbers
from annpipes.stores.routes import Route
from annpipes.stores.surveying import SPARSE
from annpipes.stores.tables import matrix_of

__all__ = ["Element", "open_element"]


@dataclass(frozen=True)
class Element:
    """What a container says of an element that may be a matrix.

    Parameters
    ----------
    kind
        An ``array``, a ``table``, or a ``group`` of any other encoding.
    encoding
        As anndata calls it; "" if it is not said.
    shape, dtype
        Of an array; of a sparse matrix its sides, None if it does not say them, and the type of its values,
        None if they are not there.
    said
        What stands where the sides of a sparse matrix should.
    """

    kind: Literal["array", "table", "group"]
    encoding: str = ""
    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    said: Any = None


def open_element(
    container: Container, path: str, element: Element, table: Callable[[], pd.DataFrame], function: str
) -> MatrixReader:
    """The rows of the matrix at ``path``; ``table`` reads it if it is one, ``function`` is anndata's for such files.

    Raises
    ------
    FormatError
        It is stored by columns, or is no matrix.
    """
    where = f"{path} of {container.path}"
    if element.kind == "table":
        return DenseByNumpy(matrix_of(table(), where), route=Route("memory", "a table"))
    if element.kind == "array":
        shape = element.shape or ()
        if len(shape) != 2:
            raise FormatError(f"{where} has shape {shape}, not two dimensions")
        refuse_numbers(element.dtype, where, dense=True)
        return open_dense(container, path)
    layout = SPARSE.get(element.encoding, "")
    if layout == "csr":
        if element.dtype is not None:
            refuse_numbers(element.dtype, where)
        return open_csr(container, path, _sides(element, where))
    if layout == "csc":
        begin, end = f"adata = anndata.{function}({container.path!r})", f"adata.{function.replace('read', 'write')}(…)"
        raise columns_refused(path, container.path, begin, end)
    raise FormatError(
        f"{where} is encoded as {element.encoding or 'unknown'!r}, not as a dense or CSR matrix, so it cannot be read "
        f"by rows: leave it out, or store the part you need as an array"
    )


def _sides(element: Element, where: str) -> tuple[int, int]:
    if element.shape is None:
        lacks = (
            "lacks the attribute 'shape'" if element.said is None else f"has shape {element.said!r}, not two numbers"
        )
        raise FormatError(
            f"{where} is a sparse matrix that {lacks}, rows and columns, so its width is unknown: "
            f"set it in the file, or write it again with anndata"
        ).with_remedy("set the attribute in the file, or write it again with anndata")
    rows, columns = element.shape
    return rows, columns
