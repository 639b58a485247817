"""What a codec answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from numpy.typing import NDArray

__all__ = ["Buffer", "Codec", "Encoding", "Output", "Parameters", "Step", "decompressed"]

Buffer = Any  # bytes, memoryview or array: whatever exports a buffer
Parameters = tuple[int, ...]
"""What HDF5 stores with a filter of a dataset, or what comes to the same of Zarr's configuration."""


class Step(NamedTuple):
    """A codec as compiled loops call it.

    Parameters
    ----------
    entry
        Address of a C function ``int entry(parameters, scratch, encoded, encoded_size, decoded, decoded_size)``: three
        pointers, the last two each with a size. It is not 0 if all of the encoded bytes decode to just as many as
        asked for, which are at ``decoded`` then; whatever the bytes are, it reads and writes nowhere else. Both
        pointers are multiples of 8, and the function may be called by many threads at once.
    parameters
        Numbers and addresses that it gets as an array of int64, seven at most.
    scratch_bytes
        How much working memory it needs, from a multiple of 8 on.
    window
        Address of a function that has two more arguments, ``first`` and ``last``: of the decoded bytes, only
        ``first … last-1`` are wanted, and what is in the others afterwards does not matter. 0 if decoding a part would
        be no less work.
    """

    entry: int
    parameters: tuple[int, ...]
    scratch_bytes: int = 0
    window: int = 0


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a dataset is stored.

    Parameters
    ----------
    name
        What the caller chose.
    options
        Of `h5py.Group.create_dataset`: the same filters.
    encode
        A storage chunk of values to its bytes in the file; None for a dataset that is not cut into storage chunks.
    """

    name: str
    options: Mapping[str, Any]
    encode: Callable[[NDArray[Any]], bytes] | None


@dataclass(frozen=True, eq=False)
class Output:
    """A way to store a rewritten file that a caller may choose.

    Parameters
    ----------
    name
        By which it is chosen.
    place
        Its rank among the others: what is read fastest for its size comes first.
    make
        Its encoding; `FormatError` where something is missing here.
    plugin
        The package that others must import before h5py reads such a file; "" if none.
    """

    name: str
    place: int
    make: Callable[[], Encoding]
    plugin: str = ""


class Codec(ABC):
    """How bytes are encoded: everything that is known of it. It has no state.

    A new one is a module of this room with one such class, which `registry` finds; nothing else has to be changed.
    """

    name: ClassVar[str]
    """As reports and routes say it."""
    number: ClassVar[int | None] = None
    """Of the filter in HDF5: https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md"""
    zarr: ClassVar[tuple[str, ...]] = ()
    """What Zarr (2 and 3) calls that which makes the very same bytes."""
    compresses: ClassVar[bool] = True
    """Whether it is for fewer bytes; others arrange or check them."""
    added_bytes: ClassVar[int] = 0
    """How many more bytes encoding makes, where that is fixed."""
    costs: ClassVar[str] = ""
    """What `inspect` remarks of a field that is encoded by this alone; "" for nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def work(self) -> str:
        """The words that `bench` has for decoding with this codec alone."""
        return f"decoding {self.name}"

    def parameters_of(self, configuration: Mapping[str, Any]) -> Parameters:
        """What decoding needs to know of the configuration that Zarr stores with a codec."""
        return ()

    def refusal(self, parameters: Parameters) -> str:
        """Why bytes encoded with these parameters cannot be decoded here; "" if they can."""
        return ""

    def quick(self, parameters: Parameters) -> bool:
        """Whether decoding is so fast that no other codec is recommended."""
        return not self.compresses

    @abstractmethod
    def decode(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        """Bytes decoded, to ``size`` if they are intact; a ValueError says what is wrong with them.

        No more than about ``size`` bytes of memory are taken, whatever the bytes promise.
        """

    def decode_bare(self, encoded: Buffer, size: int, parameters: Parameters) -> Buffer:
        """The same for bytes known to be intact, at the least cost: `bench` compares with it."""
        return self.decode(encoded, size, parameters)

    def step(self, parameters: Parameters) -> Step | None:
        """How compiled loops decode; None if they cannot, here or at all."""
        return None

    def outputs(self) -> Sequence[Output]:
        """The ways to store files that this codec is for."""
        return ()


def decompressed(decompress: Callable[[Buffer], Buffer], encoded: Buffer) -> Buffer:
    """What a function of ``numcodecs`` makes of bytes; a ValueError says why it cannot."""
    try:
        return decompress(encoded)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot be decompressed ({error})") from None
