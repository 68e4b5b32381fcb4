"""Studies: what samplers draw, what becomes of trials whose workers die, what is pruned."""

import json
import logging
import shutil
import time

import numpy as np
import pytest

from sgdr_jax import Sgd, Stage
from sgdr_jax.core.errors import Pruned
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Categorical, Halving, Integer, LogUniform, Median, Search, Sweep, Uniform
from sgdr_jax.sweeps import runner as working
from sgdr_jax.sweeps.optuna_study import Study
from sgdr_jax.sweeps.run_status import save_failure
from sgdr_jax.sweeps.search_space import Domain
from sgdr_jax.sweeps.shared_queue import SharedQueue, open_queue
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder, save_sweep
from sgdr_jax.sweeps.trial_records import best_trial, read_trials

from ..helpers import experiment
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
    assert not any(study.left() for study in members)
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
            while heir.left():
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
    for run, error in ((again[1], "no disk"), (again[2], "the loss is nan")):
        save_failure(tmp_path, run, ValueError(error))
        study.fail(run, error, diverged=run is again[2])
    done(tmp_path, again[3], 0.5)
    study.finish(again[3], 0.5)
    assert [r.hash for r in draw(study, 4)] == [again[0].hash]
    done(tmp_path, again[0], 0.5)
    study.finish(again[0], 0.5)
    assert not draw(study, 1) and not study.left()
    kept = Study(open_queue(str(tmp_path / "store.journal"), tmp_path, made.name, expand(made)), made, tmp_path, retry=True)
    assert [r.hash for r in draw(kept, 4)] == [again[1].hash]


def test_trials_whose_folders_were_deleted_are_executed_again(tmp_path):
    """The best trial waited for them without a word."""
    made = sweep(Search(RATES, 3, pruner=None), seeds=(0, 1))
    ((_, study),) = doors(tmp_path, made)
    runs = draw(study, 3)
    for run in runs:
        done(tmp_path, run, 0.5)
        study.finish(run, 0.5)
    shutil.rmtree(run_folder(tmp_path, runs[1].hash))
    ((_, study),) = doors(tmp_path, made)
    assert study.left() == 1 and [run.hash for run in draw(study, 3)] == [runs[1].hash]


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
