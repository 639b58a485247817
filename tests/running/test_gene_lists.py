"""Loaders of genes of which the data lacks some: their states, workers and transforms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from builders import dense, write
from gene_contract import reindexed
from gene_lists import IDS, bare, named
from torch.utils.data import DataLoader

from annpipes import AnnDataset, IndexSource, Log1p, NormalizeTotal, ResumableDataset, stream
from annpipes.errors import StateError

GENES = ["XIST", "gene-6", "SRY", "gene-2"]
FIELDS = ["X", "raw/X", "rows"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adata = named()
    adata.X.data = np.abs(adata.X.data) + 1
    return write(adata, tmp_path_factory.mktemp("lists") / "cells.h5ad", "gzip")


def loader_of(path: Path, genes: Any = GENES, **how: Any) -> Any:
    return stream(path, 4, fields=FIELDS, **{"genes": genes, "missing_genes": "fill", **how})


class TestStates:
    def test_go_on_within_an_epoch(self, path: Path) -> None:
        whole, loader = list(loader_of(path, seed=3)), loader_of(path, seed=3)
        for number, _ in enumerate(loader):
            if number == 2:
                break
        state = json.loads(json.dumps(loader.state_dict()))
        again = loader_of(path, seed=3)
        again.load_state_dict(state)
        rest = list(again)
        assert len(rest) == len(whole) - 3
        for batch, expected in zip(rest, whole[3:], strict=True):
            assert all(torch.equal(batch[key], expected[key]) for key in expected)

    @pytest.mark.parametrize(
        "other",
        [
            {"genes": GENES[::-1]},
            {"genes": ["XIST", "gene-6", "UTY", "gene-2"]},
            {"genes": GENES[1:]},
            {"genes": None, "missing_genes": "error"},
            {"genes": [6, 2], "missing_genes": "error"},
        ],
        ids=str,
    )
    def test_of_other_genes_are_refused(self, path: Path, other: dict[str, Any]) -> None:
        saved = loader_of(path).state_dict()
        with pytest.raises(StateError, match=r"chosen_genes was '4, 2 of them filled, crc .*' and is"):
            loader_of(path, **other).load_state_dict(saved)
        loader_of(path).load_state_dict(saved)

    def test_are_the_same_however_the_same_genes_are_called(self, path: Path) -> None:
        """What a state belongs to is what comes out: the same columns, and the same ones filled."""
        saved = stream(path, 4, genes=[IDS[3], IDS[1]], genes_from="feature_id").state_dict()
        stream(path, 4, genes=["gene-3", "gene-1"]).load_state_dict(saved)
        bared = stream(path, 4, genes=bare([IDS[3], IDS[1]]), genes_from="feature_id", gene_versions="drop")
        bared.load_state_dict(saved)

    def test_of_pipes_too(self, path: Path) -> None:
        def pipe(genes: Any) -> Any:
            chunks = IndexSource(path).shuffle_blocks().sort_within_chunks(8)
            return ResumableDataset(chunks.read_rows(genes=genes, missing_genes="fill").batch_rows(4))

        saved = pipe(GENES)
        next(iter(saved))
        with pytest.raises(StateError, match="chosen_genes was"):
            pipe(["gene-6", "XIST"]).load_state_dict(saved.state_dict())


class TestWorkers:
    @pytest.mark.parametrize("how", [{"num_workers": 2}, {"num_workers": 2, "method": "process"}], ids=str)
    def test_give_what_one_process_gives(self, path: Path, how: dict[str, Any]) -> None:
        context = {"multiprocessing_context": "fork"} if "method" in how else {}
        for batch, expected in zip(loader_of(path, **how, **context), loader_of(path), strict=True):
            assert all(torch.equal(batch[key], expected[key]) for key in expected)

    def test_of_torch_too(self, path: Path) -> None:
        adata = anndata.read_h5ad(path)
        wanted = torch.from_numpy(reindexed(adata.X, adata.var_names, GENES))
        dataset = AnnDataset(path, fields=["X", "rows"], genes=GENES, missing_genes="fill")
        for batch in DataLoader(dataset, batch_size=8, num_workers=2):
            assert torch.equal(batch["X"], wanted[batch["rows"]])


class TestTransforms:
    @pytest.mark.parametrize("form", ["dense", "csr"])
    @pytest.mark.parametrize("field", ["X", "raw/X"])
    def test_totals_are_those_of_all_genes_of_the_data(self, path: Path, form: str, field: str) -> None:
        adata = anndata.read_h5ad(path)
        matrix, names = (adata.raw.X, adata.raw.var_names) if field == "raw/X" else (adata.X, adata.var_names)
        total = dense(matrix).sum(1, keepdims=True)
        share = np.divide(dense(matrix), total, out=np.zeros(matrix.shape), where=total > 0)
        expected = np.log1p(100 * reindexed(share, names, GENES))
        chunks = IndexSource(path).sort_within_chunks(29)
        pipe = chunks.read_rows([field, "rows"], genes=GENES, missing_genes="fill").batch_rows(29)
        (batch,) = pipe.transform([NormalizeTotal(100), Log1p()], field=field).collate_rows(form)
        key = field.replace("/", "_")
        found = batch[key].to_dense() if form == "csr" else batch[key]
        np.testing.assert_allclose(found, expected[batch["rows"].numpy()], rtol=1e-5)
