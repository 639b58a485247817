"""The stages of a pipe, found by their class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from annpipes.errors import PipelineError
from annpipes.stages.datapipes import OURS, IterDataPipe

__all__ = ["graft", "last_of", "refuse_torchs", "stages_of", "upstream"]

S = TypeVar("S")


def stages_of(pipe: IterDataPipe[Any]) -> Iterator[IterDataPipe[Any]]:
    """The pipe's stages from its end on, each as often as it is reached.

    torch's own walk (`traverse_dps`) pickles every stage under a hook that all threads share.
    """
    yield pipe
    for value in vars(pipe).values():
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, IterDataPipe):
                yield from stages_of(part)


def last_of(pipe: IterDataPipe[Any], kind: type[S]) -> S | None:
    """The stage of this kind that is nearest to the pipe's end, if there is one."""
    return next((stage for stage in stages_of(pipe) if isinstance(stage, kind)), None)


def upstream(pipe: IterDataPipe[Any], kind: type[S], needed_by: str, verb: str = "") -> S:
    """The one stage of this kind, which ``verb`` chains, in the pipe that ends with ``pipe``.

    Raises
    ------
    PipelineError
        There is none, or more than one.
    """
    if not isinstance(pipe, IterDataPipe):
        raise PipelineError(f"{needed_by} needs a pipe, got a {type(pipe).__name__}")
    refuse_torchs(pipe, needed_by)
    found = [*{id(stage): stage for stage in stages_of(pipe) if isinstance(stage, kind)}.values()]
    if len(found) != 1:
        count = "none" if not found else f"{len(found)} of them"
        hint = f": write .{verb}(…)" if verb and not found else ""
        raise PipelineError(f"{needed_by} needs a pipe with one {kind.__name__}, and {pipe!r} has {count}{hint}")
    return found[0]


def refuse_torchs(pipe: IterDataPipe[Any], needed_by: str) -> None:
    """Refuse a stage of torch right before one of ours, where ours of about the same name is meant.

    Raises
    ------
    PipelineError
        It says which verb to write.
    """
    for kind, (torchs, ours) in OURS.items():
        if isinstance(pipe, kind):
            raise PipelineError(f".{torchs}(…) before {needed_by} is torch's own, made for items: write .{ours}(…)")


def graft(pipe: IterDataPipe[Any], stage: IterDataPipe[Any], scion: IterDataPipe[Any]) -> IterDataPipe[Any]:
    """A copy of the end of ``pipe``, fed by ``scion`` in place of ``stage``.

    Only the stages between are copied, shallowly; what they hold is shared.
    """
    if pipe is stage:
        return scion
    twin = object.__new__(type(pipe))  # not copy.copy, which fails while another thread walks a pipe with torch
    vars(twin).update(vars(pipe))
    for name, value in vars(pipe).items():
        if isinstance(value, IterDataPipe):
            setattr(twin, name, graft(value, stage, scion))
    return twin
