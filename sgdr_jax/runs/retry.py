"""A stage that diverges or runs out of device memory is tried again from a checkpoint, at lower rates or in smaller parts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import jax

from ..core.console import NullConsole
from ..core.errors import Diverged
from ..core.plan import StagePlan
from ..distributed.hosts import is_multi_host, on_leader
from ..distributed.memory import exhausted, one_line_if_exhausted
from ..train.context import RunContext
from .folder import RunFolder
from .resume import CheckpointMeta, StageStart, back

LEAST_SCALE = 1e-3
"""Least share of its rates at which a stage that diverged goes on; what plateaus have lowered does not count."""
LEAST_PART = 4
"""Least images of a part of a batch that was split for want of memory, where batch statistics are those of the part. Of two images the
statistics are so uncertain that a network with four such parts had 0.69 of the validation images right where the whole batch had all."""


def persistently[T](
    attempt: Callable[..., T], context: RunContext, plan: StagePlan, start: StageStart, folder: RunFolder, ui: NullConsole
) -> T:
    """Run a stage; where it diverges or runs out of memory, again from its newest checkpoint (`resume.back`), as far as that may help.

    Args:
        attempt: (plan, start) → result: runs the stage once.
        context: the run.
        plan: the stage.
        start: where it begins or goes on.
        folder: the run folder; keeps what was changed.
        ui: notes.

    Raises:
        Diverged: the rates are as low as they may get, or `on_divergence` is "stop".
        InputError: there is not enough device memory, with the batch size that would fit.
    """
    plan = _split_plan(plan, _recorded_parts(context, plan, on_leader(folder.splits).get(plan.stage.name, 1)))
    within = start.checkpoint is not None and plan.index > 0
    with _told_if_memory_ends(context, plan):
        while True:
            if start.scale < 1:
                folder.append({"kind": "lowered", "stage": plan.stage.name, "step": start.step, "lr_scale": start.lowered.halved})
            try:
                return attempt(plan=plan, start=start)
            except Diverged as error:
                if context.experiment.on_divergence == "stop":
                    raise
                start = _go_back(context, folder, plan, due=True, within=within)
                start = start._replace(scale=start.scale / 2)
                if start.lowered.halved < LEAST_SCALE:
                    raise
                ui.say(f"  {error.args[0].partition(';')[0]}: back to update {start.step}, at {start.lowered.halved:g} of the rates")
            except (jax.errors.JaxRuntimeError, ValueError) as error:
                parts = 2 * plan.stage.accumulate
                if not exhausted(error) or not _splits_into(context, plan, parts):
                    raise
                plan, start = _split_plan(plan, parts), _go_back(context, folder, plan, due=False, within=within)
                folder.write_split(plan.stage.name, parts)
                own = ", each with batch statistics of its own" if plan.collects else ""
                ui.say(f"  out of device memory: from here on the images of an update pass through the network in {parts} parts{own}")


def _told_if_memory_ends(context: RunContext, plan: StagePlan) -> AbstractContextManager[None]:
    """Raise InputError with the batch size that would fit where a stage runs out of device memory."""
    name = "batch_size" if plan.stage.batch_size is None else f'stage "{plan.stage.name}": batch_size'
    parts = f", or Stage(accumulate={2 * plan.stage.accumulate}) for the same updates in parts" if is_multi_host() else ""
    where = f'stage "{plan.stage.name}" at {plan.size_text} px'
    return one_line_if_exhausted(name, plan.batch_size, context.programs.devices, where, parts)


def _go_back(context: RunContext, folder: RunFolder, plan: StagePlan, *, due: bool, within: bool) -> StageStart:
    """Return the newest good checkpoint within a stage, or its beginning, on all hosts; see `resume.back`."""
    meta, scale = on_leader(lambda: back(context, folder, plan, due=due, within=within))
    return StageStart(CheckpointMeta(*meta) if meta else None, scale)


def _splits_into(context: RunContext, plan: StagePlan, parts: int) -> bool:
    """Return whether a stage's batches split into `parts` equal parts, each spread over all devices.

    Several hosts, of which one alone may run out of memory, do not split.
    """
    if is_multi_host() or plan.stage.solve or (plan.collects and plan.batch_size < parts * LEAST_PART):
        return False
    return plan.batch_size % (parts * context.programs.devices.count) == 0


def _recorded_parts(context: RunContext, plan: StagePlan, parts: int) -> int:
    """Return the number of parts that the batches of a stage were split into before, or of more devices what these can share out."""
    while plan.batch_size % (parts * context.programs.devices.count) and parts > plan.stage.accumulate:
        parts //= 2
    return parts


def _split_plan(plan: StagePlan, parts: int) -> StagePlan:
    """Return the plan of a stage whose batches pass through the network in at least `parts` parts.

    Gradients are the same up to the order of sums; batch statistics, where they are trained, and dropout are those of a part.
    """
    return replace(plan, stage=replace(plan.stage, accumulate=parts)) if parts > plan.stage.accumulate else plan
