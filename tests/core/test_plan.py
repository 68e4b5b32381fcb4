"""Plans against counting by hand, and the recipes that are refused before anything runs."""

import csv
import dataclasses
import io
import itertools
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import AdamW, Decay, Find, InputError, Sgd, Spread, Stage, lesson2
from sgdr_jax.augment import Flip
from sgdr_jax.core.plan import as_csv, describe, peak_lrs, plan, ratios, trained_groups
from sgdr_jax.data.sampler import Sampler, repeated
from sgdr_jax.schedules import Combined, Constant, Cosine, Images, OneCycle, Plateau, Sgdr, Share, Steps

from ..helpers import experiment, seeded

GROUPS = ("early", "late", "head")


def stage(**fields: Any) -> Stage:
    return Stage(**{"name": "s", "lr": 0.1, "schedule": Sgdr(2)} | fields)


@pytest.mark.parametrize(
    ("train", "trained"),
    [
        ("all", GROUPS),
        ("head", ("head",)),
        ("early", ("early",)),
        (("head", "early"), ("early", "head")),
        (("late",), ("late",)),
        (0, GROUPS),
        (1, ("late", "head")),
        (-1, ("head",)),
        (-3, GROUPS),
    ],
)
def test_what_trains_is_in_model_order(train: Any, trained: tuple[str, ...]) -> None:
    s = stage(train=train)
    assert trained_groups(s, GROUPS) == trained
    p = plan(experiment(s), 20).stages[0]
    assert (p.trained, p.groups, p.start) == (trained, GROUPS, trained[0])
    assert p.frozen == GROUPS[: GROUPS.index(trained[0])]


@pytest.mark.parametrize("train", ["body", "", ("early", "tail"), (), 3, -4])
def test_unknown_groups_are_refused_with_the_groups_there_are(train: Any) -> None:
    with pytest.raises(InputError) as error:
        plan(experiment(stage(train=train)), 20)
    assert str(error.value).startswith(f'stage "s": train is {train!r}; ')
    assert all(group in str(error.value) for group in GROUPS)


@pytest.mark.parametrize(
    ("lr", "train", "peaks"),
    [
        (0.1, "all", (0.1, 0.1, 0.1)),
        ((1e-3, 1e-2, 1e-1), "all", (1e-3, 1e-2, 1e-1)),
        ((0.5,), "head", (0.5,)),
        (Spread(1e-4, 1e-2), "all", (1e-4, 1e-3, 1e-2)),
        (Spread(1e-4, 1e-2), 1, (1e-4, 1e-2)),
        (Spread(1e-4, 1e-2), "head", (1e-2,)),
        (1, "head", (1.0,)),
        (Decay(1e-2, 0.1), "all", (1e-4, 1e-3, 1e-2)),
        (Decay(1e-2, 0.5), ("early", "head"), (5e-3, 1e-2)),
    ],
)
def test_every_trained_group_has_a_rate(lr: Any, train: Any, peaks: tuple[float, ...]) -> None:
    p = plan(experiment(stage(lr=lr, train=train)), 20).stages[0]
    assert p.lr == pytest.approx(peaks, rel=1e-12) and all(isinstance(x, float) for x in p.lr)


@pytest.mark.parametrize(("lr", "train", "number"), [((0.1, 0.2), "all", 3), ((0.1, 0.2, 0.3), 1, 2), ((0.1,), "all", 3), ((), "head", 1)])
def test_a_wrong_number_of_rates_is_refused_with_the_groups(lr: Any, train: Any, number: int) -> None:
    s = stage(lr=lr, train=train)
    with pytest.raises(InputError) as error:
        plan(experiment(s), 20)
    trained = ", ".join(trained_groups(s, GROUPS))
    assert str(error.value) == f'stage "s": lr is {lr!r}; give one rate, or {number}: one for each of {trained}'


