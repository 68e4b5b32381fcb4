"""HTML page of a run: one self-contained file made from its run folder, with thumbnails and maps where they are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.validation import finite, require
from ..evaluation import predictions
from ..evaluation.calibration import Reliability
from ..evaluation.intervals import UNKNOWN, Interval, loss_interval, right_interval, share_interval
from ..evaluation.metrics import F2_THRESHOLD, FIXED_THRESHOLDS, SCORE_NAMES, EvalMetrics, judged_by, measure_title
from ..evaluation.multi_label import DEFAULT_THRESHOLD
from ..evaluation.predictions import ExamplePredictions, SplitPredictions
from ..runs.folder import Run, read
from ..runs.records import undone_verdict
from ..train.model_selection import Score, best_score
from . import mistakes
from .html import data_uri, page
from .run_charts import finder_chart, progress_charts, reliability_chart, views_chart
from .run_curves import StageRows, by_stage, number, score_of, split_rows

MOST_CLASS_LINES = 1000
"""Most lines of the table of classes; of more those with the lowest F1 are shown."""
_MOST_BARS = 40
_SPLITS = {"test": "test", "valid": "validation", "train": "training"}


class KeyFigure(NamedTuple):
    """Figure at the head of the page, with its 95 % interval and a note."""

    label: str
    value: float
    interval: Interval
    form: str
    note: str
    unit: str = ""


class ResultRow(NamedTuple):
    """Row of the table of results: a stage, or an evaluation of a final network, without `updates`. Unknown numbers are NaN."""

    name: str
    size: int | None
    epochs: float
    updates: int | None
    seconds: float
    loss: float
    accuracy: float
    interval: Interval
    note: str


class Map(NamedTuple):
    """Maps of where a network looks, for an image.

    Attributes:
        index: position of the image in the split.
        jpegs: (caption, JPEG image) of the maps.
    """

    index: int
    jpegs: tuple[tuple[str, bytes], ...]


class RunPage(NamedTuple):
    """What the page of a run shows.

    Attributes:
        run: the run folder.
        split: the split whose predictions are shown; "" where the run has kept none.
        predictions: of that split.
        shown: of all views mixed if there are several, else of the plain view.
        names: of the classes.
    """

    run: Run
    split: str
    predictions: SplitPredictions | None
    shown: ExamplePredictions | None
    names: tuple[str, ...]

    @property
    def multi_label(self) -> bool:
        """Whether an image can have several classes."""
        return self.predictions is not None and self.predictions.labels.ndim == 2

    @property
    def before_refit(self) -> bool:
        """Whether the predictions are those of the first training, since the refitted network has trained on their images too."""
        return self.split == "valid" and _refitted(self.run)

    def top_losses(self) -> list[mistakes.ShownImage]:
        """Return the images with the highest losses."""
        return mistakes.top_losses(self.predictions.labels, self.shown, self.names) if self.predictions and self.shown else []

    def least_confident(self) -> list[mistakes.ShownImage]:
        """Return the images that the network is least sure of."""
        return mistakes.least_confident(self.predictions.labels, self.shown, self.names) if self.predictions and self.shown else []


def read_run_page(folder: str | Path, split: str | None = None) -> RunPage:
    """Read what the page of a run shows.

    Args:
        folder: the run folder, of a run that has finished or not.
        split: whose predictions to show; None for test where the run has it.

    Raises:
        InputError: for a folder that holds no run, or a split without predictions.
    """
    run = read(folder)
    kept = {name: path for name in _SPLITS if (path := predictions.path_of(run.path, name)).exists()}
    require(split is None or split in kept, "split", split, f"the run has kept predictions of {', '.join(kept) or 'no split yet'}")
    chosen = split or next(iter(kept), "")
    examples = predictions.load(run.path, chosen) if chosen else None
    return RunPage(run, chosen, examples, examples and (examples.tta or examples.plain), _class_names(run, examples))


def _class_names(run: Run, examples: SplitPredictions | None) -> tuple[str, ...]:
    """Return the names of the classes; numbers for runs of versions that did not keep them beside the network."""
    if run.data:
        return tuple(run.data["classes"])
    kinds = () if examples is None else (examples.labels, examples.plain.predicted)
    count = max((x.shape[1] if x.ndim == 2 else int(x.max(initial=0)) + 1 for x in kinds), default=0)
    return tuple(f"class {i}" for i in range(count))


def run_html(view: RunPage, thumbnails: Mapping[int, bytes] | None = None, maps: Sequence[Map] = (), note: str = "") -> str:
    """Format the page.

    Args:
        view: as read by `read_run_page`.
        thumbnails: JPEG images by position in the split; without one an image is shown by its number.
        maps: where the network looks in some images.
        note: why there are no thumbnails.
    """
    uris = {index: data_uri(jpeg) for index, jpeg in (thumbnails or {}).items()}
    run, results = view.run, _result_rows(view)
    return page(
        "run.html",
        title=str(run.config.get("name", run.path.name)),
        folder=str(run.path),
        started=run.start.get("started", ""),
        finished=bool(run.summary),
        headline=_headline(view),
        results=results,
        refit=_refitted(run) and predictions.path_of(run.path, "valid").exists(),
        before_refit=view.before_refit,
        accuracies=_accuracy_range(results),
        score=_score_name(run),
        charts=progress_charts(run.rows),
        finders=[finder_chart(run.finders[name]) for name in _stage_names(run) if name in run.finders],
        split=_SPLITS.get(view.split, ""),
        images=0 if view.predictions is None else len(view.predictions.labels),
        views=view.predictions is not None and view.predictions.tta is not None,
        multi_label=view.multi_label,
        names=view.names,
        thumbnails=uris,
        top=view.top_losses(),
        unsure=view.least_confident(),
        maps=[(index, [(caption, data_uri(jpeg)) for caption, jpeg in jpegs]) for index, jpegs in maps],
        picture_note=note,
        **_mistakes(view),
        **_calibration(view),
        snapshots=_snapshots(run),
        data=_data_card(run, view.names),
        config=run.config,
        environment=run.start,
    )


# ---- figures ----


def _refitted(run: Run) -> bool:
    """Return whether the final network is that of a second training, on the validation images too, whose figures are the first one's."""
    return bool(run.summary.get("refit"))


