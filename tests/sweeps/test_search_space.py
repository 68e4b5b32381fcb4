"""Searches: what a space may be, what draws from it, what becomes of trials whose workers die, what is ended early and what is chosen."""

import dataclasses
import json
import logging
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax import InputError, Sgd, Stage
from sgdr_jax.cli.main import main
from sgdr_jax.core.errors import Pruned
from sgdr_jax.core.serialization import to_json
from sgdr_jax.runs.folder import read as read_run
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Categorical, Halving, Integer, LogUniform, Median, Search, Sweep, Uniform
from sgdr_jax.sweeps import runner as working
from sgdr_jax.sweeps.analysis.compare import compare_arms
from sgdr_jax.sweeps.options import WorkerOptions
from sgdr_jax.sweeps.optuna_study import Study
from sgdr_jax.sweeps.run_status import save_failure
from sgdr_jax.sweeps.search_space import Domain, from_unit, grid_values, to_unit
from sgdr_jax.sweeps.shared_queue import SharedQueue, open_queue
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import read_sweep, run_folder, save_sweep
from sgdr_jax.sweeps.trial_records import best_trial, read_confirmation_runs, read_trials, save_confirmation_runs

from ..helpers import experiment, seeded
from ..jobs.workers import SEARCHED
from .test_shared_queue import kill_one, start

BASE = experiment(Stage("head", size=16, train="head", lr=0.1, schedule=Sgdr(3)), optimizer=Sgd())
RATES: dict[str, Domain] = {"stages.head.lr": LogUniform(1e-4, 1.0), "optimizer.momentum": Uniform(0.0, 0.95)}


def sweep(search, seeds=(0,)) -> Sweep:
    return Sweep("looking", BASE, search=search, seeds=seeds)


def doors(folder, made: Sweep, count=1, kind="store.journal", **how) -> list[tuple[SharedQueue, Study]]:
    """Workers' doors to a search."""
    save_sweep(folder, made, expand(made))
    stores = [open_queue(str(folder / kind), folder, made.name, expand(made), **how) for _ in range(count)]
    return [(store, Study(store, made, folder)) for store in stores]


def draw(study, most) -> list:
    """Up to `most` trials."""
    return [run for _ in range(most) if (run := study.take())]


def quality(run) -> float:
    """Best, 1, at lr 0.01 and momentum 0.5."""
    values = dict(run.values)
    return 1 - 0.1 * (np.log10(values["stages.head.lr"]) + 2) ** 2 - (values["optimizer.momentum"] - 0.5) ** 2


def done(folder, run, accuracy: float) -> None:
    """What a finished run leaves."""
    own = run_folder(folder, run.hash)
    own.mkdir(parents=True, exist_ok=True)
    facts = {"valid": {"accuracy": accuracy, "loss": -accuracy}, "seconds": 1.0}
    (own / "summary.json").write_text(json.dumps(facts))


# ---- the space ----


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
        (lambda: expand(sweep(Search({"seed": Integer(0, 3)}, 3))), "search.space is 'seed'; set the seeds with Sweep.seeds"),
    ],
)  # fmt: skip
def test_what_is_refused(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def domains():
    ends = st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda p: (p[0], p[0] + p[1]))
    logs = st.builds(lambda e: LogUniform(e[0] / 7, e[1] / 7), ends)
    numbers = st.builds(lambda e, s: Uniform(e[0] / 7 - 3, e[1] / 7 - 3, s and (e[1] - e[0]) / 7 / s), ends, st.none() | st.integers(1, 9))
    return logs | numbers | st.builds(lambda e, log: Integer(*e, log=log), ends, st.booleans())


@seeded
@given(domains(), st.floats(0, 1))
def test_the_unit_interval_is_the_domain_and_back(domain, share):
    value = from_unit(domain, share)
    assert domain.ends[0] <= value <= domain.ends[1] and (not domain.points or value in domain.points)
    assert -1e-9 <= to_unit(domain, value) <= 1 + 1e-9 and from_unit(domain, to_unit(domain, value)) == pytest.approx(value, rel=1e-9)
    if not domain.points:
        assert to_unit(domain, value) == pytest.approx(share, abs=1e-9)


