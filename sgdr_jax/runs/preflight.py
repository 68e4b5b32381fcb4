"""What a run will write, compared with what is free, before it begins."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ..core.console import NullConsole
from ..core.paths import cache_folder
from ..core.plan import StagePlan
from ..core.validation import require
from ..data.placement import format_bytes
from ..train import optim
from ..train.context import RunContext
from ..train.stage import row_bytes
from . import checkpoint

_BESIDE = 4 << 20
"""Bytes of rows, tables and pictures, ample for a short run."""


class DiskUse(NamedTuple):
    """Bytes that a run will have on disk at most at once.

    Attributes:
        checkpoints: those that are kept, with one to go back to where a stage may, and the one that is being saved.
        networks: the final network, snapshots and averages of weights.
        activations: cached activations of all stages, also if they are in the cache already.
    """

    checkpoints: int
    networks: int
    activations: int


def disk_use(context: RunContext, *, keep_network: bool = True) -> DiskUse:
    """Return what a run will take.

    Args:
        context: the run.
        keep_network: whether the final network is saved.
    """
    experiment, stages = context.experiment, context.plan.stages
    network = _bytes((context.network.params, context.network.stats))
    slots = max((_bytes(_slots(context, p)) for p in stages), default=0)
    snapshots = experiment.snapshots
    kept = snapshots.last + snapshots.best + 1 + 3 if snapshots else 0  # one that is being saved, three averages
    averages = 1 + (not snapshots) if any(p.optimizer.ema for p in stages) else 0  # the moving one at a stage's end, and as it is compared
    return DiskUse(
        checkpoints=(1 + experiment.refit) * (checkpoint.KEEP + 1 + (experiment.on_divergence == "halve")) * (2 * network + slots),
        networks=(keep_network + kept + averages) * network,
        activations=sum(_activation_bytes(context).values()),
    )


def check_disk(context: RunContext, folder: Path, ui: NullConsole, *, keep_network: bool = True) -> None:
    """Raise InputError where the folder of a run has no room for it, and show what it will take (of runs that share data, once).

    What a run that goes on has saved before counts as room. Activations are cached where they fit.
    """
    use, place = disk_use(context, keep_network=keep_network), _existing(folder)
    free = shutil.disk_usage(place).free
    parts = [f"checkpoints {format_bytes(use.checkpoints)}", f"networks {format_bytes(use.networks)}"]
    if use.activations:
        there = shutil.disk_usage(_existing(cache_folder())).free
        parts.append(f"cached activations {format_bytes(use.activations)} (free there: {format_bytes(there)})")
    if not context.shares:
        ui.say(f"disk: {', '.join(parts)}; free in {place}: {format_bytes(free)}")
    needed = use.checkpoints + use.networks + _BESIDE
    fix = f"the run needs {needed:,} bytes for checkpoints and networks; free some, or use another run folder"
    require(free + _saved(folder) >= needed, f"free space of {place}", f"{free:,} bytes", fix)


def _saved(folder: Path) -> int:
    """Return the bytes of checkpoints and networks in a run folder, and in that of its refit."""
    kinds = [own / kind for own in (folder, folder / "refit") for kind in ("checkpoints", "final", "snapshots")]
    return sum(file.stat().st_size for kind in kinds for file in kind.rglob("*") if file.is_file())


def _existing(path: Path) -> Path:
    """Return the lowest folder of a path that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _slots(context: RunContext, p: StagePlan) -> Any:
    params = {g: context.network.params[g] for g in p.trained}
    return jax.eval_shape(partial(optim.init, p.optimizer, p.trained), params)


def _activation_bytes(context: RunContext) -> dict[tuple[Any, ...], int]:
    """Return the bytes of each file of activations, by what distinguishes the files; stages may share those of held-out images."""
    sizes: dict[tuple[Any, ...], int] = {}
    for p in context.plan.stages:
        if p.frozen and "valid" in context.images:
            sizes["valid", p.start, p.size] = len(context.images["valid"]) * row_bytes(context, p)
        if p.frozen and p.stage.precompute:
            sizes["train", p.index] = max(p.copies, 1) * len(context.images["train"]) * row_bytes(context, p)
    return sizes


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
