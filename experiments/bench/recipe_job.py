"""One job of recipe_vs_fastai.py: a folder of images by experiments/folder.py as it is but for the size, or by logistic regression.

    python recipe_job.py {sgdr_jax,logistic} DIR --run RUN [--size 64] [--seed 0]

Logistic regression (scikit-learn) works on what the frozen network with its ImageNet weights hands to the head, each feature scaled to
mean 0 and deviation 1; C is the best of seven on a fifth of the training images, then all are fitted.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import harness

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core.experiment import Experiment

EXPERIMENT = Path(__file__).resolve().parent.parent / "folder.py"
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


def experiment(folder: Path, size: int, seed: int) -> Experiment:
    """experiments/folder.py on a folder, at a size; the seed decides everything random, the images held out too."""
    base = load_experiment(EXPERIMENT)
    stages = tuple(dataclasses.replace(stage, size=size) for stage in base.stages)
    data = dataclasses.replace(base.data, root=str(folder), seed=seed)  # pyright: ignore[reportCallIssue]
    return dataclasses.replace(base, data=data, stages=stages, seed=seed)


def recipe(chosen: Experiment, run: Path) -> dict[str, Any]:
    """The whole recipe; epochs are passes over the training images with everything unfrozen."""
    from sgdr_jax.runs.run import run as go

    summary = go(chosen, run)
    last = [stage for stage in summary["stages"] if stage["name"] == "all"]
    seen = sum(stage["steps"] for stage in last) * chosen.batch_size
    return {
        "system": harness.system("sgdr_jax", "jax"),
        "lr": summary["stages"][-1]["lr"][-1],
        "epochs": seen / _training_images(chosen),
        "kept": ", ".join(stage["name"] for stage in summary["stages"] if stage["kept"]),
        "train_seconds": sum(stage["seconds"] for stage in summary["stages"]),
        "test_seconds": summary["times"]["plain_test"],
        "accuracy": summary["test"]["accuracy"],
        "tta_accuracy": summary["test"]["tta_accuracy"],
        "valid_accuracy": summary["valid"]["accuracy"],
    }


def _training_images(chosen: Experiment) -> int:
    return chosen.data.open().sizes["train"]


def logistic(chosen: Experiment) -> dict[str, Any]:
    """Logistic regression on the frozen network's pooled features of plain images; the seed decides which fifth chooses C."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.train.context import prepare
    from sgdr_jax.train.stage_inputs import activations

    began = time.perf_counter()
    context = prepare(dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, seed=0)))  # pyright: ignore[reportCallIssue]
    p = context.plan.stages[0]

    def features(*splits: str) -> tuple[np.ndarray, np.ndarray]:
        x = [activations(context, p, context.network, split, 0, NullConsole()) for split in splits]
        return np.concatenate(x), np.concatenate([context.data.labels[split] for split in splits])

    def fitted(c: float, x: np.ndarray, y: np.ndarray):
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x, y)

    x, y = features("train", "valid")
    order = np.random.default_rng(chosen.seed).permutation(len(y))
    held_out = np.concatenate([of[: max(round(0.2 * len(of)), 1)] for of in (order[y[order] == label] for label in np.unique(y))])
    at = np.setdiff1d(order, held_out)
    scores = [fitted(c, x[at], y[at]).score(x[held_out], y[held_out]) for c in CS]
    best = CS[int(np.argmax(scores))]
    model = fitted(best, x, y)
    return {
        "system": harness.system("scikit-learn", "sgdr_jax", "jax"),
        "c": best,
        "train_seconds": time.perf_counter() - began,
        "accuracy": float(model.score(*features("test"))),
        "valid_accuracy": max(scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=("sgdr_jax", "logistic"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="the recipe's run folder, a new one")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = experiment(options.folder, options.size, options.seed)
    harness.emit(**(logistic(chosen) if options.system == "logistic" else recipe(chosen, options.run)))


if __name__ == "__main__":
    main()
