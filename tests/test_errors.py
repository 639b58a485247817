from __future__ import annotations

import builtins
import pickle
import re

import pytest

from annpipes import AnnpipesError, errors

TREE = dict(re.findall(r"── (\w+) +\((\w+)\)", errors.__doc__ or ""))
"""The tree drawn in the docstring: our name, and the builtin that a caller would expect."""


def test_every_error_is_drawn_and_listed() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__) == {"AnnpipesError", *TREE}
    assert len(TREE) >= 8


@pytest.mark.parametrize("name", TREE)
def test_an_error_is_caught_as_ours_and_as_the_builtin(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, AnnpipesError)
    assert issubclass(kind, getattr(builtins, TREE[name]))
    assert not issubclass(kind, KeyError)  # whose message would print in quotes


@pytest.mark.parametrize("name", TREE)
def test_a_message_reads_as_written_even_out_of_a_worker(name: str) -> None:
    error = getattr(errors, name)("no obs column 'celltype' in pbmc.h5ad")
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert str(copy) == "no obs column 'celltype' in pbmc.h5ad"
        assert type(copy) is type(error)
