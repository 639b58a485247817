"""Many files as one source of rows.

`alignment`  the genes of several files as one list
`aligned`    what is asked about them
`joined`     fields of several stores as one
`patterns`   the files that a pattern names
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from annpipes.errors import DamageError, FieldError, ParameterError, ParameterTypeError
from annpipes.messages.reprs import call_repr
from annpipes.plans.rows import RowArray, as_count
from annpipes.stores.base import FieldStore
from annpipes.stores.begun import Begun
from annpipes.stores.bytes.remote import as_remote
from annpipes.stores.caching.settings import Cache, as_cache
from annpipes.stores.collection.aligned import AlignedStore
from annpipes.stores.collection.alignment import JoinedGenes, first_few, union
from annpipes.stores.collection.joined import JoinedDense, JoinedSparse, Part, common_width
from annpipes.stores.collection.patterns import is_pattern, paths_of, several_at
from annpipes.stores.frame import Column, column_of
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.genes import Genes
from annpipes.stores.memory import MemoryStore
from annpipes.stores.opening import open_one
from annpipes.stores.protocol import MatrixReader
from annpipes.stores.row_space import RowSpace
from annpipes.stores.series import join_series
from annpipes.stores.vocabularies import AS_NAMED, GeneVersions, Matching, MissingGenes
from annpipes.types import Chunk

__all__ = ["Collection", "Missing"]

Missing = Literal["error", "fill", "skip"]


class Collection(AlignedStore):
    """Many files, or AnnData objects, read as one: their rows one after the other, their genes aligned.

    >>> import anndata, numpy as np
    >>> one, two = (anndata.AnnData(np.eye(2, dtype="f4")) for _ in range(2))
    >>> one.var_names, two.var_names = ["CD3E", "LYZ"], ["LYZ", "MS4A1"]
    >>> source = IndexSource(Collection([one, two], join="outer"))
    >>> batch = next(iter(source.sort_within_chunks(4).read_rows(["X", "file"])))
    >>> batch["X"].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> batch["file"].tolist(), source.var.index.tolist()
    ([0, 0, 1, 1], ['CD3E', 'LYZ', 'MS4A1'])

    Nothing is concatenated: a file is opened when its rows are read, and rows are copied to
    their place in the batch, with their columns renumbered. `IndexSource`, `stream` and `AnnDataset` make a
    collection with these defaults from any list of data, and from a pattern such as ``"atlas/*.h5ad"``.

    Files that differ are joined as with `anndata.concat`: a matrix is sparse if it is sparse in any
    file, and numbers take numpy's common dtype; in obs, so do booleans (0 and 1) and categories of numbers next to
    numbers. Categories share one table over all files: that of the first file, then new labels in the order in which
    they appear in the other files. A column that has strings in some file, or numbers in one and labels in another,
    becomes strings, and its table is sorted. A whole number that the common type cannot hold is an error. ``obsm``
    must have the same columns everywhere.

    ``raw`` has genes of its own. Those of all files are joined by the same rules, apart from those of var, when
    ``raw/X`` is asked for.

    Parameters
    ----------
    data
        Paths, addresses and AnnData objects in any mixture, a pattern (files sorted by name), or a Zarr store that
        holds several AnnData, as annbatch writes it.
    join
        The genes: those of all files (``"inner"``, in the first file's order), those of any
        (``"outer"``), or a list of names, in that order. For ``raw/X``, the same of the genes of raw.
    on
        The column of var, and of raw's var, that identifies genes, such as Ensembl ids; var_names when None. Its
        values become the names of the genes, and ``var`` keeps the old names in its column ``var_names``.
    missing
        What happens to a layer, raw, obs column or obsm that some file lacks: asking for it is an ``"error"``;
        ``"fill"`` fills it in (X, layers and ``raw/X`` with ``fill_value``, sparse obsm with 0, other numbers
        with NaN, labels with ``""`` or code -1); ``"skip"`` leaves it out of all batches.
    fill_value
        The value for a gene that a file lacks.
    missing_genes
        What happens to genes of the list ``join`` that no file has: an ``"error"``, or ``"fill"`` with ``fill_value``.
    gene_versions
        Whether Ensembl ids are compared with their versions (``"keep"``) or without (``"drop"``).
    max_open_files
        How many files one read keeps open at once. If there are more files, each is closed after reading from it.
    cache
        As for `IndexSource`, for all files.

    Raises
    ------
    SourceError
        No such file.
    ParameterError
        No gene is common to all files; names, or values of ``on``, that must be aligned are missing or not unique.
    FieldError
        A gene of ``join`` is in no file; a file has no column ``on``.
    """

    def __init__(
        self,
        data: Any,
        *,
        join: str | Sequence[str] = "inner",
        on: str | None = None,
        missing: Missing = "error",
        fill_value: float = 0.0,
        missing_genes: MissingGenes = "error",
        gene_versions: GeneVersions = "keep",
        max_open_files: int = 16,
        cache: Any = None,
    ) -> None:
        super().__init__()
        if (remote := as_remote(data)) is not None:
            found = several_at(remote)
            data = found if isinstance(found, list) else [found]
        elif isinstance(data, str | os.PathLike):
            data = os.path.expanduser(data)
            data = [data] if os.path.exists(data) and not is_pattern(data) else paths_of(data)
        if isinstance(join, str) and join not in ("inner", "outer"):
            raise ParameterError(f"join must be 'inner', 'outer' or a list of genes, got {join!r}")
        if missing not in get_args(Missing):
            raise ParameterError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")
        if not isinstance(data, list | tuple):
            raise ParameterTypeError(f"data must be a list (paths, AnnData) or a pattern, got {type(data).__name__}")
        if isinstance(fill_value, bool) or not isinstance(fill_value, int | float | np.number):
            raise ParameterTypeError(f"fill_value must be a number, got {fill_value!r}")
        self.join: str | list[str] = join if isinstance(join, str) else [str(gene) for gene in join]
        self._matching = Matching.of(on, missing_genes, gene_versions, argument="on")
        self.on: str | None = on
        self.missing_genes, self.gene_versions = missing_genes, gene_versions
        self.missing: Missing = missing
        self.fill_value: float = float(fill_value)
        self.max_open_files: int = as_count(max_open_files, "max_open_files")
        self.cache: Cache | None = as_cache(cache)
        self.data: list[Any] = list[Any]()
        self.stores: list[FieldStore] = list[FieldStore]()
        for one in data:
            store = open_one(one, self.cache)
            self.data.append(os.fspath(one) if isinstance(one, str | os.PathLike) and as_remote(one) is None else store)
            self.stores += store.parts() if isinstance(store, Collection) else [store]
        if not self.stores:
            raise ParameterError("data is an empty list: a collection needs at least one file")
        self.keep_genes()
        self.space = RowSpace([store.n_obs for store in self.stores])
        self.n_obs: int = len(self.space)
        self.name: str = f"{len(self.stores)} files"
        self._of_var = JoinedGenes(self.stores, self.join, self._matching)
        self.n_vars: int = len(self._of_var.names)
        self.distant: bool = any(store.distant for store in self.stores)

    def parts(self) -> list[FieldStore]:
        """The stores, to be part of another collection, which has rules for all of them."""
        if (self.join, self.missing, self.fill_value, self._matching) != ("inner", "error", 0.0, AS_NAMED):
            raise ParameterError(
                f"{self!r} is within another collection: give join, on, missing, fill_value, missing_genes and "
                f"gene_versions to the outer one"
            )
        return self.stores

    def __repr__(self) -> str:
        return call_repr(self)

    def fingerprint(self) -> Mapping[str, str | int]:
        """All stores' fingerprints, and how they are joined."""
        parts = repr([sorted(store.fingerprint().items()) for store in self.stores]).encode()
        known: dict[str, str | int] = {"n_obs": self.n_obs, "files": f"{len(self.stores)}, crc {zlib.crc32(parts):08x}"}
        filled = {"fill_value": repr(float(self.fill_value))} if self.fill_value else {}
        return {**known, "genes": self._of_var.fingerprint, **filled}

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for store in self.stores for file in store.files)

    @property
    def obs_names(self) -> AnyIndex:
        names: AnyIndex = pd.Index(np.concatenate([store.obs_names.astype(str) for store in self.stores]))
        return names

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def _list_fields(self) -> Sequence[str]:
        owners = [dict.fromkeys(store.fields) for store in self.stores]
        listed = [field for field in union(owners) if field not in ("obs_names", "rows", "file")]
        if self.missing != "fill":
            listed = [field for field in listed if all(field in fields for fields in owners)]
        return [*listed, "file"]

    def check(self, fields: Sequence[str]) -> None:
        super().check([field for field in fields if not self._skipped(field)])

    def begin(self, chunk: Chunk, first: int, fields: Sequence[str], genes: Genes | None = None) -> Begun:
        return super().begin(chunk, first, [field for field in fields if not self._skipped(field)], genes)

    def row_bytes(self, fields: Sequence[str]) -> float:
        return super().row_bytes([field for field in fields if not self._skipped(field)])

    def categories(self, column: str) -> tuple[Any, ...]:
        return () if self._skipped(f"obs/{column}") else super().categories(column)

    @cached_property
    def _in_memory(self) -> list[tuple[int, FieldStore]]:
        """The stores that may change and still be read."""
        return [(number, store) for number, store in enumerate(self.stores) if isinstance(store, MemoryStore)]

    def version(self, field: str) -> tuple[Any, ...]:
        plain = field if field in ("obs_names", "rows") else field.removesuffix(":code")
        return tuple(store.version(field) for _, store in self._in_memory if plain in store.fields)

    def notice(self, field: str, rows: RowArray) -> None:
        if self._in_memory:
            shares = {share.number: share.rows for share in self.space.shares(rows)}
            for number, store in self._in_memory:
                if number in shares:
                    store.notice(field, shares[number])

    def _skipped(self, field: str) -> bool:
        """Whether a field is left out because some store lacks it."""
        plain = field.removesuffix(":code")
        owned = (plain in store.fields for store in self.stores)
        return self.missing == "skip" and plain not in self.fields and any(owned)

    def _open(self, field: str) -> Any:
        if field == "file":
            return _FileNumbers(self.space)
        plain = field if field in self.fields else field.removesuffix(":code")
        lacking = [store.name for store in self.stores if plain not in store.fields]
        if self.missing == "error" and 0 < len(lacking) < len(self.stores):
            raise FieldError(
                f"no field {plain!r} in {first_few(lacking)} ({len(lacking)} of {len(self.stores)} files); "
                f"Collection(…, missing='fill') fills it in, missing='skip' leaves it out"
            )
        return super()._open(field)

    def _open_column(self, column: str) -> Column:
        return column_of(self.series(column), f"obs/{column} of {self.name}")

    def series(self, column: Any) -> AnySeries:
        columns = [store.series(column) if f"obs/{column}" in store.fields else None for store in self.stores]
        for store, values in zip(self.stores, columns, strict=True):
            if values is not None and len(values) != store.n_obs:
                raise DamageError(
                    f"obs/{column} of {store.name} has {len(values)} values, but there are {store.n_obs} rows"
                )
        return join_series(columns, [store.n_obs for store in self.stores], f"obs column {column!r} of {self.name}")

    def _open_matrix(self, group: str, key: str) -> MatrixReader:
        field = f"{group}/{key}" if key else group
        matrices = [store.matrix(field) if field in store.fields else None for store in self.stores]
        present = [matrix for matrix in matrices if matrix is not None]
        sparse, along = any(matrix.sparse for matrix in present), self._genes_along(field)
        kept: list[Genes | None] = [None] * len(matrices)
        if along is None:
            width, fill = common_width(self.stores, field), 0.0 if sparse else np.nan
        else:
            along.check(field, matrices)
            width, kept, fill = len(along.names), along.kept, self.fill_value
        parts = [Part(*part) for part in zip(self.stores, matrices, kept, strict=True)]
        joined = JoinedSparse if sparse else JoinedDense
        return joined(self.space, parts, width, fill, self.max_open_files)


class _FileNumbers:
    """The field ``file``: which store a row comes from."""

    def __init__(self, space: RowSpace) -> None:
        self.space = space

    def read(self, chunk: Chunk) -> NDArray[np.int64]:
        return self.space.locate(chunk.drawn)[0]
