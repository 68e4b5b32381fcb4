"""What runs a recipe of recipe_arms.py and returns its figures: the package, logistic regression, or fastai 2 in a process of its own."""

import json
import math
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import harness
import numpy as np

from sgdr_jax.core.experiment import Experiment
from sgdr_jax.evaluation import metrics, tta

CS = tuple(10.0**k for k in range(-5, 2))
"""Strengths of logistic regression's penalty, |W|² / (2 C n), strong to weak."""
Figures = dict[str, float | str]


# ---- the package ----

_programs: dict[Any, Any] = {}


def prepared(experiment: Experiment):
    """Prepare an experiment with the programs of an earlier one in this process that has the same network, whatever its data are."""
    from sgdr_jax.train.context import prepare

    context = prepare(experiment)
    sizes = (experiment.evaluate.batch_size, len(context.data.classes), context.data.channels)
    key = (experiment.model, experiment.parallel, experiment.compute, *sizes)
    return context._replace(programs=_programs.setdefault(key, context.programs))


def run(experiment: Experiment, folder: Path, *, soup: bool = False) -> Figures:
    """Run the package; the figures are those of the final network, or of the greedy average of its snapshots.

    That average is chosen by the loss. Where the best cycle end has the higher accuracy on the held-out images, by which AutoMM chooses,
    the figures are of that.
    """
    from sgdr_jax.runs.run import run as go

    summary = go(experiment, folder, compile_ahead=False, prepared=prepared, keep_network=False)
    stages, of, members = summary["stages"], summary, []
    if soup:
        rows = {row["name"]: row for row in summary.get("snapshots", ())}
        of = max((rows["average of weights, chosen"], rows["final network"]), key=lambda row: row["valid"]["accuracy"])
        members = of["members"]
    return {
        "versions": harness.versions("sgdr_jax", "jax"),
        "lr": " ".join(f"{rate:.3g}" for rate in stages[-1]["lr"]) if len(stages[-1]["lr"]) <= 3 else f"{stages[-1]['lr'][-1]:.3g}",
        "kept": ", ".join(members or [f"{s['name']} ({s['cycles']})" for s in stages if s["kept"]]),
        "stopped": "; ".join(s["stopped"] for s in stages if s["stopped"]),
        "seconds": summary.get("seconds", 0.0),
        "train_seconds": sum(s["seconds"] for s in stages),
        "compile_seconds": summary.get("compiled", {}).get("seconds", 0.0),
        **{f"valid_{name}": value for name, value in of["valid"].items()},
        **of["test"],
    }


# ---- logistic regression ----


def fit_logistic(x: np.ndarray, y: np.ndarray, c: float, start: np.ndarray | None = None) -> np.ndarray:
    """Solve logistic regression: minimise the mean loss + |W|² / (2 C n) over weights and free intercepts by L-BFGS, in float64.

    Args:
        x: features [n, d], standardised.
        y: labels: int [n] (softmax), or zeros and ones [n, classes] (one sigmoid per class).
        c: inverse strength of the penalty, as in scikit-learn.
        start: weights to start from.

    Returns:
        Weights [d + 1, classes], the intercepts last.
    """
    from scipy.optimize import minimize

    n, d = x.shape
    if n < d:  # the weights lie in the span of the images, where the problem is the same and smaller
        q, r = np.linalg.qr(x.T)
        small = None if start is None else np.concatenate([q.T @ start[:-1], start[-1:]])
        w = fit_logistic(r.T, y, c, small)
        return np.concatenate([q @ w[:-1], w[-1:]])
    several = y.ndim == 2
    target = np.asarray(y, np.float64) if several else np.eye(int(y.max()) + 1)[y]
    k = target.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(d + 1, k)
        z = x @ w[:-1] + w[-1]
        loss = (np.logaddexp(0, z) - target * z).sum() if several else (np.logaddexp.reduce(z, 1) - (target * z).sum(1)).sum()
        error = (metrics.squash(z, several) - target) / n
        penalty = w[:-1] / (c * n)
        return float(loss / n + (w[:-1] * penalty).sum() / 2), np.concatenate([x.T @ error + penalty, error.sum(0)[None]]).ravel()

    first = np.zeros((d + 1) * k) if start is None else start.ravel()
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-10, "gtol": 1e-6})
    return found.x.reshape(d + 1, k)


