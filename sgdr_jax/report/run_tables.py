"""Tables for the terminal: plans, results of runs, metrics by number of views, summaries of datasets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Column, Table

from ..core.experiment import Experiment
from ..core.plan import Plan, describe, plan
from ..core.serialization import config_hash
from ..data.load import canvas_side, load_for
from ..data.placement import forecast
from ..data.summary import DatasetSummary, groups_text, summarize
from ..evaluation.calibration import ClassResult, class_results
from ..evaluation.intervals import limits_text, share_interval
from ..evaluation.metrics import FIXED_THRESHOLDS, SCORE_NAMES, judged_by, measure_title

if TYPE_CHECKING:
    from ..core.console import NullConsole
    from ..runs.predictor import Evaluation, Predictions, Predictor
    from ..train.lr_curve import LrCurve


ROWS = 20
"""Most rows of a table that could have thousands: as many as are on a screen at once."""


def cell(value: float | None, form: str) -> str:
    """Format a number; empty for None."""
    return "" if value is None else format(value, form)


def _table(*texts: str, numbers: Iterable[str] = (), last: str | None = None) -> Table:
    """Return an empty table with columns of text, then of numbers, then perhaps one of text.

    Where the terminal is too narrow, texts go on in the next line, so that no name is cut, and numbers stay whole.
    """
    table = Table(*(Column(text, overflow="fold") for text in texts), box=box.SIMPLE_HEAD)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last, overflow="fold")
    return table


def dataset_tables(summary: DatasetSummary, classes: Sequence[str]) -> list[Table | str]:
    """Format the summary of a dataset: a table of images per class and split, then lines about anomalies."""
    table = _table("class", numbers=summary.counts)
    for i, name in enumerate(classes):
        table.add_row(name, *(f"{numbers[i]:,}" for numbers in summary.counts.values()))
    several = any(numbers.sum() != summary.images[split] for split, numbers in summary.counts.items())
    table.add_row("all labels" if several else "all classes", *(f"{numbers.sum():,}" for numbers in summary.counts.values()))
    if several:
        table.add_row("images", *(f"{summary.images[split]:,}" for split in summary.counts))
    low, middle, high = (f"{width} × {height}" for width, height in summary.sizes)
    lines = [f"width × height, by area: smallest {low}, middle {middle}, largest {high}"]
    for title, groups in (
        ("the same pixels in several splits", summary.across_splits),
        ("the same pixels with different labels", summary.conflicting),
    ):
        lines.append(f"{title}: {groups_text(len(groups), sum(map(len, groups)))}")
        lines += ["  " + ", ".join(group[:4]) + (", …" if len(group) > 4 else "") for group in groups[:10]]
    lines.append(f"images that repeat one of their own split: {summary.within_split}")
    lines.append(f"unreadable files: {len(summary.unreadable)}")
    lines += [f"  {name}: {reason}" for name, reason in summary.unreadable[:10]]
    return [table, *lines]


def plan_table(stages: Sequence[Mapping[str, str]]) -> Table:
    """Format a plan, one column per stage, with the facts of `plan.describe`.

    Args:
        stages: dicts with the same keys; the first key heads the columns.
    """
    first, *rest = stages[0] if stages else [""]
    table = _table(first, *(stage[first] for stage in stages))
    for fact in rest:
        table.add_row(fact, *(stage[fact] for stage in stages))
    return table


def stages_table(summary: Mapping[str, Any]) -> Table:
    """Format what each stage of a run brought: figures of the validation images, with their 95 % intervals.

    Args:
        summary: {"stages": [{"name", "size", "epochs", "seconds", "valid_loss", "valid_accuracy", "kept": bool}],
            "images": {"valid": number of images}, "valid": {…}, "score": what `metrics.judged_by` returns, where neither "valid" nor "test"
            tells it}; missing values stay empty. Undone stages are marked.
    """
    score, name = _score(summary)
    table = _table("stage", numbers=("size", "epochs", "seconds", "loss", name), last="")
    for stage in summary.get("stages", ()):
        accuracy = stage.get("valid_accuracy")
        table.add_row(
            str(stage.get("name", "")),
            cell(stage.get("size"), "d"),
            cell(stage.get("epochs"), ".4g"),
            cell(stage.get("seconds"), ".0f"),
            cell(stage.get("valid_loss"), ".4f"),
            cell(accuracy, ".4f") + _limits(summary, "valid", score, accuracy),
            "" if stage.get("kept", True) else "undone",
        )
    return table


def figures_table(summary: Mapping[str, Any]) -> Table:
    """Format the figures of a run's final network, with 95 % intervals, and its calibration before and after scaling by a temperature T.

    Args:
        summary: {"valid": {"loss", "accuracy"}, "test": {"loss", "accuracy", "ece", "tta_loss", …} or {},
            "images": {split: number of images}, "calibration": {split: {"plain": {"temperature", "ece"}, "tta": …}}}; missing values stay
            empty.
    """
    score, name = _score(summary)
    table = _table("network", numbers=("loss", name, "ECE", "scaled", "T"))
    results = (("validation", "valid", ""), ("validation, TTA", "valid", "tta_"), ("test", "test", ""), ("test, TTA", "test", "tta_"))
    for label, split, prefix in results:
        loss, value, error = ((summary.get(split) or {}).get(prefix + key) for key in ("loss", score, "ece"))
        if loss is not None or value is not None:
            scaled = (summary.get("calibration") or {}).get(split, {}).get("tta" if prefix else "plain") or {}
            figures = cell(loss, ".4f"), cell(value, ".4f") + _limits(summary, split, score, value)
            sure = (cell(x, form) for x, form in ((error, ".3f"), (scaled.get("ece"), ".3f"), (scaled.get("temperature"), ".2f")))
            if math.isnan(scaled.get("temperature") or 0):
                sure = cell(error, ".3f"), "", "none fitted"
            table.add_row(label, *figures, *sure)
    return table


def run_lines(summary: Mapping[str, Any]) -> list[str]:
    """Format what tables of a run do not say: its threshold for several labels, time, compiled programs, memory.

    Args:
        summary: {"refit": bool, whether the test figures are those of a second training, "seconds": float,
            "resumed": bool, whether these are of a later process than the run's first,
            "compiled": {"programs", "loaded", "seconds", "names": {name: [number, seconds]}}, "device_memory": {"peak", "limit"},
            "threshold": {"value", "beta", "f_beta": {split: value}, "plain"}}, each of which may be missing.
    """
    lines = ["validation: before the refit, which trains on its images too"] if summary.get("refit") else []
    if threshold := summary.get("threshold"):
        scores = ", ".join(f"{split} {value:.4f}" for split, value in threshold["f_beta"].items())
        plain = f"; for the plain view alone {threshold['plain']:.4f}" if "plain" in threshold else ""
        lines.append(f"threshold {threshold['value']:.4f}, F{threshold['beta']:g}: {scores}{plain}")
    if summary.get("seconds") is not None:
        seconds = f"{summary['seconds']:.0f} s"
        lines.append(f"{seconds} since the run was resumed" if summary.get("resumed") else f"in all {seconds}")
    if compiled := summary.get("compiled"):
        slowest = sorted(compiled.get("names", {}).items(), key=lambda item: -item[1][1])[:3]
        parts = [f"compiling {compiled['seconds']:.0f} s: {compiled['programs']} programs, {compiled['loaded']} from disk"]
        parts += [f"{name} {seconds:.0f} s" for name, (_, seconds) in slowest if seconds >= 0.5]
        parts += [f"longest {compiled.get('longest', 0):.1f} s"] if compiled.get("longest", 0) >= 0.5 else []
        lines.append("; ".join(parts))
    if memory := summary.get("device_memory"):
        lines.append(f"device memory {memory['peak'] / (1 << 30):.1f} of {memory['limit'] / (1 << 30):.1f} GiB at most")
    return lines


def snapshots_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Format score and loss, of all views where there are several, of a run's snapshots and ensembles; rows as of `ensemble.compare`."""
    splits = [split for split in ("valid", "test") if split in rows[0]]
    score = judged_by(rows[0][splits[0]]) if splits else "accuracy"
    views = [prefix for prefix in ("", "tta_") if any(f"{prefix}loss" in rows[0][split] for split in splits)]
    columns = [(split, prefix + name) for split in splits for prefix in views[-1:] for name in (score, "loss")]
    titles = [f"{split} {SCORE_NAMES.get(name.removeprefix('tta_'), 'loss')}" for split, name in columns]
    table = _table("network, all views" if len(views) > 1 else "network", numbers=("of", *titles))
    for row in rows:
        figures = (cell((row.get(split) or {}).get(name), ".4f") for split, name in columns)
        table.add_row(row["name"], str(len(row["members"]) or ""), *figures)
    return table


