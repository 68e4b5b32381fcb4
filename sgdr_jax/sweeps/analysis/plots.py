"""Plots of a comparison: all seeds of all arms, differences with their intervals, learning curves, accuracy over time, two axes as a map.

matplotlib is imported when a picture is drawn. An arm has the same colour in all pictures: black for the baseline, else by its verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...report import style
from ...report.style import COLOURS, GREY, TEXT
from .compare import Arm, Comparison
from .run_results import LearningCurve, learning_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VERDICT = {"better": COLOURS[0], "worse": COLOURS[1], "undecided": GREY}
_MOST_LINES, _MOST_ARMS = 8, 30
"""Most curves, and most arms, in one picture; of more those farthest from the baseline are drawn."""


def draw_all(comparison: Comparison, folder: str | Path, stem: str = "") -> list[Path]:
    """Draw all pictures that apply into a folder (arms.png, curves.png, time.png, map.png for two axes), and return their paths."""
    folder = Path(folder)
    drawn = [plot_arms(comparison, folder / f"{stem}arms.png")]
    if comparison.networks:  # They share their training.
        return drawn
    curves = {arm.name: [c for run in arm.runs if len((c := learning_curve(run)).epochs)] for arm in comparison.arms}
    if any(len(c.epochs) > 1 for of_arm in curves.values() for c in of_arm):
        drawn.append(plot_curves(comparison, curves, folder / f"{stem}curves.png"))
    if len([arm for arm in comparison.arms if arm.seconds.n and arm.accuracy.n]) > 1:
        drawn.append(plot_time(comparison, folder / f"{stem}time.png"))
    if axes := two_axes(comparison):
        drawn.append(plot_map(comparison, axes, folder / f"{stem}map.png"))
    return drawn


def colour(arm: Arm, baseline: str) -> str:
    """Return the arm's colour: black for the baseline, blue for better, vermilion for worse, grey for undecided."""
    return COLOURS[6] if arm.name == baseline else _VERDICT[arm.paired.verdict if arm.paired else "undecided"]


def title(comparison: Comparison) -> str:
    """Return what the differences are of."""
    what = f"{comparison.score if comparison.metric.measure == 'accuracy' else 'log-loss'} on the {comparison.metric.split} images"
    return what + (", all views" if comparison.metric.tta else "") + (" (%)" if comparison.metric.measure == "accuracy" else "")


def _saved(axes: Axes, path: str | Path) -> Path:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return style.save(figure, path)


# ---- arms ----


