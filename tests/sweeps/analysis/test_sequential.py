"""Sequential designs: what is needed, what is run for it, and the coverage of the interval."""

import dataclasses
import json

import numpy as np
import pytest

from sgdr_jax import InputError, Sgd
from sgdr_jax.core.serialization import config_hash
from sgdr_jax.sweeps.analysis.compare import compare_arms
from sgdr_jax.sweeps.analysis.sequential import MOST_SEEDS, added_runs, needs, sequential_notes
from sgdr_jax.sweeps.analysis.significance import pilot_half_width, pilot_seeds
from sgdr_jax.sweeps.options import CompareOptions, WorkerOptions
from sgdr_jax.sweeps.spec import SweepRun, expand, with_values
from sgdr_jax.sweeps.sweep_record import run_folder, save_sweep
from sgdr_jax.sweeps.trial_records import save_added_runs, save_confirmation_runs, save_trial

from ...jobs.workers import SEARCHED
from ..results import fill, fill_runs
from .three_arms import SKILL, SWEEP


@pytest.mark.parametrize(("pilot", "until"), [(3, 1.0), (5, 0.4), (8, 0.25)])
def test_the_interval_is_as_narrow_as_wanted_and_covers_as_often_as_it_says(pilot, until):
    rng, covered, trials = np.random.default_rng(0), 0, 4000
    for _ in range(trials):
        first = rng.normal(0.7, 1.0, pilot)
        std = float(first.std(ddof=1))
        total = pilot_seeds(std, pilot, until)
        half = pilot_half_width(std, pilot, total)
        assert half <= until * (1 + 1e-12) and total >= pilot
        mean = (first.sum() + rng.normal(0.7, 1.0, total - pilot).sum()) / total
        covered += abs(mean - 0.7) <= half
    assert abs(covered / trials - 0.95) < 3.5 * (0.95 * 0.05 / trials) ** 0.5, covered / trials


def test_a_naive_interval_that_stops_when_it_is_narrow_covers_less():
    """What the pilot is for: looking again after every seed, and stopping when the t interval is narrow, favours small spreads."""
    from scipy import stats

    rng, covered, trials = np.random.default_rng(0), 0, 1500
    for _ in range(trials):
        values = list(rng.normal(0.0, 1.0, 3))
        while (half := stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5) > 1.0:
            values.append(rng.normal())
        covered += abs(np.mean(values)) <= half
    assert covered / trials < 0.93


def test_arms_get_the_seeds_that_they_need_and_are_settled_by_them(tmp_path):
    fill(tmp_path, SWEEP, lambda run, _: SKILL[run.arm], n=400)
    found = compare_arms(tmp_path)
    each = {need.arm: need for need in needs(found, 1.0)}
    assert each.keys() == {"without", "same"} and all(need.pilot == 6 == need.done for need in each.values())
    wanted = {arm: pilot_seeds(need.std, 6, 0.01) for arm, need in each.items()}
    assert {arm: need.seeds for arm, need in each.items()} == wanted and max(wanted.values()) > 6
    more = added_runs(SWEEP, tmp_path, CompareOptions(until=1.0))
    seeds = {arm: [run.seed for run in more if run.arm == arm] for arm in ("recipe", *wanted)}
    assert {arm: len(own) for arm, own in seeds.items()} == {
        **{arm: count - 6 for arm, count in wanted.items()},
        "recipe": max(wanted.values()) - 6,
    }
    assert all(own == list(range(6, 6 + len(own))) for own in seeds.values())
    assert len({run.hash for run in (*more, *expand(SWEEP))}) == len(more) + 18
    rng = np.random.default_rng(1)
    for run in more:
        own = run_folder(tmp_path, run.hash)
        own.mkdir(parents=True)
        figures = {"accuracy": 0.7 + 0.02 * rng.normal(), "loss": 1.0}
        (own / "summary.json").write_text(json.dumps({"valid": figures, "test": figures, "stages": []}))
    again = compare_arms(tmp_path)
    for need in needs(again, 1.0):
        assert need.settled and need.seeds == wanted[need.arm] and need.high - need.low <= 2 * 0.01 + 1e-12
    assert added_runs(SWEEP, tmp_path, CompareOptions(until=1.0)) == more  # what the new seeds show changes nothing
    assert sum("settled to ±1 by" in line for line in sequential_notes(again, 1.0)) == 2


def test_seeds_that_were_added_before_they_were_the_sweeps_own_count_once(tmp_path):
    """A run was counted twice, as two pairs: narrower intervals and smaller p than its figures give."""
    few = dataclasses.replace(SWEEP, seeds=(0, 1, 2))
    fill(tmp_path, few, lambda run, _: SKILL[run.arm])
    further = [dataclasses.replace(run, number=run.number + 20) for run in expand(SWEEP) if run.seed in (3, 4)]
    save_added_runs(tmp_path, further)
    fill_runs(tmp_path, further, lambda run, _: SKILL[run.arm])
    before = compare_arms(tmp_path)
    more = dataclasses.replace(SWEEP, seeds=(0, 1, 2, 3))
    save_sweep(tmp_path, more, expand(more))
    after = compare_arms(tmp_path)
    for found in (before, after):
        assert [arm.paired.seeds for arm in found.arms if arm.paired] == [(0, 1, 2, 3, 4)] * 2
    assert [arm.paired.p for arm in after.arms if arm.paired] == pytest.approx([arm.paired.p for arm in before.arms if arm.paired])


