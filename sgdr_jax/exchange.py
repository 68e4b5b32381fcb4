"""The meeting of a population at a restart: who goes on as whom, with which values; see `population`. Also what a population cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from . import checkpoint
from .config import require
from .loop import Score, Standing
from .models.base import ChainModel
from .plan import plan
from .population import Population, order, weakness
from .rng import key_for
from .state import TrainState
from .sweep import SweepRun
from .types import Source


class Member(NamedTuple):
    """What a run brings to a restart, and what it goes on with.

    Attributes:
        run: hash of the run that this comes from.
        stage: index of the stage.
        score: on the validation images, just now.
        state: with the optimizer's.
        standing: with the peak values.
    """

    run: str
    stage: int
    score: Score
    state: TrainState
    standing: Standing


class Exchange:
    """Lets members copy members; what they draw is derived from seed, stage, step and stream, so that it is the same every time.

    Args:
        how: who is replaced, and what is changed.
        seed: that the draws are derived from.
        due: whether it is time for checkpoints; asked once at each meeting, for all members, so that all have the same ones.
    """

    def __init__(self, how: Population, seed: int, due: Callable[[], bool]) -> None:
        self._how, self._seed, self._due = how, seed, due
        self._save = False

    def due(self) -> bool:
        """Whether a member is to save, as was decided when all met."""
        return self._save

    def __call__(self, members: Mapping[int, Member]) -> dict[int, tuple[Member, dict[str, Any]]]:
        """What each goes on with, and a row for its metrics: its rank, the run that its state comes from, and the peak values."""
        self._save = self._due()
        ((stage, step),) = {(m.stage, int(m.state.step)) for m in members.values()}
        ranked, key = order({i: m.score for i, m in members.items()}), jax.random.fold_in(key_for(self._seed, "population", stage), step)
        count, after = self._how.count(len(ranked)), dict(members)
        for place, weak in enumerate(ranked[len(ranked) - count :]):
            which, *turns = jax.random.split(jax.random.fold_in(key, place), 1 + len(self._how.fields))
            strong = members[ranked[int(jax.random.randint(which, (), 0, count))]]
            if weakness(*strong.score) < weakness(*members[weak].score):
                raised = {field: bool(jax.random.bernoulli(turn)) for field, turn in zip(self._how.fields, turns, strict=True)}
                after[weak] = strong._replace(standing=self._changed(strong.standing, raised))
        return {i: (m, self._row(m, ranked.index(i), len(ranked))) for i, m in after.items()}

    def _changed(self, standing: Standing, raised: Mapping[str, bool]) -> Standing:
        """With each of these values multiplied, or divided."""
        by = {field: self._how.factor if up else 1 / self._how.factor for field, up in raised.items()}
        lr, decay = (by.get(field, 1.0) for field in ("lr", "weight_decay"))
        return standing._replace(lr=tuple(peak * lr for peak in standing.lr), weight_decay=standing.weight_decay * decay)

    def _row(self, member: Member, rank: int, members: int) -> dict[str, Any]:
        values = {"lr": list(member.standing.lr), "weight_decay": member.standing.weight_decay}
        return {"kind": "population", "rank": 1 + rank, "members": members, "from": member.run} | values


def align(folders: Sequence[Path]) -> None:
    """Deletes the checkpoints that not all of these folders have whole, so that an interrupted population goes on from one update, if need
    be the first: nobody may be ahead of a meeting that the others have yet to come to."""
    common = set.intersection(*({name for name in checkpoint.names(folder) if _whole(folder, name)} for folder in folders))
    for folder in folders:
        for name in set(checkpoint.names(folder)) - common:
            shutil.rmtree(folder / name)


def _whole(folder: Path, name: str) -> bool:
    try:
        return bool(checkpoint.verify(folder, name))
    except checkpoint.Damaged:
        return False


def check(runs: Sequence[SweepRun], groups: Sequence[Sequence[SweepRun]], source: Source) -> None:
    """Raises InputError where the runs of a sweep cannot be a population.

    Args:
        groups: the runs as far as they can be lanes of one another; see `workers.together`.
        source: the data of the first.
    """

    def refuse(ok: bool, value: object, why: str) -> None:
        require(ok, "population", value, why)

    refuse(len(runs) >= 4, f"{len(runs)} runs", "it needs 4 members: give the sweep more arms or seeds")
    other = f"{groups[0][0].arm}, {groups[-1][0].arm}"
    refuse(len(groups) == 1, other, "these are different programs; let the arms differ in rates, decay, seeds and augmentation only")
    refuse("valid" in source.labels, "unjudged", "there are no validation images to judge the members by; hold some out")
    plans = [plan(run.experiment, source.sizes["train"]).stages for run in runs]
    refuse(any(len(p.table.ends) > 1 for p in plans[0]), "a single cycle", "members meet at restarts: give a stage two cycles or more")
    for run, stages in zip(runs, plans, strict=True):
        refuse(not run.experiment.refit, f"{run.arm} with refit", "a refit cannot repeat what came from other members; use refit=False")
        for p, first in zip(stages, plans[0], strict=True):
            where = f'{run.arm}, stage "{p.stage.name}"'
            refuse(tuple(p.table.ends) == tuple(first.table.ends), where, "members meet at restarts: give all the same cycles")
            refuse(p.stage.patience is None, f"{where} with patience", "one that stops early would miss the others; use patience=None")
    model, drawn = runs[0].experiment.model, set()
    if len({run.seed for run in runs}) > 1:
        drawn = {"head"} if isinstance(model, ChainModel) and model.weights is not None else set(plans[0][0].groups)
    for p in plans[0]:
        own = ", ".join(g for g in p.frozen if g in drawn)
        refuse(
            not own,
            f'stage "{p.stage.name}"',
            f"it freezes {own}, which each member has its own of: train that too, or freeze it from the start",
        )
        drawn |= set(p.trained)
