"""Comparison of the arms of a sweep with a baseline, seed by seed, and of the runs that were left out and why.

Everything is read from the folder of the sweep (see `sweep_record`). Finished runs count, the others are listed. A pair consists of the
runs of an arm and of the baseline with the same seed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.errors import InputError
from ...core.validation import require
from ...evaluation import predictions
from ...evaluation.metrics import SCORE_NAMES, judged_by
from ..options import Measure, check_alpha
from ..same_images import same_training_images
from ..sweep_record import RunRecord, read_sweep
from ..trial_records import Trial, read_added_runs, read_confirmation_runs, read_trials
from . import significance
from .by_class import ClassEffect, effects
from .run_results import FINAL, Origin, RunResult, by_network, class_names, images, origin, read_result
from .significance import Change


class MeanStd(NamedTuple):
    """Mean and standard deviation over n seeds; the deviation is NaN for one seed, both are NaN for none."""

    mean: float
    std: float
    n: int


class Metric(NamedTuple):
    """A measure ("accuracy" or "loss", see `RunResult.value`) of a split ("valid" or "test"); with `tta` of all views."""

    split: str
    measure: Measure
    tta: bool

    def of(self, run: RunResult) -> float:
        """Return its value for a run; NaN where the run has none."""
        return run.value(self.split, self.measure, self.tta)


class Paired(NamedTuple):
    """Difference between an arm and the baseline.

    Attributes:
        differences: arm minus baseline for each seed of `seeds`.
        seeds: seeds with which both have finished.
        mean: mean of the differences.
        low: lower end of the bootstrap interval of the mean, see `significance.interval`.
        high: upper end.
        t_low: lower end of Student's interval of the mean, see `significance.t_interval`.
        t_high: upper end.
        p: p value of the paired t test over seeds.
        p_holm: the same, corrected for the number of arms.
        change: McNemar's test over examples; None where the runs kept no answers.
        change_holm: its p value, corrected for the number of arms.
        needed: seeds with which the t test would settle it if the true effect and spread were these; None where none would.
        detectable: difference that the t test detects with a power of 0.8, given this spread and these seeds.
        verdict: "better", "worse" or "undecided", by `p_holm`.
        classes: effect on each class, the largest loss first; () where the runs kept no answers.
    """

    differences: np.ndarray
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float
    t_low: float
    t_high: float
    p: float
    p_holm: float
    change: Change | None
    change_holm: float
    needed: int | None
    detectable: float
    verdict: str
    classes: tuple[ClassEffect, ...] = ()

    @property
    def intervals_differ(self) -> bool:
        """Whether bootstrap and t interval disagree on zero, or an end by over a tenth of the t interval's length."""
        (low, high), (t_low, t_high) = (self.low, self.high), (self.t_low, self.t_high)
        apart = max(abs(low - t_low), abs(high - t_high)) > 0.1 * (t_high - t_low)
        return apart or (low <= 0 <= high) != (t_low <= 0 <= t_high)


class Arm(NamedTuple):
    """Figures of an arm's finished runs.

    Attributes:
        name: name of the arm.
        values: fields that it sets, with their values as JSON data.
        runs: finished runs.
        accuracy: accuracy of the plain view, of multi-label data mean average precision.
        loss: loss of the plain view.
        tta_accuracy: accuracy of all views mixed; n = 0 where there is one view.
        tta_loss: loss of all views mixed.
        seconds: duration of training.
        images: images shown in training.
        paired: difference to the baseline; None for the baseline itself and for an arm without pairs.
    """

    name: str
    values: dict[str, object]
    runs: tuple[RunResult, ...]
    accuracy: MeanStd
    loss: MeanStd
    tta_accuracy: MeanStd
    tta_loss: MeanStd
    seconds: MeanStd
    images: MeanStd
    paired: Paired | None


