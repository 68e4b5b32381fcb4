"""Recipes that recipes.py compares: each a function (folder, size, seed) → Experiment, with a line that says what it is.

A file given with --arms adds its own: a dict RECIPES of the same kind, made with this module's `Recipe`, `dataset` and `two_stages`.
All anchors share batch size, length of an epoch, augmentation and test-time views, which are fixed here, so that they stay as they are
when the package's own choices change.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sgdr_jax import AdamW, Eval, Experiment, Sgdr, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.learning_rates import Decay
from sgdr_jax.core.snapshots import Snapshots
from sgdr_jax.core.types import Dataset, Schedule
from sgdr_jax.datasets import CsvLabels, ImageFolder
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.schedules import Cosine

CYCLES = Sgdr(3, 1, 2)


class Recipe(NamedTuple):
    """A recipe, and how its figures come about.

    Attributes:
        about: one line for people.
        experiment: (folder of a set, size in pixels, seed) → experiment.
        system: "run": the run's final network; "soup": its greedy average of weights, or a better cycle end; "logistic" and "logistic,
            plain": logistic regression on features of the experiment's frozen network; "fastai" and "fastai, frozen": fastai 2 at the
            experiment's size.
    """

    about: str
    experiment: Callable[[Path, int, int], Experiment]
    system: Literal["run", "soup", "logistic", "logistic, plain", "fastai", "fastai, frozen"] = "run"


def dataset(folder: Path, seed: int) -> Dataset:
    """Return a set made by sets.py, a fifth of its training images held out by the seed."""
    if (folder / "labels.csv").exists():
        return CsvLabels(str(folder), images="images", seed=seed)
    return ImageFolder(str(folder), seed=seed)


def two_stages(
    folder: Path,
    size: int,
    seed: int,
    *,
    rate: float = 3e-3,
    ratio: float = 1.0,
    bn: Literal["train", "frozen"] | tuple[str, ...] = "train",
    schedule: Schedule = CYCLES,
    **fields: Any,
) -> Experiment:
    """Return the plain recipe: the head on cached augmented copies, then everything at fixed rates; a worse body is undone.

    Args:
        folder: of the set.
        size: in pixels.
        seed: of everything random, the images held out too.
        rate: of the head, and of the last group of the body times `ratio`.
        ratio: from each layer group's rate to the one before it.
        bn: as in `Stage.bn`.
        schedule: of the body.
        fields: other fields of the experiment.
    """
    data, model = dataset(folder, seed), fields.pop("model", EfficientNetLite0())
    images = data.open().sizes["train"]
    rates = tuple(rate / ratio**i for i in reversed(range(len(model.groups))))
    head = Stage("cached head", size, "head", lr=3e-3, schedule=Sgdr(4, 2, 2), views=min(max(10_000 // images, 1), 4), precompute=True)
    body = Stage("all", size, lr=rates, schedule=schedule, bn=bn)
    common: dict[str, Any] = {
        "stages": (head, body),
        "augment": side_on(zoom=1.1),
        "optimizer": AdamW(clip=0.3),
        "batch_size": next((batch for batch in (64, 32) if images >= 60 * batch), 16),
        "epoch_steps": 20,
        "evaluate": Eval(batch_size=64, tta_views=4),
        "refit": images < 4_000,
        "seed": seed,
    }
    return Experiment(**{"name": folder.name, "data": data, "model": model} | common | fields)


def head(folder: Path, size: int, seed: int) -> Experiment:
    """Return the first stage of the plain recipe alone."""
    base = two_stages(folder, size, seed)
    return dataclasses.replace(base, stages=base.stages[:1])


def auto(folder: Path, size: int | None, seed: int) -> Experiment:
    """Return what the package chooses for the set, at its own size if none is given."""
    from sgdr_jax.recipes import measured
    from sgdr_jax.recipes.auto import build

    data, model = dataset(folder, seed), EfficientNetLite0()
    chosen = measured.measure(data.open(), model).choices()
    chosen = [c._replace(value=size) if size and c.name == "size" else c for c in chosen]
    return dataclasses.replace(build(folder.name, data, model, chosen), seed=seed)


def as_written(folder: Path, size: int, seed: int) -> Experiment:
    """Return experiments/folder.py, at a size."""
    from sgdr_jax.cli.experiment_file import load_experiment

    base = load_experiment(Path(__file__).resolve().parent.parent / "folder.py")
    stages = tuple(dataclasses.replace(stage, size=size) for stage in base.stages)
    return dataclasses.replace(base, data=dataset(folder, seed), stages=stages, seed=seed)


def automm(folder: Path, size: int, seed: int) -> Experiment:
    """Return AutoGluon AutoMM's recipe, after the cached head: each of the nineteen blocks has 0.9 times the rate of the next.

    Source: its configs/optim/default.yaml: AdamW, rate 1e-4, weight decay 1e-3, layer-wise decay 0.9, 20 epochs, warm-up 10 %, cosine,
    clipping at 1, greedy soup of the three best.
    """
    model = EfficientNetLite0()
    model = dataclasses.replace(model, cuts=model.blocks[1:])
    base = two_stages(folder, size, seed, model=model, refit=False, snapshots=Snapshots(best=3))
    head, body = base.stages
    rule = AdamW(weight_decay=1e-3, clip=1.0)
    body = dataclasses.replace(body, lr=Decay(1e-4, 0.9), schedule=Cosine(20, warmup=0.1), optimizer=rule)
    return dataclasses.replace(base, stages=(head, body))


RECIPES: dict[str, Recipe] = {
    "auto": Recipe("what the package chooses by looking at the images, at the given size", auto),
    "auto-norefit": Recipe(
        "the same without the last training on all images, as the grid", lambda *of: dataclasses.replace(auto(*of), refit=False)
    ),
    "auto-size": Recipe("the same at the size that it chooses", lambda folder, _, seed: auto(folder, None, seed)),
    "folder": Recipe("experiments/folder.py as written", as_written),
    "plain": Recipe("cached head, then everything at one fixed rate, 3e-3, batch statistics trained, 1 + 2 + 4 epochs", two_stages),
    "head": Recipe("the cached head of the plain recipe alone", head),
    "automm": Recipe("AutoMM's: AdamW 1e-4 x 0.9 per block, 20 epochs, warm-up, cosine, clip 1, greedy soup of three", automm, "soup"),
    "logistic": Recipe(
        "logistic regression on features of the recipe's augmented copies, its test-time views averaged", two_stages, "logistic"
    ),
    "logistic-plain": Recipe("logistic regression on features of plain images", two_stages, "logistic, plain"),
    "fastai": Recipe("fastai 2: lr_find, fine_tune, its TTA", two_stages, "fastai"),
    "fastai-frozen": Recipe("the same with frozen batch statistics, as a careful user would", two_stages, "fastai, frozen"),
}

RATES = (1e-4, 3e-4, 5e-4, 1e-3, 3e-3)
RATIOS = (1, 3)
STATISTICS: dict[str, Literal["train", "frozen"]] = {"frozen": "frozen", "trained": "train"}


def cell(rate: float, ratio: int, statistics: str) -> Recipe:
    """Return a cell of the grid: what the package chooses, with another body and without the last training on all images."""

    def experiment(folder: Path, size: int, seed: int) -> Experiment:
        chosen = auto(folder, size, seed)
        *before, body = chosen.stages
        body = dataclasses.replace(body, lr=Decay(rate, 1 / ratio), bn=STATISTICS[statistics])
        return dataclasses.replace(chosen, stages=(*before, body), refit=False)

    return Recipe(f"what the package chooses, but the body at {rate:g}, ratio {ratio}, statistics {statistics}; no refit", experiment)


GRID = {f"grid {rate:g} r{ratio} {bn}": cell(rate, ratio, bn) for rate, ratio, bn in itertools.product(RATES, RATIOS, STATISTICS)}
