"""What every procedure starts from: the data loaded, the network built with its weights, the plan made, the programs ready."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from . import precompute, pretrained
from .config import Experiment
from .engine import Engine, engine
from .models.base import ChainModel
from .pipeline import Data
from .pipeline import load as load_data
from .plan import Plan, StagePlan, plan
from .progress import Quiet
from .rng import key_for
from .state import Tree
from .types import Augmentation


class Setting(NamedTuple):
    """An experiment made ready to run.

    Attributes:
        experiment: what was asked for.
        data: decoded images and labels of all splits, on the host.
        plan: the experiment in whole steps.
        engine: compiled programs.
        images: split name to the resident images, uint8 [n, s, s, c] on every device.
        params, stats: the network before the first stage: pretrained body, fresh head.
    """

    experiment: Experiment
    data: Data
    plan: Plan
    engine: Engine
    images: Mapping[str, jax.Array]
    params: Tree
    stats: Tree


def prepare(experiment: Experiment, ui: Quiet | None = None) -> Setting:
    """Opens the data, refuses what the plan refuses, decodes, builds and loads. Raises InputError for anything that does not fit."""
    ui = ui or Quiet()
    source = experiment.data.open()
    schedule = plan(experiment, source.sizes["train"])
    with ui.bar("decoding images", sum(source.sizes.values())) as tick:
        done = 0

        def progress(now: int, _total: int) -> None:
            nonlocal done
            tick(now - done)
            done = now

        data = load_data(
            source, canvas=experiment.canvas, largest_size=schedule.largest_size, max_bad_share=experiment.max_bad_share, progress=progress
        )
    for name, reason in data.bad[:10]:
        ui.say(f"left out {name}: {reason}")
    if data.bad:
        ui.say(f"{len(data.bad)} of {sum(source.sizes.values())} image files could not be read and are left out")
        schedule = plan(experiment, len(data.labels["train"]))
    network = experiment.model.build(len(data.classes), data.images["train"].shape[-1])
    programs = engine(experiment, network)
    params, stats = network.init(key_for(experiment.seed, "init"))
    if isinstance(experiment.model, ChainModel):
        params, stats, loaded = pretrained.load_into(experiment.model, network, params, stats)
        ui.say(f"{type(experiment.model).__name__}: {loaded}")
    params, stats = programs.devices.replicate((params, stats))
    images = {split: programs.devices.replicate(pixels) for split, pixels in data.images.items()}
    return Setting(experiment, data, schedule, programs, images, params, stats)


def augmentations(setting: Setting, p: StagePlan) -> tuple[Augmentation, ...]:
    """The augmentations that a stage trains with; () for none."""
    return setting.experiment.augment if p.stage.augment else ()


def activations(
    setting: Setting, p: StagePlan, params: Tree, stats: Tree, split: str, copies: int, ui: Quiet, folder: Path | None = None
) -> np.ndarray:
    """What enters the stage's lowest trained group, for a whole split, from the cache where it is there.

    Args:
        params, stats: the network as the stage begins; only the frozen groups matter.
        split: name of the split.
        copies: number of augmented copies of each image; 0 for the plain images.
        folder: see `precompute.cached`.

    Returns:
        float array [max(copies, 1) · n, ...]; row v·n + i is copy v of image i.
    """
    run, images, n = setting.engine, setting.images[split], len(setting.images[split])
    body = [{g: tree[g] for g in p.frozen} for tree in (params, stats)]
    augment = augmentations(setting, p) if copies else ()
    key = key_for(setting.experiment.seed, "augment", p.index)
    strength = None if p.stage.strength == 1 else np.asarray(p.stage.strength, np.float32)

    def rows(index: jax.Array, draw: jax.Array) -> jax.Array:
        x = (
            run.augmented(images, index % n, draw, key, strength, augmentations=augment, size=p.stage.size)
            if copies
            else run.plain(images, index, size=p.stage.size)
        )
        return run.forward(*body, x, start=None, stop=p.start)

    def compute() -> np.ndarray:
        with ui.bar(f"activations of {split}", n * max(copies, 1)) as tick:
            return run.map(rows, n * max(copies, 1), tick)

    name = precompute.cache_key(
        images=setting.data.images[split],
        split=split,
        body=body,
        model=setting.experiment.model,
        start=p.start,
        size=p.stage.size,
        dtype=run.dtype,
        augmentations=augment,
        views=copies,
        draw=(setting.experiment.seed, p.index, p.stage.strength) if copies else (),
    )
    array, found = precompute.cached(name, compute, folder)
    if found:
        ui.say(f"  activations of {split} found in the cache ({name})")
    return array
