"""Sweeps: what axes expand to, which fields they may set, what is refused."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import InputError, Sgd, Stage
from sgdr_jax.augment import Flip
from sgdr_jax.cli.experiment_file import load_sweep
from sgdr_jax.core.serialization import config_hash
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.sweeps import Sweep, arms, chain, grid, zipped
from sgdr_jax.sweeps.spec import baseline_name, expand, with_values

from ..helpers import experiment, seeded

BASE = experiment(
    Stage("cached head", train="head", lr=0.1, schedule=Sgdr(2)),
    Stage("all", lr=0.01, schedule=Sgdr(3, cycle_mult=2)),
    augment=(Flip(p=0.5),),
)


def sweep(*axes, **fields):
    return Sweep("test", BASE, axes, **fields)


def test_a_product_of_axes_with_seeds_last():
    runs = expand(
        sweep(grid({"stages.1.lr": (0.1, 0.2), "batch_size": (8, 16)}), arms({"recipe": {}, "plain": {"augment": ()}}), seeds=(3, 5))
    )
    assert [(r.number, r.seed) for r in runs[:3]] == [(0, 3), (1, 5), (2, 3)] and len(runs) == 2 * 2 * 2 * 2
    assert [r.arm for r in runs[::2]] == [
        f"lr={lr}, batch_size={b}, {a}" for lr in (0.1, 0.2) for b in (8, 16) for a in ("recipe", "plain")
    ]
    last = runs[-1]
    assert last.experiment == dataclasses.replace(
        BASE, seed=5, batch_size=16, augment=(), stages=(BASE.stages[0], dataclasses.replace(BASE.stages[1], lr=0.2))
    )
    assert dict(last.values) == {"stages.1.lr": 0.2, "batch_size": 16, "augment": ()}
    assert all(r.hash == config_hash(r.experiment) for r in runs) and len({r.hash for r in runs}) == 16


@seeded
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3))
def test_the_numbers_of_arms_multiply_in_a_grid_and_add_in_a_chain(lengths, seeds):
    fields = ("batch_size", "epoch_steps", "max_bad_share")
    values = {f: tuple(i / 10 if f == "max_bad_share" else 90 + i for i in range(n)) for f, n in zip(fields, lengths, strict=False)}
    made = expand(sweep(grid(values), seeds=tuple(range(seeds))))
    assert len(made) == math.prod(lengths) * seeds
    apart = expand(sweep(chain(*(grid({f: v}) for f, v in values.items() if f != "max_bad_share")), seeds=tuple(range(seeds))))
    assert len(apart) == sum(n for f, n in zip(fields, lengths, strict=False) if f != "max_bad_share") * seeds


def test_zipped_fields_change_together():
    runs = expand(sweep(zipped({"stages.*.size": (16, 24), "batch_size": (8, 4)})))
    assert [[s.size for s in r.experiment.stages] + [r.experiment.batch_size] for r in runs] == [[16, 16, 8], [24, 24, 4]]
    assert [r.arm for r in runs] == ["size=16, batch_size=8", "size=24, batch_size=4"]


def test_names_take_as_much_of_a_field_as_tells_it_apart():
    runs = expand(sweep(grid({"stages.0.lr": (1e-3,), "stages.1.lr": (2e-3,), "stages.1.schedule": (Sgdr(2, cycle_mult=3), Constant(1))})))
    assert [r.arm for r in runs] == [f"0.lr=0.001, 1.lr=0.002, schedule={s}" for s in ("Sgdr(cycles=2, cycle_mult=3)", "Constant()")]
    assert expand(sweep())[0].arm == "base" == baseline_name(sweep())


def test_fields_by_position_name_and_star():
    made = with_values(
        BASE, (("stages.all.schedule.cycle_mult", 3), ("optimizer.momentum", 0.8), ("augment.0.p", 0.25), ("model.hidden", 4))
    )
    assert made.stages[1].schedule == Sgdr(3, cycle_mult=3) and made.augment == (Flip(p=0.25),) and made.model.hidden == 4
    assert made.optimizer == Sgd(0.8) and made.stages[0] == BASE.stages[0]


@pytest.mark.parametrize(
    "axis, message",
    [
        (lambda: grid({"batchsize": (1,)}), "field is 'batchsize'; Experiment has no batchsize; did you mean batch_size"),
        (lambda: grid({"stages.1.schedule.cyclemult": (1,)}), "Sgdr has no cyclemult; did you mean cycle_mult"),
        (lambda: grid({"stages.2.lr": (1,)}), r"there is no 2: there are 0 \(cached head\), 1 \(all\)"),
        (lambda: grid({"stages.1.optimizer.momentum": (0.5,)}), "stages.1.optimizer is None; set stages.1.optimizer as a whole"),
        (lambda: grid({"batch_size": (0,)}), "arm 'batch_size=0': batch_size is 0; use 1 or more"),
        (lambda: grid({"batch_size": ("x",)}), "batch_size is 'x'"),
        (lambda: grid({"stages.0.schedule": (3,)}), "schedule is 3; use one, such as Sgdr"),
        (lambda: grid({"batch_size": 8}), "batch_size is 8; give a tuple"),
        (lambda: zipped({"batch_size": (1, 2), "epoch_steps": (1,)}), r"zipped is \{'batch_size': 2, .*; give every field the same number"),
        (lambda: grid({"seed": (1, 2)}), "seed is 1; set the seeds of all arms with Sweep.seeds"),
        (lambda: arms({"recipe": {}, "same": {"stages.1.lr": 0.01}}), r"arms 'recipe' and 'same' are the same experiment \([0-9a-f]{12}\)"),
        (lambda: chain(arms({"a": {}}), arms({"a": {"batch_size": 4}})), r"sweep.axes is \['a'\]; give every arm a different name"),
    ],
)  # fmt: skip
def test_what_is_refused(axis, message):
    with pytest.raises(InputError, match=message) as caught:
        expand(sweep(axis()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"axes": grid({"batch_size": (4,)})}, r"sweep.axes is Axis.*; give a tuple of axes"),
        ({"seeds": 0}, r"sweep.seeds is 0; give a tuple of at least one whole number, such as \(0, 1, 2\)"),
        ({"seeds": [[1]]}, r"sweep.seeds is \(\[1\],\); give a tuple of at least one whole number"),
        ({"seeds": range(0)}, r"sweep.seeds is \(\); give a tuple of at least one whole number"),
        ({"search": 3}, r"sweep.search is 3; use Search\(...\), or None"),
    ],
)
def test_fields_of_another_kind_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Sweep("s", BASE, **given)


def test_lists_and_ranges_are_the_tuples_that_they_look_like():
    axis = grid({"batch_size": (4, 8)})
    assert Sweep("s", BASE, [axis], seeds=range(2)) == Sweep("s", BASE, (axis,), seeds=[0, 1]) == Sweep("s", BASE, (axis,), seeds=(0, 1))


def test_a_field_along_two_axes_and_an_unknown_baseline_are_refused():
    with pytest.raises(InputError, match="set every field along one axis only"):
        expand(sweep(grid({"batch_size": (4,)}), grid({"batch_size": (8,)})))
    with pytest.raises(InputError, match="did you mean plain"):
        expand(sweep(arms({"recipe": {}, "plain": {"augment": ()}}), baseline="plan"))
    assert baseline_name(sweep(arms({"recipe": {}, "plain": {"augment": ()}}), baseline="plain")) == "plain"


def test_a_sweep_file(tmp_path):
    file = tmp_path / "rates.py"
    file.write_text(
        "from tests.sweeps.test_spec import BASE\nfrom sgdr_jax.sweeps import Sweep, grid\n"
        "sweep = Sweep('rates', BASE, (grid({'batch_size': (4, 8)}),))\n"
    )
    assert [r.experiment.batch_size for r in expand(load_sweep(file))] == [4, 8]
    file.write_text("sweep = 1")
    with pytest.raises(InputError, match=r"has a int as `sweep`; define `sweep = Sweep\(...\)`"):
        load_sweep(file)
    with pytest.raises(InputError, match="sweep file is"):
        load_sweep(tmp_path / "none.py")