def test_find_leaves_the_rates_open_but_not_their_ratios() -> None:
    find = Find(ratio=10)
    s = stage(lr=find)
    assert peak_lrs(s, GROUPS) is None
    assert plan(experiment(s), 64).stages[0].lr is None
    assert ratios(find, GROUPS) == pytest.approx((0.01, 0.1, 1.0))
    assert ratios(Find(ratio=3), ("late", "head")) == pytest.approx((1 / 3, 1.0))
    assert ratios(find, ("head",)) == (1.0,)


def test_the_rates_of_the_stage_before_can_be_kept_where_the_same_groups_train() -> None:
    first, again = stage(train=1, lr=(0.01, 0.1)), stage(name="again", train=("late", "head"), lr=None)
    whole = plan(experiment(first, again, stage(name="once more", train=1, lr=None)), 8)
    assert [p.lr for p in whole.stages] == [(0.01, 0.1), None, None] and describe(whole.stages[2])["lr"] == "as before"
    rows = list(csv.DictReader(io.StringIO(as_csv(whole))))
    assert [(row["lr_early"], row["lr_late"], row["lr_head"], row["lr_known"]) for row in rows[::2]] == [("0", "0.01", "0.1", "1")] * 3
    for wrong in ((again,), (stage(), again), (first, stage(name="b", lr=None))):
        with pytest.raises(InputError, match=r'stage ".*": lr is None, but the stage before does not train the same groups; give rates'):
            plan(experiment(*wrong), 8)


@pytest.mark.parametrize("train", ["all", 0, "early", ("early", "head")])
def test_caching_activations_of_a_body_that_trains_is_refused(train: Any) -> None:
    cached = {"precompute": True, "augment": False}
    with pytest.raises(InputError, match=r'stage "s": precompute is True but the first layer group, early, trains.* use train="head"'):
        plan(experiment(stage(train=train, **cached)), 20)
    for fine in ("head", 1, ("late",)):
        plan(experiment(stage(train=fine, **cached)), 20)


def test_a_cycle_under_one_step_is_refused_with_the_stage() -> None:
    s = stage(schedule=Sgdr(3, cycle_len=0.5, cycle_mult=0.5))
    plan(experiment(s), 64)  # 8 steps: 4, 2, 1
    with pytest.raises(InputError, match=r'^stage "s": cycle 2 of the schedule is 0\.125 epochs of 7 steps, less than one step; use'):
        plan(experiment(s), 56)


@pytest.mark.parametrize("size", [0, -3])
def test_no_training_images_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"training images is {size}; give at least one"):
        plan(experiment(), size)


@pytest.mark.parametrize("size", [None, "5", 5.5, 8.0, True, float("nan"), [5]])
def test_a_number_of_images_of_another_kind_is_refused(size: Any) -> None:
    with pytest.raises(InputError, match=r"^training images is .*; give a whole number$"):
        plan(experiment(), size)
    assert plan(experiment(), np.int64(56)).train_size == 56
    with pytest.raises(InputError, match=r"^experiment is .*; give an Experiment"):
        plan(size, 56)


