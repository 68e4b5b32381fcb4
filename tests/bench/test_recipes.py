"""The bench of recipes: rows are kept and not run again, pairs and intervals are what they say, anchors solve their problem."""

import importlib
import math
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture(scope="module")
def bench():
    """Imports a module of experiments/bench as the scripts there import each other."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module
    sys.path.remove(str(BENCH))
    for name in {name for name in sys.modules if name.startswith("recipe") or name == "harness"} - before:
        del sys.modules[name]


def row(name: str, of: str, seed: int, accuracy: float, **others: str) -> dict[str, str]:
    return {"name": name, "set": of, "size": "64", "seed": str(seed), "tta_accuracy": f"{accuracy}", "error": ""} | others


# ---- rows ----


def test_rows_are_read_as_they_were_written_and_not_run_again(bench, tmp_path: Path) -> None:
    recipes, path = bench("recipes"), tmp_path / "results" / "recipes.csv"
    jobs = [recipes.Job(name, "digits", 64, seed) for seed in (0, 1) for name in ("plain", "grid 0.003 r1 frozen")]
    assert recipes.pending(jobs, recipes.read_rows(path)) == jobs
    recipes.append(path, jobs[0]._asdict() | {"accuracy": 1 / 3, "kept": 'head, "all"'})
    recipes.append(path, jobs[3]._asdict() | {"error": "Diverged: no, it did"})
    rows = recipes.read_rows(path)
    assert [r["kept"] for r in rows] == ['head, "all"', ""] and rows[0]["accuracy"] == "0.333333"
    assert recipes.pending(jobs, rows) == jobs[1:3]
    assert recipes.pending(jobs, rows, retry=True) == jobs[1:]


def test_a_file_of_an_earlier_version_gets_the_columns_that_it_lacks(bench, tmp_path: Path) -> None:
    recipes, path = bench("recipes"), tmp_path / "recipes.csv"
    path.write_text("name,set,size,seed,accuracy,error\nplain,digits,64,0,0.5,\n")
    recipes.widen(path)
    recipes.append(path, {"name": "plain", "set": "digits", "size": 64, "seed": 1, "accuracy": 0.25})
    assert [(r["seed"], r["accuracy"]) for r in recipes.read_rows(path)] == [("0", "0.5"), ("1", "0.25")]
    path.write_text("name,seed,colour\nplain,0,red\n")
    with pytest.raises(SystemExit, match="unknown columns colour"):
        recipes.widen(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_run_is_begun_after_the_time(bench, tmp_path: Path, workers: int) -> None:
    recipes = bench("recipes")
    assert list(recipes.run_all([recipes.Job("plain", "digits", 64, 0)], tmp_path, workers, 0.0, {})) == []


def test_a_failure_is_a_row(bench, tmp_path: Path) -> None:
    recipes = bench("recipes")
    found = recipes.attempt(recipes.Job("plain", "no such set", 64, 0), tmp_path, {})
    assert found["name"] == "plain" and "no such set" in found["error"] and "accuracy" not in found


def test_workers_end_with_a_bench_that_is_killed(tmp_path: Path) -> None:
    """They hold the pipe that the bench wrote to; it closes when the last of them has ended."""
    script = tmp_path / "bench.py"
    script.write_text(
        f"""
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
sys.path.insert(0, {str(BENCH)!r})
import recipes
if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), recipes.start_worker, (None,)) as pool:
        pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        print("started", flush=True)
        time.sleep(600)
