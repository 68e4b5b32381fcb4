"""Curves of a run, from the rows of its metrics: stages laid end to end, restarts, running means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..evaluation.metrics import judged_by

type Row = Mapping[str, Any]


class StageRows(NamedTuple):
    """Rows of one stage, and its interval on the axis of the figure."""

    stage: str
    rows: list[Row]
    start: float
    end: float


def number(value: Any) -> float:
    """Return a number of a row or summary; NaN for None, which stands for numbers that are not finite or missing."""
    return math.nan if value is None else float(value)


def by_stage(rows: Iterable[Row], measure: str) -> list[StageRows]:
    """Group rows by stage in order of appearance, laid end to end; the axis counts `measure` ("step" or "epoch") within a stage.

    A stage that a session has trained twice, one time after the other or not, is two of them.
    """
    stages: list[tuple[str, list[Row]]] = []
    for row in rows:
        if row.get("stage") is not None and row.get(measure) is not None:
            name = str(row["stage"])
            if not stages or stages[-1][0] != name or row[measure] < stages[-1][1][-1][measure]:
                stages.append((name, []))
            stages[-1][1].append(row)
    parts, start = [], 0.0
    for stage, own in stages:
        # A training row precedes its update, so a stage with no other rows is one step longer than its last row.
        length = max(row[measure] + (measure == "step" and row.get("kind", "train") == "train") for row in own)
        parts.append(StageRows(stage, own, start, start + length))
        start += length
    return parts


def rates(rows: Iterable[Row]) -> tuple[list[str], list[StageRows]]:
    """Return the layer groups in the model's order, and the stages that have learning rates, by updates."""
    parts = [part for part in by_stage(rows, "step") if any("lr" in row for row in part.rows)]
    most = max((row["lr"] for part in parts for row in part.rows if "lr" in row), key=len, default={})  # names the groups in order
    return list(dict.fromkeys([*most, *(group for part in parts for row in part.rows for group in row.get("lr", ()))])), parts


def restarts(parts: Sequence[StageRows]) -> list[float]:
    """Find the starts of cycles inside stages, from the cycles of plan rows or from evaluations at cycle ends."""
    starts = []
    for part in parts:
        training = [row for row in part.rows if "lr" in row and "cycle" in row]
        starts += [part.start + b["step"] for a, b in itertools.pairwise(training) if b["cycle"] != a["cycle"]]
        ends = {part.start + row["step"] for row in part.rows if row.get("kind") == "eval" and "cycle" in row}
        starts += [x for x in sorted(ends) if part.start < x < part.end]
    return starts


def points(part: StageRows, rows: Sequence[Row], value: str) -> tuple[list[float], list[float]]:
    """Return epochs on the axis of the figure, and the values there."""
    return [part.start + row["epoch"] for row in rows], [number(row.get(value)) for row in rows]


def split_rows(part: StageRows) -> tuple[list[Row], list[Row]]:
    """Return the training rows of a stage, and the validation rows."""
    train = [row for row in part.rows if row.get("kind") == "train"]
    return train, [row for row in part.rows if row.get("kind") == "eval" and row.get("split", "valid") == "valid"]


def score_of(rows: Iterable[Row]) -> str:
    """Return what validation is judged by; see `metrics.judged_by`."""
    return judged_by(next((row for row in rows if row.get("kind") == "eval"), {}))


def running_mean(values: Sequence[float]) -> list[float]:
    """Compute the debiased exponential mean m ← keep·m + (1-keep)·x over about a twentieth of the values (5 to 50).

    Values that are not finite are skipped.
    """
    keep = 1 - 1 / min(max(len(values) / 20, 5), 50)
    out, mean, weight = [], 0.0, 0.0
    for value in values:
        if math.isfinite(value):
            mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        out.append(mean / weight if weight else math.nan)
    return out


def alone(values: Sequence[float]) -> list[int]:
    """Return the positions of finite values without a finite neighbour, which no line shows.

    >>> alone([0.4]), alone([0.4, math.nan, 0.3, 0.2])
    ([0], [0])
    """
    finite = [False, *map(math.isfinite, values), False]
    return [i for i in range(len(values)) if finite[i : i + 3] == [False, True, False]]


def has_rates(rows: Iterable[Row]) -> bool:
    """Return whether a row has a learning rate above 0; a head that is solved has none."""
    return any(any(row.get("lr", {}).values()) for row in rows)


def limits(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the range of the finite values with a margin, not below 0; None if there are none."""
    finite = [y for y in values if math.isfinite(y)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    return max(low - 0.08 * (high - low), 0), high + 0.08 * (high - low) + 1e-9


def finder_limits(smoothed: Sequence[float]) -> tuple[float, float] | None:
    """Return the range of a finder's losses to show: the curve diverges at its end, the axis ends a little above the first losses."""
    finite = [y for y in smoothed if math.isfinite(y)]
    if not finite:
        return None
    low, begun = min(finite), max(finite[: max(len(finite) // 5, 1)])
    top = max(begun, low + 1e-3) + 0.5 * max(begun - low, 1e-3)
    return low - 0.15 * (top - low), top
