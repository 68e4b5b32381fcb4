"""Recorder of a stage: writes its rows, checkpoints and snapshots to the run folder, and sums it up at its end."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from ..core.errors import InputError
from ..core.plan import StagePlan
from ..core.serialization import config_hash
from ..core.state import TrainState
from ..data.load import Data
from ..data.summary import class_counts, find_duplicates, groups_text
from ..distributed.hosts import is_leader, on_leader
from ..distributed.mesh import readable
from ..train.context import RunContext
from ..train.loop import is_due
from ..train.model_selection import Score, StageProgress, best_score
from . import checkpoint, resume
from .folder import RunFolder
from .records import DataRecord, Row, StageSummary
from .snapshots import drop_average, save_average, save_cycle_end

_log = logging.getLogger(__name__)


class StageRecorder:
    """Records one stage; its methods are the `log`, `save` and `keep` of `train.loop.StageCallbacks`.

    Args:
        context: the run.
        plan: the stage.
        folder: where everything is written.
        finished: summaries of the stages before, which every checkpoint carries.
        spent: seconds that earlier attempts at this stage have taken.
    """

    def __init__(self, context: RunContext, plan: StagePlan, folder: RunFolder, finished: list[StageSummary], spent: float = 0.0) -> None:
        self._context, self._plan, self._folder, self._finished = context, plan, folder, finished
        self._began = time.perf_counter() - spent

    @property
    def seconds(self) -> float:
        """Seconds spent in the stage, earlier attempts included."""
        return time.perf_counter() - self._began

    def log(self, row: dict[str, Any]) -> None:
        """Append a row of the loop, with the stage, the epoch and the clock; validation rows are shown to `RunContext.watch` too."""
        plan = self._plan
        if "lr" in row:
            row = row | {"lr": dict(zip(plan.trained, row["lr"], strict=True))}
        position = {"stage": plan.stage.name, "stage_index": plan.index, "epoch": row["step"] / plan.steps_per_epoch}
        row = row | position | {"seconds": self.seconds}
        self._folder.append(cast(Row, row))
        if "skipped" in row:
            _log.warning("stage %r: update %d is skipped, loss %s", plan.stage.name, row["step"], row["loss"])
        if row["kind"] == "eval":
            self._context.watch(row)

    def save(self, state: TrainState, progress: StageProgress) -> None:
        """Save a checkpoint, where `RunContext.due` allows one now; of older ones the newest stays, in case this one is damaged.

        One before a refit is always saved: what has begun on the found rates and chosen cycles must not be followed by others.
        """
        experiment, plan = self._context.experiment, self._plan
        ends = plan.index == len(experiment.stages) - 1 and (bool(progress.stopped) or int(state.step) == plan.steps)
        if not (experiment.refit and ends) and not self._context.due():
            return
        meta = resume.describe(self._plan.index, state, progress, self.seconds, self._finished, self._folder.mark())
        network = progress.best.network if progress.best else None
        best = {"params": network.params, "stats": network.stats} if network else {}
        folder = self._folder.path / "checkpoints"
        resume.save(
            self._context, folder, checkpoint.step_name(meta.stage, meta.step), {"state": state._asdict(), "best": best}, meta._asdict()
        )
        if is_leader():
            checkpoint.prune(folder, named=self._due(folder)[-1:] if experiment.on_divergence == "halve" else ())

    def _due(self, folder: Path) -> list[str]:
        """Return the checkpoints of the stage that were due, oldest first: a stage that diverges goes back to the newest of them."""
        stage, cycle, every = self._plan.index, self._plan.table.cycle, self._context.experiment.checkpoint_steps
        return [checkpoint.step_name(stage, step) for step in checkpoint.steps(folder, stage) if is_due(cycle, every, step)]

    def keep(self, state: TrainState, row: dict[str, Any]) -> None:
        """Keep the network at the end of a cycle, where the experiment asks for snapshots."""
        if wanted := self._context.experiment.snapshots:
            facts = {"stage": self._plan.index, "size": self._plan.size} | {k: row[k] for k in ("cycle", "step")} | Score.of(row)._asdict()
            host_state = jax.tree.map(readable, state._replace(opt_state=None))
            on_leader(partial(save_cycle_end, self._folder.path, host_state, facts, wanted, self._key))

    def keep_average(self, state: TrainState, undone: bool) -> None:
        """Keep the moving average of the weights at the end of the stage, where the optimizer asks for one; none of an earlier stage.

        Where the stage is `undone`, the network goes on from an earlier one, whose average stays.
        """
        if self._plan.optimizer.ema:
            host_state = jax.tree.map(readable, state)
            on_leader(partial(save_average, self._folder.path, host_state, self._plan.size, self._key))
        elif not undone:
            on_leader(partial(drop_average, self._folder.path))

    @property
    def _key(self) -> str:
        return config_hash(self._context.experiment)

    def summary(self, progress: StageProgress) -> StageSummary:
        """Sum up the finished stage from the rows that it logged. Raises InputError where they are lost."""
        plan, path = self._plan, self._folder.path
        rows = [row for row in self._folder.rows() if row["stage"] == plan.stage.name]
        losses = [row["loss"] for row in rows if row["kind"] == "train"]
        skipped = sum("skipped" in row for row in rows)
        evals = [row for row in rows if row["kind"] == "eval"]
        if not losses or (progress.best and not evals):
            raise InputError(f"run folder {path} has lost its rows of stage {plan.stage.name!r} in metrics.jsonl; use another run folder")
        keeps_best = self._context.experiment.keep_best
        best = progress.best if keeps_best and progress.best and progress.best.stage == plan.index else None
        score = best.score if best else best_score(evals if keeps_best else evals[-1:])
        last_cycle = int(plan.table.cycle[min(len(losses), plan.steps) - 1])
        finite = [loss for loss in losses[-plan.steps_per_epoch :] if loss is not None]
        summary: StageSummary = {
            "name": plan.stage.name,
            "size": plan.size,
            "epochs": len(losses) / plan.steps_per_epoch,
            "steps": len(losses),
            "images": plan.images_in(len(losses)),
            "seconds": self.seconds,
            "train_loss": float(np.mean(finite)) if finite else math.nan,
            "valid_loss": score.loss if score else None,
            "valid_accuracy": score.accuracy if score else None,
            "lr": list(progress.lr),
            "kept": best is not None or not evals or not keeps_best,
            "cycles": 1 + (best.cycle if best else last_cycle),
            "stopped": progress.stopped,
        }
        if skipped:
            summary["skipped"] = skipped
        if lowered := [row["lr_scale"] for row in rows if row["kind"] == "lowered"]:
            summary["lr_scale"] = lowered[-1]
        if parts := self._folder.splits().get(plan.stage.name):
            summary["accumulate"] = parts
        return summary


def data_record(data: Data, most: int = 50) -> DataRecord:
    """Describe the data of a run; of images that occur several times at most `most` groups are named, four images of each."""
    duplicates = find_duplicates(data)
    across, conflicting = ([list(group[:4]) for group in groups[:most]] for groups in (duplicates.across_splits, duplicates.conflicting))
    return {
        "classes": list(data.classes),
        "multi_label": data.multi_label,
        "counts": {split: counts.tolist() for split, counts in class_counts(data).items()},
        "images": data.sizes,
        "across_splits": len(duplicates.across_splits),
        "across_splits_images": sum(map(len, duplicates.across_splits)),
        "across_splits_names": across,
        "within_split": duplicates.within_split,
        "conflicting": len(duplicates.conflicting),
        "conflicting_images": sum(map(len, duplicates.conflicting)),
        "conflicting_names": conflicting,
        "unreadable": len(data.bad),
    }


def duplicate_notes(record: DataRecord) -> list[str]:
    """Return a line for each kind of images with the same pixels that makes figures wrong: in several splits, with different labels.

    Example:
        >>> groups = {"across_splits": 1, "across_splits_images": 2, "across_splits_names": [["train: a.png", "test: b.png"]]}
        >>> duplicate_notes(groups | {"conflicting": 0})
        ['1 group, 2 images, has the same pixels in several splits, such as train: a.png, test: b.png; sgdr-jax data lists them']
    """
    kinds = (
        ("across_splits", "in several splits"),
        ("conflicting", "but different labels"),
    )
    return [
        f"{groups_text(record[kind], record[f'{kind}_images'])}, {'have' if record[kind] > 1 else 'has'} the same pixels {what}, "
        f"such as {', '.join(record[f'{kind}_names'][0])}; sgdr-jax data lists them"
        for kind, what in kinds
        if record[kind]
    ]