def _score(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return the measure that a run is judged by, and its name for people."""
    score = summary.get("score") or judged_by(summary.get("valid") or summary.get("test") or {})
    return score, SCORE_NAMES[score]


def _limits(summary: Mapping[str, Any], split: str, score: str, value: float | None) -> str:
    """Format the 95 % interval of an accuracy; empty for other measures, or if the number of images is not known."""
    images = (summary.get("images") or {}).get(split)
    return limits_text(share_interval(value, images), ".3f") if images and value is not None and score == "accuracy" else ""


def classes_table(classes: Sequence[str], rows: Sequence[ClassResult]) -> Table:
    """Format the results of each class; of more than `ROWS` classes, those with the lowest F1."""
    pairs = list(zip(classes, rows, strict=True))
    if len(pairs) > ROWS:
        pairs = sorted(pairs, key=lambda pair: (pair[1].f1 != pair[1].f1, pair[1].f1))[:ROWS]
    title = "class" if len(rows) <= ROWS else f"worst {ROWS} of {len(rows)} classes"
    table = _table(title, numbers=("images", "predicted", "precision", "recall", "F1", "mean p"), last="mostly taken for")
    for name, row in pairs:
        taken = f"{classes[row.confused_with[0]]} ({row.confused_with[1]})" if row.confused_with else ""
        shares = ("" if x != x else f"{x:.3f}" for x in (row.precision, row.recall, row.f1, row.average))
        table.add_row(name, f"{row.images:,}", f"{row.predicted:,}", *shares, taken)
    return table


def views_table(split: str, rows: Sequence[Mapping[str, float]]) -> Table:
    """Format the metrics of a split by the number of mixed test-time views.

    Args:
        split: name of the split.
        rows: metrics of the plain view, of two views mixed, and so on.
    """
    table = _table(f"views of {split}", numbers=[measure_title(name, rows[0]) for name in rows[0]])
    shown = [i for i in range(len(rows)) if i < 10 or i == len(rows) - 1 or (i + 1) & i == 0]  # powers of two if there are many views
    for i in shown:
        table.add_row(str(i + 1), *(f"{value:.4f}" for value in rows[i].values()))
    return table


def finder_table(curves: Mapping[str, Any], trained: Sequence[str]) -> Table:
    """Format the suggestions of the learning-rate finder's rules; the chosen rule is marked.

    Args:
        curves: curve by the group that was tried alone; "" for all groups together, whose rate is that of the last.
        trained: the groups, from the earliest to the last.
    """
    joint = curves[""]
    together = f"{trained[-1]}, others ÷ {joint.ratio:g}" if len(trained) > 1 else trained[-1]
    table = _table("rule", *(f"{group} alone" if group else together for group in curves), "")
    for rule in joint.suggestions:
        table.add_row(rule, *(f"{c.suggestions[rule]:.2e}" for c in curves.values()), "← chosen" if rule == joint.rule else "")
    table.add_row("lr", *(f"{c.chosen:.2e}" for c in curves.values()), "held within lowest…highest")
    for ratio, fall in joint.falls if len(joint.falls) > 1 else ():
        rest = [""] * (len(curves) - 1)
        table.add_row(f"ratio {ratio:g}", f"loss falls by {fall:.3g}", *rest, "← chosen" if ratio == joint.ratio else "")
    return table


def finder_verdict(group: str, curve: LrCurve) -> str:
    """Format what a curve says, of one layer group or ("") of all that train: the verdict, and how many orders of the images agree."""
    return f"{group or 'all trained layer groups'}: {curve.verdict}; {curve.agreement()}"


def plan_parts(experiment: Experiment, sizes: Mapping[str, int]) -> tuple[Plan, list[Table | str]]:
    """Plan an experiment for the sizes of its splits, and format the plan with an estimate of memory."""
    planned = plan(experiment, sizes["train"])
    batches = dict.fromkeys(str(stage.batch_size) for stage in planned.stages if not stage.stage.solve)
    text = f"{experiment.name} ({config_hash(experiment)}): {sizes['train']:,} training images"
    text += f", batches of {', '.join(batches)}" * bool(batches)
    parts: list[Table | str] = [text, plan_table([describe(stage) for stage in planned.stages])]
    if experiment.refit:
        longer = ", longer where an epoch has few updates" if experiment.least_epoch_steps < experiment.epoch_steps else ""
        parts.append(f"refit: the stages that are kept once more, on the training and the validation images together{longer}")
    return planned, [*parts, forecast(experiment.images, sum(sizes.values()), canvas_side(experiment.canvas, experiment.largest_size))]


def data_parts(experiment: Experiment, ui: NullConsole) -> tuple[DatasetSummary, list[Table | str]]:
    """Decode the images of an experiment, and describe them: counts, sizes, duplicates, unreadable files."""
    source = experiment.data.open()
    summary = summarize(source, load_for(experiment, source, ui, max_bad_share=1))
    return summary, dataset_tables(summary, source.classes)


def result_tables(summary: Mapping[str, Any]) -> list[Table | str]:
    """Format all results of a finished run: its stages, figures and costs, metrics by number of views, snapshots."""
    figures = figures_table(summary)
    parts = [stages_table(summary), *[figures] * bool(figures.row_count), *run_lines(summary)]
    parts += [views_table(split, rows) for split, rows in summary.get("tta", {}).items()]
    return [*parts, snapshots_table(summary["snapshots"])] if summary.get("snapshots") else parts


def evaluation_parts(split: str, evaluation: Evaluation, net: Predictor) -> list[Table | str]:
    """Format the evaluation of a split: metrics, by number of views, by class, at the threshold and temperatures that the run fitted.

    Args:
        split: name of the split.
        evaluation: its predictions and labels.
        net: the network of the run.
    """
    from ..evaluation.evaluate import calibration_results
    from ..evaluation.multi_label import mean_f_beta
    from ..runs.predictor import fitted_temperatures

    views, labels, temperatures = evaluation.views, evaluation.labels, fitted_temperatures(net, evaluation.views.views)
    threshold = net.threshold(views.views)
    fixed = FIXED_THRESHOLDS if net.multi_label else {}
    above = {name: f", classes predicted above {fixed[key]:g}" for name in views.measures if (key := name.removeprefix("tta_")) in fixed}
    parts: list[Table | str] = [f"{split} {name:<14} {value:.4f}{above.get(name, '')}" for name, value in views.measures.items()]
    if len(views.by_count) > 1:
        parts.append(views_table(split, views.by_count))
    if net.multi_label:
        beta = net.experiment.evaluate.beta
        score = mean_f_beta(views.probabilities, labels, beta, threshold)
        parts.append(f"{split} {f'F{beta:g}':<14} {score:.4f}, classes predicted above {threshold:.4f}")
    parts.append(classes_table(net.classes, class_results(views.probabilities, labels, threshold)))
    if all(kind in temperatures for kind in views.kinds):
        for kind, scaled in calibration_results(views, labels, temperatures).items():
            temperature, ece, loss = scaled["temperature"], scaled["ece"], scaled["loss"]
            parts.append(f"{split} {kind:<6} at the temperature {temperature:.3f}: ece {ece:.4f}, loss {loss:.4f}")
    else:
        parts.append(f"no temperature fitted for {views.views} view{'s' * (views.views > 1)}")
    return parts


def predictions_table(predictions: Predictions) -> Table:
    """Format the first predictions: image, label, its probability, and the disagreement of the views if there are several."""
    several = predictions.views > 1
    table = _table("image", "label", numbers=("probability", *["disagreement"] * several))
    rows = zip(predictions.paths, predictions.labels, predictions.probabilities, predictions.disagreement, strict=True)
    for path, label, probabilities, share in itertools.islice(rows, ROWS):
        table.add_row(str(path), label, f"{probabilities.max():.4f}", *[f"{share:.3f}"] * several)
    if len(predictions.paths) > ROWS:
        table.add_row(f"and {len(predictions.paths) - ROWS:,} more", *[""] * (2 + several))
    return table
