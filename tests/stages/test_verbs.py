"""The verbs of a chain: methods that editors and type checkers see."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from builders import tiny

import annpipes
from annpipes import IndexSource
from annpipes.stages import verbs
from annpipes.stages.base import Stage

STAGES = {
    kind.verb: kind
    for name in annpipes.__all__
    if inspect.isclass(kind := getattr(annpipes, name)) and issubclass(kind, Stage) and kind.verb
}
DECLARED = {
    node.name: node
    for owner in ast.parse(Path(verbs.__file__).read_text()).body
    if isinstance(owner, ast.ClassDef)
    for node in ast.walk(owner)
    if isinstance(node, ast.FunctionDef)
}


def test_every_verb_is_declared_for_type_checkers() -> None:
    assert DECLARED.keys() == STAGES.keys()


@pytest.mark.parametrize("verb", STAGES)
def test_it_has_the_parameters_of_its_stage(verb: str) -> None:
    parameters = [*inspect.signature(STAGES[verb]).parameters.values()][1:]
    node, expected = DECLARED[verb].args, {parameter.name: parameter for parameter in parameters}
    names = [argument.arg for argument in [*node.args[1:], *node.kwonlyargs]]
    assert names == [*expected]
    defaults = [*[None] * (len(node.args) - 1 - len(node.defaults)), *node.defaults, *node.kw_defaults]
    for name, argument, default in zip(names, [*node.args[1:], *node.kwonlyargs], defaults, strict=True):
        parameter = expected[name]
        assert ast.unparse(argument.annotation or ast.Constant("")) == str(parameter.annotation)
        assert parameter.default == (inspect.Parameter.empty if default is None else ast.literal_eval(default))


@pytest.mark.parametrize("verb", STAGES)
def test_an_editor_sees_it_with_its_parameters_and_its_documentation(verb: str) -> None:
    source = IndexSource(tiny(4))
    assert verb in dir(source)
    seen, of_stage = inspect.signature(getattr(source, verb)), inspect.signature(STAGES[verb])
    assert [*seen.parameters] == [*of_stage.parameters][1:]
    assert getattr(source, verb).__doc__ == STAGES[verb].__doc__
