"""The types that the public interface says of itself, as programs read them: `typing.get_type_hints`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from integrating import imported_if_there
from matplotlib.axes import Axes
from torchdata.nodes import BaseNode

import annpipes
from annpipes import integrations, plotting, reports

PUBLIC = [
    *("annpipes", "annpipes.errors", "annpipes.reports", "annpipes.plotting"),
    *(f"annpipes.integrations.{module.name}" for module in iter_modules(integrations.__path__)),
]
CALLED = {"__init__", "__call__", "__getitem__", "__iter__", "__len__", "__enter__", "__exit__"}
"""What a user writes without naming it."""


def own_classes(kind: type) -> Iterator[type]:
    """A class and its bases, those of others left out."""
    return (base for base in kind.__mro__ if base.__module__.partition(".")[0] == "annpipes")


def public_functions(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions, and what of classes can be called or read, by the names under which users find them."""
    for exported in module.__all__:
        value = getattr(module, exported)
        if inspect.isfunction(value):
            yield exported, value
        elif inspect.isclass(value):
            for base in own_classes(value):
                for name, member in vars(base).items():
                    if (name in CALLED or not name.startswith("_")) and (function := function_of(member)):
                        yield f"{exported}.{name}", function


def function_of(member: Any) -> Callable[..., Any] | None:
    """What runs for a method, or for a property."""
    found = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
    return found if inspect.isfunction(found) else None


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_and_result_has_a_type_that_can_be_evaluated(name: str) -> None:
    looked_at = 0
    for where, function in public_functions(imported_if_there(name)):
        try:
            hints = get_type_hints(function)
        except (NameError, TypeError) as error:
            pytest.fail(f"{where}: {error}")
        parameters = inspect.signature(function).parameters.keys() - {"self", "cls"}
        assert parameters | {"return"} <= hints.keys(), where
        looked_at += 1
    assert looked_at or not imported_if_there(name).__all__


@pytest.mark.parametrize("name", PUBLIC)
def test_every_type_of_an_attribute_can_be_evaluated(name: str) -> None:
    module = imported_if_there(name)
    for exported in module.__all__:
        value = getattr(module, exported)
        for kind in own_classes(value) if inspect.isclass(value) else ():
            try:
                inspect.get_annotations(kind, eval_str=True)
            except (NameError, TypeError) as error:
                pytest.fail(f"{exported}: {error}")


@pytest.mark.parametrize(
    "stage", [name for name in annpipes.__all__ if getattr(getattr(annpipes, name), "verb", "")], ids=str
)
def test_a_verb_has_the_types_of_its_stage(stage: str) -> None:
    kind = getattr(annpipes, stage)
    hints = get_type_hints(kind.__init__)
    del hints["source_datapipe"]
    assert get_type_hints(getattr(annpipes.Stage, kind.verb)) == {**hints, "return": kind}


@pytest.mark.parametrize(
    ("function", "parameter", "expected"),
    [
        (annpipes.stream, "batch_size", int),
        (annpipes.stream, "return", annpipes.Loader),
        (annpipes.Loader.to_node, "return", BaseNode[Any]),
        (annpipes.inspect, "return", reports.Inspection),
        (plotting.plot_tuning, "tuning", reports.Tuning),
        (plotting.plot_tuning, "ax", Axes | None),
    ],
)
def test_types_are_those_that_users_know(function: Callable[..., Any], parameter: str, expected: Any) -> None:
    assert get_type_hints(function)[parameter] == expected
