"""Records of trials: the best one and its runs with the other seeds."""

from sgdr_jax import InputError
from sgdr_jax.sweeps import Search
from sgdr_jax.sweeps.run_status import save_failure
from sgdr_jax.sweeps.trial_records import read_confirmation_runs, save_confirmation_runs

from .test_optuna_study import RATES, done, doors, draw, quality, sweep


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
