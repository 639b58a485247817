"""Chunks of row numbers into batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from annpipes.errors import PipelineError
from annpipes.plans.rows import as_count
from annpipes.stages.base import BatchStage, ChunkStage, ReadStage, need_batches, need_chunks
from annpipes.stages.chaining import chained_by
from annpipes.stages.datapipes import IterDataPipe
from annpipes.stages.graph import last_of, upstream
from annpipes.stages.origins import Source
from annpipes.stores import Begun, FoundGenes, Genes, GeneVersions, Matching, MissingGenes, Request, Unknown
from annpipes.types import Batch, Chunk

__all__ = ["RowBatcher", "RowReader"]


@chained_by("read_rows")
class RowReader(ReadStage):
    """For each chunk, a batch of its rows in the drawn order.

    >>> pipe = IndexSource("pbmc.h5ad").sort_within_chunks(100).read_rows(["X", "obs/louvain"])
    >>> batch = next(iter(pipe))
    >>> batch["X"].shape, batch["obs_louvain"][:2].tolist()
    ((100, 765), ['1', '1'])

    Parameters
    ----------
    source_datapipe
        The `ChunkSorter`, or a stage of your own that yields chunks.
    fields
        What to read, and nothing else: ``X``, ``layers/<name>``, ``raw/X``, ``obsm/<name>``,
        ``obs/<column>``, ``obs_names``, ``rows`` for the positions themselves, or ``file`` for the number of
        the file in a `Collection`. ``obs/<column>:code``
        gives int64 category codes (missing: -1) in place of strings. The batch's keys are
        the same with ``_`` in place of ``/``.
    genes
        The columns to keep: names, positions or a mask, in the order in which the batch should have them. All when
        None. Names apply to X, to layers and to ``raw/X``, for which they are looked up in raw's own var. Positions
        and masks count along var and do not apply to ``raw/X``, which keeps all its genes.
    genes_from
        The column of var in which names are looked up, such as one with Ensembl ids; var_names when None.
    missing_genes
        What happens to names that the data lack: an ``"error"``, or a column of zeros (``"fill"``); ``found_genes``
        says how many genes were found. If none is found, this is always an error.
    gene_versions
        Whether Ensembl ids are compared with their versions (``"keep"``), or without (``"drop"``):
        ``ENSG00000141510.18`` is then ``ENSG00000141510``.
    categories
        For obs columns that are read as codes, tables to use in place of the data's own, such as those of a trained
        model: ``{"cell_type": ["B", "T"]}`` gives B code 0 and T code 1.
    unknown
        What happens to labels that such a table lacks: an ``"error"``, or code -1 (``"missing"``).

    Raises
    ------
    FieldError
        The data have no such field or gene; the message lists those that exist, or similar ones.
    ParameterError
        A gene is given twice or is ambiguous, or a label is not in the table given for its column.
    FormatError
        A field is stored by columns, or in another way that cannot be read by rows.
    """

    def __init__(
        self,
        source_datapipe: IterDataPipe[Chunk],
        fields: Sequence[str] = ("X",),
        *,
        genes: Any = None,
        genes_from: str | None = None,
        missing_genes: MissingGenes = "error",
        gene_versions: GeneVersions = "keep",
        categories: Mapping[str, Sequence[Any]] | None = None,
        unknown: Unknown = "error",
    ) -> None:
        need_chunks(source_datapipe, "read_rows")
        self.source_datapipe = source_datapipe
        source = upstream(source_datapipe, Source, "read_rows")
        self.request: Request = Request.of(
            source.store,
            fields,
            genes=genes,
            matching=Matching.of(genes_from, missing_genes, gene_versions),
            categories=categories,
            unknown=unknown,
            rows=source.plan.row_set,
        )
        self.fields: tuple[str, ...] = self.request.fields
        self.genes: Genes | None = self.request.chosen
        self.unknown: Unknown = unknown
        self.genes_from: str | None = genes_from
        self.missing_genes: MissingGenes = missing_genes
        self.gene_versions: GeneVersions = gene_versions
        self.categories: dict[str, tuple[Any, ...]] | None = self.request.labels.given or None

    def each(self, item: Chunk) -> Batch:
        """The rows of one chunk."""
        return self.request.read(item)

    def begin(self, chunk: Chunk, first: int) -> Begun:
        """As ``each``, when the chunk's ``first`` rows are there."""
        return self.request.begin(chunk, first)

    def fingerprint(self) -> Mapping[str, Any]:
        """What the codes of labels, and the genes of columns, depend on."""
        return self.request.fingerprint()

    @property
    def var(self) -> Any:
        """A `pandas.DataFrame` with var of the genes that are read, in the order of X's columns.

        If ``raw/X`` is read and neither X nor a layer, it is about the columns of ``raw/X``.
        """
        return self.request.var

    @property
    def raw_var(self) -> Any:
        """The same of the columns of ``raw/X``."""
        return self.request.raw_var

    @property
    def found_genes(self) -> FoundGenes:
        """How many of the genes that are read the data have, and how many each file has."""
        return self.request.found_genes

    def __len__(self) -> int:
        """How many chunks."""
        return len(self.source_datapipe)


@chained_by("batch_rows")
class RowBatcher(BatchStage):
    """Batches of ``batch_size`` rows; only the last one may be shorter.

    >>> pipe = IndexSource("pbmc.h5ad").sort_within_chunks(100).read_rows().batch_rows(300)
    >>> [len(batch) for batch in pipe]
    [300, 300, 100]

    A batch that lies within one chunk is a slice of it and copies nothing.

    Parameters
    ----------
    source_datapipe
        The `RowReader`, or a stage of your own that yields batches.
    batch_size
        Rows in each batch, independent of the chunk size.
    drop_last
        Leave out a shorter last batch.

    Raises
    ------
    PipelineError
        The rows come in sets (of `GroupSampler`) that batches of this size would split.
    """

    def __init__(self, source_datapipe: IterDataPipe[Batch], batch_size: int = 256, *, drop_last: bool = False) -> None:
        need_batches(source_datapipe, "batch_rows")
        self.source_datapipe: IterDataPipe[Batch] = source_datapipe
        self.batch_size: int = as_count(batch_size, "batch_size")
        chunker = last_of(source_datapipe, ChunkStage)
        if chunker is not None and self.batch_size % chunker.chunks.source.set_rows:
            raise PipelineError(
                f"batches must hold whole sets, a multiple of {chunker.chunks.source.set_rows} rows, got "
                f"batch_size={batch_size} after {source_datapipe!r}"
            )
        self.drop_last = drop_last

    def fingerprint(self) -> Mapping[str, Any]:
        """The batch size."""
        return {"batch_size": self.batch_size}

    def cut(self, batch: Batch) -> Iterator[Batch]:
        """Batches of which the first begins with the first row of ``batch``."""
        return batch.split(self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        held: list[Batch] = []  # the beginning of a batch that goes on in the next chunk
        for batch in self.source_datapipe:
            missing = self.batch_size - sum(map(len, held))
            edges = [0, *range(missing, len(batch) + 1, self.batch_size)]
            for start, stop in pairwise(edges):
                yield Batch.concat([*held, batch[start:stop]])
                held = []
            if edges[-1] < len(batch):
                held.append(batch[edges[-1] :])
        if held and not self.drop_last:
            yield Batch.concat(held)
