"""Checkpoints of a run: what one says besides its arrays, saved by the first host, read back by all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core.state import NetworkState, TrainState
from ..distributed.hosts import broadcast, is_leader, run_on_all_hosts
from ..distributed.mesh import readable
from ..train.context import RunContext
from ..train.model_selection import Best, Score
from . import checkpoint, ensemble
from .folder import RunFolder


class CheckpointMeta(NamedTuple):
    """What a checkpoint says besides its arrays; JSON data, so that it can be read before the arrays are.

    Attributes:
        stage, step: position: updates done in that stage.
        lr: peak rates of the stage, found or given.
        lowest, stale, stopped: see `model_selection.Standing`.
        best: accuracy, loss, stage and cycle of the best state, and the highest accuracy, or None before the first validation.
        seconds: spent in the stage so far.
        stages: summaries of the finished stages.
        lowered: see `model_selection.Standing`; None before the first cycle's end.
    """

    stage: int
    step: int
    lr: list[float]
    lowest: float | None
    stale: int
    stopped: str
    best: list[float] | None
    seconds: float
    stages: list[dict[str, Any]]
    lowered: list[Any] | None = None


def save(folder: Path, name: str, arrays: Any, facts: dict[str, Any]) -> None:
    """Saves a checkpoint from host 0; all hosts bring what they hold of it."""
    whole = jax.tree.map(readable, arrays)
    run_on_all_hosts(partial(checkpoint.save, folder, name, whole, facts) if is_leader() else lambda: None)


def restore(context: RunContext, folder: Path, memory: CheckpointMeta, like: TrainState) -> tuple[TrainState, Best | None]:
    """The arrays of the checkpoint that `memory` was read with; `like` gives the structure of the stage's state."""
    nets = {"params": like.params, "stats": like.stats} if memory.best else {}
    name = checkpoint.step_name(memory.stage, memory.step)
    shapes = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), {"state": like._asdict(), "best": nets})
    read = partial(checkpoint.restore, folder / "checkpoints", name, shapes)
    arrays = context.programs.devices.hold(broadcast(run_on_all_hosts(read if is_leader() else lambda: shapes)))
    best = None
    if memory.best:
        accuracy, loss, stage, cycle, highest = memory.best
        network = NetworkState(**arrays["best"], size=context.plan.stages[int(stage)].size)
        best = Best(Score(accuracy, loss), network, int(stage), int(cycle), highest)
    return TrainState(**arrays["state"]), best


def newest(context: RunContext, book: RunFolder) -> CheckpointMeta | None:
    """Where the newest good checkpoint stands, after dropping the rows that came after it; None to start from the beginning."""
    found = checkpoint.latest(book.path / "checkpoints")
    if not found:
        ensemble.forget(book.path, 0, 0)
        book.truncate_after(context.experiment.stages[0].name, 0)
        return None
    memory = CheckpointMeta(
        **{name: found.metadata[name] for name in CheckpointMeta._fields if name in found.metadata}
    )  # older ones have more
    name = context.experiment.stages[memory.stage].name
    book.truncate_after(name, memory.step)
    ensemble.forget(book.path, memory.stage, memory.step)
    return memory
