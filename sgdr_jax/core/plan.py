"""Plan of an experiment before anything runs: what trains in each stage, for how many updates, at which rates and sizes.

`plan(experiment, train_size)` rejects experiments that contradict themselves. The plan can be printed, saved as CSV and compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .experiment import Experiment, Stage
from .learning_rates import Decay, Find, Spread
from .lengths import Clock, images_shown, in_steps
from .optimizers import Optimizer, Sgd
from .tables import checked_table
from .text import csv_text
from .types import Model, Table
from .validation import require, whole


@dataclass(frozen=True)
class StagePlan:
    """Plan of one stage, in whole steps."""

    stage: Stage
    """The stage as configured."""
    index: int
    """Position in the experiment, from 0."""
    groups: tuple[str, ...]
    """All layer groups of the model, from input to output."""
    trained: tuple[str, ...]
    """The groups that train, in the same order."""
    steps_per_epoch: int
    """Updates per epoch of the schedule."""
    batch_size: int
    """Images per update."""
    table: Table
    """The schedule, one row per update."""
    lr: tuple[float, ...] | None
    """Peak rate of each trained group; None if the finder decides at the start of the stage, or decided in the stage before."""
    sizes: np.ndarray
    """Side in pixels that the network sees in each update, int32 [steps]."""
    train_size: int
    """Number of training images of the set."""
    augments: bool
    """Whether its training images are augmented."""
    optimizer: Optimizer
    """The stage's optimizer, or the experiment's."""

    @property
    def steps(self) -> int:
        """Number of updates."""
        return len(self.table.scale)

    @property
    def images(self) -> int:
        """Training images seen, counted with repetition."""
        return self.images_in(self.steps)

    def images_in(self, steps: int) -> int:
        """Return how many training images the first updates see, counted with repetition."""
        if self.stage.solve:
            return self.train_size * max(self.copies, 1)
        return images_shown(steps, self.train_size, self.batch_size, self.stage.repeats)

    @property
    def size(self) -> int:
        """Side in pixels that the network sees at the end of the stage, and in validation; also of a stage that is cut off before it."""
        return self.stage.sizes[-1]

    @property
    def size_text(self) -> str:
        """All sizes in order: "96, 128"."""
        return ", ".join(map(str, self.stage.sizes))

    @property
    def epochs(self) -> float:
        """Length in epochs of the schedule."""
        return self.steps / self.steps_per_epoch

    @property
    def start(self) -> str:
        """Name of the first group that trains; the groups before it are frozen and need no gradients."""
        return self.trained[0]

    @property
    def frozen(self) -> tuple[str, ...]:
        """The groups before the first that trains."""
        return self.groups[: self.groups.index(self.start)]

    @property
    def copies(self) -> int:
        """Augmented copies of each image that the stage cycles through; 0 for fresh augmentation or none."""
        return self.stage.views if self.stage.augment else 0

    @property
    def collects(self) -> tuple[str, ...]:
        """Trained groups whose batch normalisation uses and collects batch statistics (`Stage.bn`); the head always does."""
        bn = self.stage.bn
        return self.trained if bn == "train" else tuple(g for g in self.trained if g == "head" or (bn != "frozen" and g in bn))

    @property
    def momentum(self) -> np.ndarray:
        """Momentum of each update, float64 [steps]."""
        return np.full(self.steps, self.optimizer.momentum) if self.table.momentum is None else self.table.momentum

    @property
    def scale(self) -> np.ndarray:
        """Rate of each trained group as a share of its peak in each update, float64 [steps, trained groups]."""
        rows = self.table.scale
        return rows if rows.ndim > 1 else np.repeat(rows[:, None], len(self.trained), axis=1)

    @property
    def weight_decay(self) -> np.ndarray:
        """Weight decay of each update, float64 [steps]."""
        share = np.ones(self.steps) if self.table.weight_decay is None else self.table.weight_decay
        return self.optimizer.weight_decay * share


@dataclass(frozen=True)
class Plan:
    """Plan of all stages of an experiment."""

    stages: tuple[StagePlan, ...]
    """In the order of the experiment."""
    train_size: int
    """Number of training images."""


def plan(experiment: Experiment, train_size: int) -> Plan:
    """Plan all stages of an experiment.

    Args:
        experiment: what to plan.
        train_size: number of training images, at least 1.

    Raises:
        InputError: a stage names an unknown group, gives a wrong number of rates, caches activations of a body that trains, or has a
            cycle shorter than one step; or all stages together exceed the budget. The message names stage and field.

    Example:
        >>> from sgdr_jax import fine_tune
        >>> from sgdr_jax.datasets import Synthetic
        >>> from sgdr_jax.models import ResNet34
        >>> [(p.stage.name, p.start, p.steps) for p in plan(fine_tune("rings", Synthetic(), ResNet34()), 640).stages]
        [('cached head', 'head', 1), ('all', 'early', 70)]
    """
    require(isinstance(experiment, Experiment), "experiment", experiment, "give an Experiment, such as fine_tune(FOLDER)")  # pyright: ignore[reportUnnecessaryIsInstance]
    require(whole(train_size), "training images", train_size, "give a whole number")
    require(1 <= train_size < 1 << 40, "training images", train_size, "give at least one, and less than a trillion")
    stages = tuple(_plan_stage(experiment, i, train_size) for i in range(len(experiment.stages)))
    if experiment.refit:
        check_unvalidated(experiment, stages, "refit trains on the validation images", patience=False)
    fitted = [p for p in stages if not p.stage.solve]
    budget, epochs = experiment.budget, sum(p.epochs for p in fitted)
    rounding = sum(0.5 / p.steps_per_epoch for p in fitted) + 1e-9
    if budget is not None and epochs > budget + rounding:
        parts = " + ".join(f"{p.epochs:g} ({p.stage.name})" for p in fitted)
        raise InputError(f"budget is {budget:g} epochs, but the stages take {epochs:g}: {parts}; shorten their schedules, or raise it")
    return Plan(stages, train_size)


def _plan_stage(experiment: Experiment, index: int, train_size: int) -> StagePlan:
    stage, groups = experiment.stages[index], experiment.model.groups
    trained = trained_groups(stage, groups)
    before = experiment.stages[index - 1] if index else None
    if stage.lr is None and before is not None and before.solve:
        raise InputError(f'stage "{stage.name}": lr is None, but the stage before is solved and has no rates; give rates, or Find()')
    batch_size = stage.batch_size or experiment.batch_size
    _check_stage(stage, experiment.model, trained, batch_size, train_size)
    if stage.solve:
        return _plan_solved(experiment, index, trained, train_size)
    if stage.lr is None and (before is None or trained_groups(before, groups) != trained):
        raise InputError(f'stage "{stage.name}": lr is None, but the stage before does not train the same groups; give rates, or Find()')
    steps_per_epoch = max(experiment.least_epoch_steps, math.ceil(train_size / batch_size))
    images = images_shown(steps_per_epoch * stage.repeats, train_size, batch_size, stage.repeats) / stage.repeats
    try:
        schedule = in_steps(stage.schedule, Clock(steps_per_epoch, images, experiment.budget))
        table = checked_table(schedule.table(steps_per_epoch), trained)
    except InputError as error:
        raise InputError(f'stage "{stage.name}": {error}') from error
    if isinstance(stage.lr, Find):
        finder_steps(stage.lr, steps_per_epoch, f'stage "{stage.name}": lr')
    steps = len(table.scale)
    return StagePlan(
        stage=stage,
        index=index,
        groups=groups,
        trained=trained,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        table=table,
        lr=peak_lrs(stage, trained),
        sizes=_sizes(stage, table.whole or steps, steps_per_epoch)[:steps],
        train_size=train_size,
        augments=stage.augment and bool(experiment.augment),
        optimizer=stage.optimizer or experiment.optimizer,
    )


def _plan_solved(experiment: Experiment, index: int, trained: tuple[str, ...], train_size: int) -> StagePlan:
    """Plan a stage whose head is solved: one update with all images."""
    model, stage = experiment.model, experiment.stages[index]
    field = f'stage "{stage.name}": '
    require(trained == ("head",), f"{field}train", stage.train, 'only the head can be solved; use train="head"')
    require(model.linear_head, f"{field}solve", stage.solve, "only a linear head can be solved; use model.hidden=0 (model.head=new)")
    assert isinstance(stage.size, int)
    return StagePlan(
        stage=stage,
        index=index,
        groups=model.groups,
        trained=trained,
        steps_per_epoch=1,
        batch_size=train_size,
        table=Table(np.ones(1), np.zeros(1, np.int32)),
        lr=(0.0,),
        sizes=np.full(1, stage.size, np.int32),
        train_size=train_size,
        augments=stage.augment and bool(experiment.augment),
        optimizer=Sgd(momentum=0.0),
    )


def _check_stage(stage: Stage, model: Model, trained: tuple[str, ...], batch_size: int, train_size: int) -> None:
    """Raise InputError if a stage contradicts the model, the batch size or the number of images."""
    field, groups = f'stage "{stage.name}": ', model.groups
    if stage.precompute and trained[0] == groups[0]:
        raise InputError(
            f"{field}precompute is True but the first layer group, {groups[0]}, trains, so nothing is fixed to be cached; "
            f'use train="head" (or other groups after {groups[0]}), or precompute=False'
        )
    for name, value, others in (("bn", stage.bn, "train, frozen"), ("recalibrate", stage.recalibrate, "True, False")):
        known = not isinstance(value, tuple) or set(value) <= set(groups)
        require(known, f"{field}{name}", value, f"use {others}, or names out of {', '.join(groups)}")
    divisor = f"use a divisor of the batch size, {batch_size}"
    require(batch_size % stage.repeats == 0, f"{field}repeats", stage.repeats, divisor)
    require(batch_size % stage.accumulate == 0, f"{field}accumulate", stage.accumulate, divisor)
    least = min(stage.sizes)
    require(least >= model.smallest, f"{field}size", stage.size, f"{type(model).__name__} takes images of {model.smallest} pixels or more")
    most = 2**32 // train_size
    require(stage.views <= most, f"{field}views", stage.views, f"with {train_size:,} images use at most {most:,}")


def _sizes(stage: Stage, steps: int, steps_per_epoch: int) -> np.ndarray:
    """Return the size of each update; several share the stage's epochs as evenly as whole epochs allow."""
    sizes = stage.sizes
    epochs = steps / steps_per_epoch
    enough = len(sizes) == 1 or epochs >= len(sizes)
    require(enough, f'stage "{stage.name}": size', sizes, f"the stage has {epochs:g} epochs; give no more sizes")
    ends = [round(epochs * i / len(sizes)) * steps_per_epoch for i in range(1, len(sizes))]
    return np.repeat(np.array(sizes, np.int32), np.diff([0, *ends, steps]))


