"""Schedules against exact rational arithmetic, loops in plain Python, and tables made by other packages."""

import json
import math
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sgdr_jax.schedules import Constant, Cosine, OneCycle, Sgdr, StepDecay
from sgdr_jax.schedules.lengths import whole_steps
from sgdr_jax.types import InputError, Table

from .helpers import seeded

# Tables that the schedulers of these packages gave when they were run, at positions where they do what they document.
GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedules.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["source"])
def test_sgdr_gives_the_tables_of_other_packages(case: dict[str, Any]) -> None:
    table = Sgdr(**case["sgdr"]).table(case["steps_per_epoch"])
    np.testing.assert_allclose(table.scale, case["scale"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_sgdr_gives_the_rates_of_optax(floor: float, warmup: float) -> None:
    schedule = Sgdr(cycles=3, cycle_len=1, cycle_mult=2, peak_decay=0.5, floor=floor, warmup=warmup, warmup_every=True)
    cycles = [
        {
            "init_value": floor,
            "peak_value": 0.5**i,
            "warmup_steps": int(warmup * 10 * 2**i),
            "decay_steps": 10 * 2**i,
            "end_value": floor,
        }
        for i in range(3)
    ]
    steps = jnp.arange(75)  # Five past the end: both stay at the floor.
    with jax.numpy_dtype_promotion("standard"):
        expected = jax.vmap(optax.sgdr_schedule(cycles))(steps)
    np.testing.assert_allclose(schedule.as_optax(1.0, 10)(steps), expected, atol=2e-6)


def exact_lengths(schedule: Sgdr, steps_per_epoch: int) -> list[Fraction]:
    return [Fraction(schedule.cycle_len) * Fraction(schedule.cycle_mult) ** i * steps_per_epoch for i in range(schedule.cycles)]


@seeded
@given(
    cycles=st.integers(1, 7),
    cycle_len=st.one_of(st.integers(1, 3), st.floats(0.05, 3)),
    cycle_mult=st.one_of(st.integers(1, 4), st.sampled_from([0.5, 1.1, 1.25, 1.5, math.e, 10.0]), st.floats(0.3, 4)),
    steps_per_epoch=st.integers(1, 150),
    peak_decay=st.sampled_from([1.0, 0.5, 0.0]),
    floor=st.sampled_from([0.0, 0.25]),
)
@example(cycles=7, cycle_len=1, cycle_mult=3, steps_per_epoch=1, peak_decay=1.0, floor=0.0)  # timm restarts one step late in cycle 5.
@example(cycles=3, cycle_len=1, cycle_mult=2, steps_per_epoch=1, peak_decay=1.0, floor=0.0)  # fastai 2 misses this one.
@example(cycles=4, cycle_len=1, cycle_mult=10, steps_per_epoch=9, peak_decay=1.0, floor=0.0)
@example(cycles=2, cycle_len=1, cycle_mult=1.5, steps_per_epoch=15, peak_decay=1.0, floor=0.0)  # fastai 0.7 never restarts here.
def test_every_restart_is_on_its_step(
    cycles: int, cycle_len: float, cycle_mult: float, steps_per_epoch: int, peak_decay: float, floor: float
) -> None:
    schedule = Sgdr(cycles, cycle_len, cycle_mult, peak_decay, floor)
    exact = exact_lengths(schedule, steps_per_epoch)
    assume(min(exact) > 1.0001 or min(exact) == 1)
    assume(sum(exact) < 20_000)
    # Whole numbers and halves are decided exactly; only what floating point cannot tell from a half is left out.
    assume(all(x % 1 == Fraction(1, 2) or abs(x % 1 - Fraction(1, 2)) > 1e-9 for x in exact) or isinstance(cycle_mult, int))
    lengths = [math.floor(x + Fraction(1, 2)) for x in exact]
    table = schedule.table(steps_per_epoch)
    ends = tuple(accumulate(lengths))
    assert table.ends == ends
    assert table.scale.dtype == np.float64 and table.cycle.dtype == np.int32
    assert table.cycle.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    for i, (start, end) in enumerate(pairwise((0, *ends))):
        peak = max(peak_decay**i, floor)
        assert table.scale[start] == peak
        one = table.scale[start:end]
        assert (np.diff(one) < 0).all() if peak > floor else (one == floor).all()
        expected = [floor + (peak - floor) * (1 + math.cos(math.pi * t / (end - start))) / 2 for t in range(end - start)]
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-15)


@seeded
@given(st.integers(1, 2000), st.integers(1, 400))
def test_lengths_in_whole_steps_are_exact(steps: int, steps_per_epoch: int) -> None:
    assert whole_steps(steps / steps_per_epoch, steps_per_epoch, "x") == steps  # 1/49·49 is below 1 in floating point.


@pytest.mark.parametrize(("epochs", "per_epoch", "steps"), [(1, 7, 7), (0.5, 7, 4), (1.5, 3, 5), (2.5, 1, 3), (1.49, 1, 1), (0.1, 10, 1)])
def test_half_a_step_is_rounded_up(epochs: float, per_epoch: int, steps: int) -> None:
    assert whole_steps(epochs, per_epoch, "x") == steps


@pytest.mark.parametrize(
    "schedule", [Sgdr(cycle_len=0.3), Sgdr(3, 1, 0.5), Constant(0.33), Cosine(0.2), OneCycle(0.1), StepDecay(2, (0.1,))]
)
def test_less_than_one_step_is_refused(schedule: Any) -> None:
    with pytest.raises(InputError, match=r"less than one step; use at least 0\.333333 epochs"):
        schedule.table(3)


def test_a_length_that_the_message_advises_is_taken() -> None:
    for per_epoch in (3, 7, 49, 1237):
        with pytest.raises(InputError) as error:
            Constant(0.5 / per_epoch).table(per_epoch)
        advised = float(str(error.value).split("at least ")[1].split()[0])
        assert len(Constant(advised).table(per_epoch).scale) == 1


def test_an_endless_cycle_is_refused_before_any_memory_is_taken() -> None:
    for schedule in (Sgdr(60, 1, 2), Sgdr(400, 1, 1e10), Constant(math.inf), Sgdr(400, 1, 10)):
        with pytest.raises(InputError, match="steps"):
            schedule.table(100)


def test_the_low_start_of_fastai07_is_the_first_twentieth_of_the_first_cycle_only() -> None:
    plain, held = (Sgdr(3, 1, 2, compat=compat).table(60) for compat in ("", "fastai07"))
    np.testing.assert_array_equal(held.scale[:3], 0.01)
    np.testing.assert_array_equal(held.scale[3:], plain.scale[3:])
    assert held.ends == plain.ends == (60, 180, 420)


def test_warmup_rises_from_the_floor_and_is_part_of_the_cycle() -> None:
    first = Sgdr(2, 1, 2, floor=0.2, warmup=0.4).table(5).scale
    np.testing.assert_allclose(first[:3], [0.2, 0.6, 1.0])
    assert first[5] == 1.0 and len(first) == 15
    every = Sgdr(2, 1, 2, peak_decay=0.5, floor=0.2, warmup=0.4, warmup_every=True).table(5).scale
    np.testing.assert_allclose(every[5:10], [0.2, 0.275, 0.35, 0.425, 0.5])
    np.testing.assert_array_equal(every[:5], first[:5])


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 60])
@pytest.mark.parametrize("peak", [0.013, 3.0])
def test_the_optax_form_holds_the_same_rows(steps_per_epoch: int, peak: float) -> None:
    schedule = Sgdr(3, 1, 1.5, peak_decay=0.9, floor=0.05)
    scale = schedule.table(steps_per_epoch).scale
    rates = np.asarray(schedule.as_optax(peak, steps_per_epoch)(jnp.arange(len(scale) + 3)))
    np.testing.assert_array_equal(rates, (np.append(scale, [0.05] * 3) * peak).astype(np.float32))


