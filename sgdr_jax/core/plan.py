"""An experiment worked out before anything runs: what trains in each stage, for how many updates, at which rates and sizes.

`plan(experiment, train_size)` refuses recipes that contradict themselves. The result can be printed, saved as CSV and compared.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .experiment import Experiment, Stage
from .learning_rates import Decay, Find, Spread
from .lengths import Clock, in_steps
from .optimizers import Optimizer
from .types import Table
from .validation import require


@dataclass(frozen=True)
class StagePlan:
    """One stage in whole steps.

    Attributes:
        stage: what was asked for.
        index: position in the experiment, from 0.
        groups: all layer groups of the model, from input to output.
        trained: the groups that train, in the same order.
        passes: times the training set is gone through per epoch of the schedule.
        steps_per_epoch: updates per epoch of the schedule.
        batch_size: images per update.
        table: the schedule, one row per update.
        lr: peak rate of each trained group, or None where the finder decides at the start of the stage, or the stage before has.
        sizes: side in pixels that the network sees in each update, int32 [steps].
        images: training images seen, counted with repetition.
        optimizer: the stage's own optimizer, or the experiment's.
    """

    stage: Stage
    index: int
    groups: tuple[str, ...]
    trained: tuple[str, ...]
    passes: int
    steps_per_epoch: int
    batch_size: int
    table: Table
    lr: tuple[float, ...] | None
    sizes: np.ndarray
    images: int
    optimizer: Optimizer

    @property
    def steps(self) -> int:
        """Number of updates."""
        return len(self.table.scale)

    @property
    def size(self) -> int:
        """Side in pixels that the network sees in the end, and in validation."""
        return int(self.sizes[-1])

    @property
    def size_text(self) -> str:
        """All sizes in turn: "96, 128"."""
        return ", ".join(map(str, self.stage.size if isinstance(self.stage.size, tuple) else (self.stage.size,)))

    @property
    def epochs(self) -> float:
        """Length in epochs of the schedule."""
        return self.steps / self.steps_per_epoch

    @property
    def start(self) -> str:
        """Name of the first group that trains; all before it is frozen and needs no gradients."""
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
        """Trained groups whose batch normalisation uses and collects batch statistics, as `Stage.bn` says; the head always does."""
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
    """All stages of an experiment in whole steps, for a training set of `train_size` images."""

    stages: tuple[StagePlan, ...]
    train_size: int

    @property
    def largest_size(self) -> int:
        """Largest side in pixels that any stage sees."""
        return max(int(s.sizes.max()) for s in self.stages)


def trained_groups(stage: Stage, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The layer groups that `stage.train` names, in model order.

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
    """Peak rate of each trained group; None where it is found, or taken from the stage before.

    Raises InputError, naming the groups, when their number differs.
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
    """Each trained group's rate as a share of the head's: 1/ratio^(groups between), 1 for the last. Of several ratios, the first.

    Example:
        >>> ratios(Find(ratio=10), ("early", "late", "head"))
        (0.01, 0.1, 1.0)
    """
    ratio = find.ratio[0] if isinstance(find.ratio, tuple) else find.ratio
    return tuple(float(ratio) ** -i for i in reversed(range(len(trained))))


def finder_steps(find: Find, steps_per_epoch: int, where: str) -> int:
    """Updates of one order of a finder: `Find.steps`, within `Find.epochs`. Raises InputError when these are under eight."""
    steps = min(find.steps, int(find.epochs * steps_per_epoch + 1e-9))
    fix = (
        f"the finder has {steps} updates in {find.epochs:g} epochs of {steps_per_epoch}, and needs 8; go through the images more often per "
        f"epoch (epoch_steps={max(20, steps_per_epoch)}), let it go on for longer (lr.epochs={-(-8 // steps_per_epoch)}), or give rates"
    )
    require(steps >= 8, where, "Find", fix)
    return steps


