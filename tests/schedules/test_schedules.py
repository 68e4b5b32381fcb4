"""Schedules against exact rational arithmetic, loops in plain Python, and tables made by other packages."""

import json
import math
import re
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

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.lengths import Clock, in_steps, rising_steps, whole_steps
from sgdr_jax.core.types import Reduction, Schedule, Table
from sgdr_jax.schedules import Combined, Constant, Cosine, FirstCycles, Images, OneCycle, Plateau, Polynomial, Sgdr, Share, StepDecay, Steps
from sgdr_jax.schedules.plateau import Lowered, lowered

from ..helpers import seeded

# Tables that the schedulers of these packages gave when they were run, at positions where they do what they document.
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())
# Newer releases, run by golden/make_schedules.py: where they are right, and around the restarts that they miss.
PEERS = json.loads((Path(__file__).parents[1] / "golden" / "schedulers.json").read_text())


def source(case: dict[str, Any]) -> str:
    return case["source"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["source"])
def test_sgdr_gives_the_tables_of_other_packages(case: dict[str, Any]) -> None:
    table = Sgdr(**case["sgdr"]).table(case["steps_per_epoch"])
    np.testing.assert_allclose(table.scale, case["scale"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("case", PEERS["restarts"], ids=source)
def test_sgdr_gives_the_tables_of_newer_releases(case: dict[str, Any]) -> None:
    table = Sgdr(**case["sgdr"]).table(case["steps_per_epoch"])
    exact = case["source"].split()[0] in ("torch", "timm")  # Keras and fastai 2 work in single precision.
    np.testing.assert_allclose(table.scale, case["scale"], rtol=0, atol=1e-11 if exact else 2e-6)


@pytest.mark.parametrize("case", PEERS["late"], ids=lambda case: f"{source(case)} at {case['from'] + 1}")
def test_restarts_that_others_miss_are_on_their_step(case: dict[str, Any]) -> None:
    """They give the end of the cosine, nothing, for the update that restarts, and begin the cycle one update late."""
    restart = case["from"] + 1
    before, at, after = case["scale"]
    assert at < 1e-6 and (after > 0.9 or case["steps_per_epoch"] == 1)
    sgdr, per_epoch = case["sgdr"], case["steps_per_epoch"]
    assert restart in list(accumulate(per_epoch * sgdr["cycle_mult"] ** i for i in range(sgdr["cycles"])))
    scale = Sgdr(**sgdr).table(per_epoch).scale
    assert scale[restart] == 1.0
    # Around it they agree with us: only the restart is missed.
    np.testing.assert_allclose(scale[[restart - 1, restart + 1]], [before, after], rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", PEERS["others"], ids=source)
def test_other_schedules_give_the_tables_of_other_packages(case: dict[str, Any]) -> None:
    kinds = {"Polynomial": Polynomial, "StepDecay": StepDecay, "Cosine": Cosine, "OneCycle": OneCycle}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in case["fields"].items()}
    table = kinds[case["kind"]](**fields).table(case["steps_per_epoch"])
    if case["kind"] == "OneCycle" and len(case["scale"]) % 4:  # A quarter is no whole step: fastai passes by the peak, we are at it.
        assert max(case["scale"]) < 0.99 and table.scale.max() == 1.0 == table.scale[len(table.scale) // 4]
        return
    exact = case["source"].split()[0] in ("torch", "timm")
    np.testing.assert_allclose(table.scale, case["scale"], rtol=0, atol=1e-9 if exact else 2e-6)
    if "momentum" in case:
        np.testing.assert_allclose(table.momentum, case["momentum"], rtol=0, atol=2e-6)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("case", PEERS["plateaus"], ids=source)
def test_plateaus_lower_the_rate_when_torch_does(case: dict[str, Any]) -> None:
    rule, now, scale = Plateau(**case["fields"]).rule, Lowered(), []
    for loss in case["losses"]:
        scale.append(now.scale)
        now = lowered(rule, now, math.nan if loss is None else loss)
    np.testing.assert_allclose(scale, case["scale"], rtol=1e-12)


@seeded
@given(
    st.lists(st.floats(0.1, 2) | st.just(math.nan), max_size=30),
    st.sampled_from([0.1, 0.5, 0.0]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.sampled_from([0.0, 0.05]),
)
def test_plateaus_in_plain_words(losses: list[float], factor: float, patience: int, cooldown: int, threshold: float, floor: float) -> None:
    """Lowered once for every run of patience + 1 ends that do not improve, of which those in a cooldown do not count."""
    rule, now = Plateau(10, factor, patience, threshold, cooldown, floor).rule, Lowered()
    best, run, rest, falls = math.inf, [], 0, 0
    for loss in losses:
        now = lowered(rule, now, loss)
        if loss < best * (1 - threshold):
            best, run = loss, []
        elif rest == 0:
            run.append(loss)
        rest = max(rest - 1, 0)
        if len(run) > patience:
            falls, run, rest = falls + 1, [], cooldown
        expected = 1.0
        for _ in range(falls):
            expected = max(expected * factor, floor)
        assert now == Lowered(expected, best, len(run), rest)
    assert Lowered(*json.loads(json.dumps(list(now)))) == now  # What a checkpoint keeps is exact.


@pytest.mark.parametrize("power", [0.5, 1, 2, 3.7])
def test_polynomials_are_those_of_optax(power: float) -> None:
    theirs = optax.polynomial_schedule(1.0, 0.1, power, 30)
    np.testing.assert_allclose(Polynomial(3, power, floor=0.1).table(10).scale, [theirs(t) for t in range(30)], atol=2e-6)


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
    if floor > peak_decay ** (cycles - 1):
        with pytest.raises(InputError, match=r"schedule.floor is 0.25; the last peak is [\d.e-]+: use less, or a higher peak_decay"):
            schedule.table(steps_per_epoch)
        return
    table = schedule.table(steps_per_epoch)
    ends = tuple(accumulate(lengths))
    assert table.ends == ends
    assert table.scale.dtype == np.float64 and table.cycle.dtype == np.int32
    assert table.cycle.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    for i, (start, end) in enumerate(pairwise((0, *ends))):
        peak = peak_decay**i
        assert table.scale[start] == peak
        one = table.scale[start:end]
        assert (np.diff(one) < 0).all() if peak > floor else (one == floor).all()
        expected = [floor + (peak - floor) * (1 + math.cos(math.pi * t / (end - start))) / 2 for t in range(end - start)]
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-15)


@seeded
@given(st.integers(1, 2000), st.integers(1, 400))
def test_lengths_in_whole_steps_are_exact(steps: int, steps_per_epoch: int) -> None:
    assert whole_steps(steps / steps_per_epoch, steps_per_epoch, "x") == steps  # 1/49·49 is below 1 in floating point.


@seeded
@given(st.integers(1, 4000), st.sampled_from([10, 100, 1000]), st.integers(1, 30_000), st.sampled_from([1, 2, 3]))
@example(29, 100, 50, 1)
@example(115, 100, 10, 1)
def test_a_length_counts_as_the_decimal_that_was_written(parts: int, of: int, steps_per_epoch: int, times: int) -> None:
    """0.29 epochs of 50 steps were 14, as binary arithmetic has it just below a half."""
    exact = Fraction(parts, of) * times * steps_per_epoch
    if 1 <= exact <= 10**8:
        assert whole_steps(parts / of, steps_per_epoch, "x", times) == math.floor(exact + Fraction(1, 2))


@pytest.mark.parametrize(("epochs", "per_epoch", "steps"), [(1, 7, 7), (0.5, 7, 4), (1.5, 3, 5), (2.5, 1, 3), (1.49, 1, 1), (0.1, 10, 1)])
def test_half_a_step_is_rounded_up(epochs: float, per_epoch: int, steps: int) -> None:
    assert whole_steps(epochs, per_epoch, "x") == steps


@pytest.mark.parametrize(
    "schedule",
    [
        Sgdr(cycle_len=0.3),
        Sgdr(3, 1, 0.5),
        Sgdr(3, Steps(3), 0.5),
        Constant(0.33),
        Constant(Steps(0.9)),
        Cosine(0.2),
        OneCycle(0.1),
        StepDecay(2, (0.1,)),
        Polynomial(0.3),
        Plateau(0.3),
        Cosine(3, warmup=Steps(0.5)),
    ],
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
    rise = int(warmup * n + 1e-9)
    expected = [t / rise if t < rise else floor + (1 - floor) * (1 + math.cos(math.pi * (t - rise) / (n - rise))) / 2 for t in range(n)]
    np.testing.assert_allclose(table.scale, expected, rtol=0, atol=1e-15)
    assert table.scale[rise] == 1 == table.scale.max()
    assert table.ends == tuple(range(steps_per_epoch, n + 1, steps_per_epoch))


@seeded
@given(st.integers(1, 4), st.integers(1, 40), st.floats(0, 0.99))
def test_a_warm_up_shortens_what_follows(epochs: int, steps_per_epoch: int, warmup: float) -> None:
    n = epochs * steps_per_epoch
    rise = int(warmup * n + 1e-9)
    rest = {Polynomial: 0.2 + 0.8 * (1 - np.arange(n - rise) / (n - rise)) ** 3, Plateau: np.ones(n - rise)}
    for schedule in (Polynomial(epochs, 3, floor=0.2, warmup=warmup), Plateau(epochs, floor=0.2, warmup=warmup)):
        table = schedule.table(steps_per_epoch)
        np.testing.assert_allclose(table.scale, [*(np.arange(rise) / max(rise, 1)), *rest[type(schedule)]], rtol=0, atol=1e-15)
        assert table.ends == tuple(range(steps_per_epoch, n + 1, steps_per_epoch))


def test_a_plateau_by_default_is_a_tenth_after_three_epochs() -> None:
    assert Plateau().rule == Reduction(factor=0.1, patience=2, threshold=1e-4, cooldown=0, floor=0.0)
    assert Plateau().epochs == 10 and Plateau().warmup == 0


def test_a_cosine_by_default_is_one_cycle_of_sgdr() -> None:
    np.testing.assert_array_equal(Cosine(3).table(5).scale, Sgdr(1, 3).table(5).scale)
    assert Cosine().table(5).scale.tolist() == Sgdr().table(5).scale.tolist()


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
        (Sgdr, {"cycles": 0}, "schedule.cycles is 0; use a whole number, 1…10,000"),
        (Sgdr, {"cycles": 10_001}, "schedule.cycles is 10001; use a whole number, 1…10,000"),
        (Sgdr, {"cycles": 1.5}, "schedule.cycles is 1.5; use a whole number"),
        (Sgdr, {"cycle_len": 0}, "schedule.cycle_len is 0"),
        (Sgdr, {"cycle_len": math.nan}, "schedule.cycle_len is nan"),
        (Sgdr, {"cycle_mult": -1}, "schedule.cycle_mult is -1"),
        (Sgdr, {"peak_decay": 1.5}, "schedule.peak_decay is 1.5"),
        (Sgdr, {"floor": -0.1}, "schedule.floor is -0.1"),
        (Sgdr, {"warmup": 1.0}, "schedule.warmup is 1.0"),
        (Sgdr, {"warmup": -0.1}, "schedule.warmup is -0.1"),
        (Polynomial, {"epochs": 0}, "schedule.epochs is 0"),
        (Polynomial, {"power": 0}, "schedule.power is 0"),
        (Polynomial, {"warmup": 1.5}, "schedule.warmup is 1.5"),
        (Polynomial, {"floor": 1.5}, "schedule.floor is 1.5"),
        (Plateau, {"factor": 1}, "schedule.factor is 1"),
        (Plateau, {"patience": -1}, "schedule.patience is -1"),
        (Plateau, {"threshold": 1}, "schedule.threshold is 1"),
        (Plateau, {"cooldown": -1}, "schedule.cooldown is -1"),
        (Plateau, {"floor": -1}, "schedule.floor is -1"),
        (FirstCycles, {"cycles": 0}, "schedule.cycles is 0"),
        (FirstCycles, {"share": 0.0}, "schedule.share is 0"),
        (Combined, {"momentum": (0.9, 1.0)}, "schedule.momentum is (0.9, 1.0)"),
        (Steps, {"count": 0}, "steps is 0; use"),
        (Images, {"count": math.nan}, "images is nan; use"),
        (Share, {"share": 1.1}, "share is 1.1; use"),
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
        (OneCycle, {"momentum": (0.9,)}, "schedule.momentum is (0.9,)"),
        (OneCycle, {"momentum": 0.9}, "schedule.momentum is 0.9; use a tuple of 2 numbers"),
        (Combined, {"momentum": 0.9}, "schedule.momentum is 0.9; use a tuple of 2 numbers or None"),
        (StepDecay, {"at": 1.0}, "schedule.at is 1.0; use a tuple of epochs, such as (1.0, 2.0)"),
        (StepDecay, {"at": (2.0, 1.0)}, "schedule.at is (2.0, 1.0); use rising epochs between 0 and 3"),
        (StepDecay, {"at": (3.0,)}, "schedule.at is (3.0,)"),
        (StepDecay, {"at": (0.0, 1.0)}, "schedule.at is (0.0, 1.0)"),
        (StepDecay, {"factor": 2}, "schedule.factor is 2"),
    ],
)
def test_impossible_schedules_are_refused_by_field_value_and_fix(kind: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        kind(**fields)
    assert str(error.value).startswith(named) and re.search("; .*use ", str(error.value))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Sgdr, {"cycles": 1, "peak_decay": 1, "floor": 1, "warmup": 0}),
        (Cosine, {"floor": 1, "warmup": 0}),
        (Polynomial, {"floor": 1, "power": 1e-3}),
        (Plateau, {"factor": 0, "patience": 0, "threshold": 0, "cooldown": 0, "floor": 1}),
        (OneCycle, {"rise": 0, "div": 1, "div_final": 1, "momentum": (0, 0)}),
        (StepDecay, {"factor": 1}),
        (StepDecay, {"factor": 0}),
        (FirstCycles, {"cycles": 1}),
    ],
)
def test_the_ends_of_each_range_are_allowed(kind: Any, fields: dict[str, Any]) -> None:
    scale = kind(**fields).table(6).scale
    assert scale.max() == 1 and scale.min() >= 0


