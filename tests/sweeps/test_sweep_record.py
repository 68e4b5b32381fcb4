"""sweep.json: a folder keeps a sweep, lets it grow and refuses another."""

import dataclasses

import pytest

from sgdr_jax import AdamW, InputError, Sgd
from sgdr_jax.core.serialization import from_json
from sgdr_jax.sweeps import Integer, Search, grid
from sgdr_jax.sweeps.spec import expand, with_values
from sgdr_jax.sweeps.sweep_record import read_sweep, save_sweep

from .test_optuna_study import RATES
from .test_optuna_study import sweep as searching
from .test_spec import BASE, sweep


def test_a_folder_keeps_a_sweep_lets_it_grow_and_refuses_another(tmp_path):
    first, more = (sweep(grid({"optimizer": (Sgd(), AdamW())}), seeds=seeds) for seeds in ((0,), (0, 1)))
    folder = tmp_path / "a" / "sweep"
    assert save_sweep(folder, first, expand(first)) == 2 and save_sweep(folder, first, expand(first)) == 0
    assert save_sweep(folder, more, expand(more)) == 2
    kept = read_sweep(folder)
    assert [(r["arm"], r["seed"]) for r in kept["runs"]] == [(f"optimizer={o}()", s) for o in ("Sgd", "AdamW") for s in (0, 1)]
    assert from_json(kept["base"]) == BASE and from_json(kept["runs"][2]["values"]["optimizer"]) == AdamW()
    before = (folder / "sweep.json").read_bytes()
    for other, message in (
        (first, "it lacks 2 of the folder's 4 runs, such as 'optimizer=Sgd.*' with seed 1"),
        (sweep(), "it lacks 3 of the folder's 4 runs"),
    ):
        with pytest.raises(InputError, match=message):
            save_sweep(folder, other, expand(other))
    assert (folder / "sweep.json").read_bytes() == before
    with pytest.raises(InputError, match=r"holds sweep but no sweep\.json"):
        save_sweep(tmp_path / "a", first, expand(first))
    with pytest.raises(InputError, match="name the folder of a sweep"):
        read_sweep(tmp_path)
    (folder / "sweep.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        save_sweep(folder, first, expand(first))


def test_another_search_is_refused_and_more_trials_are_not(tmp_path):
    made = searching(Search(RATES, 4), seeds=(0, 1))
    save_sweep(tmp_path, made, expand(made))
    before = (tmp_path / "sweep.json").read_bytes()
    assert read_sweep(tmp_path)["search"]["space"]["stages.head.lr"]["low"] == 1e-4
    for other, message in (
        (searching(Search(RATES | {"batch_size": Integer(1, 3)}, 4), (0, 1)), "has a search with another space; use another --dir"),
        (searching(Search(RATES, 4, objective="loss"), (0, 1)), "another objective"),
        (searching(None, (0, 1)), "another space"),
        (searching(Search(RATES, 4), (1, 0)), "has trials with seed 0, now the first is 1; keep it first"),
    ):
        with pytest.raises(InputError, match=message):
            save_sweep(tmp_path, other, expand(other))
    assert (tmp_path / "sweep.json").read_bytes() == before
    # An axis along which every arm sets the field keeps all runs what they are, but no trial.
    along = dataclasses.replace(made, axes=(grid({"stages.0.schedule.cycles": (1, 2)}),))
    save_sweep(tmp_path / "axis", along, expand(along))
    moved = dataclasses.replace(along, base=with_values(along.base, (("stages.0.schedule.cycles", 4),)))
    assert [run.hash for run in expand(moved)] == [run.hash for run in expand(along)]
    with pytest.raises(InputError, match=r"has trials of another base: stages\[0\].schedule.cycles: 3 → 4; use another --dir"):
        save_sweep(tmp_path / "axis", moved, expand(moved))
    more = searching(Search(RATES, 40, pruner=None), (0, 1, 2))
    assert save_sweep(tmp_path, more, expand(more)) == 1
