"""The end of a run: the final network kept, and what it says of all held-out examples."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..core.console import NullConsole
from ..core.state import NetworkState
from ..distributed.hosts import is_leader
from ..evaluation import predictions
from ..evaluation.evaluate import EvalExamples, calibration_results, predict_views, view_predictions
from ..train.context import RunContext
from ..train.stage import cached_logits
from . import ensemble
from .folder import RunFolder
from .resume import save


def keep(context: RunContext, now: NetworkState, book: RunFolder) -> None:
    """Keeps the final network, with what is needed to use it."""
    facts = {
        "size": now.size,
        "classes": list(context.data.classes),
        "channels": context.data.channels,
        "data": context.data.source,
        "canvas": context.data.images["train"].shape[1],
        "multi_label": context.data.multi_label,
        **{name: getattr(context.programs.network, name).tolist() for name in ("mean", "std")},
    }
    save(book.path, "final", {"params": now.params, "stats": now.stats}, facts)


def conclude(
    context: RunContext, networks: Mapping[str, NetworkState], done: list[dict[str, Any]], book: RunFolder, ui: NullConsole, loaded: float
) -> dict[str, Any]:
    """What is to be said of all held-out examples, plain and with test-time augmentation.

    Args:
        networks: for each held-out split the one that answers. After a refit the validation images are the first training's to answer:
            the final network has trained on them. Temperatures are fitted to them, and to nothing where there are none.
    """
    experiment = context.experiment
    results: dict[str, Any] = {
        "stages": done,
        "size": networks["test"].size,
        "refit": experiment.refit,
        "valid": {},
        "test": {},
        "tta": {},
        "calibration": {},
        "times": {"load": loaded},
    }
    fitted = None
    for split, network in networks.items():
        if split not in context.images:
            continue
        labels = context.data.labels[split]
        examples = EvalExamples(context.images[split], len(context.data.classes), labels, context.data.multi_label)
        began, plain = time.perf_counter(), cached_logits(context, *network, split, ui)
        from_cache = time.perf_counter() - began
        seen = predict_views(context.programs, experiment, network, examples, ui, f"evaluating {split}", plain)
        results[split] = seen.measures
        if is_leader():
            predictions.save(book.path, split, context.data.names[split], labels, view_predictions(seen, labels))
        if fitted or split == "valid":
            results["calibration"][split] = calibration_results(seen, labels, fitted)
            fitted = fitted or {kind: found["temperature"] for kind, found in results["calibration"][split].items()}
        results["times"][f"plain_{split}"] = seen.seconds[0] + from_cache
        if len(seen.by_count) > 1:
            results["times"][f"tta_{split}"] = seen.seconds[1]
            results["tta"][split] = seen.by_count
    if rows := ensemble.compare(context, book.path, results, ui):
        results["snapshots"] = rows
    return results