@seeded
@given(st.integers(1, 100), st.integers(1, 3000))
def test_a_share_of_a_cycle_is_the_decimal_number_that_was_written(hundredths: int, steps: int) -> None:
    share = Fraction(hundredths, 100)
    if share < 1:
        assert rising_steps(hundredths / 100, steps, 1, "x") == math.floor(share * steps)


@seeded
@given(
    length=st.integers(1, 500),
    steps_per_epoch=st.integers(1, 60),
    images=st.integers(1, 5000),
    shown=st.integers(1, 50_000),
    percent=st.integers(1, 100),
    budget=st.integers(1, 20),
)
def test_lengths_of_all_kinds_are_rounded_half_up_to_whole_steps(
    length: int, steps_per_epoch: int, images: int, shown: int, percent: int, budget: int
) -> None:
    clock = Clock(steps_per_epoch, images, budget)

    def steps(kind: Any, exact: Fraction) -> None:
        if exact < 1:
            with pytest.raises(InputError, match="less than one step"):
                in_steps(Constant(kind), clock).table(steps_per_epoch)
        elif exact % 1 != Fraction(1, 2) or exact.denominator <= 2:
            made = len(in_steps(Constant(kind), clock).table(steps_per_epoch).scale)
            assert abs(made - exact) <= Fraction(1, 2) and (made >= exact or exact % 1 != Fraction(1, 2) or not isinstance(kind, Steps))

    steps(Steps(length), Fraction(length))
    steps(Steps(length / 2), Fraction(length, 2))
    steps(Images(shown), Fraction(shown * steps_per_epoch, images))
    steps(Share(percent / 100), Fraction(percent, 100) * budget * steps_per_epoch)