def _score_name(run: Run) -> str:
    """Return what the scores of validation are called, which an unfinished run has in its rows alone."""
    known = run.summary.get("valid") or run.summary.get("test")
    return SCORE_NAMES[judged_by(known) if known else score_of(run.rows)]


def _accuracy(labels: np.ndarray, examples: ExamplePredictions) -> tuple[float, Interval]:
    """Return the accuracy and its interval; for multi-label data of the share of an image's classes that are right."""
    right = (examples.predicted == labels).reshape(len(labels), -1).mean(axis=1)
    return float(right.mean()), right_interval(right)


def _headline(view: RunPage) -> list[KeyFigure]:
    run, figures = view.run, list[KeyFigure]()
    for split in ("test", "valid"):
        examples = predictions.load(run.path, split)
        if examples is None:
            continue
        kind, plain = examples.tta or examples.plain, examples.plain
        name = _SPLITS[split].capitalize() + (" before refit" if split == "valid" and _refitted(run) else "")
        value, interval = _accuracy(examples.labels, kind)
        alone = f"one view {100 * _accuracy(examples.labels, plain)[0]:.1f} %, " if examples.tta else ""
        measure, at = ("labels right", f", threshold {_threshold(run):.3f}") if examples.labels.ndim == 2 else ("accuracy", "")
        figures.append(KeyFigure(f"{name} {measure}", value, interval, ".1f", f"{alone}{len(examples.labels):,} images{at}", "%"))
        if split == view.split:
            figures.append(KeyFigure(f"{name} log-loss", float(kind.loss.mean()), loss_interval(kind.loss), ".3f", "lower is better"))
            figures += _multi_label(run, split, bool(examples.tta)) + _ece(run, split, bool(examples.tta), kind)
    if not figures:
        best = max((row for row in _result_rows(view) if not math.isnan(row.accuracy)), key=lambda row: row.accuracy, default=None)
        if best:
            name = f"Best validation {_score_name(run)}"
            figures.append(KeyFigure(name, best.accuracy, best.interval, ".1f", f"in {best.name}, so far", "%"))
    if (seconds := run.summary.get("seconds")) is not None:
        compiled = run.summary.get("compiled", {}).get("seconds", 0.0)
        since = "since it was resumed, " * bool(run.summary.get("resumed"))
        figures.append(KeyFigure("Minutes", seconds / 60, UNKNOWN, ".1f", f"{since}{compiled / 60:.1f} of them compiling"))
    return figures


def _threshold(run: Run) -> float:
    """Return the probability above which the run predicts a class of multi-label data."""
    return (run.summary.get("threshold") or {"value": DEFAULT_THRESHOLD})["value"]


