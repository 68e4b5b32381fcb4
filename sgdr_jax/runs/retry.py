"""What a stage changes before it is tried again, after it diverged or ran out of device memory."""

from __future__ import annotations

from dataclasses import replace

from ..core.plan import StagePlan
from ..distributed.hosts import is_multi_host, on_leader
from ..train.context import RunContext
from .folder import RunFolder
from .resume import CheckpointMeta, StageStart, back

LEAST_SCALE = 1e-3
"""Least share of its rates at which a stage that diverged goes on."""


def go_back(context: RunContext, folder: RunFolder, stage: int, rows: int) -> StageStart:
    """Return the newest good checkpoint within a stage, or its beginning, on all hosts; see `resume.back`."""
    found = on_leader(lambda: back(context, folder, stage, rows))
    return StageStart(CheckpointMeta(*found) if found else None)


def splits_into(context: RunContext, plan: StagePlan, parts: int) -> bool:
    """Return whether the batches of a stage can be split into so many parts of the same size, each spread over all devices.

    Several hosts, of which one alone may run out of memory, do not split.
    """
    return not is_multi_host() and not plan.stage.solve and plan.batch_size % (parts * context.programs.devices.count) == 0


def split_plan(plan: StagePlan, parts: int) -> StagePlan:
    """Return the plan of a stage whose batches pass through the network in so many parts, if not in more already.

    Gradients are the same up to the order of sums; batch statistics, where they are trained, and dropout are those of a part.
    """
    return replace(plan, stage=replace(plan.stage, accumulate=parts)) if parts > plan.stage.accumulate else plan