def test_lengths_may_stand_wherever_epochs_do() -> None:
    clock = Clock(steps=10, images=160, budget=6)
    assert Sgdr(3, Steps(4), 2).table(10).ends == (4, 12, 28)
    assert in_steps(Sgdr(2, Images(64), 2), clock).table(10).ends == (4, 12)
    assert len(in_steps(OneCycle(Share(0.5)), clock).table(10).scale) == 30
    stairs = in_steps(StepDecay(Steps(20), (Images(80), 1.5), 0.5), clock).table(10).scale
    assert stairs.tolist() == [1.0] * 5 + [0.5] * 10 + [0.25] * 5
    warm = in_steps(Sgdr(2, 1, warmup=Images(80), warmup_every=True), clock).table(10).scale
    np.testing.assert_allclose(warm[:6], [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_array_equal(warm[10:], warm[:10])
    both = in_steps(Combined(Constant(Share(0.5)), groups=(Cosine(Images(480)), Constant(3)), weight_decay=Cosine(Steps(30))), clock)
    assert both.table(10).scale.shape == (30, 2)
    kept = Sgdr(2, 1, warmup=Steps(2))
    assert in_steps(kept, clock) is kept
    assert Sgdr(2, Steps(40), compat="fastai07").table(7).scale[:3].tolist() == Sgdr(2, 4, compat="fastai07").table(10).scale[:3].tolist()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Constant(Share(0.5)), r"a share needs a budget: set Experiment\(budget=EPOCHS\)"),
        (Cosine(1, warmup=Steps(10)), "schedule.warmup is Steps.count=10., 10 of the 10 steps; use less"),
        (Sgdr(2, 1, 0.5, warmup=Steps(6), warmup_every=True), "6 of the 5 steps; use less"),
        (StepDecay(Steps(20), (Steps(20),)), "schedule.at is .*; use rising epochs between 0 and Steps"),
        (StepDecay(3, (Steps(9), Steps(8))), "schedule.at is .*; use rising epochs"),
        (Combined(Constant(2), groups=(Cosine(1),)), r"schedule.groups\[0\] has 10 steps, schedule.rate 20; make them equally long"),
        (Combined(Constant(2), weight_decay=Cosine(1)), "schedule.weight_decay has 10 steps, schedule.rate 20"),
        (Combined(Constant(2), groups=(Plateau(2),)), r"schedule.groups\[0\] waits for plateaus.*; use Plateau as schedule.rate"),
        (Combined(Combined(groups=(Constant(),))), "schedule.rate has a rate for each group already; use one that is not Combined"),
    ],
)
def test_what_contradicts_itself_is_refused_when_the_steps_are_known(schedule: Schedule, message: str) -> None:
    with pytest.raises(InputError, match=message):
        in_steps(schedule, Clock(10, 160, None)).table(10)


