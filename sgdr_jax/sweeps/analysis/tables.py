"""Tables of a sweep: its runs, search space and trials, and the comparison of its arms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table

from ...core.plan import Plan
from ...evaluation.metrics import SCORE_NAMES, judged_by
from ...report.run_tables import ROWS, cell
from ..run_status import Entry
from ..search_space import Search, describe_search, value_text
from ..trial_records import Trial
from .compare import Arm, Comparison, MeanStd


def sweep_table(entries: Sequence[Entry], plans: Sequence[Plan] = ()) -> Table:
    """Tabulate the runs of a sweep.

    Args:
        entries: runs with their status.
        plans: plans of the same runs; the table then has the cost of each, estimated from the finished ones where there are any.
    """
    table = Table("run", "arm", "seed", "hash", "state", box=box.SIMPLE_HEAD)
    table.columns[3].no_wrap = True
    score = judged_by(next((valid for e in entries if (valid := e.summary.get("valid"))), {}))
    columns = ("updates", "images", "seconds") if plans else ("loss", SCORE_NAMES[score], "seconds")
    for name in columns:
        table.add_column(name, justify="right")
    images = [sum(stage.images for stage in p.stages) for p in plans]
    took = [(e.summary["seconds"], n) for e, n in zip(entries, images, strict=False) if "seconds" in e.summary]
    pace = sum(s for s, _ in took) / sum(n for _, n in took) if took else None
    for i, entry in enumerate(entries):
        run, valid, seconds = entry.run, entry.summary.get("valid") or {}, entry.summary.get("seconds")
        if plans:
            about = "" if pace is None else f"about {pace * images[i]:.0f}"
            figures = [
                f"{sum(stage.steps for stage in plans[i].stages):,}",
                f"{images[i]:,}",
                about if seconds is None else f"{seconds:.0f}",
            ]
        else:
            figures = [cell(valid.get("loss"), ".4f"), cell(valid.get(score), ".4f"), cell(seconds, ".0f")]
        table.add_row(str(run.number), run.arm, str(run.seed), run.hash, entry.state, *figures)
    if plans:
        table.add_section()
        rest = "" if pace is None else f"about {pace * sum(n for e, n in zip(entries, images, strict=True) if not e.summary):.0f}"
        table.add_row("in all", "", "", "", "", f"{sum(s.steps for p in plans for s in p.stages):,}", f"{sum(images):,}", rest)
    return table


def space_table(search: Search) -> Table:
    """Tabulate the space of a search."""
    table = Table("field", "domain", title=describe_search(search), box=box.SIMPLE_HEAD, title_justify="left", title_style="")
    for field, domain in search.space.items():
        table.add_row(field, value_text(domain))
    return table


def trials_table(trials: Sequence[Trial]) -> Table:
    """Tabulate the trials of a search, the best first, at most `ROWS` of them."""
    titles, rows = trial_cells(trials)
    states = ", ".join(f"{n} {state or 'not begun'}" for state, n in Counter(trial.state for trial in trials).items())
    table = Table(box=box.SIMPLE_HEAD, title=f"{len(trials)} trials: {states}", title_justify="left", title_style="")
    for name in titles:
        table.add_column(name, justify="left" if not name else "right")
    for row in rows[:ROWS]:
        table.add_row(*row)
    return table


def trial_cells(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Format the trials as titles and rows: the finished ones first, the best on top, then the others by how far they came."""
    fields = list(dict.fromkeys(field for trial in trials for field in trial.shown))
    measure = measure_of(trials)
    sign = 1 if measure == "loss" else -1

    def rank(trial: Trial) -> tuple[bool, int, bool, float, int]:
        return trial.state != "finished", -trial.cycle_ends, trial.value is None, sign * (trial.value or 0.0), trial.number

    titles = ["trial", *fields, f"validation {measure}", "", "seconds"]
    rows = [
        [
            str(trial.number),
            *(trial.shown.get(field, "") for field in fields),
            cell(trial.value, ".4f"),
            f"pruned, end {trial.cycle_ends}" if trial.state == "pruned" else trial.state,
            cell(trial.seconds, ".0f"),
        ]
        for trial in sorted(trials, key=rank)
    ]
    return titles, rows


def measure_of(trials: Sequence[Trial]) -> str:
    """Return what the values of trials are; that the data are multi-label shows in the finished ones."""
    measures = [trial.measure for trial in sorted(trials, key=lambda trial: trial.state != "finished")]
    return measures[0] if measures else "accuracy"


