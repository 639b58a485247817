"""Labels that an expression over obs columns names, and no row has."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas.core.computation.parsing import clean_column_name  # type: ignore[import-not-found]

from annpipes.stores.generics import AnySeries

__all__ = ["unknown_labels"]

_SHOWN = 5


def unknown_labels(tree: ast.Expression, frame: pd.DataFrame, where: str) -> Iterator[str]:
    """What to say of each label that is compared with a column which does not have it.

    Parameters
    ----------
    tree
        The expression, its backticks resolved.
    frame
        The columns that it mentions.
    where
        What messages call the data.
    """
    columns = {clean_column_name(column): column for column in frame.columns}
    for name, label in dict.fromkeys(_compared(tree)):
        known = _labels_of(frame[columns[name]]) if name in columns else None
        if known is None or label in known or (not isinstance(label, str) and not _are_strings(known)):
            continue  # numbers are compared with numbers, of which any may be meant
        near = _near(label, known)
        some = ", ".join(map(repr, known[:_SHOWN])) + (", …" if len(known) > _SHOWN else "")
        hint = f"did you mean {near[0]!r}?" if near else f"it has {some}" if known else "it has none"
        yield f"no row of {where} has {label!r} in {columns[name]!r}: {hint}"


def _compared(tree: ast.Expression) -> Iterator[tuple[str, Any]]:
    """Each name with each string or number that it is tested for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                if isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                    yield from _pairs(left, right)
                    yield from _pairs(right, left)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "isin":
            for given in node.args:
                yield from _pairs(node.func.value, given)


def _pairs(column: ast.AST, labels: ast.AST) -> Iterator[tuple[str, Any]]:
    each = labels.elts if isinstance(labels, ast.List | ast.Tuple) else [labels]
    if isinstance(column, ast.Name):
        for label in each:
            if isinstance(label, ast.Constant) and isinstance(label.value, str | int | float):
                yield column.id, label.value


def _labels_of(values: AnySeries) -> list[Any] | None:
    """What a column has; None of one whose values are neither strings nor whole numbers nor categories."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.categories.tolist()
    if pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_integer_dtype(values.dtype):
        labels = values.dropna().unique().tolist()
        return labels if _are_strings(labels) or pd.api.types.is_integer_dtype(values.dtype) else None
    return None


def _are_strings(labels: list[Any]) -> bool:
    return all(isinstance(label, str) for label in labels)


def _near(label: Any, known: list[Any]) -> list[Any]:
    """A label that is written alike, at most."""
    written = {str(one): one for one in reversed(known)}
    alike = [one for one in known if str(one).strip().lower() == str(label).strip().lower()]
    return alike[:1] or [written[near] for near in difflib.get_close_matches(str(label), written, n=1)]