def check_unvalidated(experiment: Experiment, stages: Sequence[StagePlan], why: str, *, patience: bool = True) -> None:
    """Raise InputError for whatever needs validation images: stopping, plateaus, comparing networks.

    Args:
        experiment: that the stages belong to.
        stages: its plan.
        why: reason for the message.
        patience: whether to reject `Stage.patience` too; not where a refit is why, which may be left out instead.
    """
    other = "" if patience else ", or train with refit=False (--no-refit)"
    for p in stages:
        field = f'stage "{p.stage.name}": '
        require(not (patience and p.stage.patience), f"{field}patience", p.stage.patience, f"{why}; use None")
        require(not p.table.plateau, f"{field}schedule", p.stage.schedule, f"{why}; use one that does not wait for plateaus{other}")
        require(not p.optimizer.ema, f"{field}optimizer.ema", p.optimizer.ema, f"{why}, to compare it; use 0{other}")
    require(not experiment.snapshots, "snapshots", experiment.snapshots, f"{why}, to compare them; keep none{other}")


def trained_groups(stage: Stage, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layer groups that `stage.train` selects, in model order.

    Raises InputError for an unknown group or an index out of range.

    Example:
        >>> from sgdr_jax.schedules import Constant
        >>> trained_groups(Stage("a", train=1, schedule=Constant()), ("early", "late", "head"))
        ('late', 'head')
    """
    train, field = stage.train, f'stage "{stage.name}": train'
    if train == "all":
        return groups
    if isinstance(train, int):
        require(-len(groups) <= train < len(groups), field, train, f"the groups are {dict(enumerate(groups))}")
        return groups[train:]
    names = (train,) if isinstance(train, str) else train
    require(bool(names) and set(names) <= set(groups), field, train, f'use "all" or names out of {", ".join(groups)}')
    return tuple(g for g in groups if g in names)


def peak_lrs(stage: Stage, trained: tuple[str, ...]) -> tuple[float, ...] | None:
    """Return the peak rate of each trained group; None if it is found, or taken from the stage before.

    Raises InputError, naming the groups, if the number of rates differs from theirs.
    """
    lr, n = stage.lr, len(trained)
    if lr is None or isinstance(lr, Find):
        return None
    if isinstance(lr, Spread):
        return tuple(np.geomspace(lr.lo, lr.hi, n).tolist()) if n > 1 else (lr.hi,)
    if isinstance(lr, Decay):
        return tuple(lr.lr * lr.factor**i for i in reversed(range(n)))
    if isinstance(lr, tuple):
        require(len(lr) == n, f'stage "{stage.name}": lr', lr, f"give one rate, or {n}: one for each of {', '.join(trained)}")
        return lr
    return (float(lr),) * n


def ratios(find: Find, trained: tuple[str, ...]) -> tuple[float, ...]:
    """Return each trained group's rate as a share of the last one's: 1/ratio^(distance). Of several ratios, the first counts.

    Example:
        >>> ratios(Find(ratio=10), ("early", "late", "head"))
        (0.01, 0.1, 1.0)
    """
    ratio = find.ratio[0] if isinstance(find.ratio, tuple) else find.ratio
    return tuple(float(ratio) ** -i for i in reversed(range(len(trained))))


def finder_steps(find: Find, steps_per_epoch: int, where: str) -> int:
    """Return the updates per order of a finder: `Find.steps` within `Find.epochs`. Raises InputError if these are under eight."""
    steps = min(find.steps, int(find.epochs * steps_per_epoch + 1e-9))
    often = "" if steps_per_epoch >= 20 else "go through the images more often per epoch (epoch_steps=20), "
    longer = math.ceil(100 * 8 / steps_per_epoch) / 100
    fix = (
        f"the finder has {steps} updates in {find.epochs:g} epochs of {steps_per_epoch}, and needs 8; "
        f"{often}let it go on for longer (lr=Find(epochs={longer:g})), or give rates"
    )
    require(steps >= 8, where, "Find", fix)
    return steps


def describe(p: StagePlan) -> dict[str, str]:
    """Return a stage as a row of a table, column name to text."""
    lengths = np.diff((0, *p.table.ends))
    if p.stage.solve:
        lr = "none: solved"
    elif p.stage.lr is None:
        lr = "as before"
    elif p.lr is None:
        assert isinstance(p.stage.lr, Find)
        shares = ratios(p.stage.lr, p.trained)
        lr = f"find ({p.stage.lr.rule})" + (" × " + ", ".join(f"{s:.3g}" for s in shares) if len(shares) > 1 else "")
    else:
        lr = ", ".join(f"{x:.3g}" for x in p.lr)
    lr += f"; × {p.table.plateau.factor:g} on plateaus" if p.table.plateau else ""
    source = "cached" if p.stage.precompute else "images"
    augmented = "plain" if not p.augments else f"{p.stage.views} views" if p.stage.views else "augmented"
    cycles = ", ".join(map(str, lengths[:6])) + (", …" if len(lengths) > 6 else "")
    return {
        "stage": p.stage.name,
        "size": p.size_text,
        "trains": ", ".join(p.trained),
        "from": f"{source}, {augmented}",
        "lr": lr,
        "epochs": f"{p.epochs:g}",
        "steps": str(p.steps),
        "steps of each cycle": cycles,
        "images seen": f"{p.images:,}",
    }


def as_csv(p: Plan) -> str:
    """Return every update of a plan as CSV.

    The columns are stage, step, epoch, cycle, size, momentum, weight decay, the rate of each group, and `lr_known`: 1, or 0 where the
    finder will decide and the rates are shares of its choice.
    """
    groups, peaks, known = p.stages[0].groups, (), False
    rows: list[list[object]] = [["stage", "step", "epoch", "cycle", "size", "momentum", "weight_decay"]]
    rows[0] += [*(f"lr_{g}" for g in groups), "lr_known"]
    for s in p.stages:
        if s.stage.lr is not None:
            known = s.lr is not None
            peaks = s.lr or (ratios(s.stage.lr, s.trained) if isinstance(s.stage.lr, Find) else ())
        peak = dict(zip(s.trained, peaks, strict=True))
        for step, (scales, cycle, momentum, decay) in enumerate(zip(s.scale, s.table.cycle, s.momentum, s.weight_decay, strict=True)):
            scale = dict(zip(s.trained, scales, strict=True))
            rates = [f"{peak[g] * scale[g]:.8g}" if g in peak else "0" for g in groups]
            epoch = f"{step / s.steps_per_epoch:.4f}"
            rows.append([s.stage.name, step, epoch, cycle, s.sizes[step], f"{momentum:.6g}", f"{decay:.6g}", *rates, int(known)])
    return csv_text(rows)


def as_text(plan: Plan) -> str:
    """Return the plan as text, a block of lines per stage."""
    return "\n\n".join("\n".join(f"{key:>20}  {value}" for key, value in describe(p).items()) for p in plan.stages) + "\n"
