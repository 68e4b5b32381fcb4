"""Populations: at restarts weak members go on exactly as strong ones, at other rates, whatever was interrupted and however long it took."""

import dataclasses
import math
import re
import shutil

import numpy as np
import pytest

from sgdr_jax import Eval, Experiment, InputError, Population, Search, Sgd, Stage, Sweep, Uniform, arms, checkpoint, cli, grid
from sgdr_jax.augment import side_on
from sgdr_jax.compare import compare
from sgdr_jax.contest import Verdict
from sgdr_jax.datasets import Synthetic, TrainAndValid
from sgdr_jax.exchange import Exchange, Member
from sgdr_jax.lineage import lineage
from sgdr_jax.logbook import read
from sgdr_jax.loop import Score, Standing
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.setting import prepare
from sgdr_jax.stage import first_state
from sgdr_jax.state import TrainState
from sgdr_jax.sweep import expand, keep, run_folder
from sgdr_jax.trained import open_trained
from sgdr_jax.workers import check_members, work

from .helpers import Tiny, same_bits

DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)
ALL = Stage("all", size=16, lr=0.01, schedule=Sgdr(4))
RATES = grid({"stages.0.lr": (0.001, 0.01, 0.1)})


def base(*stages, **fields):
    common = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=0), "augment": side_on(), "optimizer": Sgd(weight_decay=1e-3)}
    return Experiment(**{"name": "small", "data": DATA, "model": Tiny()} | common | fields, stages=stages or (ALL,))


SWEEP = Sweep("p", base(), (RATES,), seeds=(0, 1), population=Population(share=0.34, fields=("lr", "weight_decay")))
RUNS = expand(SWEEP)