def test_the_optax_form_is_a_schedule_of_an_optax_optimizer() -> None:
    optimizer = optax.sgd(Sgdr(2, 1).as_optax(0.5, steps_per_epoch=2))

    def two(p: jax.Array, state: Any) -> list[jax.Array]:
        out = []
        for _ in range(5):
            updates, state = optimizer.update(jnp.ones(()), state)
            out.append(-updates)
        return out

    np.testing.assert_allclose(jax.jit(two)(jnp.ones(()), optimizer.init(jnp.ones(()))), [0.5, 0.25, 0.5, 0.25, 0.0], atol=1e-7)


@seeded
@given(st.floats(0.05, 5), st.integers(20, 80))
def test_constant_is_one_with_a_cycle_for_each_epoch(epochs: float, steps_per_epoch: int) -> None:
    table = Constant(epochs).table(steps_per_epoch)
    n = len(table.scale)
    assert abs(n - epochs * steps_per_epoch) <= 0.5 and (table.scale == 1).all() and table.momentum is None
    assert table.ends == (*range(steps_per_epoch, n, steps_per_epoch), n)


@seeded
@given(st.integers(1, 4), st.integers(1, 40), st.floats(0, 0.99), st.floats(0, 1))
def test_cosine_is_the_formula_after_a_linear_rise(epochs: int, steps_per_epoch: int, warmup: float, floor: float) -> None:
    table = Cosine(epochs, warmup, floor).table(steps_per_epoch)
    n = epochs * steps_per_epoch
    rise = int(warmup * n)
    expected = [t / rise if t < rise else floor + (1 - floor) * (1 + math.cos(math.pi * (t - rise) / (n - rise))) / 2 for t in range(n)]
    np.testing.assert_allclose(table.scale, expected, rtol=0, atol=1e-15)
    assert table.scale[rise] == 1 == table.scale.max()
    assert table.ends == tuple(range(steps_per_epoch, n + 1, steps_per_epoch))


