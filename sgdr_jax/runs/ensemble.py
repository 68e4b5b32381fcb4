"""Ensembles of a run's snapshots: means of their predictions, and averages of their weights.

Members are chosen on the validation images. The run's final network does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from ..core.console import NullConsole
from ..core.state import NetworkState, Tree
from ..distributed.hosts import is_leader, on_leader
from ..evaluation import metrics, predictions, tta
from ..evaluation.evaluate import EvalExamples, measures_of, predict_views
from ..evaluation.metrics import ThresholdRecord
from ..evaluation.multi_label import fit_thresholds, mean_f_beta, thresholds_of
from ..train import batch_norm
from ..train.context import RunContext
from ..train.stage import cached_logits
from . import checkpoint
from .records import SnapshotRow
from .resume import load, save
from .snapshots import EMA, read_cycle_ends, snapshot_folder


def forward_selection(loss: Callable[[tuple[int, ...]], float], count: int) -> tuple[int, ...]:
    """Choose members greedily: the best one, then whichever lowers the loss most, until none does. Source: Caruana et al. 2004.

    >>> forward_selection(lambda members: abs(sum((5, 3, 4)[i] for i in members) - 9), 3)
    (0, 2)
    """
    members: tuple[int, ...] = ()
    lowest = np.inf
    while len(members) < count:
        losses = {i: loss((*members, i)) for i in range(count) if i not in members}
        best = min(losses, key=lambda i: losses[i])
        if not losses[best] < lowest and members:
            break
        members, lowest = (*members, best), losses[best]
    return tuple(sorted(members))


def greedy_average(loss: Callable[[tuple[int, ...]], float], alone: Sequence[float]) -> tuple[int, ...]:
    """Choose the members of a weight average: from the best to the worst, each if it lowers the loss. Source: Wortsman et al. 2022.

    Args:
        loss: loss of the average of these members; called once for each member but the best.
        alone: loss of each member alone.

    >>> greedy_average(lambda members: 1.0 if 2 in members else 0.1, [0.3, 0.2, 0.4])
    (0, 1)
    """
    first, *rest = sorted(range(len(alone)), key=lambda i: alone[i])
    members, lowest = (first,), alone[first]
    for i in rest:
        tried = tuple(sorted((*members, i)))
        if (candidate_loss := loss(tried)) < lowest:
            members, lowest = tried, candidate_loss
    return members


def average(trees: Sequence[Tree]) -> Tree:
    """Return the mean of trees, computed in float64."""
    return jax.tree.map(lambda *leaves: np.mean([np.asarray(x, np.float64) for x in leaves], 0).astype(leaves[0].dtype), *trees)


type SplitLogits = Mapping[str, Mapping[str, np.ndarray]]
"""Logits [n, classes] of a network or an ensemble by split and kind, as of `ViewPredictions.kinds`."""


class Average(NamedTuple):
    """An average of weights, its logits, and the side in pixels that it sees."""

    logits: SplitLogits
    weights: Tree
    size: int


def mean_prediction(members: Sequence[SplitLogits], multi_label: bool) -> SplitLogits:
    """Return the logits of the mean of the members' probabilities."""

    def mean(each: Sequence[np.ndarray]) -> np.ndarray:
        return tta.mean_logits(each, multi_label).astype(each[0].dtype)

    return {split: {kind: mean([m[split][kind] for m in members]) for kind in kinds} for split, kinds in members[0].items()}


def _predict(context: RunContext, splits: Sequence[str], params: Tree, stats: Tree, size: int, name: str, ui: NullConsole) -> SplitLogits:
    """Predict the images of these splits with a network."""
    params, stats = context.programs.devices.replicate((params, stats))
    network, logits = NetworkState(params, stats, size), {}
    for split in splits:
        plain = cached_logits(context, network, split, ui)
        images, digests = context.images[split], context.data.digests[split]
        examples = EvalExamples(images, len(context.data.classes), digests, multi_label=context.data.multi_label)
        logits[split] = predict_views(context.programs, context.experiment, network, examples, ui, f"{name}: {split}", plain).kinds
    return logits


def _save_predictions(
    context: RunContext, folder: Path, name: str, logits: SplitLogits, labels: Mapping[str, np.ndarray], thresholds: Mapping[str, float]
) -> None:
    """Save the predictions for each held-out image, so that networks can be compared as runs are; `thresholds` are by kind, or {}."""
    for split, kinds in logits.items() if is_leader() else ():
        by_kind = {kind: metrics.example_predictions(z, labels[split]) for kind, z in kinds.items()}
        for kind, threshold in thresholds.items():
            if kind in by_kind:
                by_kind[kind] = by_kind[kind]._replace(predicted=metrics.squash(kinds[kind], True) > threshold)
        predictions.save(folder, split, context.data.names[split], labels[split], list(by_kind.values()), name)


def fitted(logits: SplitLogits, labels: Mapping[str, np.ndarray], beta: float) -> ThresholdRecord:
    """Fit the thresholds of multi-label data to the validation images, and return them with F-beta at them for each split."""
    p = {split: {kind: metrics.squash(z, True) for kind, z in kinds.items()} for split, kinds in logits.items()}
    record = fit_thresholds(p["valid"], labels["valid"], beta)
    for split, kinds in p.items():
        record["f_beta"][split] = mean_f_beta(list(kinds.values())[-1], labels[split], beta, record["value"])
    return record