class Comparison(NamedTuple):
    """Comparison of the arms of a sweep.

    Attributes:
        name: name of the sweep.
        question: question of the sweep, or "".
        folder: folder of the sweep.
        metric: what the differences are of.
        alpha: level of the tests.
        baseline: name of the arm that the others are compared with.
        arms: all arms in the order of the sweep, also those without a finished run.
        left_out: one line for each run that does not count, and for each pair that could not be made.
        origin: how and where the runs were made.
        trials: trials of the sweep's search; they are not arms, since they were run to select among.
        score: what accuracies are called: "accuracy", or "mAP" of multi-label data.
        networks: whether the arms are networks of the same runs.
        classes: names of the classes; () where no run has kept them.
    """

    name: str
    question: str
    folder: Path
    metric: Metric
    alpha: float
    baseline: str
    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]
    origin: Origin
    trials: tuple[Trial, ...] = ()
    score: str = "accuracy"
    networks: bool = False
    classes: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """Factor of displayed figures: accuracies are in percent."""
        return 100.0 if self.metric.measure == "accuracy" else 1.0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.metric.measure == "accuracy" else -1


def compare_arms(
    folder: str | Path,
    *,
    baseline: str | None = None,
    split: str | None = None,
    measure: Measure = "accuracy",
    tta: bool = False,
    alpha: float = 0.05,
    networks: bool = False,
) -> Comparison:
    """Compare every arm of a sweep with the baseline.

    Args:
        folder: folder of the sweep.
        baseline: name of an arm; None for the sweep's own baseline.
        split: "test" or "valid"; None for test where a finished run has it.
        measure: what the differences are of.
        tta: use all views mixed where a run has several, else the plain view.
        alpha: level of the tests, and of the intervals (1 - alpha).
        networks: compare the networks that the runs have kept with their final networks; see `by_network`.

    Raises:
        InputError: where there is no sweep, no finished run, no such arm, or with `networks` no run that kept any.
    """
    folder = Path(folder)
    record = read_sweep(folder)
    results = [read_result(folder, run) for run in _records(record["runs"], folder)]
    finished = [run for run in results if not run.missing]
    require(bool(finished), "finished runs", 0, f"none of the {len(results)} runs of {folder} has finished; continue with sgdr-jax sweep")
    left, own = [f"{run.arm}, seed {run.seed}: {run.missing}" for run in results if run.missing], record["baseline"]
    if networks:
        own = f"{own}: {FINAL}" if len({run.arm for run in results}) > 1 else FINAL
        results = finished = _networks(finished, left, own != FINAL)
    names = list(dict.fromkeys(run.arm for run in results))
    base = own if baseline is None else baseline
    require(base in names, "--baseline", base, f"the arms are {', '.join(names)}")
    check_alpha(alpha)
    metric = Metric(split or ("test" if any(run.summary.get("test") for run in finished) else "valid"), measure, tta)
    require(metric.split in ("valid", "test"), "--split", metric.split, "use valid or test")
    without = [run for run in finished if math.isnan(metric.of(run))]
    require(len(without) < len(finished), "--split", metric.split, f"no run has its {measure}; use the other one")
    left += [f"{run.arm}, seed {run.seed}: no {measure} of {metric.split}" for run in without]
    by_arm = {name: [run for run in results if run.arm == name] for name in names}
    paired = _compare_with(base, by_arm, metric, alpha, left)
    objective = record.get("search", {}).get("objective", "accuracy")
    return Comparison(
        name=record["name"],
        question=record.get("question", ""),
        folder=folder,
        metric=metric,
        alpha=alpha,
        baseline=base,
        arms=tuple(_arm(name, runs, metric.split, paired.get(name)) for name, runs in by_arm.items()),
        left_out=tuple(left),
        origin=origin(finished),
        trials=tuple(read_trials(folder, objective)),
        score=SCORE_NAMES[judged_by(next((x for run in finished if (x := run.summary.get(metric.split))), {}))],
        networks=networks,
        classes=class_names(finished),
    )