def _multi_label(run: Run, split: str, tta: bool) -> list[KeyFigure]:
    """Return mean average precision and F-beta, which multi-label runs have; runs of earlier versions have F2 at a fixed threshold."""
    known, threshold, figures = run.summary.get(split) or {}, run.summary.get("threshold"), list[KeyFigure]()
    if (value := known.get("tta_map" if tta else "map")) is not None:
        figures.append(KeyFigure("Mean average precision", value, UNKNOWN, ".3f", "mean over classes"))
    if threshold and split in threshold["f_beta"]:
        note = f"mean over images, threshold {threshold['value']:.3f}" + (", fitted to them" if split == "valid" else "")
        figures.append(KeyFigure(f"F{threshold['beta']:g}", threshold["f_beta"][split], UNKNOWN, ".3f", note))
    elif (value := known.get("tta_f2" if tta else "f2")) is not None:
        figures.append(KeyFigure("F2", value, UNKNOWN, ".3f", f"mean over images, threshold {F2_THRESHOLD:g}"))
    return figures


def _ece(run: Run, split: str, tta: bool, predicted: ExamplePredictions) -> list[KeyFigure]:
    before = (run.summary.get(split) or {}).get("tta_ece" if tta else "ece")
    after = (run.summary.get("calibration") or {}).get(split, {}).get("tta" if tta else "plain")
    if before is None:
        return []
    fitted = after if after and finite(after["temperature"]) else None
    note = f"{fitted['ece']:.3f} at temperature {fitted['temperature']:.2f}" if fitted else "no temperature fitted"
    if predicted.reliability is not None:
        note += f"; {Reliability(*predicted.reliability[0]).by_chance:.3f} by chance alone"
    return [KeyFigure("Calibration error", before, UNKNOWN, ".3f", note)]


def _result_rows(view: RunPage) -> list[ResultRow]:
    """Return what each stage brought, finished or not, and then the final networks."""
    run = view.run
    valid = run.data["images"].get("valid") if run.data else None
    if valid is None and (kept := predictions.load(run.path, "valid")):
        valid = len(kept.labels)
    n = 0 if view.multi_label or (run.data and run.data["multi_label"]) else valid or 0
    results = []
    summaries = {stage["name"]: stage for stage in run.summary.get("stages", ())}
    sizes = {stage["name"]: stage.get("size") for stage in run.config.get("stages", ())}
    parts = by_stage(run.rows, "epoch")
    parts += [StageRows(name, [], 0.0, 0.0) for name in summaries if name not in {part.stage for part in parts}]
    for part in parts:
        train, valid_rows = split_rows(part)
        if stage := summaries.get(part.stage):
            loss, accuracy, seconds = number(stage["valid_loss"]), number(stage["valid_accuracy"]), number(stage["seconds"])
            undone = "" if stage["kept"] else f"undone: {undone_verdict(run.config.get('leeway', 0))} than before"
            lost = "rows of metrics.jsonl are lost" if len(train) < stage["steps"] else ""
            epochs, steps, note = stage["epochs"], stage["steps"], " ".join(filter(None, (undone, stage["stopped"], lost)))
        else:
            accuracy, loss = best_score(valid_rows) or Score(math.nan, math.nan)
            epochs, steps, note = part.end - part.start, len(train), ""
            seconds = max((number(row.get("seconds")) for row in part.rows), default=math.nan)
        size = sizes.get(part.stage)
        size = (size[-1] if isinstance(size, list) else size) or None
        results.append(ResultRow(part.stage, size, epochs, steps, seconds, loss, accuracy, share_interval(accuracy, n), note))
    return [*results, *_final_rows(run)]


def _final_rows(run: Run) -> list[ResultRow]:
    results, times = [], run.summary.get("times", {})
    for split in ("valid", "test"):
        if (examples := predictions.load(run.path, split)) is None:
            continue
        for kind, each in (("plain", examples.plain), ("tta", examples.tta)):
            if each is not None:
                value, interval = _accuracy(examples.labels, each)
                if (score := (run.summary.get(split) or {}).get("map" if kind == "plain" else "tta_map")) is not None:
                    value, interval = score, UNKNOWN
                seconds = number(times.get(f"{kind}_{split}"))
                name = f"{_SPLITS[split]}, {'all views' if kind == 'tta' else 'one view'}"
                size = run.summary.get("size")
                note = "before the refit" if split == "valid" and _refitted(run) else "final network"
                results.append(ResultRow(name, size, math.nan, None, seconds, float(each.loss.mean()), value, interval, note))
    return results