def test_a_grid_is_all_combinations():
    search = Search({"a": Integer(1, 3), "b": Categorical(("x", Sgdr(2))), "c": Uniform(0, 1, step=0.5)}, sampler="grid")
    drawn = [tuple(grid_values(search, n).values()) for n in range(search.count)]
    assert len(set(drawn)) == 18 == search.count and drawn[:3] == [(1, "x", 0.0), (1, "x", 0.5), (1, "x", 1.0)]
    assert Search(search.space, 5, "grid").count == 5


# ---- drawing ----


def drawn(folder, search, seeds=(0,), workers=1) -> list[float]:
    """The qualities of all trials of a search, in turn, by so many workers that each finish what they have drawn one round later."""
    made = sweep(search, seeds)
    found: list[float] = []
    members = [study for _, study in doors(folder, made, workers)]
    while portion := [(study, run) for study in members for run in draw(study, 1)]:
        for study, run in portion:
            found.append(quality(run))
            done(folder, run, found[-1])
            study.finish(run, found[-1])
    assert not any(study.wait() for study in members)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_samplers_learn_draw_within_the_space_and_repeat_themselves(tmp_path, sampler):
    search = Search(RATES, 40, sampler, pruner=None)
    found = drawn(tmp_path / "a", search)
    assert len(found) == 40 and found[:14] == drawn(tmp_path / "b", Search(RATES, 14, sampler))
    rows = read_trials(tmp_path / "a", "accuracy")
    assert [t.number for t in rows] == list(range(40)) and all(1e-4 <= t.values["stages.head.lr"] <= 1 for t in rows)
    assert all(t.state == "finished" for t in rows) and list(rows[0].shown) == ["lr", "momentum"]
    top = best_trial(search, rows)
    assert top and top.value == max(found)
    # By chance the mean is 1 - 0.1·4/3 - 0.076 = 0.79.
    assert (np.mean(found[20:]) > 0.84) == (sampler != "random") and max(found) > 0.98, found


@pytest.mark.parametrize("kind", ["store.db", "store.journal"])
def test_workers_share_the_draws_without_drawing_one_twice(tmp_path, kind):
    search = Search({"batch_size": Integer(1, 7), "epoch_steps": Categorical((1, 2))}, sampler="grid")
    made = sweep(search)
    members = [study for _, study in doors(tmp_path, made, 3, kind)]
    seen = []
    while portion := [(study, run) for study in members for run in draw(study, 2)]:
        for study, run in portion:
            seen.append((run.experiment.batch_size, run.experiment.epoch_steps))
            study.finish(run, 0.5)
    assert len(seen) == 14 == len(set(seen))


def test_a_trial_whose_worker_dies_is_taken_over_with_the_same_values(tmp_path, caplog):
    (_, gone), (store, heir) = doors(tmp_path, sweep(Search(RATES, 3)), 2, grace=0.4)
    (run,) = draw(gone, 1)
    with store.alive(), heir:
        (other,) = draw(heir, 1)
        assert other.hash != run.hash
        heir.finish(other, 0.1)
        time.sleep(0.1)
        with caplog.at_level(logging.WARNING, "sgdr_jax.sweeps.optuna_study"):
            seen = []
            while heir.wait():
                for each in draw(heir, 3):
                    seen.append(each)
                    heir.finish(each, 0.2)
        assert run.hash in [each.hash for each in seen] and len(seen) == 2 and "has gone" in caplog.text
    gone.finish(run, 0.9)  # it was only stuck: too late, and no harm
    assert [t.hash for t in read_trials(tmp_path, "accuracy")] == [run.hash, other.hash, next(e.hash for e in seen if e.hash != run.hash)]


def test_an_interrupted_worker_gives_back_and_failed_trials_count_once(tmp_path):
    made = sweep(Search(RATES, 4, pruner=None))
    ((_, study),) = doors(tmp_path, made)
    with pytest.raises(KeyboardInterrupt), study:
        held = draw(study, 2)
        raise KeyboardInterrupt
    ((_, study),) = doors(tmp_path, made)
    again = draw(study, 4)
    assert [r.hash for r in again[:2]] == [r.hash for r in held] and len(again) == 4
    study.give_back(again[0])
    study.fail(again[1], "no disk")
    study.fail(again[2], "the loss is nan", diverged=True)
    study.finish(again[3], 0.5)
    assert [r.hash for r in draw(study, 4)] == [again[0].hash]
    study.finish(again[0], 0.5)
    assert not draw(study, 1) and not study.wait()
    kept = Study(open_queue(str(tmp_path / "store.journal"), tmp_path, made.name, expand(made)), made, tmp_path, retry=True)
    assert [r.hash for r in draw(kept, 4)] == [again[1].hash]