def _records(own: Sequence[RunRecord], folder: Path) -> list[RunRecord]:
    """Return the recorded runs of all kinds, each once: seeds that were added may be the sweep's own by now."""
    first_records: dict[tuple[str, str], RunRecord] = {}
    for run in (*own, *read_confirmation_runs(folder), *read_added_runs(folder)):
        first_records.setdefault((run["arm"], run["hash"]), run)
    return list(first_records.values())


def _networks(finished: Sequence[RunResult], left: list[str], several: bool) -> list[RunResult]:
    """Split finished runs by network, as runs of arms named after the networks, and after the runs' arms where there are several."""
    split = []
    for run in finished:
        own = by_network(run)
        left += [] if own else [f"{run.arm}, seed {run.seed}: no networks kept"]
        split += [result._replace(arm=f"{run.arm}: {result.arm}") for result in own] if several else own
    require(bool(split), "--networks", True, "no finished run has kept any; sweep with --snapshots.last 4, or the like")
    return split


def _mean_std(values: Sequence[float]) -> MeanStd:
    known = np.array([x for x in values if not math.isnan(x)])
    if not len(known):
        return MeanStd(math.nan, math.nan, 0)
    return MeanStd(float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else math.nan, len(known))


def _arm(name: str, runs: Sequence[RunResult], split: str, paired: Paired | None) -> Arm:
    done = tuple(run for run in runs if not run.missing)
    with_views = [run for run in done if (run.summary.get(split) or {}).get("tta_accuracy") is not None]
    return Arm(
        name=name,
        values=runs[0].values,
        runs=done,
        accuracy=_mean_std([run.value(split, "accuracy", False) for run in done]),
        loss=_mean_std([run.value(split, "loss", False) for run in done]),
        tta_accuracy=_mean_std([run.value(split, "accuracy", True) for run in with_views]),
        tta_loss=_mean_std([run.value(split, "loss", True) for run in with_views]),
        seconds=_mean_std([run.seconds for run in done]),
        images=_mean_std([images(run) for run in done]),
        paired=paired,
    )


# ---- pairs ----

type RunPair = tuple[RunResult, RunResult]
"""Runs of an arm and of the baseline with the same seed."""
type ComparablePair = tuple[int, predictions.SplitPredictions, predictions.SplitPredictions]
"""Number of a pair, and the predictions of both of its runs for the same examples."""


def _compare_with(base: str, by_arm: dict[str, list[RunResult]], metric: Metric, alpha: float, left: list[str]) -> dict[str, Paired]:
    """Compare all arms with the baseline; append what could not be paired to `left`."""
    pairs = {name: _pairs(runs, by_arm[base], metric) for name, runs in by_arm.items() if name != base}
    for name, own in pairs.items():
        others = {run.seed for run, other in own if not same_training_images(run.folder, other.folder)}
        left += [f"{name}, seed {seed}: trained on other images than the baseline, so there is no pair" for seed in sorted(others)]
        pairs[name] = [pair for pair in own if pair[0].seed not in others]
    reader = functools.cache(lambda folder, network: predictions.load(folder, metric.split, network, measures=False))
    answers = {name: _answers(own, reader, left, name) for name, own in pairs.items()}
    changes = {name: _change(own, len(pairs[name]), metric.tta) for name, own in answers.items()}
    classes = effects({name: [(first, second) for _, first, second in own] for name, own in answers.items()}, metric.tta, 1 - alpha)
    for name in pairs:
        alone = {run.seed for run in by_arm[name] if not run.missing} - {run.seed for run in by_arm[base] if not run.missing}
        left += [f"{name}, seed {seed}: the baseline has not finished with this seed, so there is no pair" for seed in sorted(alone)]
    paired = _paired({name: own for name, own in pairs.items() if own}, changes, metric, alpha)
    return {name: own._replace(classes=classes[name]) for name, own in paired.items()}


