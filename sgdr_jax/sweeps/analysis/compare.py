"""What a sweep has found: its runs read, each arm set against the baseline seed by seed, and what was left out and why.

Everything is read from the sweep's folder (see `sweep`): finished runs count, the others are named. A pair is a seed with which both the
arm and the baseline have finished.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...core.errors import InputError
from ...core.validation import require
from ...evaluation import predictions
from .. import spec
from ..trial_records import Trial, chosen_rows
from ..trial_records import trials as read_trials
from . import significance
from .run_results import FINAL, Found, by_network, find, images, origin
from .significance import Change

Measure = Literal["accuracy", "loss"]


class Spread(NamedTuple):
    """Mean and standard deviation over seeds, and their number; sd is not a number for one seed."""

    mean: float
    sd: float
    n: int


class Paired(NamedTuple):
    """An arm beside the baseline.

    Attributes:
        differences: arm minus baseline for each seed of `seeds`.
        seeds: with which both have finished.
        mean: of the differences.
        low, high: bootstrap interval of the mean; see `significance.interval`.
        p: paired t test over seeds, and `p_holm` corrected for the number of arms.
        change: McNemar's test over examples, None where the runs kept no answers; `change_holm` its p corrected alike.
        needed: seeds with which the t test would settle it if the true effect and spread were these; None where that is no number.
        detectable: difference that the t test finds four times out of five with this spread and these seeds.
        verdict: "better", "worse" or "undecided", by p_holm.
    """

    differences: np.ndarray
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    change: Change | None
    change_holm: float
    needed: int | None
    detectable: float
    verdict: str


class Arm(NamedTuple):
    """An arm's finished runs in numbers.

    Attributes:
        name: of the arm.
        values: the fields that it sets, JSON data.
        runs: the finished ones.
        accuracy, loss: of the plain view; `tta_accuracy`, `tta_loss` of all views mixed, with n = 0 where there is one view.
        seconds: of training.
        images: shown in training.
        paired: beside the baseline; None for the baseline itself, and for an arm without pairs.
    """

    name: str
    values: dict[str, Any]
    runs: tuple[Found, ...]
    accuracy: Spread
    loss: Spread
    tta_accuracy: Spread
    tta_loss: Spread
    seconds: Spread
    images: Spread
    paired: Paired | None


class Comparison(NamedTuple):
    """The answer of a sweep.

    Attributes:
        name: of the sweep.
        question: that it asks, or "".
        folder: of the sweep.
        split, measure, tta: what the differences are of.
        alpha: level of the tests.
        baseline: name of the arm that the others are set against.
        arms: in the order of the sweep, those without a finished run too.
        left_out: one line for each run that does not count, and for each pair that could not be made.
        origin: how and where the runs were made.
        trials: of the sweep's search; they are no arms, for they were run to choose among.
        objective: that they were judged by.
        networks: whether the arms are networks of the same runs.
    """

    name: str
    question: str
    folder: Path
    split: str
    measure: Measure
    tta: bool
    alpha: float
    baseline: str
    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]
    origin: dict[str, tuple[str, ...]]
    trials: tuple[Trial, ...] = ()
    objective: str = "accuracy"
    networks: bool = False


def compare(
    folder: str | Path,
    *,
    baseline: str | None = None,
    split: str | None = None,
    measure: Measure = "accuracy",
    tta: bool = False,
    alpha: float = 0.05,
    networks: bool = False,
) -> Comparison:
    """Reads a sweep's folder and sets every arm against the baseline.

    Args:
        folder: of the sweep.
        baseline: name of an arm; None for the sweep's own.
        split: "test" or "valid"; None: test where a finished run has it.
        measure: what the differences are of.
        tta: of all views mixed where a run has several, else of the plain view.
        alpha: level of the tests, and of the intervals (1 - alpha).
        networks: the arms are what the runs have kept beside their final networks, which are the baseline; see `findings.by_network`.

    Raises:
        InputError: where there is no sweep, no finished run, no such arm, or with `networks` no run that kept any.
    """
    held = spec.read(folder)
    found = [find(Path(folder), row) for row in (*held["runs"], *chosen_rows(Path(folder)))]
    objective = held.get("search", {}).get("objective", "accuracy")
    finished = [run for run in found if not run.missing]
    require(bool(finished), "finished runs", 0, f"none of the {len(found)} runs of {folder} has finished; go on with sgdr-jax sweep")
    left, own = [f"{run.arm}, seed {run.seed}: {run.missing}" for run in found if run.missing], held["baseline"]
    if networks:
        own = f"{own}: {FINAL}" if len({run.arm for run in found}) > 1 else FINAL
        found = finished = _networks(finished, left, own != FINAL)
    names = list(dict.fromkeys(run.arm for run in found))
    base = own if baseline is None else baseline
    require(base in names, "--baseline", base, f"the arms are {', '.join(names)}")
    require(0 < alpha < 1, "--alpha", alpha, "use a number between 0 and 1, such as 0.05")
    split = split or ("test" if any(run.summary.get("test") for run in finished) else "valid")
    require(split in ("valid", "test"), "--split", split, "use valid or test")
    have = any(not math.isnan(run.value(split, measure, tta)) for run in finished)
    require(have, "--split", split, f"no run has its {measure}; use the other one")
    by_arm = {name: [run for run in found if run.arm == name] for name in names}
    reader = functools.cache(lambda run_folder, network: predictions.load(run_folder, split, network))
    left += [f"{run.arm}, seed {run.seed}: no {measure} of {split}" for run in finished if math.isnan(run.value(split, measure, tta))]
    pairs = {name: _pairs(runs, by_arm[base], split, measure, tta) for name, runs in by_arm.items() if name != base}
    changes = {name: _change(made, reader, tta, left, name) for name, made in pairs.items()}
    for name, made in pairs.items():
        alone = {run.seed for run in by_arm[name] if not run.missing} - {one.seed for one, _ in made}
        left += [f"{name}, seed {seed}: the baseline has not finished with this seed, so there is no pair" for seed in sorted(alone)]
    paired = _paired(pairs, changes, split, measure, tta, alpha)
    arms = tuple(_arm(name, runs, split, paired.get(name)) for name, runs in by_arm.items())
    return Comparison(
        held["name"],
        held.get("question", ""),
        Path(folder),
        split,
        measure,
        tta,
        alpha,
        base,
        arms,
        tuple(left),
        origin(list(dict.fromkeys(run.folder for run in finished))),
        tuple(read_trials(Path(folder), objective)),
        objective,
        networks,
    )


def _networks(finished: Sequence[Found], left: list[str], several: bool) -> list[Found]:
    """What finished runs have kept, as runs of arms that are named after them, and after the runs' arms where there are several."""
    kept = []
    for run in finished:
        own = by_network(run)
        left += [] if own else [f"{run.arm}, seed {run.seed}: no networks kept"]
        kept += [one._replace(arm=f"{run.arm}: {one.arm}") for one in own] if several else own
    require(bool(kept), "--networks", True, "no finished run has kept any; sweep with --snapshots.last 4, or the like")
    return kept


