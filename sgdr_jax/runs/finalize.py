"""The end of a run: saves the final network and evaluates it on all held-out images."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..core.console import NullConsole
from ..core.state import NetworkState
from ..distributed.hosts import is_leader
from ..evaluation import predictions
from ..evaluation.evaluate import EvalExamples, calibration_results, predict_views, view_predictions
from ..evaluation.metrics import EvalMetrics, ThresholdRecord, squash
from ..evaluation.multi_label import fit_thresholds, mean_f_beta, thresholds_of
from ..train.context import RunContext
from ..train.stage import cached_logits
from . import ensemble
from .folder import RunFolder
from .records import RunSummary, StageSummary
from .resume import save


def keep(context: RunContext, network: NetworkState, folder: RunFolder) -> None:
    """Save the final network, with what is needed to use it."""
    facts = {
        "size": network.size,
        "classes": list(context.data.classes),
        "channels": context.data.channels,
        "data": context.data.source,
        "canvas": context.data.images["train"].shape[1],
        "multi_label": context.data.multi_label,
        **{name: getattr(context.programs.network, name).tolist() for name in ("mean", "std")},
        **context.programs.network.plain._asdict(),
    }
    save(context, folder.path, "final", {"params": network.params, "stats": network.stats}, facts)


def evaluate(
    context: RunContext, networks: Mapping[str, NetworkState], stages: list[StageSummary], folder: RunFolder, ui: NullConsole
) -> RunSummary:
    """Evaluate all held-out images, plain and with test-time augmentation, and save what is predicted for each.

    Args:
        context: the run.
        networks: held-out split to the network that is evaluated on it. After a refit the validation images belong to the first
            training, since the final network has trained on them. Temperatures, and the thresholds of multi-label data, are fitted to
            the validation images.
        stages: summaries of the stages.
        folder: where predictions are saved.
        ui: progress bars.

    Returns:
        The summary, without loading time, total seconds and compilations, which `run` adds.
    """
    experiment = context.experiment
    measures: dict[str, EvalMetrics] = {"valid": {}, "test": {}}
    tta, calibrations, times, temperatures = {}, {}, dict[str, float](), None
    threshold: ThresholdRecord | None = None
    for split, network in networks.items():
        if split not in context.images:
            continue
        labels, digests = context.data.labels[split], context.data.digests[split]
        examples = EvalExamples(context.images[split], len(context.data.classes), digests, labels, context.data.multi_label)
        began, plain = time.perf_counter(), cached_logits(context, network, split, ui)
        from_cache = time.perf_counter() - began
        views = predict_views(context.programs, experiment, network, examples, ui, f"evaluating {split}", plain)
        measures[split] = views.measures
        if temperatures or split == "valid":
            calibrations[split] = calibration_results(views, labels, temperatures)
            temperatures = temperatures or {kind: fitted["temperature"] for kind, fitted in calibrations[split].items()}
        if context.data.multi_label and (threshold or split == "valid"):
            kinds = {kind: squash(z, multi_label=True) for kind, z in views.kinds.items()}
            threshold = threshold or fit_thresholds(kinds, labels, experiment.evaluate.beta)
            threshold["f_beta"][split] = mean_f_beta(views.probabilities, labels, threshold["beta"], threshold["value"])
        if is_leader():
            by_kind = view_predictions(views, labels, temperatures, thresholds_of(threshold) or None)
            predictions.save(folder.path, split, context.data.names[split], labels, by_kind)
        times[f"plain_{split}"] = views.seconds[0] + from_cache
        if len(views.by_count) > 1:
            times[f"tta_{split}"] = views.seconds[1]
            tta[split] = views.by_count
    summary: RunSummary = {
        "stages": stages,
        "size": networks["test"].size,
        "refit": experiment.refit,
        "images": {split: len(context.images[split]) for split in networks if split in context.images},
        "valid": measures["valid"],
        "test": measures["test"],
        "tta": tta,
        "calibration": calibrations,
        "times": times,
    }
    if threshold:
        summary["threshold"] = threshold
    if compared := ensemble.compare(context, folder.path, measures, ui):
        summary["snapshots"] = compared
    return summary