# ---- ending early, choosing ----


@pytest.mark.parametrize("objective, sign", [("accuracy", 1), ("loss", -1)])
def test_what_is_below_the_median_ends_at_a_cycles_end_but_not_at_the_last(tmp_path, objective, sign):
    made = sweep(Search(RATES, 9, "random", Median(startup=3, warmup=1), objective))
    ((_, study),) = doors(tmp_path, made)
    for level in (0.1, 0.2, 0.3):
        (run,) = draw(study, 1)
        for end in (1, 2, 3):
            study.report(run, end, sign * level, last=end == 3)
        done(tmp_path, run, level)
        study.finish(run, sign * level)
    good, bad, late = draw(study, 3)
    for run, level in ((good, 0.25), (bad, 0.15), (late, 0.15)):
        study.report(run, 1, sign * level)
    study.report(good, 2, sign * 0.25)
    study.report(late, 2, sign * 0.15, last=True)
    with pytest.raises(Pruned, match=f"{objective} -?0.1500 at cycle end 2"):
        study.report(bad, 2, sign * 0.15)
    study.prune(bad)
    rows = {t.hash: t for t in read_trials(tmp_path, objective)}
    assert rows[bad.hash].state == "pruned" and rows[bad.hash].cycle_ends == 2 and rows[bad.hash].value == sign * 0.15
    assert len(rows) == 6 and sum(t.state == "finished" for t in rows.values()) == 3


def test_successive_halving_lets_one_in_so_many_go_on(tmp_path):
    ((_, study),) = doors(tmp_path, sweep(Search(RATES, 30, "random", Halving(first=1, factor=3))))
    on = 0
    for run in draw(study, 30):
        try:
            study.report(run, 1, float(np.random.default_rng([7, run.number]).random()))
            on += 1
        except Pruned:
            study.prune(run)
    assert 8 <= on <= 16  # one in three of those so far, and the first ones without whom to compare


def test_the_best_trial_gets_the_seeds_that_did_not_choose_it(tmp_path):
    made = sweep(Search(RATES, 4, "random"), seeds=(3, 5, 8))
    ((_, study),) = doors(tmp_path, made)
    runs = draw(study, 4)
    assert save_confirmation_runs(made, tmp_path) == () and all(run.seed == 3 for run in runs)
    for run in runs[:3]:
        done(tmp_path, run, quality(run))
        study.finish(run, quality(run))
    save_failure(tmp_path, runs[3], InputError("no luck"))
    top = max(runs[:3], key=quality)
    made_arm = save_confirmation_runs(made, tmp_path)
    assert [(r.arm, r.seed, r.values) for r in made_arm] == [("best trial", seed, top.values) for seed in (5, 8)]
    assert [r.number for r in made_arm] == [3, 4] and [r["hash"] for r in read_confirmation_runs(tmp_path)] == [r.hash for r in made_arm]
    assert save_confirmation_runs(sweep(made.search), tmp_path) == ()


def test_another_search_is_refused_and_more_trials_are_not(tmp_path):
    made = sweep(Search(RATES, 4), seeds=(0, 1))
    save_sweep(tmp_path, made, expand(made))
    before = (tmp_path / "sweep.json").read_bytes()
    assert read_sweep(tmp_path)["search"]["space"]["stages.head.lr"]["low"] == 1e-4
    for other, message in (
        (sweep(Search(RATES | {"batch_size": Integer(1, 3)}, 4), (0, 1)), "has a search with another space; use another --dir"),
        (sweep(Search(RATES, 4, objective="loss"), (0, 1)), "another objective"),
        (sweep(None, (0, 1)), "another space"),
        (sweep(Search(RATES, 4), (1, 0)), "has trials with seed 0, now the first is 1; keep it first"),
    ):
        with pytest.raises(InputError, match=message):
            save_sweep(tmp_path, other, expand(other))
    assert (tmp_path / "sweep.json").read_bytes() == before
    more = sweep(Search(RATES, 40, pruner=None), (0, 1, 2))
    assert save_sweep(tmp_path, more, expand(more)) == 1


# ---- run for real ----


