"""Verbs that chain stages, as methods of every stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from annpipes.stages.base import Stage
from annpipes.stages.datapipes import functional_datapipe

__all__ = ["chained_by"]

C = TypeVar("C", bound=Stage[Any])


def chained_by(verb: str) -> Callable[[type[C]], type[C]]:
    """A decorator for the class of a stage: every stage gets a method ``verb`` that makes the next one.

    torch finds such verbs by name alone; a method is seen by editors and notebooks, with its parameters.
    """

    def decorate(kind: type[C]) -> type[C]:
        make: Callable[..., Any] = kind

        def method(self: Stage[Any], *args: Any, **kwargs: Any) -> Any:
            return make(self, *args, **kwargs)

        signature = inspect.signature(kind)
        first, *others = signature.parameters.values()
        method.__signature__ = signature.replace(  # type: ignore[attr-defined] # what `inspect.signature` looks for
            parameters=[first.replace(name="self", annotation=first.empty), *others], return_annotation=kind
        )
        # The same for `typing.get_type_hints`, which evaluates them where the function is from that a method wraps.
        hints = getattr(kind.__init__, "__annotations__", {})
        given = {other.name: hints[other.name] for other in others if other.name in hints}
        method.__wrapped__, method.__annotations__ = kind.__init__, {**given, "return": kind}  # type: ignore[attr-defined]
        method.__name__, method.__qualname__, method.__doc__ = verb, f"Stage.{verb}", kind.__doc__
        setattr(Stage, verb, method)
        kind.verb = verb
        registered: type[C] = functional_datapipe(verb)(kind)
        return registered

    return decorate