def _accuracy_range(results: Sequence[ResultRow]) -> tuple[float, float]:
    """Return the range of accuracies with their intervals, for the dots in the table."""
    ends = [end for row in results for end in (row.accuracy, *row.interval) if not math.isnan(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


# ---- sections ----


def _mistakes(view: RunPage) -> dict[str, Any]:
    examples, shown, k = view.predictions, view.shown, len(view.names)
    if examples is None or shown is None:
        return {"confusion": None, "pairs": [], "classes": [], "left_classes": 0}
    lines = list(enumerate(mistakes.class_lines(examples.labels, shown, k)))
    if k > MOST_CLASS_LINES:
        lines = sorted(lines, key=lambda line: (math.isnan(line[1].f1), line[1].f1))[:MOST_CLASS_LINES]
    single = not view.multi_label
    return {
        "confusion": mistakes.confused_part(examples.labels, shown.predicted, k) if single else None,
        "pairs": mistakes.confused_pairs(examples.labels, shown.predicted, k) if single else [],
        "classes": lines,
        "left_classes": k - len(lines),
    }


def _calibration(view: RunPage) -> dict[str, Any]:
    run, shown = view.run, view.shown
    fitted = (run.summary.get("calibration") or {}).get(view.split, {})
    by_count = (run.summary.get("tta") or {}).get(view.split) or []
    return {
        "reliability": None if shown is None or shown.reliability is None else reliability_chart(shown.reliability),
        "temperatures": [
            (
                "all views" if kind == "tta" else "one view",
                (run.summary.get(view.split) or {}).get("tta_ece" if kind == "tta" else "ece"),
                each,
            )
            for kind, each in fitted.items()
            if finite(each["temperature"])
        ],
        "views_chart": views_chart(by_count, _view_intervals(view, by_count)) if len(by_count) > 1 else None,
        "view_titles": [measure_title(name, by_count[0]) for name in by_count[0]] if by_count else [],
        "by_count": [(i + 1, row) for i, row in enumerate(by_count) if i < 10 or i == len(by_count) - 1],
    }


def _view_intervals(view: RunPage, by_count: Sequence[EvalMetrics]) -> list[Interval]:
    """Return the interval of the accuracy of one view, two, …; of multi-label data as far from it as one view's, if at its threshold."""
    values = [row.get("accuracy", math.nan) for row in by_count]
    if view.predictions is None or (view.multi_label and _threshold(view.run) != FIXED_THRESHOLDS["accuracy"]):
        return [UNKNOWN] * len(values)
    if not view.multi_label:
        return [share_interval(value, len(view.predictions.labels)) for value in values]
    mean, (low, high) = _accuracy(view.predictions.labels, view.predictions.plain)
    return [Interval(value + low - mean, value + high - mean) for value in values]


def _stage_names(run: Run) -> list[str]:
    return [stage["name"] for stage in run.config.get("stages", ())]


def _snapshots(run: Run) -> dict[str, Any] | None:
    """Return titles and rows of the comparison of kept networks."""
    rows = run.summary.get("snapshots") or []
    if not rows:
        return None
    splits = {s: judged_by(rows[0].get(s, {})) for s in ("valid", "test") if s in rows[0]}
    columns = [(s, prefix + m) for s, score in splits.items() for prefix in ("", "tta_") for m in (score, "loss")]
    columns = [(s, name) for s, name in columns if name in rows[0][s]]
    titles = [f"{_SPLITS[s]} {name.replace('tta_', 'TTA ')}" for s, name in columns]
    return {"titles": titles, "rows": [(row["name"], [row[s][name] for s, name in columns]) for row in rows]}


def _data_card(run: Run, names: Sequence[str]) -> dict[str, Any] | None:
    """Return counts of the classes by split, the most frequent and the rarest ones where there are many, and what is odd."""
    data = run.data
    if not data:
        return None
    first = np.array(next(iter(data["counts"].values())))
    order = np.argsort(-first, kind="stable").tolist()
    shown = order if len(order) <= _MOST_BARS else [*order[: _MOST_BARS // 2], *order[-_MOST_BARS // 2 :]]
    return {
        "record": data,
        "splits": [_SPLITS.get(split, split) for split in data["counts"]],
        "rows": [(names[c], [counts[c] for counts in data["counts"].values()]) for c in shown],
        "largest": int(first.max(initial=1)) or 1,
        "left": len(order) - len(shown),
        "rejected": run.rejected[:200],
        "rejected_left": max(len(run.rejected) - 200, 0),
    }
