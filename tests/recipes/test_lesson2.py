"""The stages of the eight-step recipe, and what their settings change."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import AdamW, Decay, Find, InputError, Lesson2, Solve, Spread, lesson2
from sgdr_jax.core.plan import plan
from sgdr_jax.core.types import Schedule
from sgdr_jax.schedules import Combined, Constant, Cosine, Images, Sgdr, Share, Steps

from ..helpers import experiment, seeded


@pytest.mark.parametrize(("similar", "lr"), [(True, 3e-4), (False, 1e-3)])
def test_lesson2_is_the_recipe(similar: bool, lr: float) -> None:
    cached, everything = lesson2(96, similar_to_imagenet=similar)
    assert cached.precompute and cached.augment and cached.views == 2 and cached.train == "head" and cached.solve == Solve()
    assert everything.train == "all" and everything.bn == "frozen" and everything.patience is None
    assert everything.schedule == Sgdr(1, 7, 2, warmup=0.1) and everything.lr == lr
    assert {s.size for s in (cached, everything)} == {96}
    steps = [p.steps for p in plan(experiment(cached, everything), 80).stages]
    assert steps == [1, 70]


def test_lesson2_passes_its_options_on() -> None:
    find, adam = Find("steep", steps=50, highest=0.1), AdamW()
    stages = lesson2(
        64,
        views=0,
        head_cycles=2,
        cached=Sgdr(1),
        gradual=Sgdr(2),
        cycles=1,
        cycle_len=0.5,
        cycle_mult=1.5,
        warmup=0.2,
        ratio=10,
        bn="train",
        patience=3,
        optimizer=adam,
        lr=find,
    )
    cached, head, gradual, everything = stages
    assert not cached.augment and cached.precompute and cached.lr == find and cached.schedule == Sgdr(1) and not cached.solve
    assert head.lr == find and head.train == "head" and not head.precompute and head.schedule == Sgdr(2, warmup=0.2)
    assert gradual.train == 1 and gradual.lr == everything.lr == Find("steep", ratio=10.0, steps=50, highest=0.1)
    assert (everything.bn, everything.patience, everything.schedule) == ("train", 3, Sgdr(1, 0.5, 1.5, warmup=0.2))
    assert {s.optimizer for s in stages} == {adam}
    assert lesson2(64, ratio=4)[-1].lr == Decay(3e-4, 0.25)


@pytest.mark.parametrize("train", ["all", 1, ("late", "head")])
def test_the_last_stage_trains_what_it_is_told_to(train) -> None:
    last = lesson2(64, train=train)[-1]
    assert (last.train, last.name) == (train, "all" if train == "all" else "unfrozen")


def test_without_cycles_there_is_no_last_stage() -> None:
    assert lesson2(64, cycles=0) == lesson2(64)[:1]
    assert lesson2(64, cycles=0, head_cycles=1, gradual=Sgdr(2)) == lesson2(64, head_cycles=1, gradual=Sgdr(2))[:3]
    with pytest.raises(InputError, match=r"budget is 3; with cycles=0 there is no last stage"):
        lesson2(64, cycles=0, budget=3)


@seeded
@given(st.floats(1.5, 60), st.integers(1, 5), st.sampled_from([0.5, 1, 1.5, 2, 3]))
def test_cycles_fill_the_budget(budget, cycles, mult):
    schedule = lesson2(96, head_cycles=1, budget=budget, cycles=cycles, cycle_mult=mult)[-1].schedule
    assert isinstance(schedule, Sgdr) and schedule.cycles == cycles and schedule.cycle_mult == mult
    assert schedule.cycle_len * sum(mult**i for i in range(cycles)) == pytest.approx(budget - 1)  # pyright: ignore[reportOperatorIssue]


def test_lesson2_takes_the_fields_of_its_settings() -> None:
    assert inspect.signature(lesson2).parameters == inspect.signature(Lesson2).parameters
    assert inspect.signature(lesson2).return_annotation == "tuple[Stage, ...]"
    assert lesson2(64, False, views=3) == Lesson2(64, similar_to_imagenet=False, views=3).stages()
    with pytest.raises(TypeError, match="unexpected keyword argument 'veiws'"):
        lesson2(64, veiws=3)  # pyright: ignore[reportCallIssue]


def test_a_lesson_with_a_budget_takes_it_all_and_refuses_what_does_not_fit():
    stages = lesson2(16, budget=12, head_cycles=1, gradual=Sgdr(2))
    made = plan(experiment(*stages), 8 * 100)
    assert sum(p.epochs for p in made.stages if not p.stage.precompute) == pytest.approx(12, abs=0.02)
    with pytest.raises(InputError, match=r"budget is 2; the stages before the last take 3 epochs"):
        lesson2(16, budget=2, head_cycles=1, gradual=Sgdr(2))


@pytest.mark.parametrize("ratio", [0, 0.5, float("nan")])
def test_a_ratio_below_one_is_refused_by_its_name(ratio: float) -> None:
    with pytest.raises(InputError, match=r"^ratio is .*; use 1 for one rate, or more"):
        lesson2(96, ratio=ratio)


@pytest.mark.parametrize("gradual", [Sgdr(1, Steps(500)), Constant(Images(640)), Cosine(Share(0.5)), Combined(Cosine(Steps(9)))])
def test_a_budget_is_not_divided_by_a_stage_of_unknown_length(gradual: Schedule) -> None:
    """500 updates were half an epoch of a thousand, whatever their number, so that the cycles after them overspent in silence."""
    with pytest.raises(InputError, match=r"gradual is .*; its length must be in epochs, of which budget=7 has to leave the rest"):
        lesson2(96, gradual=gradual, budget=7)
    assert lesson2(96, gradual=gradual)[-2].schedule == gradual
    assert lesson2(96, gradual=Sgdr(1, 2, warmup=Steps(5)), budget=7)[-1].schedule == Sgdr(1, 5, 2, warmup=0.1)


@pytest.mark.parametrize("lr", [(1e-4, 1e-3, 1e-2), Spread(1e-4, 1e-2), Decay(1e-3, 0.9), 1e-3, 1])
def test_rates_of_the_groups_go_to_the_last_stage_unless_a_ratio_makes_them(lr: Any) -> None:
    last = lesson2(64, lr=lr, cycle_len=Steps(70), warmup=Steps(7))[-1]
    assert last.lr == lr and last.schedule == Sgdr(1, Steps(70), 2, warmup=Steps(7))
    if isinstance(lr, int | float):
        assert lesson2(64, lr=lr, ratio=2)[-1].lr == Decay(lr, 0.5)
    else:
        with pytest.raises(InputError, match=r"lr is .*; ratio=2 makes the rates of the groups from one"):
            lesson2(64, lr=lr, ratio=2)