def test_one_cycle_is_two_cosines_and_the_momentum_goes_the_other_way() -> None:
    table = OneCycle(2, rise=0.25, div=25, div_final=1e5, momentum=(0.95, 0.85)).table(20)

    def between(start: float, stop: float, share: float) -> float:
        return start + (1 + math.cos(math.pi * (1 - share))) * (stop - start) / 2

    lr = [between(1 / 25, 1, t / 10) if t < 10 else between(1, 1e-5, (t - 10) / 30) for t in range(40)]
    momentum = [between(0.95, 0.85, t / 10) if t < 10 else between(0.85, 0.95, (t - 10) / 30) for t in range(40)]
    np.testing.assert_allclose(table.scale, lr, atol=1e-14)
    np.testing.assert_allclose(table.momentum, momentum, atol=1e-14)  # pyright: ignore[reportArgumentType]
    assert table.ends == (40,) and table.scale[10] == 1.0
    assert OneCycle(rise=0).table(1).scale.tolist() == [1.0]


@seeded
@given(st.integers(1, 30), st.sampled_from([0.1, 0.5, 0.0, 1.0]))
def test_step_decay_counts_the_boundaries_passed(steps_per_epoch: int, factor: float) -> None:
    table = StepDecay(4, (1.0, 2.5, 3.0), factor).table(steps_per_epoch)
    falls = [steps_per_epoch, math.floor(2.5 * steps_per_epoch + 0.5), 3 * steps_per_epoch]
    expected = [factor ** sum(t >= fall for fall in falls) for t in range(4 * steps_per_epoch)]
    np.testing.assert_allclose(table.scale, expected, rtol=1e-15)
    assert table.ends == tuple(steps_per_epoch * (i + 1) for i in range(4))


def test_the_ends_of_cycles_are_counts_of_steps_done() -> None:
    assert Table(np.ones(5), np.array([0, 0, 1, 2, 2])).ends == (2, 3, 5)
    assert Table(np.ones(1), np.array([0])).ends == (1,)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Sgdr, {"cycles": 0}, "schedule.cycles is 0; use at least 1"),
        (Sgdr, {"cycle_len": 0}, "schedule.cycle_len is 0"),
        (Sgdr, {"cycle_len": math.nan}, "schedule.cycle_len is nan"),
        (Sgdr, {"cycle_mult": -1}, "schedule.cycle_mult is -1"),
        (Sgdr, {"peak_decay": 1.5}, "schedule.peak_decay is 1.5"),
        (Sgdr, {"floor": -0.1}, "schedule.floor is -0.1"),
        (Sgdr, {"warmup": 1.0}, "schedule.warmup is 1.0"),
        (Sgdr, {"warmup": 0.1, "compat": "fastai07"}, "schedule.warmup is 0.1; use 0 with compat"),
        (Sgdr, {"compat": "fastai"}, "schedule.compat is 'fastai'"),
        (Constant, {"epochs": 0}, "schedule.epochs is 0; use a positive number"),
        (Cosine, {"epochs": -1}, "schedule.epochs is -1"),
        (Cosine, {"warmup": 1}, "schedule.warmup is 1"),
        (Cosine, {"floor": 2}, "schedule.floor is 2"),
        (OneCycle, {"rise": 1}, "schedule.rise is 1"),
        (OneCycle, {"div": 0.5}, "schedule.div is 0.5"),
        (OneCycle, {"div_final": 0}, "schedule.div_final is 0"),
        (OneCycle, {"momentum": (0.9, 1.0)}, "schedule.momentum is (0.9, 1.0)"),
        (StepDecay, {"at": (2.0, 1.0)}, "schedule.at is (2.0, 1.0); use rising epochs between 0 and 3"),
        (StepDecay, {"at": (3.0,)}, "schedule.at is (3.0,)"),
        (StepDecay, {"factor": 2}, "schedule.factor is 2"),
    ],
)
def test_impossible_schedules_are_refused_by_field_value_and_fix(kind: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        kind(**fields)
    assert str(error.value).startswith(named) and "; use" in str(error.value)
