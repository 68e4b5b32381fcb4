"""Check of the tables that schedules return: those of one's own may hold anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .types import Reduction, Table
from .validation import require, whole


def checked_table(table: Any, trained: tuple[str, ...]) -> Table:
    """Return the table of a schedule with columns of NumPy; raises InputError unless it is one of rates that can be trained with.

    Args:
        table: what the schedule returned.
        trained: names of the layer groups that train; a table with a column for each group must have these.
    """
    _require(isinstance(table, Table), "table(…)", f"a {type(table).__name__}", "return a Table, such as Table(scale, cycle)")
    scale = _numbers(table.scale, "scale", "[steps], or [steps, trained groups]", ndim=(1, 2))
    steps = len(scale)
    _require(scale.size > 0, "scale", "empty", "return a row for each update, at least one")
    groups = scale.shape[1] if scale.ndim > 1 else len(trained)
    require(groups == len(trained), "schedule.groups", groups, f"give {len(trained)} schedules: one for each of {', '.join(trained)}")
    _bound(scale, "scale", "shares of the peak, finite and at least 0")
    cycle = _numbers(table.cycle, "cycle", "[steps], of whole numbers")
    _check_length(cycle, "cycle", steps)
    _bound(cycle, "cycle", "whole numbers of at least 0")
    _require(bool(np.all(cycle == np.floor(cycle))), "cycle", "fractional", "use the whole number of each step's cycle")
    falls = np.flatnonzero(np.diff(cycle.astype(np.float64)) < 0)
    at = int(falls[0]) + 1 if len(falls) else 0
    require(not len(falls), f"schedule: cycle[{at}]", int(cycle[at]), f"it is {cycle[at - 1]:g} before; cycles may not fall")
    columns = {"scale": scale, "cycle": cycle}
    for name, most in (("momentum", 1.0), ("weight_decay", np.inf)):
        if getattr(table, name) is not None:
            column = _numbers(getattr(table, name), name, "[steps], or None")
            _check_length(column, name, steps)
            use = "numbers in 0…1, below 1" if most == 1 else "shares of the optimizer's, finite and at least 0"
            _bound(column, name, use, most)
            columns[name] = column
    rule, total = table.plateau, table.whole
    require(rule is None or isinstance(rule, Reduction), "schedule: plateau", rule, "use a Reduction, such as Plateau().rule, or None")
    require(total is None or (whole(total) and total >= steps), "schedule: whole", total, f"use None, or a number from {steps} (the rows)")
    return table._replace(**columns)


def _require(ok: bool, name: str, found: str, fix: str) -> None:
    if not ok:
        raise InputError(f"schedule: {name} is {found}; {fix}")


def _numbers(value: Any, name: str, shape: str, ndim: tuple[int, ...] = (1,)) -> np.ndarray[Any, Any]:
    """Return a column; raises InputError unless it is an array of numbers."""
    given = hasattr(value, "__array__")  # arrays of JAX among them
    array = np.asarray(value if given else "")
    found = f"{array.dtype}{list(array.shape)}" if given else f"a {type(value).__name__}"
    _require(array.dtype.kind in "biuf" and array.ndim in ndim, name, found, f"use a NumPy array {shape}")
    return array


def _check_length(column: np.ndarray[Any, Any], name: str, steps: int) -> None:
    _require(len(column) == steps, name, f"{len(column)} rows", f"scale has {steps}; make them equally long")


def _bound(column: np.ndarray[Any, Any], name: str, use: str, most: float = np.inf) -> None:
    """Raise InputError, which names the row, unless all numbers are at least 0, finite and below `most`."""
    bad = np.argwhere(~((column >= 0) & (column < most)))
    if len(bad):
        at = tuple(bad[0].tolist())
        require(False, f"schedule: {name}[{', '.join(map(str, at))}]", float(column[at]), f"use {use}")
