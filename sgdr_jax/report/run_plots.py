"""Plots of runs, drawn from the files of their run folders alone. matplotlib is imported only when a figure is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.text import one_line
from ..evaluation.metrics import SCORE_NAMES
from ..runs import folder as run_folder
from . import style
from .run_curves import (
    Row,
    StageRows,
    alone,
    by_stage,
    finder_limits,
    has_rates,
    limits,
    number,
    points,
    rates,
    restarts,
    running_mean,
    score_of,
    split_rows,
)
from .style import COLOURS as _COLOURS
from .style import GREY as _GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VALID: dict[str, Any] = {"color": _COLOURS[1], "marker": "o", "markersize": 6, "linewidth": 1.2, "clip_on": False, "zorder": 3}


# ---- drawing ----


def _axes(width: float, *heights: float) -> list[Axes]:
    """Create empty axes, stacked vertically, in the common style; the figure is not registered with pyplot."""
    column = style.figure(width, sum(heights)).subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0].tolist()
    return [style.quiet(axes) for axes in column]


def _save(axes: Axes, path: str | Path) -> Path:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return style.save(figure, path)


def _legend(axes: Axes) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if not handles:
        return
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1.06), ncols=len(handles), frameon=False, fontsize=9, borderaxespad=0, handlelength=1.6
    )


def _mark_stages(axes: Axes, parts: Sequence[StageRows]) -> None:
    """Draw lines between stages and their names above the axes; names are shortened to fit."""
    _divide(axes, parts)
    whole = parts[-1].end - parts[0].start
    for part in parts:
        room = max(int(105 * (part.end - part.start) / max(whole, 1e-9)), 1)
        name = part.stage if len(part.stage) <= room else part.stage[: room - 1] + "…" if room > 2 else ""
        axes.annotate(
            name,
            ((part.start + part.end) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color="#444444",
        )


def _divide(axes: Axes, parts: Sequence[StageRows]) -> None:
    for part in parts[1:]:
        axes.axvline(part.start, color=_GREY, linewidth=1, zorder=0.5)
    axes.set_xlim(parts[0].start, max(1.005 * parts[-1].end, 1e-9))


# ---- plots ----


def draw_lr_schedule(rows: Iterable[Row], log: bool | None = None) -> Axes:
    """Draw the learning rate of each layer group over all updates, stage after stage; restarts are dotted lines.

    Args:
        rows: of metrics.jsonl, or of a plan: {"stage", "step", "lr": {group: rate}} and, optionally, "cycle". Groups absent from
            "lr", or at 0 throughout a stage, are frozen there and not drawn. Of other rows only the cycle ends of evaluations are used.
        log: logarithmic axis; None: if the groups' peak rates differ by a factor above 30.

    Raises:
        InputError: if no row has a learning rate.
    """
    groups, parts = rates(rows)
    if not parts:
        raise InputError("there are no learning rates to show; name a run that has trained at least one step")
    (axes,) = _axes(8, 4)
    peaks = []
    for i, group in enumerate(groups):
        label: str | None = group
        for part in parts:
            course = [(part.start + row["step"], number(row["lr"][group])) for row in part.rows if group in row.get("lr", ())]
            if any(rate for _, rate in course):
                peaks.append(max(rate for _, rate in course))
                # Equal rates overlap: earlier groups are narrower and in front, so that each is visible.
                style = {"color": _COLOURS[i % len(_COLOURS)], "linewidth": 1.5 + min(0.8 * i, 3), "zorder": 3 - 0.01 * i}
                axes.plot(*zip(*course, strict=True), label=label, solid_capstyle="butt", marker="o" if len(course) == 1 else None, **style)
                label = None
    for x in restarts(parts):
        axes.axvline(x, color=_GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0.5)
    if log if log is not None else bool(peaks) and max(peaks) > 30 * min(peaks):
        axes.set_yscale("log")
        axes.set_ylim(min(peaks) / 30, 2 * max(peaks))
    else:
        axes.set_ylim(0, 1.05 * max(peaks, default=1))
    _mark_stages(axes, parts)
    _legend(axes)
    axes.set_xlabel("update")
    axes.set_ylabel("learning rate")
    return axes


def plot_lr_schedule(rows: Iterable[Row], path: str | Path, log: bool | None = None) -> Path:
    """Write `draw_lr_schedule` to a file and return its path."""
    return _save(draw_lr_schedule(rows, log), path)


def draw_losses(rows: Iterable[Row]) -> Axes:
    """Draw training and validation loss over epochs, stage after stage, and the validation accuracy, or what stands for it, below.

    The training loss of each update is faint, its running mean strong: a debiased exponential mean over about a twentieth of the stage (5
    to 50 updates), restarted in each stage. The last score of each stage is annotated.

    Raises:
        InputError: if no row has a loss.
    """
    rows = list(rows)
    parts, score = by_stage((row for row in rows if "loss" in row), "epoch"), score_of(rows)
    if not parts:
        raise InputError("there are no losses to show; name a run that has trained at least one step")
    scored = any(row.get(score) is not None for part in parts for row in part.rows)
    axes, *below = _axes(8, 3.4, 1.8) if scored else _axes(8, 4)
    seen: list[float] = []
    for part in parts:
        train, valid = split_rows(part)
        x, y = points(part, train, "loss")
        mean = running_mean(y)
        axes.plot(x, y, color=_COLOURS[0], alpha=0.25, linewidth=0.7, **_dots(y, ".", 3))
        label = "training" if part is parts[0] else None
        axes.plot(x, mean, color=_COLOURS[0], linewidth=1.8, label=label, clip_on=False, **_dots(mean, "o", 6))
        seen += [*mean, *sorted(y)[: max(len(y) * 49 // 50, 1)]]  # A few outliers may be clipped.
        x, y = points(part, valid, "loss")
        axes.plot(x, y, label="validation" if part is parts[0] else None, **_VALID)
        seen += y
        for lower in below:
            x, y = points(part, valid, score)
            lower.plot(x, y, **_VALID)
            if y and math.isfinite(y[-1]):
                at = {"xytext": (-7, 2), "textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 9, "color": "#444444"}
                lower.annotate(f"{y[-1]:.3f}", (x[-1], y[-1]), **at)
    _limit(axes, seen)
    _mark_stages(axes, parts)
    _legend(axes)
    axes.set_ylabel("loss")
    for lower in below:
        _divide(lower, parts)
        lower.margins(y=0.25)
        bounds = lower.get_ylim()
        lower.set_yticks([tick for tick in lower.get_yticks() if 0 <= tick <= 1])
        lower.set_ylim(*bounds)
        lower.set_ylabel(SCORE_NAMES[score])
    (below or [axes])[-1].set_xlabel("epoch")
    return axes


def _dots(values: Sequence[float], marker: str, size: int) -> dict[str, Any]:
    """Return how to mark the values that a line does not show."""
    return {"marker": marker, "markersize": size, "markevery": at} if (at := alone(values)) else {}


def plot_losses(rows: Iterable[Row], path: str | Path) -> Path:
    """Write `draw_losses` to a file and return its path."""
    return _save(draw_losses(rows), path)


def _limit(axes: Axes, values: Sequence[float]) -> None:
    """Set the limits of the vertical axis to the finite values, with a margin."""
    if ends := limits(values):
        axes.set_ylim(*ends)


def draw_lr_finder(curve: Mapping[str, Any]) -> Axes:
    """Draw the curve of the learning-rate finder: loss over rate, the suggestion of each rule, and the chosen rate in bold.

    Args:
        curve: "lrs", "losses", "smoothed" (lists of one length), "suggestions" {rule: rate}, "chosen", "rule", "verdict", and "stage"
            if known; "low", "high" if there are several "orders"; as saved in the run folder.
    """
    lrs, smoothed = [float(x) for x in curve["lrs"]], [number(y) for y in curve["smoothed"]]
    losses = [number(y) for y in curve["losses"]]
    (axes,) = _axes(8, 4.2)
    axes.scatter(lrs, losses, s=9, color=_COLOURS[0], alpha=0.3, linewidths=0, label="loss of a batch")
    if (orders := curve.get("orders", 1)) > 1:
        low, high = ([number(y) for y in curve[name]] for name in ("low", "high"))
        axes.fill_between(lrs, low, high, color=_COLOURS[0], alpha=0.15, linewidth=0, label=f"range of {orders} orders")
    axes.plot(lrs, smoothed, color=_COLOURS[0], linewidth=2, label="running mean")
    chosen = float(curve["chosen"])
    axes.axvline(chosen, color="black", linewidth=1.8, label=f"chosen: {chosen:.2g}", zorder=2.5)
    for (rule, rate), marker, colour in zip(curve["suggestions"].items(), "ovsD^<>ph*", _COLOURS[1:6] * 2, strict=False):
        style = {"markersize": 8, "markeredgecolor": "white", "linestyle": "none", "zorder": 4}
        height = _at(lrs, smoothed, float(rate))
        axes.plot([rate], [height], marker=marker, color=colour, label=f"{rule}: {rate:.2g}", **style)
    if ends := finder_limits(smoothed):
        axes.set_ylim(*ends)
    axes.set_xscale("log")
    axes.set_xlim(min(lrs) / 1.2, max(max(lrs), chosen) * 1.2)
    stage = f'stage "{curve["stage"]}": ' if "stage" in curve else ""
    axes.set_title(f"{stage}learning rate {chosen:.2g} by the rule {curve['rule']}; {curve['verdict']}", loc="left", fontsize=10, wrap=True)
    axes.set_xlabel("learning rate of the last layer group")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def plot_lr_finder(curve: Mapping[str, Any], path: str | Path) -> Path:
    """Write `draw_lr_finder` to a file and return its path."""
    return _save(draw_lr_finder(curve), path)


def _at(lrs: Sequence[float], values: Sequence[float], rate: float) -> float:
    """Interpolate the curve at a rate on the logarithmic axis; constant beyond its ends."""
    good = [(math.log(x), y) for x, y in zip(lrs, values, strict=True) if math.isfinite(y)]
    return float(np.interp(math.log(rate), [x for x, _ in good], [y for _, y in good])) if good else 0.0


def draw_progress(rows: Sequence[Row], finders: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """Draw losses and validations, the rates where there are any, and the curves of the finder."""
    schedule = [draw_lr_schedule(rows)] if has_rates(rows) else []
    axes = [draw_losses(rows), *schedule, *map(draw_lr_finder, finders)]
    return [figure for each in axes if (figure := each.get_figure(root=True))]


def draw_images(titles: Sequence[str], tiles: np.ndarray, captions: Sequence[Sequence[str]]) -> Figure:
    """Draw images in rows and columns, with a title above each column and a caption below each image.

    Args:
        titles: of the columns.
        tiles: float 0…1 [rows, columns, size, size, c] with c of 1 or 3.
        captions: one for each image, cut to the width of its column.
    """
    rows, columns = tiles.shape[:2]
    figure = style.figure(1.5 * columns, 1.7 * rows + 0.3)
    for i, line in enumerate(figure.subplots(rows, columns, squeeze=False).tolist()):
        for j, axes in enumerate(line):
            axes.imshow(tiles[i, j] if tiles.shape[-1] == 3 else tiles[i, j, ..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            axes.set_anchor("N")  # the caption below takes no part in the layout, so that a long one makes no image smaller
            text = style.fitting(one_line(captions[i][j]), 0.9 * 72 * 1.5, 6)
            caption = axes.text(0.5, -0.04, text, transform=axes.transAxes, ha="center", va="top", fontsize=6, color="#444444")
            caption.set_in_layout(False)
            if i == 0:
                axes.set_title(titles[j], fontsize=8)
    return figure


def plot_run(folder: str | Path, ui: NullConsole | None = None) -> tuple[Path, ...]:
    """Plot a run into its folder: lr.png, loss.png and finder-<stage>.png, as far as it has data for them.

    Raises:
        InputError: if the folder is not a run folder.
    """
    run, drawn = run_folder.read(folder), list[Path]()
    plots = [partial(plot_lr_finder, curve, run.path / f"{run_folder.finder_stem(stage)}.png") for stage, curve in run.finders.items()]
    if any(row.get("kind") == "train" for row in run.rows):
        plots += [partial(plot_lr_schedule, run.rows, run.path / "lr.png")] * has_rates(run.rows)
        plots.append(partial(plot_losses, run.rows, run.path / "loss.png"))
    with (ui or NullConsole()).bar("pictures", len(plots)) as tick:
        for plot in plots:
            drawn.append(plot())
            tick(1)
    return tuple(drawn)
