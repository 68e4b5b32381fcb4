"""Search spaces: what is accepted, the unit interval, grids, what the command prints of them."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import InputError, Sgd
from sgdr_jax.augment import side_on
from sgdr_jax.cli.main import main
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Categorical, Integer, LogUniform, Search, Uniform, arms
from sgdr_jax.sweeps.search_space import from_unit, grid_values, to_unit
from sgdr_jax.sweeps.spec import expand

from ..helpers import seeded
from .test_optuna_study import BASE, RATES, sweep


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LogUniform(0, 1), "LogUniform.low is 0; use a number above 0"),
        (lambda: Uniform(1, 1), "Uniform.high is 1; use a number above low"),
        (lambda: Uniform(0, 1, step=2), "Uniform.step is 2; use a part of high - low"),
        (lambda: Integer(1, 2.5), r"Integer is \(1, 2.5\); use whole numbers"),
        (lambda: Categorical((1,)), "give a tuple of two values or more"),
        (lambda: Categorical((0.1, 0.1)), "give each value once"),
        (lambda: Search({}, 3), "search.space is {}; give fields"),
        (lambda: Search({"batch_size": (1, 2)}, 3), r"search.space\['batch_size'\] is \(1, 2\); use one of LogUniform, Uniform"),
        (lambda: Search(RATES), "search.trials is None; use 1 or more"),
        (lambda: Search(RATES, 3, "tpes"), "search.sampler is 'tpes'; use one of tpe"),
        (lambda: Search(RATES, 3, "grid"), "stages.head.lr, optimizer.momentum has infinitely many values"),
        (lambda: Search({"batch_size": Integer(1, 4)}, 3, "cmaes"), "it needs two or more fields"),
        (lambda: Search(RATES | {"batch_size": Categorical((1, 2))}, 3, "cmaes"), "batch_size is not a number: use tpe"),
        (lambda: Search(RATES, 3, pruner="median"), r"search.pruner is 'median'; use Median\(\)"),
        (lambda: expand(sweep(Search({"stages.heat.lr": Uniform(0, 1)}, 3))), r"search.space: .*there is no heat: there are 0 \(head\)"),
        (lambda: expand(sweep(Search({"batchsize": Integer(1, 3)}, 3))), "search.space: .*did you mean batch_size"),
        (lambda: expand(sweep(Search({"batch_size": Integer(0, 3)}, 3))), "search.space: batch_size is 0; use 1 or more"),
        (lambda: Search(RATES, 2.5), "search.trials is 2.5; use 1 or more, a whole number"),
        (lambda: Search(RATES, 3, seed=-1), "search.seed is -1; use 0 or more, a whole number"),
        (lambda: Search({5: Uniform(0, 1)}, 3), "search.space is 5; name fields by text"),
        (lambda: expand(sweep(Search({"batch_size": LogUniform(8, 16)}, 3))), r"search.space: batch_size is 10.5.*; use a whole number"),
        (lambda: expand(sweep(Search({"seed": Integer(0, 3)}, 3))), "search.space is 'seed'; set the seeds with Sweep.seeds"),
    ],
)  # fmt: skip
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"stages.0.lr": Uniform(0.1, 0.2), "stages.head.lr": Uniform(0.1, 0.2)}, "stages.0.lr has no effect before stages.head.lr"),
        ({"stages.0.lr": Uniform(0.2, 0.3), "stages.*.lr": Uniform(0.2, 0.3)}, "stages.0.lr has no effect before stages.*.lr"),
        (
            {"optimizer.momentum": Uniform(0.5, 0.8), "optimizer": Categorical((Sgd(0.8), Sgd(0.95)))},
            "optimizer.momentum has no effect before optimizer",
        ),
    ],
)
def test_fields_that_later_ones_set_anew_are_refused(space, message):
    """Trials were shown with values that had not run."""
    with pytest.raises(InputError, match=f"^search.space: {re.escape(message)}, which sets it anew; put it last, or leave one out"):
        expand(sweep(Search(space, 3)))
    axis = arms({"recipe": {}, "odd": {field: domain.ends[1] for field, domain in space.items()}})
    with pytest.raises(InputError, match=f"^arm 'odd': {re.escape(message)}, "):
        expand(dataclasses.replace(sweep(None), axes=(axis,)))
    fine = {"optimizer": Sgd(0.8), "optimizer.weight_decay": 0.1}
    alone_invalid = {"stages.head.precompute": True, "stages.head.augment": False}
    odd = dataclasses.replace(BASE, augment=side_on())
    expand(dataclasses.replace(sweep(None), base=odd, axes=(arms({"fine": fine, "cached": dict(reversed(alone_invalid.items()))}),)))


def domains():
    ends = st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda p: (p[0], p[0] + p[1]))
    logs = st.builds(lambda e: LogUniform(e[0] / 7, e[1] / 7), ends)
    numbers = st.builds(lambda e, s: Uniform(e[0] / 7 - 3, e[1] / 7 - 3, s and (e[1] - e[0]) / 7 / s), ends, st.none() | st.integers(1, 9))
    return logs | numbers | st.builds(lambda e, log: Integer(*e, log=log), ends, st.booleans())


@seeded
@given(domains(), st.floats(0, 1))
def test_the_unit_interval_is_the_domain_and_back(domain, share):
    value = from_unit(domain, share)
    values = [domain.value(number) for number in range(domain.count)]
    assert domain.ends[0] <= value <= domain.ends[1] and (not values or value in values)
    assert -1e-9 <= to_unit(domain, value) <= 1 + 1e-9 and from_unit(domain, to_unit(domain, value)) == pytest.approx(value, rel=1e-9)
    if not values:
        assert to_unit(domain, value) == pytest.approx(share, abs=1e-9)


def test_a_grid_is_all_combinations():
    search = Search({"a": Integer(1, 3), "b": Categorical(("x", Sgdr(2))), "c": Uniform(0, 1, step=0.5)}, sampler="grid")
    drawn = [tuple(grid_values(search, n).values()) for n in range(search.count)]
    assert len(set(drawn)) == 18 == search.count and drawn[:3] == [(1, "x", 0.0), (1, "x", 0.5), (1, "x", 1.0)]
    assert Search(search.space, 5, "grid").count == 5


@pytest.mark.parametrize("domain", [Integer(1, 10**15, log=True), Integer(0, 10**15), Uniform(0.0, 1.0, step=1e-12)])
def test_a_domain_of_many_values_is_not_written_out(domain):
    search = Search({"seed": domain, "x": Categorical(("a", "b"))}, sampler="grid")
    assert search.count == 2 * domain.count and grid_values(search, search.count - 1) == {"seed": domain.ends[1], "x": "b"}
    assert from_unit(domain, 0.5) == pytest.approx(domain.value(domain.count // 2) if domain.ends[0] == 0 else 10**7.5, rel=1e-6)


def test_the_command_explains_the_space_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    file = tmp_path / "searched.py"
    file.write_text("from tests.jobs.workers import SEARCHED as sweep\n")
    main(["sweep", str(file), "--dir", str(tmp_path / "sweep"), "--dry-run"])
    said = " ".join(capsys.readouterr().out.split())
    assert "6 trials by random for the highest validation accuracy, pruned at cycle ends by Median(startup=2)" in said
    assert "stages.all.lr" in said and "LogUniform(low=0.0001, high=0.1)" in said
    assert "Categorical(values=(Sgd(momentum=0.8), Sgd(momentum=0.95)))" in said
    assert "the best trial is then run with 1 other seeds" in said and not (tmp_path / "sweep").exists()
