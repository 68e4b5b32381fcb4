"""The learning-rate finder of a stage: range tests with the stage's own update program, on copies of its state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import batched, groupby

import numpy as np

from ..core.console import NullConsole
from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.learning_rates import Find
from ..core.plan import StagePlan, finder_steps, ratios
from ..core.state import Hyper, NetworkState, TrainState
from ..core.validation import require
from . import lr_range_test
from .batch_norm import recalibrate_for
from .context import RunContext
from .lr_curve import LrCurve, best_ratio, read_orders
from .stage import StageRun, open_stage
from .stage_inputs import TrainBatch, stage_batches


def stage_to_search(experiment: Experiment, stage: int | str | None) -> int:
    """Return the position of the stage to find a rate for: the one given by position or name or, for None, the first that is not solved.

    Raises:
        InputError: there is no such stage, or its head is solved.
    """
    open_to_it = [i for i, each in enumerate(experiment.stages) if each.solve is None]
    if not open_to_it:
        raise InputError("the head is solved in all stages, which has no learning rate to find; add a stage that trains")
    index = open_to_it[0] if stage is None else experiment.stage_index(stage)
    others = ", ".join(f"{i} ({experiment.stages[i].name})" for i in open_to_it)
    fix = f"it has a solved head, which has no learning rate to find; use one of {others}"
    require(index in open_to_it, "stage", experiment.stages[index].name, fix)
    return index


def find_lr(context: RunContext, p: StagePlan, stage: StageRun, find: Find, ui: NullConsole, group: str | None = None) -> LrCurve:
    """Run the learning-rate finder for a stage on copies of its state, with the stage's own update program.

    Momentum and weight decay are those of the schedule at its highest rate.

    Args:
        find: settings of the finder.
        group: the only layer group to raise the rate of, the others staying at 0; None to raise all, at their ratio.

    Returns:
        The curve; that of the best ratio if `find` has several.

    Raises:
        InputError: if an order would have fewer than eight updates.
    """
    steps = finder_steps(find, p.steps_per_epoch, f'stage "{p.stage.name}": lr')
    find = dataclasses.replace(find, steps=steps)
    orders = find.orders or (6 if p.stage.precompute else 2)
    kind = np.dtype(context.programs.precision)
    peak = int(p.scale.max(axis=1).argmax())  # where the rate that is found will be used
    rest = [kind.type(x) for x in (p.momentum[peak], p.weight_decay[peak], context.experiment.label_smoothing)]

    def curve(ratio: float, tick: Callable[[int], None]) -> LrCurve:
        one = dataclasses.replace(find, ratio=ratio)
        shares = np.array([float(g == group) for g in p.trained]) if group else np.asarray(ratios(one, p.trained))

        def update(state: TrainState, lrs: np.ndarray, batches: Sequence[TrainBatch]) -> tuple[TrainState, list[float]]:
            lr = (lrs[:, None] * shares).astype(kind)
            state, sums = stage.update(state, Hyper(lr, *(np.repeat(x, len(batches)) for x in rest)), batches)
            loss, weight, skipped = (np.atleast_1d(np.asarray(sums[name], np.float64)) for name in ("loss", "weight", "skipped"))
            # The guard left that update out: at its rate the network would have diverged, where the loss would look flat from here on.
            return state, np.where(skipped > 0, np.inf, loss / np.where(weight > 0, weight, 1)).tolist()

        def spans(order: int) -> Iterator[Sequence[TrainBatch]]:
            batches = stage_batches(context, p, 0, steps, order, with_images=False)
            for _, of_a_size in groupby(batches, lambda b: b.size):
                yield from batched(of_a_size, stage.span)

        losses = [
            lr_range_test.sweep(update, context.programs.devices.hold(stage.state), spans(order), one, tick) for order in range(orders)
        ]
        return dataclasses.replace(read_orders(losses, one), ratio=ratio)

    tried = ratios_tried(find) if len(p.trained) > 1 and not group else ratios_tried(find)[:1]
    with ui.bar(f"find lr: {p.stage.name}" + (f", {group}" if group else ""), steps * orders * len(tried)) as tick:
        return best_ratio([curve(float(ratio), tick) for ratio in tried])


def stage_curves(
    context: RunContext, p: StagePlan, network: NetworkState, ui: NullConsole, rule: str | None = None, *, each: bool = False
) -> dict[str, LrCurve]:
    """Run the learning-rate finder for a stage that would start from a network, which stays as it is.

    Args:
        context: the run.
        p: the stage; where its rates are given, `Find()` is used and a line says so.
        network: the network before the stage.
        ui: shows progress.
        rule: reads the rate off the curve; None for that of the stage.
        each: whether to test each trained group alone too.

    Returns:
        Curves by group, "" for all groups together.

    Raises:
        InputError: the head is solved, or an order would have fewer than eight updates.
    """
    stage_to_search(context.experiment, p.index)
    lr = p.stage.lr
    find = lr if isinstance(lr, Find) else Find()
    if not isinstance(lr, Find):
        what = "takes the rates of the stage before" if lr is None else f"has given rates, {lr}"
        ui.say(f'stage "{p.stage.name}" {what}: train uses those; this is what Find() would choose')
    find = dataclasses.replace(find, rule=rule or find.rule)
    if p.stage.recalibrate:
        network, _ = recalibrate_for(context, p, network, ui)
    stage = open_stage(context, p, network, ui)
    groups = p.trained if each and len(p.trained) > 1 else ()
    return {group: find_lr(context, p, stage, find, ui, group) for group in ("", *groups)}


def choose_lr(
    context: RunContext, p: StagePlan, stage: StageRun, previous: Sequence[float], ui: NullConsole
) -> tuple[tuple[float, ...], LrCurve | None]:
    """Return the peak rate of each trained group, and the finder's curve if it has run.

    Args:
        previous: rates of the stage before, for a stage whose `lr` is None.
    """
    find = p.stage.lr
    if p.lr is not None:
        return p.lr, None
    if not isinstance(find, Find):
        return tuple(previous), None
    curve = find_lr(context, p, stage, find, ui)
    rates = tuple(curve.chosen * share for share in ratios(dataclasses.replace(find, ratio=curve.ratio), p.trained))
    ui.say(f"  lr {', '.join(f'{g} {r:.2e}' for g, r in zip(p.trained, rates, strict=True))} by rule {curve.rule}: {curve.verdict}")
    if curve.confidence < 0.5:
        ui.say(f"  the finder is not sure of that rate: only {curve.agreement()}; lr.orders asks for more")
    return rates, curve


def ratios_tried(find: Find) -> tuple[float, ...]:
    """Return the ratios that a finder compares."""
    return find.ratio if isinstance(find.ratio, tuple) else (find.ratio,)
