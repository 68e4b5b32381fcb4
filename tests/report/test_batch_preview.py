"""The contact sheet shows what the stage's first update sees."""

import pytest

from sgdr_jax import Experiment, Stage
from sgdr_jax.augment import Rotate
from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import Mix, Synthetic
from sgdr_jax.report.batch_preview import preview_batch
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage_inputs import stage_batches

from ..helpers import Tiny

SETS = tuple(Synthetic(classes=4, train=24, valid=4, side=16, seed=seed) for seed in (0, 1))


@pytest.mark.parametrize("weights", [(), (5.0, 1.0)])
def test_the_first_draw_is_the_first_batch(weights: tuple[float, ...]) -> None:
    stage = Stage("all", size=16, lr=0.1, schedule=Sgdr(1))
    experiment = Experiment("shown", Mix(SETS, weights), Tiny(), (stage,), augment=(Rotate(),), batch_size=8, seed=3)
    shown = preview_batch(experiment, count=8)
    context = prepare(experiment)
    fed = next(stage_batches(context, context.plan.stages[0], 0, 1))
    labels = [context.data.classes[label] for label in context.data.labels["train"][fed.batch.index]]
    assert [row[shown.titles.index("draw 1")] for row in shown.captions] == labels
    assert shown.tiles.shape == (8, len(shown.titles), 16, 16, 3)


def test_sizes_of_a_stage_begin_with_the_first() -> None:
    stage = Stage("all", size=(8, 16), lr=0.1, schedule=Sgdr(2))
    shown = preview_batch(Experiment("shown", SETS[0], Tiny(), (stage,), batch_size=8), count=2)
    assert shown.tiles.shape[2:4] == (8, 8)
    with pytest.raises(InputError, match=r"stage is 1; the stages are 0 \(all\)"):
        preview_batch(Experiment("shown", SETS[0], Tiny(), (stage,), batch_size=8), stage=1)
