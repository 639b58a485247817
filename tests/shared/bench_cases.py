"""A benchmark's cases, made up."""

from __future__ import annotations

from typing import Any

from annpipes.tools.benching.bounds import BenchCase, BenchLimit

DECODE = BenchLimit("decode", "inflating gzip", 108_000.0, 1310.0)


COPY = BenchLimit("copy", "copying", 1_000_000.0, 9000.0)


DENSIFY = BenchLimit("densify", "making batches dense", 200_000.0, 16_000.0)


DISK = BenchLimit("disk", "the disk", 21_000.0, 215.0)


def case(
    cells_per_second: float,
    *limits: BenchLimit,
    order: str = "blocks",
    form: str = "csr",
    n_obs: int = 200_000,
    **changes: Any,
) -> BenchCase:
    """A case of a made-up file."""
    values = {
        "block_size": {"random": 1, "blocks": 64}.get(order, 16_384),
        "rows": 100_000,
        "turns": 3,
        "slowest": cells_per_second * 0.9,
        "fastest": cells_per_second * 1.1,
        "disk": None,
        "read_amplification": 1.0,
    }
    return BenchCase.of(
        n_obs, cells_per_second=cells_per_second, limits=limits, order=order, form=form, **{**values, **changes}
    )
