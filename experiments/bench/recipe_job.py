"""A folder of images by experiments/folder.py as it is but for the size: one job of gpu.py.

    python recipe_job.py DIR --run RUN [--size 64] [--seed 0]

Prints the figures of the run as one line of JSON.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import harness

from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core.experiment import Experiment

EXPERIMENT = Path(__file__).resolve().parent.parent / "folder.py"


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
        "versions": harness.versions("sgdr_jax", "jax"),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="the recipe's run folder, a new one")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    harness.emit(**recipe(experiment(options.folder, options.size, options.seed), options.run))


if __name__ == "__main__":
    main()