def plan_stage(experiment: Experiment, index: int, train_size: int) -> StagePlan:
    """Works out one stage; see `plan`."""
    stage, groups = experiment.stages[index], experiment.model.groups
    trained = trained_groups(stage, groups)
    if stage.precompute and trained[0] == groups[0]:
        raise InputError(
            f'stage "{stage.name}": precompute is True but the first layer group, {groups[0]}, trains, so nothing is fixed to be cached; '
            f'use train="head" (or other groups after {groups[0]}), or precompute=False'
        )
    unknown = set(stage.bn) - set(groups) if isinstance(stage.bn, tuple) else set()
    require(not unknown, f'stage "{stage.name}": bn', stage.bn, f"use train, frozen, or names out of {', '.join(groups)}")
    odd = set(stage.recalibrate) - set(groups) if isinstance(stage.recalibrate, tuple) else set()
    require(not odd, f'stage "{stage.name}": recalibrate', stage.recalibrate, f"use True, False, or names out of {', '.join(groups)}")
    before = experiment.stages[index - 1] if index else None
    if stage.lr is None and (before is None or trained_groups(before, groups) != trained):
        raise InputError(f'stage "{stage.name}": lr is None, but the stage before does not train the same groups; give rates, or Find()')
    batch_size = stage.batch_size or experiment.batch_size
    fits = batch_size % stage.repeats == 0
    require(fits, f'stage "{stage.name}": repeats', stage.repeats, f"use a divisor of the batch size, {batch_size}")
    even = batch_size % stage.accumulate == 0
    require(even, f'stage "{stage.name}": accumulate', stage.accumulate, f"use a divisor of the batch size, {batch_size}")
    batches = math.ceil(train_size / batch_size)
    passes = math.ceil(experiment.epoch_steps / batches)
    try:
        table = in_steps(stage.schedule, Clock(passes * batches, passes * train_size, experiment.budget)).table(passes * batches)
        check_columns(table, trained)
    except InputError as error:
        raise InputError(f'stage "{stage.name}": {error}') from error
    if isinstance(stage.lr, Find):
        finder_steps(stage.lr, passes * batches, f'stage "{stage.name}": lr')
    full, rest = divmod(len(table.scale), batches)
    return StagePlan(
        stage=stage,
        index=index,
        groups=groups,
        trained=trained,
        passes=passes,
        steps_per_epoch=passes * batches,
        batch_size=batch_size,
        table=table,
        lr=peak_lrs(stage, trained),
        sizes=_sizes(stage, len(table.scale), passes * batches),
        images=full * train_size + min(rest * batch_size, train_size),
        optimizer=stage.optimizer or experiment.optimizer,
    )


def check_columns(table: Table, trained: tuple[str, ...]) -> None:
    """Raises InputError when a schedule has a column of rates for each group, but not for these groups."""
    columns = table.scale.shape[1] if table.scale.ndim > 1 else len(trained)
    require(columns == len(trained), "schedule.groups", columns, f"give {len(trained)} schedules: one for each of {', '.join(trained)}")


def _sizes(stage: Stage, steps: int, per_epoch: int) -> np.ndarray:
    """The size of each update: several share the stage's epochs as evenly as whole epochs allow."""
    sizes = stage.size if isinstance(stage.size, tuple) else (stage.size,)
    epochs = steps / per_epoch
    require(
        len(sizes) == 1 or epochs >= len(sizes),
        f'stage "{stage.name}": size',
        sizes,
        f"the stage has {epochs:g} epochs; give no more sizes",
    )
    ends = [round(epochs * i / len(sizes)) * per_epoch for i in range(1, len(sizes))]
    return np.repeat(np.array(sizes, np.int32), np.diff([0, *ends, steps]))