def measures(logits: SplitLogits, labels: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the metrics of each split; those of all views mixed are named "tta_…"."""
    prefixes, out = {"plain": "", "tta": "tta_"}, {}
    for split, kinds in logits.items():
        each = ((prefixes[kind], measures_of(z, labels[split])) for kind, z in kinds.items())
        out[split] = {prefix + name: value for prefix, row in each for name, value in row.items()}
    return out


def compare(context: RunContext, folder: str | Path, final: Mapping[str, Any], ui: NullConsole) -> list[SnapshotRow]:
    """Compare a run's snapshots, their ensembles and averages of their weights on the validation and the test images.

    In order: the state after the last update, the run's final network, the other cycle ends, the moving average of the weights if there
    is one; the ensembles of the last 2, 4, 8, … cycle ends, of all, and of those chosen on validation; the average of all weights, and
    of those chosen on validation. The batch statistics of averaged weights are measured anew on the training images, where training
    collected them, at the size of the last member. Averages are saved beside the cycle ends, predictions beside the run's own.

    Args:
        final: measures of the run's final network for each split.

    Returns:
        one row for each; thresholds of multi-label data are fitted to the validation images as the run's own is.
    """
    place, like = snapshot_folder(folder), {"params": context.network.params, "stats": context.network.stats}
    facts = on_leader(lambda: read_cycle_ends(folder))  # the other hosts may not see the folder
    moving = on_leader((place / EMA).is_dir)
    there = tuple(facts)
    if not there and not moving:
        return []
    labels = {split: context.data.labels[split] for split in ("valid", "test") if split in context.images}
    rows = list[SnapshotRow]()

    def predict(params: Tree, stats: Tree, size: int, name: str) -> SplitLogits:
        return _predict(context, tuple(labels), params, stats, size, name, ui)

    def loss(logits: SplitLogits) -> float:
        *_, final = logits["valid"].values()
        return float(metrics.losses(final.astype(np.float64), labels["valid"]).mean())

    def add(name: str, logits: SplitLogits, members: Sequence[str] = (), network: str = "") -> None:
        row = {"name": name, "members": list(members)} | ({"network": network} if network else {}) | measures(logits, labels)
        record = fitted(logits, labels, context.experiment.evaluate.beta) if context.data.multi_label else None
        rows.append(cast(SnapshotRow, row | ({"threshold": record} if record else {})))
        _save_predictions(context, Path(folder), name, logits, labels, thresholds_of(record))

    weights = {name: load(context, place, name, like) for name in there}
    alone = {name: predict(**weights[name], size=facts[name]["size"], name=name) for name in there}
    for name in (*there[-1:], *there[:-1]):
        add(f"last ({name})" if name == there[-1] else name, alone[name], network=name)
    rows.insert(min(len(rows), 1), cast(SnapshotRow, {"name": "final network", "members": []} | {s: dict(final[s]) for s in labels}))

    # Groups trained on stored statistics keep them: only statistics that the members collected are measured anew.
    plans = [context.plan.stages[i] for i in {len(context.plan.stages) - 1, *(end["stage"] for end in facts.values())}]
    collected = tuple({g for p in plans for g in p.collects})

    def measured(members: Sequence[Tree], size: int, name: str) -> Average:
        mean = average(members)
        params, stats = context.programs.devices.replicate((mean["params"], mean["stats"]))
        mean["stats"] = batch_norm.recalibrate(context, NetworkState(params, stats, size), groups=collected, ui=ui)
        return Average(predict(mean["params"], mean["stats"], size, name), mean, size)

    def finish(name: str, title: str, averaged: Average, members: Sequence[str]) -> None:
        save(context, place, name, averaged.weights, {"size": averaged.size, "members": list(members)})
        add(title, averaged.logits, members, name)

    if moving:
        size = on_leader(lambda: checkpoint.verify(place, EMA)["size"])
        finish("average-ema", "moving average of weights", measured([load(context, place, EMA, like)], size, "moving average"), ())
    if len(there) > 1:
        member_logits, together = list(alone.values()), partial(mean_prediction, multi_label=context.data.multi_label)
        for k in (2**i for i in range(1, (len(there) - 1).bit_length())):
            add(f"ensemble of the last {k}", together(member_logits[-k:]), there[-k:])
        add("ensemble of all", together(member_logits), there)
        picked = forward_selection(lambda members: loss(together([member_logits[i] for i in members])), len(there))
        add("ensemble, chosen", together([member_logits[i] for i in picked]), [there[i] for i in picked])
        tried: dict[tuple[int, ...], Average] = {}

        def mean_of(members: tuple[int, ...]) -> Average:
            size = facts[there[members[-1]]]["size"]
            if len(members) == 1:
                return Average(member_logits[members[0]], weights[there[members[0]]], size)
            if members not in tried:
                tried[members] = measured([weights[there[i]] for i in members], size, f"average of {len(members)}")
            return tried[members]

        finish("average-uniform", "average of all weights", mean_of(tuple(range(len(there)))), there)
        picked = greedy_average(lambda members: loss(mean_of(members).logits), [loss(logits) for logits in member_logits])
        finish("average-greedy", "average of weights, chosen", mean_of(picked), [there[i] for i in picked])
    return rows