"""
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        process.kill()
        readable, _, _ = select.select([process.stdout], [], [], 60)
        assert readable and process.stdout.read() == ""


# ---- the table ----


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=9).filter(lambda x: np.std(x) > 1e-3))
def test_intervals_are_those_of_scipys_paired_test(bench, gaps: list[float]) -> None:
    found = bench("recipe_table").interval(gaps)
    exact = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    np.testing.assert_allclose((found.mean - found.half, found.mean + found.half), exact, rtol=1e-9, atol=1e-9)


def test_recipes_are_paired_by_seed_and_sets_count_alike(bench) -> None:
    table = bench("recipe_table")
    rows = [row("plain", "a", s, 0.5) for s in range(3)] + [row("plain", "b", s, 0.8) for s in range(2)]
    rows += [row("mine", "a", s, x) for s, x in ((0, 0.51), (1, 0.53), (2, 0.7), (9, 0.99))] + [
        row("mine", "b", s, x) for s, x in ((0, 0.83), (1, 0.81))
    ]
    rows += [row("plain", "b", 0, 0.8)]  # run again: the last counts
    found = table.scores(rows)
    assert table.paired(found["a", "64 px"], "mine", "plain") == pytest.approx({0: 1.0, 1: 3.0, 2: 20.0})
    whole = table.overall(found, "mine", "plain")
    assert whole.mean == pytest.approx((2 + 2) / 2) and whole.half == pytest.approx(0, abs=1e-9) and whole.n == 2
    text = table.markdown(rows, "plain", ["plain", "mine"])
    assert "| mine | 68.25 | 4 | +8.00 ± 25.94 |" in text and "| mine | +2.00 ± 0.00 | +5.00 ± 38.12 | 2 | 2 | 0 |" in text


def test_a_recipe_goes_back_to_its_head_by_the_held_out_images_alone(bench) -> None:
    table = bench("recipe_table")
    figures = {"head": ((0.5, 0.6), (0.7, 0.9), (0.6, 0.1)), "body": ((0.5, 0.8), (0.6, 0.99), (0.7, 0.3), (0.9, 0.9))}
    rows = [
        row(name, "a", seed, test, valid_accuracy=f"{valid}") for name, each in figures.items() for seed, (valid, test) in enumerate(each)
    ]
    rows.append(row("other", "a", 0, 0.1))  # nothing held out
    found = table.scores(table.with_fallback(rows, "head"))["a", "64 px"]
    assert found["body or head"] == pytest.approx({0: 80.0, 1: 90.0, 2: 30.0}) and found["body"][3] == 90
    assert set(found) == {"head", "body", "other", "body or head"}


def test_regret_is_against_the_best_of_the_cells_that_have_all_seeds(bench) -> None:
    table = bench("recipe_table")
    cells = {"grid 1": (0.9, 0.6, 0.65), "grid 2": (0.8, 0.76, 0.78), "grid 3": (0.99,)}  # the last was given up after its first seed
    rows = [row("plain", "a", s, 0.7) for s in (0, 1, 2)]
    rows += [row(name, "a", s, x) for name, values in cells.items() for s, x in enumerate(values)]
    rows += [row("grid 1", "a", 3, 0.1), row("other", "a", 0, 1.0)]  # a seed that the recipe lacks; no cell
    found = table.regret(table.scores(rows)["a", "64 px"], "plain", table.GRID)
    assert found[:2] == ("grid 2", 2) and found.highest == pytest.approx(8)
    # Seeds 1 and 2 choose cell 2 for seed 0, seeds 0 and 2 as well, 0 and 1 too.
    assert found.held_out.mean == pytest.approx((10 + 6 + 8) / 3) and found.held_out.n == 3
    line = next(line for line in table.markdown(rows, "plain", ["plain"]).splitlines() if line.startswith("| plain"))
    assert line.endswith("| +8.00; held out +8.00 ± 4.97 | grid 2 (of 2) |")
    assert table.regret(table.scores(rows)["a", "64 px"], "plain", "^solved") is None


def test_held_out_regret_does_not_count_the_luck_of_the_highest(bench) -> None:
    table, random = bench("recipe_table"), np.random.default_rng(0)
    highest, held_out = [], []
    for _ in range(200):
        points = {f"grid {i}": dict(enumerate(random.normal(80, 2, 3))) for i in range(36)} | {"mine": dict.fromkeys(range(3), 80.0)}
        found = table.regret(points, "mine", table.GRID)
        highest.append(found.highest)
        held_out.append(found.held_out.mean)
    assert np.mean(highest) > 2 and abs(np.mean(held_out)) < 4 * np.std(held_out) / 200**0.5


def test_batches_of_other_sizes_are_not_compared(bench) -> None:
    table = bench("recipe_table")
    rows = [row("plain", "a", 0, 0.5, batch="16"), row("plain", "a", 0, 0.6, batch="32"), row("mine", "a", 0, 0.7, batch="32")]
    found = table.scores(rows)
    assert found["a", "64 px in batches of 16"] == {"plain": {0: 50.0}}
    assert table.paired(found["a", "64 px in batches of 32"], "mine", "plain") == pytest.approx({0: 10.0})
    assert "### a, 64 px in batches of 32\n" in table.markdown(rows, "plain", ["plain", "mine"])


def test_several_labels_are_judged_by_f2_and_failures_are_counted(bench) -> None:
    table = bench("recipe_table")
    assert table.score(row("x", "a", 0, 0.9, tta_f2="0.6", f2="0.5")) == pytest.approx(60)
    assert table.score(row("x", "a", 0, 0.9, tta_f2="", f2="0.5"), plain=True) == pytest.approx(50)
    rows = [row("x", "a", 0, 0.9), row("x", "a", 1, 0.9, tta_accuracy="", error="Diverged")]
    line = next(line for line in table.markdown(rows, "x", ["x"]).splitlines() if line.startswith("| x"))
    assert line.split(" | ")[4] == "1" and math.isnan(table.interval([1.0]).half)


# ---- logistic regression ----


@pytest.mark.parametrize(("n", "d", "several"), [(80, 6, False), (80, 6, True), (20, 50, False), (20, 50, True)])
def test_logistic_regression_is_at_its_optimum(bench, n: int, d: int, several: bool) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, d))
    y = (draw.random((n, 3)) < 0.4).astype(np.float32) if several else draw.integers(0, 3, n)
    w = bench("recipe_systems").fit_logistic(x, y, 0.3)
    columns = [y[:, k] for k in range(3)] if several else [y]
    exact = [linear_model.LogisticRegression(C=0.3, max_iter=10_000, tol=1e-9).fit(x, column) for column in columns]
    coefficients, intercepts = np.concatenate([m.coef_ for m in exact]).T, np.concatenate([m.intercept_ for m in exact])
    free = w[-1] if several else w[-1] - w[-1].mean() + intercepts.mean()  # softmax leaves a constant open
    np.testing.assert_allclose(w[:-1], coefficients, atol=2e-3)
    np.testing.assert_allclose(free, intercepts, atol=2e-3)


# ---- recipes ----


def small_set(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 4)):
        for label, level in (("dark", 40), ("light", 200)):
            (folder / split / label).mkdir(parents=True)
            for i in range(n):
                Image.fromarray((level + draw.integers(-30, 30, (16, 16))).astype(np.uint8)).save(folder / split / label / f"{i}.png")
    return folder


def test_every_recipe_can_be_planned(bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgdr_jax.core.plan import plan

    arms, folder = bench("recipe_arms"), small_set(tmp_path / "small")
    monkeypatch.setattr(arms, "auto", arms.two_stages)  # which looks at the images with the ImageNet weights
    bodies = set()
    for name, recipe in (arms.RECIPES | arms.GRID).items():
        if name not in ("auto", "auto-size"):
            experiment = recipe.experiment(folder, 64, 3)
            assert experiment.seed == experiment.data.seed == 3 and recipe.about
            last = plan(experiment, 12).stages[-1]
            bodies.add((last.lr, last.collects, last.steps))
            assert not (experiment.refit and name in (*arms.GRID, "auto-norefit"))
    assert len(arms.GRID) == 20 <= len(bodies)
    assert plan(arms.RECIPES["automm"].experiment(folder, 64, 0), 12).stages[-1].lr == pytest.approx(
        [1e-4 * 0.9**i for i in range(18, -1, -1)]
    )


@pytest.mark.slow
def test_a_recipe_of_ones_own_runs_beside_logistic_regression(bench, tmp_path: Path) -> None:
    recipes, folder = bench("recipes"), small_set(tmp_path / "small")
    own = tmp_path / "own.py"
    own.write_text(f"""