def check_unvalidated(experiment: Experiment, stages: Sequence[StagePlan], why: str, *, patience: bool = True) -> None:
    """Raises InputError, saying `why`, for what needs validation images: stopping, plateaus, comparing networks.

    Args:
        patience: whether `Stage.patience` is to be refused too.
    """
    for p in stages:
        where = f'stage "{p.stage.name}": '
        require(not (patience and p.stage.patience), f"{where}patience", p.stage.patience, f"{why}; use None")
        require(not p.table.plateau, f"{where}schedule", p.stage.schedule, f"{why}; use one that does not wait for plateaus")
        require(not p.optimizer.ema, f"{where}optimizer.ema", p.optimizer.ema, f"{why}, to compare it; use 0")
    require(not experiment.snapshots, "snapshots", experiment.snapshots, f"{why}, to compare them; keep none")


def plan(experiment: Experiment, train_size: int) -> Plan:
    """The whole experiment in whole steps for `train_size` ≥ 1 training images.

    Raises InputError, naming stage and field, when a stage names an unknown group, gives a wrong number of rates, caches activations
    of a body that trains, or has a cycle under one step, and when all stages together are longer than the budget.
    """
    require(train_size >= 1, "training images", train_size, "give at least one")
    made = Plan(tuple(plan_stage(experiment, i, train_size) for i in range(len(experiment.stages))), train_size)
    if experiment.refit:
        check_unvalidated(experiment, made.stages, "refit trains on the validation images", patience=False)
    budget, epochs = experiment.budget, [s.epochs for s in made.stages]
    if budget is not None and sum(epochs) > budget + sum(0.5 / s.steps_per_epoch for s in made.stages) + 1e-9:  # lengths are rounded
        told = " + ".join(f"{n:g} ({s.stage.name})" for n, s in zip(epochs, made.stages, strict=True))
        raise InputError(f"budget is {budget:g} epochs, but the stages take {sum(epochs):g}: {told}; shorten their schedules, or raise it")
    return made


def describe(p: StagePlan) -> dict[str, str]:
    """One stage as short strings, column name to text, for tables."""
    lengths = np.diff((0, *p.table.ends))
    if p.stage.lr is None:
        lr = "as before"
    elif p.lr is None:
        assert isinstance(p.stage.lr, Find)
        shares = ratios(p.stage.lr, p.trained)
        lr = f"find ({p.stage.lr.rule})" + (" × " + ", ".join(f"{s:.3g}" for s in shares) if len(shares) > 1 else "")
    else:
        lr = ", ".join(f"{x:.3g}" for x in p.lr)
    lr += f"; × {p.table.plateau.factor:g} on plateaus" if p.table.plateau else ""
    source = "cached" if p.stage.precompute else "images"
    augmented = "plain" if not p.stage.augment else f"{p.stage.views} views" if p.stage.views else "augmented"
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
    """Every update of the plan as CSV: stage, step, epoch, cycle, size, momentum, weight decay, and each group's rate (`lr_known` 1) or
    share of a rate that the finder will decide (0)."""
    out = io.StringIO()
    groups, peaks, known = p.stages[0].groups, (), False
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "step", "epoch", "cycle", "size", "momentum", "weight_decay", *(f"lr_{g}" for g in groups), "lr_known"])
    for s in p.stages:
        if s.stage.lr is not None:
            known = s.lr is not None
            peaks = ratios(s.stage.lr, s.trained) if isinstance(s.stage.lr, Find) else s.lr or ()
        share = dict(zip(s.trained, peaks, strict=True))
        for step, (scales, cycle, momentum, decay) in enumerate(zip(s.scale, s.table.cycle, s.momentum, s.weight_decay, strict=True)):
            scale = dict(zip(s.trained, scales, strict=True))
            rates = [f"{share[g] * scale[g]:.8g}" if g in share else "0" for g in groups]
            writer.writerow(
                [
                    s.stage.name,
                    step,
                    f"{step / s.steps_per_epoch:.4f}",
                    cycle,
                    s.sizes[step],
                    f"{momentum:.6g}",
                    f"{decay:.6g}",
                    *rates,
                    int(known),
                ]
            )
    return out.getvalue()