# ---- comparing ----


def _spread(values: Sequence[float]) -> Spread:
    known = np.array([x for x in values if not math.isnan(x)])
    if not len(known):
        return Spread(math.nan, math.nan, 0)
    return Spread(float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else math.nan, len(known))


def _arm(name: str, runs: Sequence[Found], split: str, paired: Paired | None) -> Arm:
    done = tuple(run for run in runs if not run.missing)
    with_views = [run for run in done if (run.summary.get(split) or {}).get("tta_accuracy") is not None]
    return Arm(
        name,
        runs[0].values,
        done,
        _spread([run.value(split, "accuracy", False) for run in done]),
        _spread([run.value(split, "loss", False) for run in done]),
        _spread([run.value(split, "accuracy", True) for run in with_views]),
        _spread([run.value(split, "loss", True) for run in with_views]),
        _spread([run.seconds for run in done]),
        _spread([images(run) for run in done]),
        paired,
    )


def _pairs(runs: Sequence[Found], others: Sequence[Found], split: str, measure: str, tta: bool) -> list[tuple[Found, Found]]:
    """Finished runs of an arm, each with the baseline's of the same seed."""
    known = {run.seed: run for run in others if not run.missing and not math.isnan(run.value(split, measure, tta))}
    good = [run for run in runs if not run.missing and not math.isnan(run.value(split, measure, tta))]
    return [(run, known[run.seed]) for run in good if run.seed in known]