@seeded
@given(
    train_size=st.integers(1, 300),
    batch_size=st.integers(1, 70),
    epoch_steps=st.integers(1, 30),
    epochs=st.sampled_from([1, 2, 1.5, 3.25]),
    own=st.none() | st.integers(1, 70),
    repeats=st.sampled_from([1, 1, 2, 3]),
)
def test_steps_and_images_are_what_the_batches_are(
    train_size: int, batch_size: int, epoch_steps: int, epochs: float, own: int | None, repeats: int
) -> None:
    batch_size, own = batch_size * repeats, own and own * repeats
    s = stage(schedule=Constant(epochs), batch_size=own, repeats=repeats)
    p = plan(experiment(s, batch_size=batch_size, epoch_steps=epoch_steps), train_size).stages[0]
    size = own or batch_size
    batches = -(-train_size // size)
    assert p.batch_size == size
    assert p.steps_per_epoch == max(batches, epoch_steps)
    assert p.steps == math.floor(epochs * p.steps_per_epoch + 0.5)
    assert p.epochs == pytest.approx(epochs, abs=0.5 / p.steps_per_epoch + 1e-9)
    if p.steps < 300:
        labels = np.zeros(train_size, np.int32)
        given = repeated(Sampler(0, 0, labels).batches(batch_size=size, steps=p.steps), repeats)
        seen = [int(b.weight.sum()) for b in itertools.islice(given, p.steps)]
        assert len(seen) == p.steps and sum(seen) == p.images
        assert [p.images_in(steps) for steps in range(p.steps + 1)] == [sum(seen[:steps]) for steps in range(p.steps + 1)]


def test_a_stage_overrides_the_experiment() -> None:
    e = experiment(stage(), stage(name="t", batch_size=3, optimizer=AdamW(), size=96), optimizer=Sgd(0.8), batch_size=5)
    whole = plan(e, 30)
    first, second = whole.stages
    assert (first.batch_size, first.optimizer, first.steps, first.index) == (5, Sgd(0.8), 12, 0)
    assert (second.batch_size, second.optimizer, second.steps, second.index) == (3, AdamW(), 20, 1)
    assert e.largest_size == 224 and whole.train_size == 30


def test_momentum_is_the_schedules_or_the_optimizers() -> None:
    e = experiment(stage(), stage(name="t", schedule=OneCycle(1, momentum=(0.95, 0.85))), optimizer=Sgd(0.8))
    first, second = plan(e, 80).stages
    np.testing.assert_array_equal(first.momentum, np.full(20, 0.8))
    assert second.momentum[0] == 0.95 and second.momentum.min() == 0.85 and len(second.momentum) == 10


def test_batch_normalisation_collects_where_it_trains_or_in_the_head_alone() -> None:
    def collects(**fields: Any) -> tuple[str, ...]:
        return plan(experiment(stage(**fields)), 20).stages[0].collects

    assert collects() == GROUPS
    assert collects(train=1) == ("late", "head")
    assert collects(bn="frozen") == ("head",)
    assert collects(bn="frozen", train="early") == ()


def test_copies_are_views_of_augmented_images_only() -> None:
    def copies(**fields: Any) -> int:
        return plan(experiment(stage(**fields)), 20).stages[0].copies

    assert (copies(), copies(views=3), copies(views=3, augment=False)) == (0, 3, 0)


def test_the_csv_has_every_update_with_the_rate_of_every_group() -> None:
    e = experiment(
        stage(lr=(1e-3, 1e-2, 1e-1), schedule=Sgdr(2, 1, 2)),
        stage(name="found, later", train=1, lr=Find(ratio=4, epochs=3), schedule=Constant(1), size=96),
    )
    whole = plan(e, 20)
    rows = list(csv.DictReader(io.StringIO(as_csv(whole))))
    assert [row["stage"] for row in rows] == ["s"] * 9 + ["found, later"] * 3
    scale = Sgdr(2, 1, 2).table(3).scale
    for i, row in enumerate(rows[:9]):
        assert [float(row[f"lr_{g}"]) for g in GROUPS] == pytest.approx([scale[i] * 1e-3, scale[i] * 1e-2, scale[i] * 1e-1], rel=1e-7)
        assert (int(row["step"]), int(row["cycle"]), int(row["size"]), row["lr_known"]) == (i, int(i >= 3), 224, "1")
        assert float(row["epoch"]) == pytest.approx(i / 3, abs=1e-4) and float(row["momentum"]) == 0.9
    for row in rows[9:]:  # Shares of a peak that is not known yet.
        assert [float(row[f"lr_{g}"]) for g in GROUPS] == [0, 0.25, 1] and row["lr_known"] == "0" and row["size"] == "96"


def test_a_stage_is_described_in_words() -> None:
    cached = stage(train="head", lr=Find("steep"), views=2, precompute=True, schedule=Sgdr(2, 1, 2))
    rest = stage(name="t", lr=Find(ratio=10), augment=False, schedule=Constant(9), size=96)
    first, second = (describe(p) for p in plan(experiment(cached, rest, augment=(Flip(),)), 2000).stages)
    assert describe(plan(experiment(cached, rest), 2000).stages[0])["from"] == "cached, plain"  # there is nothing that augments
    assert first == {
        "stage": "s",
        "size": "224",
        "trains": "head",
        "from": "cached, 2 views",
        "lr": "find (steep)",
        "epochs": "3",
        "steps": "750",
        "steps of each cycle": "250, 500",
        "images seen": "6,000",
    }
    assert second["lr"] == "find (combined) × 0.01, 0.1, 1" and second["from"] == "images, plain"
    assert second["steps of each cycle"] == "250, 250, 250, 250, 250, 250, …"
    assert describe(plan(experiment(stage(lr=(0.1, 0.2, 0.25))), 20).stages[0])["lr"] == "0.1, 0.2, 0.25"


def test_planning_needs_no_jax() -> None:
    code = """
import json, sys
from sgdr_jax import Experiment, lesson2
from sgdr_jax.core.plan import plan
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import ResNet34
from sgdr_jax.core.plan import as_csv, describe
whole = plan(Experiment("a", ImageFolder("b"), ResNet34(), lesson2(64), augment=side_on()), 100)
heavy = [m for m in sys.modules if m.split(".")[0] in ("jax", "flax", "optax", "orbax")]
print(json.dumps([len(as_csv(whole)), describe(whole.stages[0]), heavy]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    length, row, heavy = json.loads(result.stdout)
    assert heavy == [] and length > 100 and row["stage"] == "cached head"


def test_lengths_are_measured_with_the_stages_own_clock() -> None:
    stages = [stage(name=str(i), schedule=Constant(length)) for i, length in enumerate((Steps(7), Images(40), Share(0.5), 2))]
    made = plan(experiment(*stages, budget=12, epoch_steps=5), 20)  # batches of 8, 8, 4, 8, 8: 5 updates and 36 images an epoch
    assert [p.steps for p in made.stages] == [7, 6, 30, 10]


@pytest.mark.parametrize(("images", "share", "steps"), [(20, 0.1, 3), (20, 0.4, 4), (20, 1 / 3, 3), (20, 1, 9), (80, 0.4, 10)])
def test_a_training_before_a_refit_has_its_share_of_the_least_number_of_updates(images: int, share: float, steps: int) -> None:
    made = experiment(stage(schedule=Constant(2)), epoch_steps=9, first_epoch_share=share)  # batches of 8
    before, alone = (plan(dataclasses.replace(made, refit=refit), images).stages[0] for refit in (True, False))
    assert (before.steps_per_epoch, before.steps) == (steps, 2 * steps)
    assert alone.steps_per_epoch == max(9, -(-images // 8)), "it is the only training"


def test_more_copies_than_there_are_numbers_for_are_refused() -> None:
    with pytest.raises(InputError, match='stage "s": views is 1000000000; with 640 images use at most 6,710,886'):
        plan(experiment(stage(views=10**9)), 640)


def test_stages_that_are_longer_than_the_budget_are_refused() -> None:
    two = (stage(name="a", schedule=Sgdr(2, 1, 2)), stage(name="b", schedule=Cosine(Share(0.5))))
    with pytest.raises(InputError) as error:
        plan(experiment(*two, budget=5), 160)
    assert str(error.value) == ("budget is 5 epochs, but the stages take 5.5: 3 (a) + 2.5 (b); shorten their schedules, or raise it")
    assert sum(p.epochs for p in plan(experiment(*two, budget=6), 160).stages) == 6
    for n in (64, 640):  # A solved head takes none of it.
        assert [p.steps for p in plan(experiment(*lesson2(16, budget=7), budget=7), n).stages] == [1, 7 * n // 8]
        with pytest.raises(InputError, match=r"budget is 6.9 epochs, but the stages take 7: 7 \(all\)"):
            plan(experiment(*lesson2(16, budget=7), budget=6.9), 640)
    thirds = [stage(name=str(i), schedule=Constant(Share(1 / 3))) for i in range(3)]
    assert [p.steps for p in plan(experiment(*thirds, budget=2), 88).stages] == [7, 7, 7]  # 22 updates: rounding is not refused


def test_a_schedule_for_each_group_has_one_for_each() -> None:
    apart = Combined(Constant(1), groups=(Constant(1), Cosine(1), Sgdr()), weight_decay=Cosine(1))
    p = plan(experiment(stage(lr=(1, 2, 4), schedule=apart), optimizer=Sgd(weight_decay=0.5)), 32).stages[0]
    np.testing.assert_array_equal(p.scale, np.stack([np.ones(4), Cosine(1).table(4).scale, Sgdr().table(4).scale], 1))
    np.testing.assert_allclose(p.weight_decay, 0.5 * Cosine(1).table(4).scale)
    rows = list(csv.DictReader(io.StringIO(as_csv(plan(experiment(stage(lr=(1, 2, 4), schedule=apart)), 32)))))
    assert [float(rows[2][f"lr_{g}"]) for g in GROUPS] == pytest.approx([1, 1, 2])
    with pytest.raises(InputError, match=r'stage "s": schedule.groups is 3; give 2 schedules: one for each of late, head'):
        plan(experiment(stage(train=1, schedule=apart)), 32)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Sgdr(3, peak_decay=0.5, floor=0.3), 'stage "s": schedule.floor is 0.3; the last peak is 0.25'),
        (Cosine(1, warmup=Steps(9)), 'stage "s": schedule.warmup is Steps.count=9., 9 of the 4 steps'),
        (Constant(Share(0.5)), 'stage "s": schedule is Share.share=0.5.; a share needs a budget'),
    ],
)
def test_nonsense_is_refused_with_the_stage(schedule: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(experiment(stage(schedule=schedule)), 32)


def test_a_plateau_is_told_in_the_plan() -> None:
    assert describe(plan(experiment(stage(schedule=Plateau(3, 0.2))), 32).stages[0])["lr"] == "0.1, 0.1, 0.1; × 0.2 on plateaus"


@pytest.mark.parametrize(
    ("size", "fields", "ok"), [(64, {}, True), (56, {}, False), (56, {"epochs": 2}, True), (8, {"epochs": 7.9}, False)]
)
def test_a_finder_with_too_little_data_is_refused(size: int, fields: dict[str, Any], ok: bool) -> None:
    """Batches of eight: 64 images are eight updates."""
    made = experiment(stage(lr=Find(**fields)))
    if ok:
        plan(made, size)
        return
    with pytest.raises(
        InputError, match=r'stage "s": lr is .Find.; the finder has 7 updates in .* and needs 8; .*epoch_steps=20.*lr=Find.epochs='
    ):
        plan(made, size)
    plan(dataclasses.replace(made, epoch_steps=20), size)


def test_of_several_ratios_the_plan_shows_the_rule_of_thumb() -> None:
    assert ratios(Find(ratio=(3, 10)), ("late", "head")) == pytest.approx((1 / 3, 1.0))


def test_parts_of_a_batch_divide_it_and_change_nothing_else() -> None:
    whole, parts = (plan(experiment(stage(accumulate=k)), 60).stages[0] for k in (1, 4))
    assert (parts.steps, parts.steps_per_epoch, parts.images) == (whole.steps, whole.steps_per_epoch, whole.images)
    with pytest.raises(InputError, match='stage "s": accumulate is 3; use a divisor of the batch size, 8'):
        plan(experiment(stage(accumulate=3)), 60)


def test_no_plan_for_more_images_than_there_are() -> None:
    with pytest.raises(InputError, match=r"^training images is 9{199}…; give at least one"):
        plan(experiment(), int("9" * 400))