def _pairs(runs: Sequence[RunResult], others: Sequence[RunResult], metric: Metric) -> list[RunPair]:
    """Pair the finished runs of an arm with the baseline's of the same seed."""
    known = {run.seed: run for run in others if not run.missing and not math.isnan(metric.of(run))}
    return [(run, known[run.seed]) for run in runs if not run.missing and not math.isnan(metric.of(run)) and run.seed in known]


def _answers(
    pairs: Sequence[RunPair], reader: Callable[[Path, str], predictions.SplitPredictions | None], left: list[str], name: str
) -> list[ComparablePair]:
    """List the pairs both runs of which have predicted the same examples; append the others to `left`."""
    answers: list[ComparablePair] = []
    for row, (run, other) in enumerate(pairs):
        try:
            first, second = reader(run.folder, run.network), reader(other.folder, other.network)
        except InputError as error:
            left.append(f"{name}, seed {run.seed}, example by example: {error}")
            continue
        if first is None or second is None or first.names != second.names or not np.array_equal(first.labels, second.labels):
            why = "no answers kept" if first is None or second is None else "other examples than the baseline's"
            left.append(f"{name}, seed {run.seed}, example by example: {why}")
            continue
        answers.append((row, first, second))
    return answers


def _change(answers: Sequence[ComparablePair], pairs: int, tta: bool) -> Change | None:
    """Apply McNemar's test over the examples that both runs of a pair have predicted; None where there are none."""
    blocks: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for row, first, second in answers:
        blocks.setdefault(first.names, []).append((row, first.correct(tta), second.correct(tta)))
    if not blocks:
        return None
    # Seeds with other examples have columns of their own; elsewhere nothing differs.
    wide = []
    for block in blocks.values():
        both = np.zeros((2, pairs, len(block[0][1])), bool)
        for row, first, second in block:
            both[:, row] = first, second
        wide.append(both)
    return significance.mcnemar(*np.concatenate(wide, axis=2))


def _paired(pairs: dict[str, list[RunPair]], changes: dict[str, Change | None], metric: Metric, alpha: float) -> dict[str, Paired]:
    """Compare all arms that have pairs; arms with the same number of pairs share the resamples of their intervals."""
    differences = {name: np.array([metric.of(run) - metric.of(other) for run, other in own]) for name, own in pairs.items()}
    ends, student, p = {}, {}, {}
    for count in {len(d) for d in differences.values()}:
        group = [name for name, d in differences.items() if len(d) == count]
        columns = np.stack([differences[name] for name in group], axis=1)
        low, high = significance.interval(columns, 1 - alpha)
        ends |= {name: (float(a), float(b)) for name, a, b in zip(group, low, high, strict=True)}
        student |= dict(zip(group, significance.t_interval(columns, 1 - alpha).T.tolist(), strict=True))
        p |= dict(zip(group, significance.paired_t(columns).tolist(), strict=True))
    by_seed = significance.holm(np.array([p[name] for name in pairs]))
    by_example = significance.holm(np.array([change.p if (change := changes[name]) else math.nan for name in pairs]))
    strictest, paired = alpha / max(sum(not math.isnan(x) for x in p.values()), 1), {}
    for name, p_holm, change_holm in zip(pairs, by_seed.tolist(), by_example.tolist(), strict=True):
        d, settled = differences[name], p_holm <= alpha
        mean, std = float(d.mean()), float(d.std(ddof=1)) if len(d) > 1 else math.nan
        better = mean > 0 if metric.measure == "accuracy" else mean < 0
        paired[name] = Paired(
            differences=d,
            seeds=tuple(run.seed for run, _ in pairs[name]),
            mean=mean,
            low=ends[name][0],
            high=ends[name][1],
            t_low=student[name][0],
            t_high=student[name][1],
            p=p[name],
            p_holm=p_holm,
            change=changes[name],
            change_holm=change_holm,
            needed=None if settled else significance.seeds_needed(mean, std, strictest),
            detectable=math.nan if math.isnan(ends[name][0]) else significance.detectable(std, len(d), strictest),
            verdict="undecided" if not settled else "better" if better else "worse",
        )
    return paired
