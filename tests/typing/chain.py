"""A chain as a user writes it: `tox -e types` checks what each verb makes."""

from typing import assert_type

import annpipes as ap

source = ap.IndexSource("pbmc.h5ad", block_size=16)
chunks = assert_type(source.shuffle_blocks().sort_within_chunks(256), ap.ChunkSorter)
read = assert_type(chunks.read_rows(["X", "obs/louvain:code"], genes=["CD3D"]), ap.RowReader)
pipe = assert_type(read.batch_rows(64, drop_last=True).transform(ap.Log1p()).collate_rows("csr"), ap.Collator)
assert_type(chunks.read_rows(genes=["ENSG1"], genes_from="feature_id", missing_genes="fill"), ap.RowReader)
assert_type(source.sample_groups("louvain", 4).sort_within_chunks(), ap.ChunkSorter)
assert_type(source.sample_rows(balance="louvain"), ap.RowSampler)
assert_type(ap.stream("pbmc.h5ad", 64, form="csr", seed=1, prefetch=2), ap.Loader)

chunks.read_rows(genes=["CD3D"], fields=3)  # type: ignore[arg-type] # and so a wrong parameter is found
