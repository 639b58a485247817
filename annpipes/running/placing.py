"""Batches pinned and moved to a device, to a GPU ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from annpipes.errors import ParameterError
from annpipes.messages.warning import warn
from annpipes.running.workers import Workers, map_ahead
from annpipes.stages.collating import Collator
from annpipes.stages.datapipes import IterDataPipe
from annpipes.tensors import CsrTensors

__all__ = ["Placer"]

_COPIED_AHEAD = 2  # batches: one is on its way while the next is pinned


class Placer:
    """Moves batches to where they are wanted.

    To a GPU of CUDA or ROCm, a thread copies batches ahead of their use, from pinned memory and on a stream of its own,
    so that copying hides behind computing; what the pipe would make dense last is sent sparse and made dense there.

    Parameters
    ----------
    pipe
        What makes the batches.
    pin_memory, device
        As for `Loader`.

    Raises
    ------
    ParameterError
        torch has no device of this name.
    """

    def __init__(self, pipe: IterDataPipe[Any], pin_memory: bool, device: Any) -> None:
        self.pin_memory: bool = _can_pin(pin_memory)
        self.device: torch.device | None = _as_device(device)
        self.pipe: IterDataPipe[Any] = pipe
        """The pipe that is to make the batches, which may be another than the one given."""
        self._ahead, self._densify = self.device is not None and self.device.type == "cuda", False
        if self._ahead and type(pipe) is Collator and pipe.form == "dense":
            self.pipe, self._densify = pipe.dense_elsewhere(), True
        self._streams: dict[int, torch.cuda.Stream] = {}  # by GPU: freed memory is used again by its stream alone

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_streams": {}}

    @contextmanager
    def open(self, batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
        """The batches where they are wanted, in order, until the block ends."""
        if self.device is None and not self.pin_memory:
            yield batches
        elif not self._ahead:
            yield (_place(batch, self.pin_memory, self.device) for batch in batches)
        else:
            lane = _Lane(self._stream(), self._densify)
            with Workers(lane.send, 1).open() as sender:
                yield map(lane.receive, map_ahead(sender, batches, _COPIED_AHEAD))

    def _stream(self) -> torch.cuda.Stream:
        """A stream of the GPU that was asked for; without an index, of the caller's (each thread has its own)."""
        assert self.device is not None
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        if index not in self._streams:
            self._streams[index] = torch.cuda.Stream(torch.device("cuda", index))  # type: ignore[no-untyped-call]
        return self._streams[index]


class _Lane:
    """A stream of a GPU on which batches travel while the consumer's stream computes.

    Parameters
    ----------
    stream
        The stream.
    densify
        Whether sparse rows are made dense there.
    """

    def __init__(self, stream: torch.cuda.Stream, densify: bool) -> None:
        self.stream, self.densify = stream, densify
        self.device: torch.device = stream.device

    def send(self, batch: Any) -> tuple[Any, torch.cuda.Event]:
        """The batch on its way, and the event of its arrival."""
        with torch.cuda.stream(self.stream):  # memory is pinned in it, too, for the context is that of its GPU
            placed = _place(batch, True, self.device, self.densify)
            return placed, self.stream.record_event()

    def receive(self, sent: tuple[Any, torch.cuda.Event]) -> Any:
        """The batch, for whatever the caller's current stream does from now on."""
        batch, arrived = sent
        current = torch.cuda.current_stream(self.device)
        current.wait_event(arrived)
        for tensor in _tensors_of(batch):
            tensor.record_stream(current)  # or its memory could be used again while that stream still reads it
        return batch


def _place(item: Any, pin_memory: bool, device: torch.device | None, densify: bool = False) -> Any:
    """Tensors of a batch, in dicts, lists and tuples, pinned and moved to a device; anything else as it is."""
    if isinstance(item, Tensor | CsrTensors):
        pinned = item.pin_memory() if pin_memory and _pinnable(item) else item
        placed = pinned if device is None else pinned.to(device, non_blocking=True)
        return placed.to_dense() if densify and isinstance(placed, CsrTensors) else placed
    place = partial(_place, pin_memory=pin_memory, device=device, densify=densify)
    if isinstance(item, dict):
        return type(item)((key, place(value)) for key, value in item.items())
    if not isinstance(item, list | tuple) or (item and isinstance(item[0], str)):  # names are a list, one of each row
        return item
    parts = map(place, item)
    return type(item)(parts) if type(item) in (list, tuple) else type(item)(*parts)  # a named tuple


def _pinnable(item: Tensor | CsrTensors) -> bool:
    """Whether it is in the machine's memory, and none of torch's own sparse tensors."""
    return item.device.type == "cpu" and (isinstance(item, CsrTensors) or item.layout is torch.strided)


def _tensors_of(item: Any) -> Iterator[Tensor]:
    """All tensors of a batch; of torch's sparse ones, which streams do not know, their parts."""
    if isinstance(item, Tensor):
        yield from _parts_of(item)
    elif isinstance(item, CsrTensors):
        yield from (item.crow_indices, item.col_indices, item.values)
    elif isinstance(item, dict | list | tuple):
        for value in item.values() if isinstance(item, dict) else item:
            yield from _tensors_of(value)


def _parts_of(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return (tensor,)


def _can_pin(pin_memory: bool) -> bool:
    """Whether to pin: if there is a GPU to pin for; a warning if there is none, as torch's `DataLoader` has it."""
    if pin_memory and not torch.accelerator.is_available():
        warn("pin_memory=True has no effect: torch finds no GPU")
        return False
    return pin_memory


def _as_device(device: Any) -> torch.device | None:
    """The device of this name, if one is given.

    Raises
    ------
    ParameterError
        torch has none of this name.
    """
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ParameterError(f"device must be one of torch's, such as 'cuda:0', got {device!r}") from error
