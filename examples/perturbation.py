"""Learn what perturbations do from cells and controls of the same cell line, in a simulated screen.

::

    python examples/perturbation.py
"""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from annpipes import IndexSource, Loader

N_CELLS, N_GENES, SET_SIZE = 3000, 50, 8
EFFECTS = {"GATA1": (3, 2.0), "TP53": (7, -1.5), "MYC": (20, 1.0)}  # the gene that each changes, and by how much


class Shift(nn.Module):
    """Perturbed cells, predicted from controls and the effect of the perturbation: one number for each gene."""

    def __init__(self, n_perturbations: int, n_genes: int) -> None:
        super().__init__()
        self.effects = nn.Embedding(n_perturbations, n_genes)
        nn.init.zeros_(self.effects.weight)

    def forward(self, controls: Tensor, perturbations: Tensor) -> Tensor:
        return controls + self.effects(perturbations)  # (sets, n_genes)


def made_up_screen() -> anndata.AnnData:
    """Three cell lines that differ in all genes; half of the cells are controls, the others perturbed."""
    rng = np.random.default_rng(0)
    lines = {line: rng.normal(size=N_GENES) for line in ["A549", "K562", "MCF7"]}
    shifts = {name: size * np.eye(N_GENES)[gene] for name, (gene, size) in EFFECTS.items()}
    shifts["control"] = np.zeros(N_GENES)
    obs = pd.DataFrame(
        {
            "cell_line": rng.choice([*lines], N_CELLS),
            "perturbation": rng.choice([*shifts], N_CELLS, p=[1 / 6, 1 / 6, 1 / 6, 1 / 2]),
        },
        index=[f"cell{number}" for number in range(N_CELLS)],
    )
    means = [lines[line] + shifts[name] for line, name in zip(obs["cell_line"], obs["perturbation"], strict=True)]
    return anndata.AnnData(np.float32(means + rng.normal(scale=0.5, size=(N_CELLS, N_GENES))), obs=obs)


def set_means(cells: Tensor) -> Tensor:
    """The mean of each set of a batch."""
    return cells.unflatten(0, (-1, SET_SIZE)).mean(dim=1)  # (sets, n_genes)


def main() -> None:
    """Train for a few epochs and print the effect learned for each perturbation."""
    sets = IndexSource(made_up_screen()).sample_groups(
        ["cell_line", "perturbation"], SET_SIZE, control="perturbation == 'control'", match="cell_line"
    )
    loader = Loader(
        sets.sort_within_chunks(1024)
        .read_rows(["X", "obs/perturbation:code"])
        .batch_rows(8 * sets.set_rows)  # eight sets with their controls
        .pair_controls()  # X and control_X, row by row
        .collate_rows(),
        seed=0,
    )
    names = loader.categories("perturbation")
    model = Shift(len(names), N_GENES)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(10):
        losses = []
        for batch in loader:
            perturbations = batch["obs_perturbation"][::SET_SIZE]  # (sets,)
            predicted = model(set_means(batch["control_X"]), perturbations)
            loss = mse_loss(predicted, set_means(batch["X"]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {np.mean(losses):.3f} over {len(losses)} steps")

    for name, (planted_gene, planted) in EFFECTS.items():
        effect = model.effects.weight[names.index(name)].detach()  # (n_genes,)
        gene = int(effect.abs().argmax())
        print(f"{name}: gene {gene} by {effect[gene]:+.2f}; planted: gene {planted_gene} by {planted:+}")


if __name__ == "__main__":
    main()
