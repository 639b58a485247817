"""Storage chunks that are written and copied without HDF5 hold what HDF5 reads from them."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 # registers filters
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annpipes.stores.codecs.encoding import CODECS, codec_of
from annpipes.stores.writing.datasets import append, create, write_at


@pytest.mark.parametrize("codec", CODECS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(0, 40),
    skip=st.integers(0, 20),
    count=st.integers(0, 60),
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    columns=st.sampled_from([None, 3]),
)
def test_appended_rows_are_those_of_the_source(
    tmp_path: Path, codec: str, first: int, skip: int, count: int, sides: tuple[int, int], columns: int | None
) -> None:
    encoding, width = codec_of(codec), () if columns is None else (columns,)
    values = np.arange((skip + count) * (columns or 1), dtype=np.int32).reshape(skip + count, *width)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        source = create(file, "source", values.shape, np.int32, sides[0], encoding)
        write_at(source, 0, values, encoding)
        np.testing.assert_array_equal(source[()], values)
        target = create(file, "target", (first + count + 5, *width), np.int32, sides[1], encoding)
        assert append(target, first, source, skip) == first + count
        np.testing.assert_array_equal(target[first : first + count], values[skip:])
        assert not target[:first].any()
        assert not target[first + count :].any()
