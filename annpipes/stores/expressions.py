"""Rows for which an expression over obs columns is true, as `pandas.DataFrame.query` has it."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.core.computation.expr import PandasExprVisitor  # type: ignore[attr-defined] # not in its stubs
from pandas.core.computation.parsing import clean_column_name  # type: ignore[import-not-found]

from annpipes.errors import AnnpipesError, ParameterError
from annpipes.messages.warning import warn
from annpipes.stores.generics import AnyIndex, AnySeries
from annpipes.stores.unknown import unknown_labels

__all__ = ["rows_where"]

_PARTS = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Name, ast.Constant, ast.List, ast.Tuple),
    *(ast.Attribute, ast.Subscript, ast.Slice, ast.Call, ast.keyword, ast.Load),
    *(ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
"""What an expression may be made of; all else could run code."""

_LOCAL = "__pd_eval_local_"
"""What pandas makes of ``@``."""

_INDEX = ("index", "ilevel_0")

_OF_NUMBERS = """
    abs arccos arccosh arcsin arcsinh arctan arctan2 arctanh ceil cos cosh exp expm1 floor log log10 log1p sin sinh sqrt
    tan tanh
"""
"""Functions, https://pandas.pydata.org/docs/user_guide/enhancingperf.html#supported-syntax"""

_OF_ANY = """
    abs add all any astype between ceil clip count cummax cummin cumprod cumsum diff div dropna duplicated eq equals
    fillna floor floordiv ge gt hasnans idxmax idxmin index is_monotonic_decreasing is_monotonic_increasing is_unique
    isin isna isnull kurt le lt mask max mean median min mod mode mul ne notna notnull nunique pct_change pow prod
    quantile rank replace round sem shift size skew std sub sum truediv unique value_counts var where
"""

_OF_STR = """
    capitalize casefold cat center contains count decode encode endswith extract find findall fullmatch get index
    isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper join len ljust lower lstrip
    match normalize pad partition removeprefix removesuffix repeat replace rfind rindex rjust rpartition rsplit rstrip
    slice slice_replace split startswith strip swapcase title translate upper wrap zfill
"""

_OF_DT = """
    as_unit ceil components date day day_name day_of_week day_of_year dayofweek dayofyear days days_in_month daysinmonth
    floor hour is_leap_year is_month_end is_month_start is_quarter_end is_quarter_start is_year_end is_year_start
    isocalendar microsecond microseconds minute month month_name nanosecond nanoseconds normalize quarter round second
    seconds strftime time timetz to_period total_seconds tz tz_convert tz_localize unit week weekday year
"""

_OF_CAT = """
    add_categories as_ordered as_unordered categories codes ordered remove_categories remove_unused_categories
    rename_categories reorder_categories set_categories
"""

_FUNCTIONS = frozenset({"Timestamp", *_OF_NUMBERS.split()})

_ATTRIBUTES = frozenset({"str", "dt", "cat"}.union(*(names.split() for names in (_OF_ANY, _OF_STR, _OF_DT, _OF_CAT))))
"""What may stand after a dot: none of these runs what it is given, or writes anything."""


def rows_where(
    expression: str,
    columns: Sequence[Hashable],
    series: Callable[[Any], AnySeries],
    index: Callable[[], AnyIndex],
    where: str,
    argument: str = "rows",
) -> NDArray[np.int64]:
    """The rows that `pandas.DataFrame.query` would choose, on pandas' own columns.

    Parameters
    ----------
    expression
        What is to be true.
    columns
        The names of the obs columns.
    series
        Loads a column as pandas has it; only those that the expression mentions.
    index
        Loads the names of the rows.
    where
        What errors call the data.
    """
    line = _one_line(expression, argument)
    tree = _checked(line, argument, columns)
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    mentioned = [column for column in columns if not isinstance(column, int) and clean_column_name(column) in names]
    rows = index()
    if not mentioned and not names & {*_INDEX, *map(_cleaned, rows.names)}:
        raise _no_column(expression, names, columns, where, argument)
    # By number: names may stand twice, and then pandas takes the last one, too.
    loaded = [series(column).set_axis(rows) for column in mentioned]
    frame = pd.concat(loaded, axis=1) if loaded else pd.DataFrame(index=rows)
    if loaded:
        frame.columns = pd.Index(mentioned)
    chosen = _query(frame, line, columns, where, argument)
    none = [f"it chooses no row of {where}"] if len(rows) and not len(chosen) else []
    if told := none + list(unknown_labels(tree, frame, where)):
        warn(f"{argument}={line!r}: {'; '.join(told)}")
    return chosen


def _cleaned(name: Hashable) -> Hashable:
    return name if name is None else clean_column_name(name)


def _one_line(expression: str, argument: str) -> str:
    """The expression without blank lines and margins, as pandas takes it apart."""
    lines = [line.strip() for line in expression.splitlines() if line.strip()]
    if len(lines) != 1:
        what = "has several lines" if lines else "is empty"
        raise ParameterError(
            f"{argument}={expression!r} {what}: an expression over obs columns is one line, such as "
            f"\"cell_type == 'B'\""
        )
    return lines[0]