import dataclasses, sys
sys.path.insert(0, {str(BENCH)!r})
from sgdr_jax.core.snapshots import Snapshots
from recipe_arms import Recipe, two_stages
from sgdr_jax.models import ResNet18
from sgdr_jax.schedules import Sgdr

def few(folder, size, seed):
    return two_stages(folder, size, seed, schedule=Sgdr(1), model=ResNet18(weights=None), epoch_steps=1, refit=False)

def kept(folder, size, seed):
    return dataclasses.replace(few(folder, size, seed), snapshots=Snapshots(best=2))

RECIPES = {{
    "few": Recipe("one epoch", few),
    "few soup": Recipe("its average", kept, "soup"),
    "few logistic": Recipe("no epoch", few, "logistic"),
}}
""")
    options = SimpleNamespace(file=str(own), python=None, runs=None)
    jobs = [recipes.Job(name, "small", 32, 0) for name in ("few", "few soup", "few logistic")]
    alone, soup, logistic = recipes.run_all(jobs, folder.parent, 1, math.inf, vars(options))
    assert not any("error" in row for row in (alone, soup, logistic))
    assert 0 <= alone["tta_accuracy"] <= 1 and "cached head" in alone["kept"] and alone["lr"].count(" ") == 2
    assert "stage-" in soup["kept"] and soup["train_seconds"] > 0 and soup["valid_accuracy"] >= alone["valid_accuracy"]
    assert logistic["tta_accuracy"] == 1 and logistic["lr"].startswith("C ")


def test_fastai_gets_no_fewer_epochs_than_the_recipe_takes(bench) -> None:
    from sgdr_jax.cli.experiment_file import load_experiment
    from sgdr_jax.core.plan import plan

    systems, base = bench("recipe_systems"), load_experiment(BENCH.parent / "folder.py")
    for images in (100, 230, 500, 624, 5000):
        held_in = math.floor(0.8 * images)
        longest = plan(replace(base, refit=False), held_in)  # the training before a refit is shorter
        shown = sum(p.images for p in longest.stages if p.trained == p.groups)
        assert shown <= systems.passes(images) * held_in < shown + held_in
