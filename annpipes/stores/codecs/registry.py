"""All codecs: the room's modules are looked through for them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from annpipes.stores.codecs.base import Codec

__all__ = ["BY_NAME", "BY_NUMBER", "BY_ZARR", "costs_of", "name_of"]

_NO_CODECS = {"base", "registry", "pipelines", "encoding"}


def _codecs() -> Iterator[Codec]:
    for found in iter_modules([str(Path(__file__).parent)]):
        if found.name not in _NO_CODECS:
            module = import_module(f"{__package__}.{found.name}")
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, Codec) and value.__module__ == module.__name__:
                    yield value()


BY_NAME: Mapping[str, Codec] = {codec.name: codec for codec in _codecs()}
"""The codecs as reports and routes name them."""

BY_NUMBER: Mapping[int, Codec] = {codec.number: codec for codec in BY_NAME.values() if codec.number is not None}
"""Those that HDF5 has, by their filters' numbers there."""

BY_ZARR: Mapping[str, Codec] = {name: codec for codec in BY_NAME.values() for name in codec.zarr}
"""Those that Zarr has, by their names there."""


def name_of(number: int, called: bytes) -> str:
    """What reports call the filter of a dataset; ``called`` is what HDF5 stored of one that is not known here."""
    codec = BY_NUMBER.get(number)
    return codec.name if codec else called.decode() or str(number)


def costs_of(name: str) -> str:
    """The remark about a field that only the codec of this name encodes; "" for none."""
    return BY_NAME[name].costs if name in BY_NAME else ""