def comparison_header(comparison: Comparison) -> list[str]:
    """Return the titles of the columns of `comparison_rows`."""
    views = ["TTA %"] if any(arm.tta_accuracy.n for arm in comparison.arms) else []
    unit = "points" if comparison.metric.measure == "accuracy" else "log-loss"
    tests = [f"difference ({unit})", f"{percent(1 - comparison.alpha)} interval", "p", "gained / lost", "p, examples", "", "to settle"]
    return ["arm", "n", f"{comparison.score} %", *views, "log-loss", *tests, *([] if comparison.networks else ["seconds", "images"])]


def comparison_rows(comparison: Comparison) -> list[list[str]]:
    """Format the comparison as text, one row per arm; unknown figures stay empty."""
    views = any(arm.tta_accuracy.n for arm in comparison.arms)
    return [
        [
            arm.name,
            str(len(arm.runs)),
            _mean_std_text(arm.accuracy, 100, 2),
            *([_mean_std_text(arm.tta_accuracy, 100, 2)] if views else []),
            _mean_std_text(arm.loss, 1, 4),
            *_paired(arm, comparison),
            *([] if comparison.networks else [_mean(arm.seconds, ".0f"), _mean(arm.images, ",.0f")]),
        ]
        for arm in comparison.arms
    ]


def _paired(arm: Arm, comparison: Comparison) -> list[str]:
    """Format difference, interval, p, answers, their p, verdict, and the seeds that would settle it."""
    paired = arm.paired
    if paired is None:
        return ["", "", "", "", "", "baseline" if arm.name == comparison.baseline else "no pairs", ""]
    scale, digits = comparison.scale, 2 if comparison.metric.measure == "accuracy" else 4
    change = paired.change
    interval = "" if math.isnan(paired.low) else interval_text(scale * paired.low, scale * paired.high, digits)
    if paired.intervals_differ:
        interval += f" (t: {interval_text(scale * paired.t_low, scale * paired.t_high, digits)})"
    settle = ""
    if paired.verdict == "undecided" and not math.isnan(paired.detectable):
        seeds = "> 10,000 seeds" if paired.needed is None else f"{paired.needed:,} seeds"
        settle = f"{seeds} (now ±{scale * paired.detectable:.{digits}f})" if paired.detectable > 0 else ""
    return [
        f"{scale * paired.mean:+.{digits}f}",
        interval,
        _p(paired.p_holm),
        f"{change.gained:,} / {change.lost:,}" if change else "",
        _p(paired.change_holm),
        paired.verdict,
        settle,
    ]


def interval_text(low: float, high: float, digits: int) -> str:
    """Format an interval of a difference."""
    return f"{low:+.{digits}f} … {high:+.{digits}f}"


def class_cells(comparison: Comparison, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Format the effects on classes as titles and rows, arm by arm, the largest loss first.

    Args:
        comparison: the comparison.
        most: classes of each arm to keep, those with the largest differences; None for all.
    """
    titles = ["arm", "class", "images", "baseline %", "difference (points)", f"{percent(1 - comparison.alpha)} t interval", "p"]
    rows = []
    for arm in comparison.arms:
        effects = arm.paired.classes if arm.paired else ()
        kept = sorted(effects, key=lambda effect: -abs(effect.mean))[:most]
        for effect in (effect for effect in effects if effect in kept):
            interval = "" if math.isnan(effect.low) else interval_text(100 * effect.low, 100 * effect.high, 2)
            name = comparison.classes[effect.index] if effect.index < len(comparison.classes) else str(effect.index)
            shown = (f"{effect.examples:g}", f"{100 * effect.baseline:.2f}", f"{100 * effect.mean:+.2f}", interval, _p(effect.p_holm))
            rows.append([arm.name, name, *shown])
    return titles, rows


def _mean_std_text(value: MeanStd, scale: float, digits: int) -> str:
    if not value.n:
        return ""
    return f"{scale * value.mean:.{digits}f}" + ("" if math.isnan(value.std) else f" ± {scale * value.std:.{digits}f}")


def _mean(value: MeanStd, form: str) -> str:
    return format(value.mean, form) if value.n else ""


def _p(p: float) -> str:
    return "" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def percent(share: float) -> str:
    """Format a share in per cent."""
    return f"{100 * share:g} %"
