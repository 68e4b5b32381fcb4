"""Resuming a run: what a checkpoint records besides its arrays, saved by the leading host and restored on all."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core.errors import InputError
from ..core.plan import StagePlan
from ..core.serialization import config_hash
from ..core.state import NetworkState, TrainState
from ..distributed.hosts import broadcast, is_leader, on_leader, run_on_all_hosts
from ..distributed.mesh import readable
from ..schedules.plateau import Lowered
from ..train.context import RunContext
from ..train.loop import is_due
from ..train.model_selection import Best, Score, StageProgress
from . import checkpoint
from .folder import METRICS, RunFolder, read
from .records import Row, StageSummary
from .snapshots import drop_later, lost_cycle_ends, snapshot_folder

_log = logging.getLogger(__name__)


class CheckpointMeta(NamedTuple):
    """What a checkpoint records besides its arrays; JSON data, so that it can be read before the arrays are.

    Attributes:
        stage, step: position: index of the stage, updates done in it.
        lr: peak rates of the stage, found or given.
        lowest, stale, stopped, lowered: see `model_selection.StageProgress`; None for infinity, or before the first cycle's end.
        best: accuracy, loss, stage and cycle of the best state, and the highest accuracy; None before the first validation.
        seconds: spent in the stage so far.
        stages: summaries of the finished stages.
        rows: number and digest of the rows in metrics.jsonl; None for checkpoints of early versions.
    """

    stage: int
    step: int
    lr: list[float]
    lowest: float | None
    stale: int
    stopped: str
    best: list[float] | None
    seconds: float
    stages: list[StageSummary]
    lowered: list[Any] | None = None
    rows: list[Any] | None = None

    def progress(self, best: Best | None) -> StageProgress:
        """Return where the stage stood, with the restored best state."""
        lowest = math.inf if self.lowest is None else self.lowest
        return StageProgress(best, lowest, self.stale, self.stopped, self.rates, tuple(self.lr))

    @property
    def rates(self) -> Lowered:
        """How far the rates are lowered."""
        recorded = Lowered(*self.lowered) if self.lowered else Lowered()
        # Early versions did not tell what plateaus had lowered from what divergence had, and neither do the rows of their runs.
        return recorded if len(self.lowered or ()) != 4 else recorded._replace(halved=recorded.scale)


def describe(
    stage: int, state: TrainState, progress: StageProgress, seconds: float, finished: list[StageSummary], rows: tuple[int, str]
) -> CheckpointMeta:
    """Return what a checkpoint of this state records."""
    best = progress.best
    return CheckpointMeta(
        stage=stage,
        step=int(state.step),
        lr=list(progress.lr),
        lowest=float(progress.lowest) if math.isfinite(progress.lowest) else None,
        stale=progress.stale,
        stopped=progress.stopped,
        best=[best.score.accuracy, best.score.loss, best.stage, best.cycle, best.highest] if best else None,
        seconds=seconds,
        stages=finished,
        lowered=list(progress.lowered) if progress.lowered != Lowered() else None,
        rows=list(rows),
    )


def save(context: RunContext, folder: Path, name: str, arrays: Any, facts: dict[str, Any]) -> None:
    """Save a checkpoint of the run on the leading host; the other hosts contribute the parts of the arrays that they hold."""
    whole, key = jax.tree.map(readable, arrays), config_hash(context.experiment)
    on_leader(partial(checkpoint.save, folder, name, whole, facts, key))


def load(context: RunContext, folder: Path, name: str, like: Any) -> Any:
    """Restore the host arrays of a checkpoint of the run on all hosts, of which only the leading one needs to see the folder.

    `like` gives structure, shapes and types.
    """
    shapes = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    read = partial(checkpoint.restore, folder, name, shapes, config_hash(context.experiment))
    return broadcast(run_on_all_hosts(read if is_leader() else lambda: shapes))


def restore(context: RunContext, folder: Path, meta: CheckpointMeta, like: TrainState) -> tuple[TrainState, Best | None]:
    """Restore the arrays of a checkpoint on all hosts.

    Args:
        context: the run.
        folder: the run folder.
        meta: as read by `newest`.
        like: a state of the stage, for structure, shapes and types.

    Returns:
        (state, best state so far or None).
    """
    networks = {"params": like.params, "stats": like.stats} if meta.best else {}
    name = checkpoint.step_name(meta.stage, meta.step)
    whole = load(context, folder / "checkpoints", name, {"state": like._asdict(), "best": networks})
    arrays = context.programs.devices.hold(whole)
    best = None
    if meta.best:
        accuracy, loss, stage, cycle, highest = meta.best
        network = NetworkState(**arrays["best"], size=context.plan.stages[int(stage)].size)
        best = Best(Score(accuracy, loss), network, int(stage), int(cycle), highest)
    return TrainState(**arrays["state"]), best


def newest(context: RunContext, folder: RunFolder) -> CheckpointMeta | None:
    """Find the newest good checkpoint of the run and drop the rows and snapshots that came after it; None to start from the beginning.

    Checkpoints that are damaged, of another run, under another's name, or that belong to other rows than metrics.jsonl has, are skipped
    with a logged warning. Raises InputError where they are good but none belongs to the rows, which cannot be made again then.
    """
    path, unlike, rows = folder.path, "", list[Row]()
    with contextlib.suppress(InputError):  # what is damaged may come after a good checkpoint
        rows = folder.metrics.rows()
    for candidate in checkpoint.good(path / "checkpoints", config_hash(context.experiment)):
        meta = _recorded(candidate)
        if meta.rows is None:
            folder.metrics.truncate_after(context.experiment.stages[meta.stage].name, meta.step)
        elif folder.metrics.holds(*meta.rows):
            folder.metrics.truncate(meta.rows[0])
        else:
            unlike = f"{path / METRICS} does not begin with the {meta.rows[0]} rows that checkpoint {candidate.name} records"
            _log.warning("%s; falling back to the one before", unlike)
            continue
        drop_later(path, meta.stage, meta.step)
        left = folder.metrics.rows()
        for name in lost_cycle_ends(path, left, rows[len(left) :], context.experiment.snapshots):
            _log.warning("snapshot %s is lost, and cannot be made again; the ensembles are without it", snapshot_folder(path) / name)
        return meta
    if unlike:
        raise InputError(f"{unlike}: rows are lost or changed; restore the file, or use another run folder")
    drop_later(path, 0, 0)
    folder.metrics.truncate(0)
    return None


def _recorded(saved: checkpoint.VerifiedCheckpoint) -> CheckpointMeta:
    known = {name: saved.metadata[name] for name in CheckpointMeta._fields if name in saved.metadata}  # earlier versions wrote more
    return CheckpointMeta(**known)


class StageStart(NamedTuple):
    """Where a stage begins or goes on.

    Attributes:
        checkpoint: within the stage; None for its beginning.
        scale: share of the rates of the checkpoint, or of the planned ones, for a stage that has diverged.
    """

    checkpoint: CheckpointMeta | None = None
    scale: float = 1.0

    @property
    def step(self) -> int:
        """Updates of the stage that are done."""
        return self.checkpoint.step if self.checkpoint else 0

    @property
    def lowered(self) -> Lowered:
        """State of the rates, with the one that the checkpoint records."""
        known = self.checkpoint.rates if self.checkpoint else Lowered()
        return known._replace(scale=known.scale * self.scale, halved=known.halved * self.scale)


def back(context: RunContext, folder: RunFolder, plan: StagePlan, *, due: bool, within: bool) -> StageStart:
    """Go back to the newest good checkpoint in a stage, or to its beginning, and drop what came later.

    The share of the rates is the one that the stage has gone on with from there, which only the row after the checkpoint's records.

    Args:
        context: the run.
        folder: the run folder.
        plan: the stage.
        due: whether one that was saved because the run had to stop does not count, so that it ends as it would have without the stop.
        within: whether this process went on within the stage, and has no network of its beginning: then the oldest one counts in any case.
    """
    rows, start = folder.rows(), StageStart()
    count = next((i for i, row in enumerate(rows) if row.get("stage") == plan.stage.name), len(rows))
    saved = map(_recorded, checkpoint.good(folder.path / "checkpoints", config_hash(context.experiment)))
    own = [meta for meta in saved if meta.stage == plan.index and meta.rows is not None and folder.metrics.holds(*meta.rows)]
    every = context.experiment.checkpoint_steps
    counted = [meta for meta in own if not due or is_due(plan.table.cycle, every, meta.step)] or own[-1:] * within
    if within and not counted:
        raise InputError(
            f"run folder {folder.path} has lost the checkpoint that stage {plan.stage.name!r} went on from; use another run folder"
        )
    for meta in counted[:1]:
        assert meta.rows is not None
        start, count = StageStart(meta), meta.rows[0]
    for row in rows[count : count + 1]:
        if row["kind"] == "lowered":
            start = start._replace(scale=row["lr_scale"] / start.lowered.halved)
    checkpoint.drop_later(folder.path / "checkpoints", plan.index, start.step)  # before the rows that they need
    folder.metrics.truncate(count)
    drop_later(folder.path, plan.index, start.step)
    return start


def check_weights(folder: str | Path, now: Mapping[str, Any]) -> None:
    """Raise InputError where a run began with another weights file, or with images of another kind, than it would go on."""
    before = read(folder).start.get("weights", {})
    for name in ("sha256", "mean", "std", "plain"):
        if json.dumps(before.get(name)) != json.dumps(now.get(name)):
            change = f"{name} {before.get(name)} of {before.get('origin')}, now {now.get(name)} of {now.get('origin')}"
            raise InputError(f"run folder {folder} began with other weights ({change}); give the same file, or use another run folder")
