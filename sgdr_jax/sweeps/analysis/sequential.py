"""Sequential design of a sweep: which arms need which further seeds until the interval of their difference is as narrow as wanted.

The first seeds of a sweep are a pilot. Its spread alone fixes how many seeds an arm needs, and enters the interval; what the seeds after
it show has no part in when to stop. The interval therefore keeps its coverage, exactly so for normally distributed differences.

Source: Stein 1945, "A two-sample test for a linear hypothesis whose power is independent of the variance".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.serialization import config_hash
from ...core.validation import require
from ..options import CompareOptions
from ..run_status import entries
from ..spec import Sweep, SweepRun, expand, with_values
from ..sweep_record import read_sweep, recorded_run
from ..trial_records import read_confirmation_runs, save_added_runs
from . import significance
from .compare import Arm, Comparison, compare_arms

MOST_SEEDS = 100
"""Most seeds of an arm; one that needs more is named and gets none."""


class Need(NamedTuple):
    """What an arm needs.

    Attributes:
        arm: name of the arm.
        pilot: number of pairs of the pilot.
        std: standard deviation of their differences, in the units of the comparison.
        seeds: seeds needed in all.
        done: pairs so far.
        low: lower end of the interval over all pairs so far.
        high: upper end.
    """

    arm: str
    pilot: int
    std: float
    seeds: int
    done: int
    low: float
    high: float

    @property
    def settled(self) -> bool:
        """Whether all seeds have been run."""
        return self.done >= self.seeds


def needs(comparison: Comparison, until: float) -> tuple[Need, ...]:
    """Return what each arm needs until the interval of its mean difference is at most `until` to either side, in displayed units.

    Arms with fewer than two pairs in the pilot are left out, since their spread is unknown. Equal differences of accuracies are no
    certainty: they are rounded to one image, and the spread is at least that of the rounding, 1 / (images · √6).
    """
    require(until > 0, "--until", until, "use a number above 0, such as 0.5 for half a point")
    pilot, accuracies = tuple(read_sweep(comparison.folder)["seeds"]), comparison.score == comparison.metric.measure == "accuracy"

    def rounding(arm: Arm) -> float:
        images = arm.runs[0].summary.get("images", {}).get(comparison.metric.split) if arm.runs and accuracies else None
        return 1 / (images * math.sqrt(6)) if images else 0.0

    level, until = 1 - comparison.alpha, until / comparison.scale
    return tuple(need for arm in comparison.arms if (need := _need(arm, pilot, until, level, rounding(arm))))


def _need(arm: Arm, pilot: Sequence[int], until: float, level: float, least: float) -> Need | None:
    """Return what an arm needs; its spread is at least `least`, that of differences of accuracies for their rounding to 1 / images."""
    paired = arm.paired
    first = [d for d, seed in zip(paired.differences, paired.seeds, strict=True) if seed in pilot] if paired else []
    if paired is None or len(first) < 2:
        return None
    std = max(float(np.std(first, ddof=1)), least)
    half = significance.pilot_half_width(std, len(first), len(paired.seeds), level)
    seeds = significance.pilot_seeds(std, len(first), until, level)
    return Need(arm.name, len(first), std, seeds, len(paired.seeds), paired.mean - half, paired.mean + half)


def sequential_notes(comparison: Comparison, until: float) -> list[str]:
    """Describe what each arm needs, one line each, and how the coverage is kept."""
    scale, lines = comparison.scale, list[str]()
    for need in needs(comparison, until):
        shown = f"{scale * need.low:+.2f} … {scale * need.high:+.2f}"
        spread = f"spread {scale * need.std:.2f} of the first {need.pilot}"
        if need.settled:
            lines.append(f"{need.arm}: settled to ±{until:g} by {need.done} seeds, {shown} ({spread})")
        elif need.seeds > MOST_SEEDS:
            lines.append(
                f"{need.arm}: needs {need.seeds:,} seeds ({spread}), more than the {MOST_SEEDS} that are run; use a larger --until"
            )
        else:
            lines.append(f"{need.arm}: needs {need.seeds} seeds, {need.seeds - need.done} more than now ({spread})")
    return [
        *lines,
        "--until: the spread of the sweep's own seeds alone fixes how many are needed and enters the interval (Stein 1945), so stopping "
        "does not cost coverage; each arm has it for itself.",
    ]


def added_runs(sweep: Sweep, folder: Path, options: CompareOptions) -> list[SweepRun]:
    """Record and return the runs with further seeds that arms need, and those of the baseline with the same seeds.

    The best trial of a search is an arm too, whose pilot are the seeds that took no part in the selection.

    Args:
        sweep: the sweep.
        folder: its folder.
        options: the comparison; there are no further runs without `until`.

    Returns:
        The runs, finished ones too; [] where none of the sweep's own has finished.
    """
    if options.until is None or not any(entry.summary for entry in entries(folder, expand(sweep))):
        return []
    comparison = compare_arms(
        folder, baseline=options.baseline, split=options.split, measure=options.measure, tta=options.tta, alpha=options.alpha
    )
    wanted = {need.arm: need.seeds - need.pilot for need in needs(comparison, options.until) if need.seeds <= MOST_SEEDS}
    wanted[comparison.baseline] = max(wanted.values(), default=0)
    known = [*expand(sweep), *(recorded_run(sweep, record) for record in read_confirmation_runs(folder))]
    values = {run.arm: run.values for run in known}
    first, number = max(sweep.seeds) + 1, 1 + max(run.number for run in known)
    runs: list[SweepRun] = []
    for arm in values:
        for seed in range(first, first + wanted.get(arm, 0)):
            runs.append(_run(sweep, number + len(runs), arm, values[arm], seed))
    save_added_runs(folder, runs)
    return runs


def _run(sweep: Sweep, number: int, arm: str, values: tuple[tuple[str, object], ...], seed: int) -> SweepRun:
    experiment = with_values(sweep.base, (*values, ("seed", seed)))
    return SweepRun(number, arm, values, seed, experiment, config_hash(experiment))
