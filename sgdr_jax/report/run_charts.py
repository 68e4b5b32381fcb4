"""Charts of the page of a run: losses, accuracy, learning rates, finder curves, reliability, test-time views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.intervals import Interval
from ..evaluation.metrics import SCORE_NAMES, EvalMetrics, measure_title
from .charts import Band, Chart, ChartAxis, Series, covering
from .run_curves import Row, by_stage, finder_limits, limits, number, points, rates, restarts, running_mean, score_of, split_rows

_GROUP_STYLES = ("group-last", "group-2", "group-3", "group-4")
"""Styles of the layer groups from the last to the first; further ones have the last style."""


SHARES = (0.0, 1.0)
"""Bounds of an accuracy."""


def progress_charts(rows: Sequence[Row]) -> list[Chart]:
    """Draw losses and validation accuracy, or what stands for it, over epochs, and learning rates over updates, stage after stage."""
    charts = []
    if parts := by_stage((row for row in rows if "loss" in row), "epoch"):
        bands, x = _bands(parts), ChartAxis("epoch", 0, max(part.end for part in parts) or 1)
        losses, scores, seen, scored, score = [], [], list[float](), list[float](), score_of(rows)
        for part in parts:
            train, valid = split_rows(part)
            at, raw = points(part, train, "loss")
            mean, first = running_mean(raw), part is parts[0]
            losses.append(Series("train faint", list(zip(at, raw, strict=True))))
            losses.append(Series("train", list(zip(at, mean, strict=True)), "training" if first else ""))
            seen += [*mean, *sorted(y for y in raw if math.isfinite(y))[: max(len(raw) * 49 // 50, 1)]]
            for values, out, name in ((seen, losses, "loss"), (scored, scores, score)):
                at, y = points(part, valid, name)
                values += y
                out.append(Series("valid", list(zip(at, y, strict=True)), "validation" if first and name == "loss" else "", True))
        low, high = limits(seen) or (0.0, 1.0)
        charts.append(Chart("Loss", x, ChartAxis("loss", low, high), losses, bands))
        if any(map(math.isfinite, scored)):
            name = SCORE_NAMES[score]
            charts.append(Chart(f"Validation {name}", x, covering(name, scored, 0.12, SHARES), scores, bands))
    return [*charts, *_rate_charts(rows)]


def _bands(parts: Sequence[Any]) -> list[Band]:
    return [Band(part.stage, part.start, part.end) for part in parts]


def _rate_charts(rows: Sequence[Row]) -> list[Chart]:
    groups, parts = rates(rows)
    series, peaks = [], list[float]()
    for i, group in enumerate(reversed(groups)):
        style, named = _GROUP_STYLES[min(i, len(_GROUP_STYLES) - 1)], False
        for part in parts:
            course = [(part.start + row["step"], number(row["lr"][group])) for row in part.rows if group in row.get("lr", ())]
            if any(rate for _, rate in course):
                peaks.append(max(rate for _, rate in course))
                series.append(Series(style, course, "" if named else group))
                named = True
    if not peaks:
        return []
    log = max(peaks) > 30 * min(peaks)
    y = ChartAxis("learning rate", min(peaks) / 30 if log else 0, (2 if log else 1.05) * max(peaks), log)
    x = ChartAxis("update", 0, max(part.end for part in parts))
    rules = [(at, "restart", "restart" if i == 0 else "") for i, at in enumerate(restarts(parts))]
    return [Chart("Learning rates of the layer groups", x, y, series[::-1], _bands(parts), rules)]


def finder_chart(curve: Mapping[str, Any]) -> Chart:
    """Draw the curve of a learning-rate finder, the suggestion of each rule, and the chosen rate."""
    lrs, smoothed = [float(x) for x in curve["lrs"]], [number(y) for y in curve["smoothed"]]
    series = [Series("train dots", list(zip(lrs, [number(y) for y in curve["losses"]], strict=True)), "loss of a batch", True)]
    series.append(Series("train", list(zip(lrs, smoothed, strict=True)), "running mean"))
    chosen = float(curve["chosen"])
    low, high = finder_limits(smoothed) or (0.0, 1.0)
    x = ChartAxis("learning rate of the last layer group", min(lrs) / 1.2, max(max(lrs), chosen) * 1.2, log=True)
    others = [(float(rate), "restart", "other rules" if i == 0 else "") for i, rate in enumerate(curve["suggestions"].values())]
    rules = [*others, (chosen, "chosen", f"chosen: {chosen:.2g}")]
    title = f"{curve['stage']}: {chosen:.2g} by the rule {curve['rule']}; {curve['verdict']}"
    return Chart(title, x, ChartAxis("training loss", low, high), series, (), [r for r in rules if x.low <= r[0] <= x.high])


def reliability_chart(diagrams: np.ndarray) -> Chart:
    """Draw reliability diagrams [1 or 2, (count, confidence, frequency), bins]: before, and after the temperature is applied."""
    series = [Series("diagonal", [(0, 0), (1, 1)], "perfectly calibrated")]
    for style, label, (count, confidence, frequency) in zip(
        ("train", "valid"), ("as predicted", "at the temperature"), diagrams, strict=False
    ):
        filled = count > 0
        course = list(zip(confidence[filled].tolist(), frequency[filled].tolist(), strict=True))
        series.append(Series(style, course, label, True))
    return Chart("Reliability", ChartAxis("predicted probability", 0, 1), ChartAxis("share that is correct", 0, 1), series, square=True)


def views_chart(by_count: Sequence[EvalMetrics], intervals: Sequence[Interval]) -> Chart:
    """Draw the accuracy over the number of test-time views, with its interval for each where it is known."""
    values = [row.get("accuracy", math.nan) for row in by_count]
    counts = range(1, len(values) + 1)
    low, high = np.clip(np.array(intervals).T, *SHARES).tolist()
    named = "95 % interval" if np.isfinite(high).any() else ""
    edges = [Series("faint train", list(zip(counts, end, strict=True)), label) for end, label in ((low, ""), (high, named))]
    name = measure_title("accuracy", by_count[0])
    y = covering(name, [*low, *values, *high], within=SHARES)
    line = Series("valid", list(zip(counts, values, strict=True)), "mixture of the views", True)
    return Chart(f"{name.capitalize()} by number of views", ChartAxis("views", 0.8, len(values) + 0.2), y, [*edges, line])