def plot_arms(comparison: Comparison, path: str | Path) -> Path:
    """Draw one line per arm: left each seed as a point and the mean as a bar, right the difference to the baseline with its interval."""
    arms, scale = _to_show(comparison, [arm for arm in comparison.arms if arm.runs], _MOST_ARMS), comparison.scale
    figure = style.figure(9.5, 1.1 + 0.42 * len(arms))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    for axes in (left, right):
        style.quiet(axes, "x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    for at, arm in enumerate(arms):
        values, shade = figures(comparison, arm), colour(arm, comparison.baseline)
        left.scatter(values, at + _apart(len(values)), s=22, color=shade, alpha=0.55, linewidths=0, zorder=3)
        if len(values):
            left.plot([values.mean()] * 2, [at - 0.32, at + 0.32], color=shade, linewidth=2.4, solid_capstyle="butt", zorder=4)
        if arm.paired:
            _difference(right, at, arm, scale, shade)
        else:
            label = "baseline" if arm.name == comparison.baseline else "no pair with the baseline"
            right.text(0, at, f"  {label}", va="center", fontsize=9, color=TEXT)
    base = next((arm for arm in arms if arm.name == comparison.baseline), None)
    if base is not None:
        left.axvline(figures(comparison, base).mean(), color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    right.axvline(0, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    left.set_yticks(range(len(arms)), [_short(arm.name, 34) for arm in arms], fontsize=9)
    left.set_ylim(len(arms) - 0.4, -0.6)
    left.margins(x=0.06)
    _room_for_words(right)
    left.set_title(title(comparison), loc="left", fontsize=10, color=TEXT)
    unit = "points" if comparison.metric.measure == "accuracy" else "log-loss"
    right.set_title(
        f"difference to the baseline, {100 * (1 - comparison.alpha):g} % interval ({unit})", loc="left", fontsize=10, color=TEXT
    )
    if len(arms) < len(comparison.arms):
        figure.supxlabel(f"{len(arms)} of {len(comparison.arms)} arms: those farthest from the baseline", fontsize=9, color=TEXT)
    return style.save(figure, path)


def figures(comparison: Comparison, arm: Arm) -> np.ndarray:
    """Return the figures of an arm's runs as they are displayed, without unknown ones."""
    values = comparison.scale * np.array([comparison.metric.of(run) for run in arm.runs])
    return values[~np.isnan(values)]


def _difference(axes: Axes, at: int, arm: Arm, scale: float, shade: str) -> None:
    paired = arm.paired
    assert paired is not None
    if not math.isnan(paired.low):
        axes.plot([scale * paired.low, scale * paired.high], [at, at], color=shade, linewidth=2.2, solid_capstyle="butt", zorder=3)
    axes.plot([scale * paired.mean], [at], marker="D", color=shade, markersize=6, markeredgecolor="white", zorder=4)
    end = scale * (paired.mean if math.isnan(paired.high) else max(paired.high, paired.mean))
    text = f"{scale * paired.mean:+.2f}" + (f"  {paired.verdict}" if paired.verdict != "undecided" else "")
    axes.annotate(text, (end, at), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, color=TEXT)


def _apart(n: int) -> np.ndarray:
    """Return fixed small vertical offsets that keep the seeds of an arm apart."""
    return 0.16 * np.array([0.0]) if n == 1 else np.linspace(-0.16, 0.16, n)


def _room_for_words(axes: Axes) -> None:
    """Widen the axis to the right, where differences are written out, and keep 0 in view."""
    low, high = axes.get_xlim()
    low, high = min(low, 0), max(high, 0)
    width = max(high - low, 1e-9)
    axes.set_xlim(low - 0.04 * width, high + 0.38 * width)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ---- curves ----


def plot_curves(comparison: Comparison, curves: dict[str, list[LearningCurve]], path: str | Path) -> Path:
    """Draw validation accuracy over epochs and over seconds of training: the mean of the seeds, and a band of one standard error."""
    shown = _to_show(comparison, [arm for arm in comparison.arms if curves[arm.name]], _MOST_LINES)
    figure = style.figure(10.5, 4.4, dpi=96)
    by_epoch, by_second = figure.subplots(1, 2, sharey=True)
    others = iter(COLOURS[:6] * 2)
    shades = {arm.name: COLOURS[6] if arm.name == comparison.baseline else next(others) for arm in shown}
    ends = []
    for axes, clock in ((by_epoch, "epochs"), (by_second, "seconds")):
        style.quiet(axes)
        for arm in shown:
            x, mean, error = _band(curves[arm.name], clock)
            axes.plot(x, 100 * mean, color=shades[arm.name], linewidth=1.8, marker="o", markersize=3.5, zorder=3)
            axes.fill_between(x, 100 * (mean - error), 100 * (mean + error), color=shades[arm.name], alpha=0.12, linewidth=0)
            if clock == "seconds":
                ends.append((float(x[-1]), float(100 * mean[-1]), arm.name, shades[arm.name]))
        axes.margins(x=0.02)
    by_epoch.set_xlabel("epochs")
    by_second.set_xlabel("seconds of training")
    by_epoch.set_ylabel(f"validation {comparison.score} (%)")
    _label_points(by_second, ends)
    missing = len([arm for arm in comparison.arms if curves[arm.name]]) - len(shown)
    figure.suptitle(
        "mean of the seeds ± one standard error" + (f"; the {missing} arms nearest to the baseline are not drawn" if missing else ""),
        fontsize=10,
        color=TEXT,
        x=0.01,
        ha="left",
    )
    return style.save(figure, path)


def _to_show(comparison: Comparison, arms: Sequence[Arm], most: int) -> list[Arm]:
    """Select the baseline and the arms farthest from it, in the order of the sweep."""
    far = sorted((arm for arm in arms if arm.name != comparison.baseline), key=lambda arm: -abs(arm.paired.mean) if arm.paired else 0.0)
    names = {arm.name for arm in far[: most - 1]} | {comparison.baseline}
    return [arm for arm in arms if arm.name in names]


def _band(curves: Sequence[LearningCurve], clock: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return place, mean and standard error over runs.

    Point i of the mean lies at the mean place of point i of the runs that came so far; runs that stopped early keep their best value.
    """
    longest = max(len(c.epochs) for c in curves)

    def column(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.full(longest - len(values), math.nan)])

    x = np.nanmean([column(getattr(c, clock)) for c in curves], axis=0)
    values = [np.concatenate([c.accuracy, np.full(longest - len(c.accuracy), c.accuracy.max(initial=0))]) for c in curves]
    error = np.std(values, axis=0, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else np.zeros(longest)
    return x, np.mean(values, axis=0), error


def _spread_out(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Return heights near the wanted ones, in the same order, at least `apart` from each other where there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    apart = min(apart, (high - low) / max(len(wanted), 1))
    placed: list[float] = []
    for rank, i in enumerate(order):
        placed.append(max(wanted[i], placed[-1] + apart) if rank else max(wanted[i], low))
    top = high
    for rank in reversed(range(len(placed))):
        placed[rank] = min(placed[rank], top)
        top = placed[rank] - apart
    result = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        result[i] = placed[rank]
    return result


# ---- accuracy over time ----


def plot_time(comparison: Comparison, path: str | Path) -> Path:
    """Draw each arm's mean, with one standard error, against its mean training time, and the Pareto front of the arms."""
    axes = style.quiet(style.figure(8, 4.6, dpi=120).subplots(), "both")
    points = []
    for arm in _to_show(comparison, comparison.arms, _MOST_ARMS):
        values = figures(comparison, arm)
        if arm.seconds.n and len(values):
            error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            shade = {"color": colour(arm, comparison.baseline), "marker": "o", "markersize": 8, "elinewidth": 1.6, "zorder": 3}
            axes.errorbar(arm.seconds.mean, values.mean(), error, markeredgecolor="white", **shade)
            points.append((arm.seconds.mean, float(values.mean()), arm.name, TEXT))
    best = frontier([(x, comparison.sign * y) for x, y, *_ in points])
    corners = [points[i][:2] for i in best]
    axes.step(*zip(*corners, strict=True), where="post", color=COLOURS[2], linewidth=1.4, alpha=0.8, zorder=2)
    axes.margins(x=0.06, y=0.12)
    _label_points(axes, points)
    axes.set_xlabel("seconds of training, mean of the seeds")
    axes.set_ylabel(title(comparison))
    axes.set_title("± one standard error; green: no other arm is both faster and better", loc="left", fontsize=10, color=TEXT)
    return _saved(axes, path)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the positions of the points (cost, worth) on the Pareto front, by rising cost.

    Example:
        >>> frontier([(1, 5), (2, 4), (3, 7)])
        [0, 2]
    """
    order, front = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])), []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def _label_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names in a column to the right, in the order of their heights, each with a line to its point.

    Args:
        axes: axes with all points drawn.
        points: x, y, name and colour of each point.
    """
    low, high = axes.get_ylim()
    edge = axes.get_xlim()[1]
    heights = _spread_out([y for _, y, *_ in points], 0.055 * (high - low), low, high)
    for (x, y, name, shade), height in zip(points, heights, strict=True):
        line = {"arrowstyle": "-", "color": shade, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4, "relpos": (0, 0.5)}
        place = {"xytext": (edge, height), "va": "center", "fontsize": 9, "color": shade, "annotation_clip": False}
        axes.annotate(f" {_short(name, 32)}", (x, y), arrowprops=line, **place)


# ---- two axes ----


class TwoAxes(NamedTuple):
    """Means over two fields that all arms set.

    Attributes:
        fields: dotted names of the two fields.
        values: their values, JSON data.
        means: mean figure for each pair of values, [first, second]; NaN where there is none.
    """

    fields: tuple[str, str]
    values: tuple[list[object], list[object]]
    means: np.ndarray


def two_axes(comparison: Comparison) -> TwoAxes | None:
    """Return the means over two fields if all arms set exactly these, each in more than one value; None for other sweeps."""
    fields = {tuple(arm.values) for arm in comparison.arms}
    if len(fields) != 1 or len(names := next(iter(fields))) != 2:
        return None
    values: tuple[list[object], list[object]] = ([], [])
    for arm in comparison.arms:
        for known, name in zip(values, names, strict=True):
            if arm.values[name] not in known:
                known.append(arm.values[name])
    if min(map(len, values)) < 2:
        return None
    means = np.full((len(values[0]), len(values[1])), math.nan)
    for arm in comparison.arms:
        figures = [x for run in arm.runs if not math.isnan(x := comparison.metric.of(run))]
        if figures:
            means[tuple(known.index(arm.values[name]) for known, name in zip(values, names, strict=True))] = np.mean(figures)
    return TwoAxes((names[0], names[1]), values, means)


def plot_map(comparison: Comparison, two: TwoAxes, path: str | Path) -> Path:
    """Draw the means over two axes as a map, with every value written out and the best one framed."""
    from matplotlib.patches import Rectangle

    scale, good = comparison.scale, comparison.sign
    rows, columns = two.values
    figure = style.figure(2.2 + 0.95 * len(columns), 1.5 + 0.6 * len(rows))
    axes = figure.subplots()
    shown = scale * two.means
    image = axes.imshow(shown, cmap="cividis" if good > 0 else "cividis_r", aspect="auto")
    low, high = np.nanmin(shown), np.nanmax(shown)
    for (i, j), value in np.ndenumerate(shown):
        if math.isnan(value):
            axes.text(j, i, "–", ha="center", va="center", color=TEXT)
            continue
        bright = (value - low) / max(high - low, 1e-12)
        bright = bright if good > 0 else 1 - bright
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color="black" if bright > 0.55 else "white")
    i, j = np.unravel_index(np.nanargmax(good * shown), shown.shape)
    axes.add_patch(Rectangle((float(j) - 0.5, float(i) - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.5))
    axes.set_xticks(range(len(columns)), [_value(x) for x in columns], fontsize=9)
    axes.set_yticks(range(len(rows)), [_value(x) for x in rows], fontsize=9)
    axes.set_xlabel(two.fields[1])
    axes.set_ylabel(two.fields[0])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title(comparison), loc="left", fontsize=10, color=TEXT)
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return style.save(figure, path)


def _value(value: object) -> str:
    """Format a field's value, JSON data, as a short label."""
    if isinstance(value, dict):
        return _short(", ".join(str(x) if k != "type" else re.split("[.:]", str(x))[-1] for k, x in value.items()), 18)
    return _short(f"{value:g}" if isinstance(value, float) else str(value), 18)