def logistic(experiment: Experiment, *, plain: bool = False) -> Figures:
    """Fit logistic regression to what the frozen network hands to the head.

    It trains on the cached copies of the experiment's first stage, or on plain images. C is the best of up to seven on the held-out images,
    by accuracy (by loss for several labels), then all training images are fitted. The test-time views are those of the experiment, mixed as
    it says.
    """
    import time

    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.core.rng import key_for
    from sgdr_jax.train.stage_inputs import activations

    began = time.perf_counter()
    context = prepared(experiment)
    stage, programs, options, data = context.plan.stages[0], context.programs, experiment.evaluate, context.data
    copies = 0 if plain else stage.copies

    def features(split: str, copies: int) -> np.ndarray:
        return np.asarray(activations(context, stage, context.network, split, copies, NullConsole()), np.float64)

    def viewed(v: int) -> np.ndarray:
        key = key_for(experiment.seed, "tta")

        def rows(batch: Any, images: Any) -> Any:
            ids = programs.devices.scatter(batch.index.astype(np.uint32))
            pixels = programs.view(images, ids, key, v, kind=options.tta_kind, augmentations=experiment.augment, size=stage.size)
            return programs.forward(context.network.params, context.network.stats, pixels, start=None, stop="head")

        return np.asarray(programs.map(rows, len(context.images["test"]), context.images["test"]), np.float64)

    train, valid, times = features("train", copies), features("valid", copies), max(copies, 1)
    labels = {split: data.labels[split] for split in ("train", "valid", "test")}
    several = data.multi_label
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    scaled: Callable[[np.ndarray], np.ndarray] = lambda x: (x - mean) / deviation  # noqa: E731

    def repeated(y: np.ndarray) -> np.ndarray:
        return np.concatenate([y] * times)

    held_out, w, scores = scaled(features("valid", 0)), None, []
    for c in CS:
        w = fit_logistic(scaled(train), repeated(labels["train"]), c, w)
        found = metrics.finish(metrics.sums(held_out @ w[:-1] + w[-1], labels["valid"], np.ones(len(held_out))))
        scores.append((-found["loss"], found) if several else (found["accuracy"], -found["loss"], found))
        if max(s[:-1] for s in scores) > max(s[:-1] for s in scores[-2:]):  # two in a row behind: weak penalties take longest
            break
    best = max(range(len(scores)), key=lambda i: scores[i][:-1])
    x, y = np.concatenate([train, valid]), np.concatenate([repeated(labels["train"]), repeated(labels["valid"])])
    w = fit_logistic(scaled(x), y, CS[best])
    fitted = time.perf_counter() - began
    views = range(tta.view_count(options, experiment.augment))
    logits = np.stack([(x := scaled(features("test", 0) if v == 0 else viewed(v))) @ w[:-1] + w[-1] for v in views])
    mixed = tta.mix_prefixes(logits, weight=options.tta_weight, mean=options.tta_mean, multi_label=several)
    plainly, together = (metrics.finish(metrics.sums(z, labels["test"], np.ones(len(z)))) for z in (mixed[0], mixed[-1]))
    return {
        "versions": harness.versions("sgdr_jax", "jax", "scipy"),
        "lr": f"C {CS[best]:g}",
        "seconds": time.perf_counter() - began,
        "train_seconds": fitted,
        **{f"valid_{name}": value for name, value in scores[best][-1].items()},
        **plainly,
        **{f"tta_{name}": value for name, value in together.items()},
    }


# ---- fastai ----


def passes(images: int) -> int:
    """Return the passes over all training images, rounded up, of the recipe's last stage: seven epochs of at least 20 updates of 32 images.

    >>> passes(100), passes(230), passes(5000)
    (47, 24, 7)
    """
    updates = math.ceil(0.8 * images / 32)  # of one pass; a fifth is held out
    return math.ceil(7 * max(20 / updates, 1))


def fastai(experiment: Experiment, python: str, *, frozen: bool = False) -> Figures:
    """Run recipe_fastai_job.py in fastai's own environment, for no fewer passes over the images than the recipe's final network takes."""
    folder = Path(experiment.data.root)  # pyright: ignore[reportAttributeAccessIssue]
    images = sum(1 for path in (folder / "train").rglob("*") if path.is_file())
    words = [python, str(Path(__file__).parent / "recipe_fastai_job.py"), str(folder), "--size", str(experiment.stages[0].size)]
    words += ["--seed", str(experiment.seed), "--epochs", str(passes(images)), "--tta", *(["--frozen"] if frozen else [])]
    with tempfile.TemporaryDirectory() as temporary:  # lr_find leaves a file where it runs
        done = subprocess.run(words, capture_output=True, text=True, cwd=temporary)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures | {"seconds": figures["train_seconds"] + figures["test_seconds"], "lr": f"{figures['lr']:.3g}"}


# ---- one job ----


@cache
def arms(file: str | None) -> dict[str, Any]:
    """Return all recipes, with those of a file."""
    import runpy

    import recipe_arms

    own = runpy.run_path(file)["RECIPES"] if file else {}
    return recipe_arms.RECIPES | recipe_arms.GRID | own


def figures(name: str, folder: Path, size: int, seed: int, *, file: str | None = None, python: str | None = None, runs: Path | None = None):
    """Run one recipe on one set with one seed; return its figures.

    Args:
        name: of the recipe.
        folder: of the set.
        size: in pixels.
        seed: of everything random.
        file: that adds recipes.
        python: fastai's interpreter.
        runs: where run folders are kept; None: they are deleted.
    """
    recipe = arms(file)[name]
    experiment = recipe.experiment(folder, size, seed)
    if recipe.system.startswith("fastai"):
        if not python:
            raise RuntimeError("name fastai's interpreter: --fastai PYTHON")
        return fastai(experiment, python, frozen="frozen" in recipe.system)
    if recipe.system.startswith("logistic"):
        return logistic(experiment, plain="plain" in recipe.system)
    with tempfile.TemporaryDirectory() as temporary:
        own = runs / f"{folder.name}-{size}" / name.replace(" ", "_") / str(seed) if runs else Path(temporary) / "run"
        return run(experiment, own, soup=recipe.system == "soup")