def rows(folder, run):
    """All rows without what a clock says."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read(run_folder(folder, run.hash)).rows]


def same_network(a, b, run):
    """Whether two sweeps ended this run with the same bits."""
    nets = [open_trained(run_folder(folder, run.hash)) for folder in (a, b)]
    return same_bits(*((net.params, net.stats) for net in nets))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population")
    assert [entry.error for entry in work(SWEEP, folder, keep="all", pace=0)] == [""] * 6
    return folder


def state(value):
    return TrainState(np.int32(4), {"head": np.float32(value)}, {}, np.float32(-value))


def member(run, accuracy, loss=1.0):
    return Member(run, 0, Score(accuracy, loss), state(accuracy), Standing(lr=(0.1, 1.0), weight_decay=1e-2))


# ---- one meeting ----


def test_the_weak_go_on_as_the_strong_at_other_rates_and_nobody_else_changes():
    scores = (0.9, 0.1, 0.5, 0.8, 0.2, 0.6, 0.4, 0.3)
    before = {i: member(f"run {i}", accuracy) for i, accuracy in enumerate(scores)}
    exchange = Exchange(Population(), 7, lambda: True)
    after = exchange(before)
    copied = {i: m for i, (m, _) in after.items() if m is not before[i]}
    assert set(copied) == {1, 4} and {m.run for m in copied.values()} <= {"run 0", "run 3"}
    for i, m in copied.items():
        donor = next(other for other in before.values() if other.run == m.run)
        assert m.state is donor.state and m.standing._replace(lr=donor.standing.lr) == donor.standing
        assert m.standing.lr in ((0.1 * 1.25, 1.25), (0.1 / 1.25, 1 / 1.25)) and after[i][1]["from"] == m.run
    assert [after[i][1]["rank"] for i in range(8)] == [1, 8, 4, 2, 7, 3, 5, 6] and exchange.due()
    assert {i: row for i, (_, row) in Exchange(Population(), 7, lambda: True)(before).items()} == {i: row for i, (_, row) in after.items()}
    drawn = {tuple((m.run, m.standing.lr) for m, _ in Exchange(Population(), seed, lambda: False)(before).values()) for seed in range(16)}
    assert len(drawn) > 4  # two donors and two factors, twice


def test_nobody_copies_one_that_is_no_better_and_one_without_a_finite_loss_is_the_weakest():
    equal = {i: member(f"run {i}", 0.5) for i in range(4)}
    assert all(after is equal[i] for i, (after, _) in Exchange(Population(), 0, lambda: False)(equal).items())
    lost = equal | {2: member("run 2", 0.9, math.nan)}
    after = Exchange(Population(), 0, lambda: False)(lost)
    assert after[2][0].run == "run 0" and after[2][1]["rank"] == 4 and [after[i][0].run for i in (0, 1, 3)] == ["run 0", "run 1", "run 3"]
    assert Exchange(Population(), 0, lambda: False)({3: equal[3]})[3][0] is equal[3]  # the others have failed


# ---- whole sweeps ----


def test_where_nothing_is_exchanged_every_bit_is_that_of_plain_lanes(tmp_path, monkeypatch):
    monkeypatch.setattr("sgdr_jax.exchange.Population.count", lambda how, members: 0)
    monkeypatch.setattr("sgdr_jax.lanes.contest", lambda *_: Verdict(False, 1, 1, 0, ""))
    for name, sweep in (("population", SWEEP), ("plain", dataclasses.replace(SWEEP, population=None))):
        work(sweep, tmp_path / name, keep="final")
    for run in RUNS:
        told = [row for row in rows(tmp_path / "population", run) if row["kind"] != "population"]
        assert told == rows(tmp_path / "plain", run)
        assert same_network(tmp_path / "population", tmp_path / "plain", run)
        met = [row for row in rows(tmp_path / "population", run) if row["kind"] == "population"]
        assert [(row["step"], row["from"]) for row in met] == [(step, run.hash) for step in (4, 8, 12)]


def test_a_copied_member_goes_on_with_exactly_the_donors_state_and_says_so(tmp_path):
    """Two cycles, so that the checkpoints of the restart are still there."""
    sweep = dataclasses.replace(SWEEP, base=base(dataclasses.replace(ALL, schedule=Sgdr(2))))
    work(sweep, tmp_path, keep="all", pace=0)
    setting = prepare(sweep.base)
    nets = {"params": setting.params, "stats": setting.stats}
    like = {"state": first_state(setting.engine, setting.plan.stages[0], *nets.values())._asdict(), "best": nets}
    runs, copies = {run.hash: run for run in expand(sweep)}, 0
    for run in runs.values():
        (met,) = (row for row in rows(tmp_path, run) if row["kind"] == "population")
        own, donor = (run_folder(tmp_path, key) / "checkpoints" / "stage-0-step-000004" for key in (run.hash, met["from"]))
        assert same_bits(*(checkpoint.restore(path.parent, path.name, like) for path in (own, donor)))
        facts, its = (checkpoint.verify(path.parent, path.name) for path in (own, donor))
        by = facts["lr"][0] / its["lr"][0]
        if own != donor:
            copies += 1
            assert facts["best"] == its["best"] and any(by == pytest.approx(x) for x in (1.25, 0.8))
            changed = facts["weight_decay"] / its["weight_decay"]
            assert any(changed == pytest.approx(x) for x in (1.25, 0.8))
        assert met["lr"] == dict(zip(("early", "late", "head"), facts["lr"], strict=True)) and met["weight_decay"] == facts["weight_decay"]
        first = next(row for row in rows(tmp_path, run) if row["kind"] == "train" and row["step"] == 4)  # the peak, at a restart
        np.testing.assert_allclose(list(first["lr"].values()), facts["lr"], rtol=1e-6)
    assert copies == 2


def test_the_same_sweep_has_the_same_lineage_and_the_same_bits(whole, tmp_path):
    work(SWEEP, tmp_path, keep="final")
    for run in RUNS:
        assert rows(tmp_path, run) == rows(whole, run) and same_network(tmp_path, whole, run)
    assert sum(r.source != k.number for k in lineage(whole) for r in k.restarts) > 0


class Killed(Exception):
    pass


@pytest.mark.parametrize("behind", [(), (1, 4), range(6)], ids=["all at the second restart", "two at the first", "none anywhere"])
def test_an_interrupted_population_ends_with_the_same_bits(whole, tmp_path, monkeypatch, behind):
    real, met = Exchange.__call__, 0

    def meet(*words):
        nonlocal met
        met += 1
        if met == 3:
            raise Killed
        return real(*words)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Exchange, "__call__", meet)
        work(SWEEP, tmp_path, keep="final", pace=0)
    for i in behind:
        folder = run_folder(tmp_path, RUNS[i].hash) / "checkpoints"
        assert checkpoint.names(folder) == ("stage-0-step-000004", "stage-0-step-000008")
        for name in ("stage-0-step-000008", *(["stage-0-step-000004"] if len(behind) == 6 else [])):
            shutil.rmtree(folder / name)
    assert [entry.error for entry in work(SWEEP, tmp_path, keep="final", pace=0)] == [""] * 6
    for run in RUNS:
        assert rows(tmp_path, run) == rows(whole, run) and same_network(tmp_path, whole, run)


def test_a_member_that_fails_leaves_the_others_to_meet_and_is_not_let_in_again(tmp_path):
    sweep = dataclasses.replace(SWEEP, axes=(grid({"stages.0.lr": (0.001, 0.01, 1e30)}),), seeds=(0, 1))
    done = work(sweep, tmp_path, pace=0)
    assert [entry.state for entry in done] == ["finished"] * 4 + ["failed"] * 2 and "training loss is" in done[4].error
    met = [row for row in rows(tmp_path, expand(sweep)[0]) if row["kind"] == "population"]
    assert [row["members"] for row in met] == [4, 4, 4]
    good = dataclasses.replace(sweep, axes=(grid({"stages.0.lr": (0.001, 0.01, 0.02)}),))
    run = expand(good)[5]
    work(good, tmp_path / "b", pace=0)
    shutil.rmtree(run_folder(tmp_path / "b", run.hash))
    assert "it would meet members that have ended without it" in work(good, tmp_path / "b", pace=0)[5].error


# ---- what it cannot be ----


def test_what_cannot_be_a_population_is_refused_before_anything_runs(tmp_path):
    def check(sweep):
        check_members(expand(sweep), sweep.base.data.open())

    def having(*stages, axes=(RATES,), seeds=(0, 1), **fields):
        return dataclasses.replace(SWEEP, base=base(*stages, **fields), axes=axes, seeds=seeds)

    head = dataclasses.replace(ALL, name="head", train="head")
    for sweep, text in (
        (having(seeds=(0,)), "population is '3 runs'; it needs 4 members: give the sweep more arms or seeds"),
        (having(axes=(RATES, arms({"a": {}, "b": {"optimizer.nesterov": True}}))), "these are different programs"),
        (having(data=TrainAndValid(DATA)), "population is 'unjudged'; there are no validation images"),
        (having(dataclasses.replace(ALL, schedule=Constant(1))), "population is 'a single cycle'; members meet at restarts"),
        (having(dataclasses.replace(ALL, patience=1)), 'stage "all" with patience\'; one that stops early would miss the others'),
        (having(refit=True), "with refit'; a refit cannot repeat what came from other members"),
        (
            having(axes=(RATES, arms({"a": {}, "b": {"stages.0.schedule": Sgdr(2, cycle_mult=3)}}))),
            "members meet at restarts: give all the same cycles",
        ),
        (having(head), "it freezes early, late, which each member has its own of"),  # drawn with each seed
        (having(ALL, head, axes=(grid({"stages.0.lr": (0.1, 0.2, 0.3, 0.4)}),), seeds=(0,)), 'stage "head"\'; it freezes early, late'),
    ):
        with pytest.raises(InputError, match=re.escape(text)):
            check(sweep)
    check(having(head, axes=(grid({"stages.0.lr": (0.1, 0.2, 0.3, 0.4)}),), seeds=(0,)))
    for options in ({"lanes": 2}, {"store": "x.db"}, {"only": [0]}):
        (name,) = options
        with pytest.raises(InputError, match=f"--{name} is .*; the members of a population run all side by side in one process"):
            work(SWEEP, tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()
    for fields, text in (({"share": 0.6}, "share is 0.6"), ({"factor": 1.0}, "factor is 1.0"), ({"fields": ()}, "fields is ()")):
        with pytest.raises(InputError, match=re.escape(text)):
            Population(**fields)
    with pytest.raises(InputError, match="trials that are ended early cannot be members"):
        dataclasses.replace(SWEEP, search=Search({"stages.0.lr": Uniform(0.1, 0.2)}, trials=2))


def test_a_folder_holds_one_population(tmp_path, capsys):
    keep(tmp_path, SWEEP, RUNS)
    keep(tmp_path, SWEEP, RUNS)
    cli.main(["compare", str(tmp_path)])
    assert f"0 of {len(RUNS)} have finished; the command of the sweep goes on" in " ".join(capsys.readouterr().out.split())
    more = dataclasses.replace(SWEEP, seeds=(0, 1, 2))
    for other in (more, dataclasses.replace(SWEEP, population=None), dataclasses.replace(SWEEP, population=Population())):
        with pytest.raises(InputError, match="has another population than this sweep, or none; use another --dir"):
            keep(tmp_path, other, expand(other))


# ---- words ----


def test_its_members_are_no_seeds_of_arms(whole, tmp_path, capsys):
    with pytest.raises(InputError, match="sweep is 'p, a population'; its runs copied one another and are no seeds of independent arms"):
        compare(whole)
    cli.main(["compare", str(whole)])
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "6 members, which are no independent runs" in told
        and "No arms are compared: the members copied one another. Of them the first" in told
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", str(whole), "--results", str(tmp_path / "RESULTS.md")])
    assert stopped.value.code == 2 and "--results" in capsys.readouterr().err
    kin = lineage(whole)
    assert [(k.number, k.arm, k.seed, len(k.restarts)) for k in kin] == [(r.number, r.arm, r.seed, 3) for r in RUNS]
    for k in kin:
        for r in k.restarts:
            assert f"of {r.source}, lr" in told or r.source == k.number