def test_a_search_runs_its_trials_ends_some_and_compares_the_best_with_the_base(tmp_path):
    """The highest rate makes the loss infinite; such trials have failed."""
    space = {"stages.all.lr": Categorical((1e-4, 0.003, 0.03, 1e30)), "stages.cached.lr": LogUniform(1e-3, 0.1)}
    made = dataclasses.replace(SEARCHED, search=Search(space, 10, "tpe", Median(startup=2), startup=4))
    done = working.work(made, tmp_path / "a")
    assert [(e.run.arm, e.run.seed, e.state) for e in done] == [
        ("base", 0, "finished"),
        ("base", 1, "finished"),
        ("best trial", 1, "finished"),
    ]
    found = read_trials(tmp_path / "a", "accuracy")
    states = [t.state for t in found]
    assert len(found) == 10 and set(states) == {"finished", "pruned", "failed"}, states
    assert all("training loss is" in t.error for t in found if t.state == "failed")
    for trial in found:
        ends = [row for row in read_run(run_folder(tmp_path / "a", trial.hash)).rows if row["kind"] == "eval"]
        if trial.state == "pruned":
            assert len(ends) == trial.cycle_ends < 5 and ends[-1]["accuracy"] == trial.value
            assert not (run_folder(tmp_path / "a", trial.hash) / "checkpoints").exists()
    top = best_trial(made.search, found)
    assert top and {name: to_json(value) for name, value in done[2].run.values} == top.values
    answer = compare_arms(tmp_path / "a")
    assert [(arm.name, len(arm.runs)) for arm in answer.arms] == [("base", 2), ("best trial", 1)] and len(answer.trials) == 10
    paired = answer.arms[1].paired
    assert paired and paired.seeds == (1,)
    again = working.work(made, tmp_path / "a")
    assert [e.summary for e in again] == [e.summary for e in done] and read_trials(tmp_path / "a", "accuracy") == found
    more = dataclasses.replace(made, search=dataclasses.replace(made.search, trials=11))
    working.work(more, tmp_path / "a")
    assert read_trials(tmp_path / "a", "accuracy")[:10] == found and len(read_trials(tmp_path / "a", "accuracy")) == 11


def test_a_search_that_is_interrupted_goes_on_with_the_same_draws_and_the_same_numbers(tmp_path, monkeypatch):
    real, ends = Study.report, []

    def report(self, run, end, value, **how):
        real(self, run, end, value, **how)
        ends.append(end)
        if len(ends) == 7:
            raise KeyboardInterrupt

    working.work(SEARCHED, tmp_path / "whole", WorkerOptions(pace=0))
    monkeypatch.setattr(Study, "report", report)
    with pytest.raises(KeyboardInterrupt):
        working.work(SEARCHED, tmp_path / "cut", WorkerOptions(pace=0))
    assert len(read_trials(tmp_path / "cut", "accuracy")) == 2
    monkeypatch.setattr(Study, "report", real)
    working.work(SEARCHED, tmp_path / "cut", WorkerOptions(pace=0))
    whole, cut = (read_trials(tmp_path / name, "accuracy") for name in ("whole", "cut"))
    assert [t._replace(seconds=None) for t in whole] == [t._replace(seconds=None) for t in cut]


@pytest.mark.slow
def test_one_of_two_workers_is_killed_within_a_trial(tmp_path):
    """Trials drawn at random are those of a single worker; each ends once."""
    store, logs = str(tmp_path / "shared.journal"), [tmp_path / "0.log", tmp_path / "1.log"]
    members = [start(tmp_path / "sweep", store, log, "searched") for log in logs]
    victim, killed = kill_one(tmp_path / "sweep", members)
    for member, log in zip(members, logs, strict=True):
        assert member.wait(400) == (-9 if member.pid == victim else 0), log.read_text()
    working.work(SEARCHED, tmp_path / "alone")
    ours, alone = (read_trials(tmp_path / name, "loss") for name in ("sweep", "alone"))
    assert [t.hash for t in ours] == [t.hash for t in alone] and all(t.ended for t in ours)
    numbers = {t.hash: t.value for t in alone if t.state == "finished"}
    both = [t for t in ours if t.state == "finished" and t.hash in numbers]
    assert both
    np.testing.assert_allclose([t.value for t in both], [numbers[t.hash] for t in both], rtol=1e-5)
    assert json.loads((killed / "environment.json").read_text())["starts"][1:], "nobody took it over"
    assert len(list((tmp_path / "sweep").glob("trials/*.json"))) == 6


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