def test_what_needs_too_many_seeds_is_named_and_gets_none(tmp_path):
    fill(tmp_path, SWEEP, lambda run, _: SKILL[run.arm], n=400)
    lines = sequential_notes(compare_arms(tmp_path), 0.01)
    assert sum(f"more than the {MOST_SEEDS} that are run" in line for line in lines) == 2
    assert added_runs(SWEEP, tmp_path, CompareOptions(until=0.01)) == [] and not (tmp_path / "added.json").exists()
    with pytest.raises(InputError, match="--until is -1; use a number above 0"):
        needs(compare_arms(tmp_path), -1)


@pytest.mark.parametrize("n", [100, 400])
def test_equal_differences_of_a_pilot_are_as_uncertain_as_their_rounding(tmp_path, n):
    """Two seeds that differ by the same number of images were called settled, to ±0.00."""
    two = dataclasses.replace(SWEEP, seeds=(0, 1))
    fill(tmp_path, two, lambda run, _: SKILL[run.arm], n=n)
    for run in expand(two):
        file = run_folder(tmp_path, run.hash) / "summary.json"
        summary = json.loads(file.read_text())
        summary["test"]["accuracy"] = 0.75 if run.arm == "recipe" else 0.76
        file.write_text(json.dumps(summary | {"images": {"test": n}}))
    found = needs(compare_arms(tmp_path), 0.5)
    assert {need.std for need in found} == {1 / (n * 6**0.5)}
    assert all(need.seeds == pilot_seeds(need.std, 2, 0.005) > 2 for need in found)
    assert {need.std for need in needs(compare_arms(tmp_path, measure="loss"), 0.5)} != {1 / (n * 6**0.5)}


def test_a_single_seed_is_no_pilot(tmp_path):
    fill(tmp_path, dataclasses.replace(SWEEP, seeds=(0,)), lambda run, _: SKILL[run.arm])
    assert needs(compare_arms(tmp_path), 1.0) == ()


def test_the_comparison_is_the_one_that_is_asked_for(tmp_path):
    fill(tmp_path, SWEEP, lambda run, _: SKILL[run.arm], n=400, tta=True)
    other, counts = {"split": "valid", "tta": True, "baseline": "same"}, []
    for asked, until in (({}, 1.0), ({"measure": "loss"}, 0.03), (other, 1.0), ({"alpha": 0.01}, 1.5)):
        options = CompareOptions(until=until, **asked)
        found = compare_arms(tmp_path, **asked)
        wanted = {need.arm: need.seeds - need.pilot for need in needs(found, until)}
        wanted[found.baseline] = max(wanted.values())
        assert 0 < max(wanted.values()) <= MOST_SEEDS
        runs = added_runs(SWEEP, tmp_path, options)
        assert {arm: sum(run.arm == arm for run in runs) for arm in wanted} == wanted
        counts.append(len(runs))
    assert len(set(counts)) == 4


def test_the_best_trial_is_an_arm_whose_pilot_took_no_part_in_its_selection(tmp_path):
    sweep = dataclasses.replace(SEARCHED, seeds=(0, 1, 2, 3))
    fill(tmp_path, sweep, lambda run, _: 0.5)
    values = (("stages.all.lr", 0.05), ("optimizer", Sgd(0.8)))
    experiment = with_values(sweep.base, (*values, ("seed", 0)))
    trial = SweepRun(0, "trial 0", values, 0, experiment, config_hash(experiment))
    save_trial(tmp_path, trial)
    fill_runs(tmp_path, [trial], lambda run, _: 0.6)
    best = save_confirmation_runs(sweep, tmp_path)
    assert [run.seed for run in best] == [1, 2, 3]
    fill_runs(tmp_path, best, lambda run, _: 0.6)
    (need,) = needs(compare_arms(tmp_path), 2.0)
    runs = added_runs(sweep, tmp_path, CompareOptions(until=2.0))
    assert need.arm == "best trial" and need.pilot == 3 and need.seeds > 3
    further = [(run.arm, run.seed) for run in runs]
    assert further == [(arm, 4 + i) for arm in ("base", "best trial") for i in range(need.seeds - 3)]
    assert {run.values for run in runs if run.arm == "best trial"} == {trial.values}
    # The search goes on and finds a better one: what was added for the old one belongs to it alone.
    other = (("stages.all.lr", 0.02), ("optimizer", Sgd(0.8)))
    experiment = with_values(sweep.base, (*other, ("seed", 0)))
    better = SweepRun(1, "trial 1", other, 0, experiment, config_hash(experiment))
    save_trial(tmp_path, better)
    fill_runs(tmp_path, [better], lambda run, _: 0.9)
    fill_runs(tmp_path, runs, lambda run, _: 0.6)
    fill_runs(tmp_path, save_confirmation_runs(sweep, tmp_path), lambda run, _: 0.9)
    (paired,) = (arm.paired for arm in compare_arms(tmp_path).arms if arm.name == "best trial")
    assert paired is not None and paired.seeds == (1, 2, 3)


def test_where_nothing_has_finished_nothing_is_added(tmp_path):
    fill(tmp_path, SWEEP, lambda run, _: SKILL[run.arm], skip=range(18))
    assert added_runs(SWEEP, tmp_path, CompareOptions(until=1.0)) == []
    assert added_runs(SWEEP, tmp_path, CompareOptions()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"until": 0.0}, "--until is 0.0; use a number of a millionth or more"),
        ({"alpha": 1.0}, "--alpha is 1.0; use a number from 0.000001 to below 1"),
        ({"measure": "loss"}, "--measure is 'loss'; give --until too"),
        ({"tta": True}, "--tta is True; give --until too"),
    ],
)
def test_options_of_a_comparison_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        WorkerOptions(**wrong)
