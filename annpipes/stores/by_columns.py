"""What is said of a matrix that is stored by columns."""

from __future__ import annotations

from annpipes.errors import FormatError

__all__ = ["columns_refused"]


def columns_refused(path: str, of: str, begin: str = "", end: str = "") -> FormatError:
    """The error for the matrix at ``path`` of ``of``, with the lines that convert it between ``begin`` and ``end``.

    >>> print(columns_refused("layers/counts", "AnnData(700 × 765)"))
    layers/counts of AnnData(700 × 765) is stored by columns (CSC) and cannot be read by rows. Convert it once: \
adata.layers['counts'] = adata.layers['counts'].tocsr()
    """
    remedy = "; ".join(line for line in (begin, _conversion(path), end) if line)
    how = "Write it as CSR once" if end else "Convert it once"
    return FormatError(
        f"{path} of {of} is stored by columns (CSC) and cannot be read by rows. {how}: {remedy}"
    ).with_remedy(remedy)


def _conversion(path: str) -> str:
    """What makes CSR of an element of ``adata``: of ``layers/counts``, ``adata.layers['counts']`` is set."""
    group, _, key = path.partition("/")
    if group == "raw":  # whose X cannot be set
        return "raw = adata.raw.to_adata(); raw.X = raw.X.tocsr(); adata.raw = raw"
    name = f"adata.{group}[{key!r}]" if key else f"adata.{group}"
    return f"{name} = {name}.tocsr()"
