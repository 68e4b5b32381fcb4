"""Folders of sweeps that have run, made without training: what the tests of comparisons read."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgdr_jax.evaluation import metrics, predictions
from sgdr_jax.sweeps import Sweep
from sgdr_jax.sweeps.spec import SweepRun, expand
from sgdr_jax.sweeps.sweep_record import run_folder, save_sweep

PACKAGES = {"sgdr_jax": "0.1.0", "jax": "0.12.0.1", "flax": "0.12.12", "numpy": "2.5.5"}
START = {
    "started": "2026-11-25T06:00:00+00:00",
    "command": ["/somewhere/bin/sgdr-jax", "sweep", "file.py"],
    "python": "3.13.0",
    "cpu": "Some CPU",
    "cpus": 2,
    "devices": ["TFRT_CPU_0"],
    "packages": PACKAGES,
    "commit": "abc",
}


def answers(
    truth: np.ndarray, easy: np.ndarray, skill: float, rng: np.random.Generator
) -> tuple[predictions.ExamplePredictions, dict[str, float]]:
    """Answers of a network of this skill to examples of this difficulty (z scores), and their measures."""
    margin = skill + easy + 0.7 * rng.normal(size=len(truth))
    logits = np.zeros((len(truth), 3))
    logits[np.arange(len(truth)), truth] = margin
    found = metrics.example_predictions(logits, truth)
    return found, {"accuracy": float((found.predicted == truth).mean()), "loss": float(found.loss.mean())}


def fill(
    folder: Path,
    sweep: Sweep,
    skill: Callable[[Any, int], float],
    *,
    n: int = 200,
    skip: Sequence[int] = (),
    tta: bool = False,
    updates: int = 20,
) -> None:
    """Makes the folder of a sweep all of whose runs have finished, but for those with numbers in `skip`."""
    runs = expand(sweep)
    save_sweep(folder, sweep, runs)
    fill_runs(folder, [run for run in runs if run.number not in skip], skill, n=n, tta=tta, updates=updates)


def fill_runs(
    folder: Path, runs: Sequence[SweepRun], skill: Callable[[Any, int], float], *, n: int = 200, tta: bool = False, updates: int = 20
) -> None:
    """Makes the folders of finished runs of a sweep."""
    world = np.random.default_rng(0)
    truth, easy = world.integers(0, 3, n), world.normal(size=n)
    for run in runs:
        own, rng = run_folder(folder, run.hash), np.random.default_rng([run.seed, run.number])
        level = skill(run, run.seed) + 0.1 * np.random.default_rng(run.seed).normal() + 0.03 * rng.normal()
        summary: dict[str, Any] = {"valid": {}, "test": {}, "stages": []}
        own.mkdir(parents=True)
        for split in ("valid", "test"):
            plain, summary[split] = answers(truth, easy, level, rng)
            kept = [plain]
            if tta:
                mixed, more = answers(truth, easy, level + 0.1, rng)
                summary[split] |= {f"tta_{name}": value for name, value in more.items()}
                kept.append(mixed)
            predictions.save(own, split, [f"{split}/{i}" for i in range(n)], truth, kept)
        seconds = 30 + 5 * rng.random() + 10 * (run.number % 4)
        summary["stages"] = [
            {"name": name, "seconds": share * seconds, "epochs": epochs, "steps": 10 * epochs}
            for name, share, epochs in (("head", 0.2, 1), ("body", 0.8, 3))
        ]
        rows = [
            {"kind": "train", "stage": "head", "stage_index": 0, "step": i, "epoch": i / 10, "loss": 1.0, "lr": {"head": 0.1}}
            for i in range(updates)
        ]
        for stage, share, epochs in (("head", 0.2, 1), ("body", 0.8, 3)):
            for epoch in range(1, epochs + 1):
                reached = summary["valid"]["accuracy"] - 0.1 / (epoch + (stage == "body"))
                rows.append({"kind": "eval", "step": 10 * epoch, "cycle": epoch - 1, "split": "valid", "loss": 1.0, "accuracy": reached})
                rows[-1] |= {"stage": stage, "epoch": float(epoch), "seconds": share * seconds * epoch / epochs}
        config = {"batch_size": 64, "stages": [{"name": "head", "batch_size": None}, {"name": "body", "batch_size": 32}]}
        files = {"config.json": config, "environment.json": {"config_hash": run.hash, "starts": [START]}, "summary.json": summary}
        files["data.json"] = {"classes": ["ant", "bee", "cow"]}
        for name, content in files.items():
            (own / name).write_text(json.dumps(content))
        (own / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
