"""Codecs one after the other: the filters of an HDF5 dataset, or the codecs of a Zarr array.

HDF5 applies filters in the order of the pipeline when writing and in reverse when reading; a
storage chunk's filter mask has a bit set for each filter that was left out of it
(HDF5 File Format Specification, "Data Storage - Filter Pipeline Message").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from annpipes.stores.codecs.base import Buffer, Codec, Parameters, Step
from annpipes.stores.codecs.registry import BY_NUMBER, BY_ZARR, name_of

__all__ = ["Pipeline", "pipeline_of", "work_of", "zarr_pipeline"]


@dataclass(frozen=True, eq=False)
class Pipeline:
    """The codecs that the bytes of an array went through.

    Parameters
    ----------
    codecs, parameters
        In the order in which bytes were encoded.
    """

    codecs: tuple[Codec, ...]
    parameters: tuple[Parameters, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the codecs."""
        return tuple(codec.name for codec in self.codecs)

    @property
    def quick(self) -> bool:
        """Whether no other codec would be decoded much faster."""
        return all(codec.quick(values) for codec, values in zip(self.codecs, self.parameters, strict=True))

    @cached_property
    def _undoing(self) -> list[tuple[int, Codec, Parameters, list[tuple[int, int]]]]:
        """Codecs in the order of decoding, each with its bit of the mask and the bytes that those before it added."""
        pairs = list(zip(self.codecs, self.parameters, strict=True))
        added = [(1 << place, codec.added_bytes) for place, codec in enumerate(self.codecs)]
        return [
            (1 << place, codec, values, [one for one in added[:place] if one[1]])
            for place, (codec, values) in reversed(list(enumerate(pairs)))
        ]

    def decode(self, encoded: Buffer, mask: int, size: int) -> Buffer:
        """A storage chunk decoded to ``size`` bytes; a ValueError says what is wrong with it."""
        decoded = encoded
        for bit, codec, values, before in self._undoing:
            if not mask & bit:
                added = sum(n_bytes for other, n_bytes in before if not mask & other)
                decoded = codec.decode(decoded, size + added, values)
        if (found := memoryview(decoded).nbytes) != size:
            raise ValueError(f"decodes to {found} bytes instead of {size}")
        return decoded

    def decode_bare(self, encoded: Buffer, mask: int, size: int) -> Buffer:
        """The same of intact bytes, by one codec alone at the least cost."""
        if len(self.codecs) > 1 or mask:
            return self.decode(encoded, mask, size)
        return self.codecs[0].decode_bare(encoded, size, self.parameters[0])

    def steps(self) -> list[Step] | None:
        """What compiled loops call, in this order, for a storage chunk that none was left out of; None if they cannot.

        Each of them decodes to the size of the whole.
        """
        if any(codec.added_bytes for codec in self.codecs):
            return None
        steps = [codec.step(values) for _, codec, values, _ in self._undoing]
        known = [step for step in steps if step is not None]
        return known if len(known) == len(steps) else None


def pipeline_of(pipeline: Sequence[tuple[int, int, tuple[int, ...], bytes]]) -> Pipeline | str:
    """The codecs of filters as h5py lists them, or the reason why they cannot be decoded here."""
    for number, _, values, name in pipeline:
        if number not in BY_NUMBER:
            return f"filter {name_of(number, name)} ({number}) is decoded only by HDF5"
        if refusal := BY_NUMBER[number].refusal(tuple(values)):
            return refusal
    codecs = tuple(BY_NUMBER[number] for number, _, _, _ in pipeline)
    return _once(Pipeline(codecs, tuple(tuple(values) for _, _, values, _ in pipeline)))


def zarr_pipeline(pipeline: Sequence[tuple[str, Mapping[str, Any]]]) -> Pipeline | str:
    """The codecs that Zarr calls so and configured so, or the reason why they cannot be decoded here.

    >>> zarr_pipeline([("numcodecs.shuffle", {"elementsize": 4}), ("zstd", {"level": 3})]).names
    ('shuffle', 'zstd')
    >>> zarr_pipeline([("vlen-utf8", {})])
    'vlen-utf8 is decoded only by zarr'
    """
    for name, _ in pipeline:
        if name not in BY_ZARR:
            return f"{name} is decoded only by zarr"
    codecs = tuple(BY_ZARR[name] for name, _ in pipeline)
    parameters = tuple(codec.parameters_of(values) for codec, (_, values) in zip(codecs, pipeline, strict=True))
    refusals = (codec.refusal(values) for codec, values in zip(codecs, parameters, strict=True))
    return next(filter(None, refusals), None) or _once(Pipeline(codecs, parameters))


def _once(pipeline: Pipeline) -> Pipeline | str:
    return "compressed twice" if sum(codec.compresses for codec in pipeline.codecs) > 1 else pipeline


def work_of(codecs: Iterable[Codec]) -> str:
    """What decoding all that these encoded is called.

    >>> from annpipes.stores.codecs.registry import BY_NAME
    >>> work_of([BY_NAME["gzip"]]), work_of([BY_NAME["shuffle"], BY_NAME["gzip"], BY_NAME["gzip"]])
    ('inflating gzip', 'decoding shuffle + gzip')
    """
    names = {codec.name: codec for codec in codecs}  # each once, in order
    return next(iter(names.values())).work if len(names) == 1 else f"decoding {' + '.join(names)}"