def _change(made: Sequence[tuple[Found, Found]], reader: Any, tta: bool, left: list[str], name: str) -> Change | None:
    """McNemar's test of an arm, over the examples that both runs of a pair have answered; None where there are none."""
    blocks: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for row, (run, other) in enumerate(made):
        try:
            first, second = (reader(one.folder, one.network) for one in (run, other))
        except InputError as error:
            left.append(f"{name}, seed {run.seed}, example by example: {error}")
            continue
        if first is None or second is None or first.names != second.names or not np.array_equal(first.labels, second.labels):
            why = "no answers kept" if first is None or second is None else "other examples than the baseline's"
            left.append(f"{name}, seed {run.seed}, example by example: {why}")
            continue
        blocks.setdefault(first.names, []).append((row, first.right(tta), second.right(tta)))
    if not blocks:
        return None
    # Seeds with other examples have columns of their own; elsewhere nothing differs.
    wide = []
    for block in blocks.values():
        both = np.zeros((2, len(made), len(block[0][1])), bool)
        for row, first, second in block:
            both[:, row] = first, second
        wide.append(both)
    return significance.mcnemar(*np.concatenate(wide, axis=2))


def _paired(
    pairs: dict[str, list[tuple[Found, Found]]], changes: dict[str, Change | None], split: str, measure: str, tta: bool, alpha: float
) -> dict[str, Paired]:
    """All arms beside the baseline; arms with the same number of pairs share the resamples of their intervals."""
    names = [name for name, made in pairs.items() if made]
    differences = {n: np.array([a.value(split, measure, tta) - b.value(split, measure, tta) for a, b in pairs[n]]) for n in names}
    ends, p = {}, {}
    for count in {len(d) for d in differences.values()}:
        group = [n for n in names if len(differences[n]) == count]
        columns = np.stack([differences[n] for n in group], axis=1)
        for n, low, high, one in zip(group, *significance.interval(columns, 1 - alpha), significance.paired_t(columns), strict=True):
            ends[n], p[n] = (float(low), float(high)), float(one)
    by_t = dict(zip(names, significance.holm(np.array([p[n] for n in names])), strict=True))
    given = [change.p if (change := changes[n]) else math.nan for n in names]
    by_example = dict(zip(names, significance.holm(np.array(given)), strict=True))
    good = 1 if measure == "accuracy" else -1
    found = {}
    for n in names:
        d = differences[n]
        mean, sd = float(d.mean()), float(d.std(ddof=1)) if len(d) > 1 else math.nan
        settled = by_t[n] <= alpha
        found[n] = Paired(
            differences=d,
            seeds=tuple(run.seed for run, _ in pairs[n]),
            mean=mean,
            low=ends[n][0],
            high=ends[n][1],
            p=p[n],
            p_holm=float(by_t[n]),
            change=changes[n],
            change_holm=float(by_example[n]),
            needed=None if settled else significance.seeds_needed(mean, sd, alpha),
            detectable=significance.detectable(sd, len(d), alpha),
            verdict="undecided" if not settled else "better" if mean * good > 0 else "worse",
        )
    return found