def _checked(line: str, argument: str, columns: Sequence[Hashable]) -> ast.Expression:
    """An expression with its backticks resolved, once nothing in it could run code."""
    try:
        source = PandasExprVisitor(None, "python", "pandas").preparser(line)
        module = ast.parse(source)
    except Exception as error:  # tokenize, ast and pandas raise several kinds
        raise ParameterError(
            f"{argument}={line!r} cannot be evaluated: {error}{_in_backticks(line, columns)}"
        ) from error
    if len(module.body) != 1 or not isinstance(module.body[0], ast.Expr):
        hint = "; did you mean ==?" if module.body and isinstance(module.body[0], ast.Assign) else ""
        raise ParameterError(f"{argument}={line!r} is a statement, not one expression that is true or false{hint}")
    tree = ast.Expression(module.body[0].value)
    for node in ast.walk(tree):
        if refusal := _refusal(node):
            raise ParameterError(f"{argument}={line!r} is refused: {refusal}")
    return tree


def _in_backticks(line: str, columns: Sequence[Hashable]) -> str:
    """How to write the columns that a line seems to name, if their names are not words; "" if there are none."""
    named = [str(column) for column in columns if str(column) in line and not str(column).isidentifier()]
    bare = [f"`{name}`" for name in named if f"`{name}`" not in line]
    return f"; names that are not a single word stand in backticks: {', '.join(bare)}" if bare else ""


def _refusal(node: ast.AST) -> str | None:
    """Why a part of an expression could run code; None if it could not."""
    if not isinstance(node, _PARTS):
        kind = "an f-string" if isinstance(node, ast.JoinedStr) else f"{type(node).__name__} in it"
        return f"{kind} is not allowed in an expression over obs columns"
    if isinstance(node, ast.Name) and node.id.startswith(_LOCAL):
        name = node.id.removeprefix(_LOCAL)
        return f'@{name} would look up a variable; write its value into the expression: f"… {{{name}!r}} …"'
    if isinstance(node, ast.Attribute) and node.attr not in _ATTRIBUTES:
        return (
            f".{node.attr} is not one of the allowed methods and accessors (.isna(), .isin(), .between(), .str, "
            f".dt, .cat …); evaluate it with pandas, and give the mask"
        )
    if isinstance(node, ast.Subscript) and not _is_place(node.slice):
        return "only numbers may be in brackets after a value, as in .str[0]"  # pandas evaluates strings there
    if isinstance(node, ast.Call):
        return _call_refusal(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return "@ is not an operator for obs columns"
    return None


def _call_refusal(call: ast.Call) -> str | None:
    if isinstance(call.func, ast.Name) and call.func.id not in _FUNCTIONS:
        return f"it calls {call.func.id}(), but only numeric functions such as log1p() are allowed"
    if not isinstance(call.func, ast.Name | ast.Attribute):
        return "it calls something that is not a method of a column"
    if any(keyword.arg in (None, "inplace", "out") for keyword in call.keywords):
        return "inplace=, out= and ** are not allowed, because an expression must not change anything"
    return None


def _is_place(node: ast.AST) -> bool:
    """Whether what stands in brackets is a number, or a slice of numbers."""
    if isinstance(node, ast.Slice):
        return all(part is None or _is_place(part) for part in (node.lower, node.upper, node.step))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int


def _no_column(
    expression: str, names: frozenset[str], columns: Sequence[Hashable], where: str, argument: str
) -> ParameterError:
    rest = f"mentions no obs column of {where}; columns: {', '.join(map(str, columns))}"
    if names == {expression.strip()}:  # a name by itself: of a row, perhaps
        return ParameterError(
            f"{argument} must be a list of positions, a mask or obs names, or an expression over obs columns; "
            f"{argument}={expression!r} {rest}; if it is an obs name, write [{expression.strip()!r}]"
        )
    return ParameterError(f"{argument}={expression!r} {rest}")


def _near(names: frozenset[str], known: Sequence[str]) -> str:
    close = [near for name in sorted(names) for near in difflib.get_close_matches(name, known, n=1) if name != near]
    quoted = [near if near.isidentifier() else f"`{near}`" for near in close]
    return f"; did you mean {', '.join(quoted)}?" if quoted else ""


def _query(frame: pd.DataFrame, line: str, columns: Sequence[Hashable], where: str, argument: str) -> NDArray[np.int64]:
    """The rows of ``frame.query(line)``."""
    try:
        # Without the variables of this function and module; target=None as in query: nothing is assigned to.
        chosen: Any = frame.eval(line, engine="python", target=None, local_dict={}, global_dict={})
        if callable(chosen):
            raise TypeError("a method is named but not called: () is missing")
        places = pd.Series(np.arange(len(frame)), frame.index).loc[chosen]
    except AnnpipesError:
        raise
    except Exception as error:  # pandas raises whatever the expression does
        known = [str(column) for column in columns]
        words = frozenset({line}) if not isinstance(error, pd.errors.UndefinedVariableError) else _undefined(error)
        raise ParameterError(
            f"{argument}={line!r} cannot be evaluated: {type(error).__name__}: {error}; it must be true or false for "
            f"each row; columns of {where}: {', '.join(known)}{_near(words, known)}"
        ) from error
    if not isinstance(places, pd.Series):
        raise ParameterError(f"{argument}={line!r} must be true or false for each row, got {chosen!r:.80}")
    return places.to_numpy(np.int64)


def _undefined(error: Exception) -> frozenset[str]:
    """The name that pandas' words have in quotes."""
    return frozenset(str(error).split("'")[1:2])