def test_a_length_that_only_a_plan_can_measure_says_so() -> None:
    for length in (Images(5), Share(0.5)):
        with pytest.raises(InputError, match="has no length outside of a plan; use epochs or Steps"):
            Constant(length).table(10)


def test_combined_schedules_are_the_columns_of_their_parts() -> None:
    parts = (Cosine(2), Sgdr(2), Constant(2))
    table = Combined(Sgdr(2, 1), groups=parts, weight_decay=Polynomial(2), momentum=(0.95, 0.85)).table(7)
    for column, part in zip(table.scale.T, parts, strict=True):
        np.testing.assert_array_equal(column, part.table(7).scale)
    np.testing.assert_array_equal(table.weight_decay, Polynomial(2).table(7).scale)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(table.momentum, 0.95 - 0.1 * Sgdr(2, 1).table(7).scale)  # pyright: ignore[reportArgumentType]
    assert table.ends == (7, 14)
    plain = Combined(OneCycle(1)).table(7)
    np.testing.assert_array_equal(plain.momentum, OneCycle(1).table(7).momentum)  # pyright: ignore[reportArgumentType]
    assert plain.scale.ndim == 1 and plain.weight_decay is None and Combined(Plateau(2)).table(3).plateau == Plateau().rule


@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([0.5, 1, 1.5, 2]), st.integers(1, 20))
def test_the_first_cycles_are_those_of_the_whole_row_for_row(cycles: int, kept: int, mult: float, steps_per_epoch: int) -> None:
    whole = Combined(Sgdr(cycles, 64, mult), weight_decay=Sgdr(cycles, 64, mult), momentum=(0.9, 0.8))
    table, part = whole.table(steps_per_epoch), FirstCycles(whole, kept).table(steps_per_epoch)
    assert part.ends == table.ends[:kept]
    for a, b in zip(part[:4], table[:4], strict=True):
        np.testing.assert_array_equal(a, b[: part.ends[-1]])  # pyright: ignore[reportOptionalSubscript]
    assert part.whole == len(table.cycle) and FirstCycles(FirstCycles(whole, kept + 1), kept).table(steps_per_epoch) is not None
    for same in (FirstCycles(whole, 99), Combined(whole), FirstCycles(Combined(whole), 99)):
        assert same.after(same.table(steps_per_epoch)) == whole.after(table)
    end = part.ends[-1]
    assert len(FirstCycles(whole, 1, share=end / len(table.cycle)).table(steps_per_epoch).cycle) == end
    assert FirstCycles(Plateau(2), 1).table(3).plateau == Plateau(2).rule and FirstCycles(Constant(3), 2).table(3).momentum is None


