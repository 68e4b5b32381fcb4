"""The stages of the eight-step recipe, and what their settings change."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import AdamW, Find, InputError, Lesson2, lesson2
from sgdr_jax.core.plan import plan
from sgdr_jax.recipes.lesson2 import fit_cycles
from sgdr_jax.schedules import Sgdr

from ..helpers import experiment, seeded


@pytest.mark.parametrize(("similar", "ratio"), [(True, 10.0), (False, 3.0)])
def test_lesson2_is_the_recipe(similar: bool, ratio: float) -> None:
    cached, head, everything = lesson2(96, similar_to_imagenet=similar)
    assert cached.precompute and cached.augment and cached.views == 1 and cached.train == "head" and cached.schedule == Sgdr(4, 2, 2)
    assert not head.precompute and head.augment and head.views == 0 and head.train == "head" and head.schedule == Sgdr(2)
    assert everything.train == "all" and everything.schedule == Sgdr(3, 1, 2) and everything.patience == 1
    assert (
        cached.lr == Find("valley", steps=100, orders=3, epochs=10)
        and head.lr is None
        and everything.lr == Find(ratio=ratio, start=1e-5, stop=0.5, steps=22, orders=2, epochs=10, lowest=3e-4)
    )
    assert {s.size for s in (cached, head, everything)} == {96}
    steps = [p.steps for p in plan(experiment(cached, head, everything), 80).stages]
    assert steps == [300, 20, 70]


def test_lesson2_passes_its_options_on() -> None:
    find, adam = Find("steep", steps=50, highest=0.1), AdamW()
    stages = lesson2(
        64,
        views=0,
        head_cycles=0,
        cached=Sgdr(1),
        cycles=1,
        cycle_len=0.5,
        cycle_mult=1.5,
        bn="frozen",
        patience=None,
        optimizer=adam,
        find=find,
    )
    cached, everything = stages
    assert not cached.augment and cached.precompute and cached.lr == find and cached.schedule == Sgdr(1)
    assert everything.lr == Find("steep", ratio=10.0, steps=50, highest=0.1)
    assert (everything.bn, everything.patience, everything.schedule) == ("frozen", None, Sgdr(1, 0.5, 1.5))
    assert {s.optimizer for s in stages} == {adam}


@seeded
@given(st.floats(0.2, 60), st.sampled_from([0.5, 1, 1.5, 2, 3]))
def test_cycles_fill_the_budget(epochs, mult):
    cycles, first = fit_cycles(epochs, mult)
    assert first * sum(mult**i for i in range(cycles)) == pytest.approx(epochs)
    if cycles > 1:
        assert first >= 1 - 1e-9
    if cycles < 16:
        assert sum(mult**i for i in range(cycles + 1)) > epochs


def test_lesson2_takes_the_fields_of_its_settings() -> None:
    assert inspect.signature(lesson2) == inspect.signature(Lesson2)
    assert lesson2(64, False, views=3) == Lesson2(64, similar_to_imagenet=False, views=3).stages()
    with pytest.raises(TypeError, match="unexpected keyword argument 'veiws'"):
        lesson2(64, veiws=3)  # pyright: ignore[reportCallIssue]


def test_a_lesson_with_a_budget_takes_it_all_and_refuses_what_does_not_fit():
    stages = lesson2(16, budget=12, head_cycles=1, gradual=Sgdr(2))
    made = plan(experiment(*stages), 8 * 100)
    assert sum(p.epochs for p in made.stages if not p.stage.precompute) == pytest.approx(12, abs=0.02)
    with pytest.raises(InputError, match=r"budget is 2; the stages before the last take 3 epochs"):
        lesson2(16, budget=2, head_cycles=1, gradual=Sgdr(2))