def test_a_step_costs_the_same_with_any_number_of_cycles() -> None:
    """The compiled rate of a step is one look-up; optax's, the control, grows by nested choices."""

    def operations(schedule: Any) -> int:
        with jax.numpy_dtype_promotion("standard"):
            return len(jax.make_jaxpr(schedule)(jnp.int32(3)).eqns)

    ours = [operations(Sgdr(cycles, 1, 1.5).as_optax(0.1, 5)) for cycles in (1, 3, 12)]
    cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 5, "end_value": 0.0}
    theirs = [operations(optax.sgdr_schedule([cycle] * cycles)) for cycles in (1, 3, 12)]
    assert len(set(ours)) == 1 and theirs[0] < theirs[1] < theirs[2]


def test_schedules_too_long_to_hold_are_refused() -> None:
    with pytest.raises(InputError, match="cycles is 10001; use a whole number, 1…10,000"):
        Sgdr(cycles=10_001)
    with pytest.raises(InputError, match="the schedule is '900,000,000 steps'; use fewer epochs or cycles"):
        Sgdr(cycles=9).table(100_000_000)


@pytest.mark.parametrize("kind", [Combined, Constant, Cosine, FirstCycles, OneCycle, Plateau, Polynomial, Sgdr, StepDecay])
@pytest.mark.parametrize("steps", [0, -1, math.nan, 2.5, True, None, "5"])
def test_a_table_needs_a_whole_number_of_updates_per_epoch(kind: type[Schedule], steps: Any) -> None:
    with pytest.raises(InputError, match=r"^steps_per_epoch is .*; use a whole number of at least 1$"):
        kind().table(steps)
