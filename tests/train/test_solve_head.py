"""Solved heads: what a stage solves, on which images strengths are compared, and its place among the stages of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from sgdr_jax import Eval, Experiment, Find, InputError, Session, Sgdr, Solve, Stage
from sgdr_jax.augment import Flip
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import Preempted
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.plan import as_csv, as_text, plan
from sgdr_jax.core.serialization import config_hash, from_json, to_json
from sgdr_jax.datasets import Arrays, Synthetic
from sgdr_jax.evaluation import metrics
from sgdr_jax.runs.folder import read
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.run import run
from sgdr_jax.train.context import prepare
from sgdr_jax.train.find_lr import stage_curves
from sgdr_jax.train.logistic_regression import problem, standardise
from sgdr_jax.train.solve_head import choose, solver, split_folds
from sgdr_jax.train.stage_inputs import activations

from ..helpers import Said, Tiny, same_bits
from .test_logistic_regression import EPS, examples, objective, standardised

HEAD = Stage("cached head", 8, train="head", precompute=True, views=2, solve=Solve(folds=3))
BODY = Stage("body", 8, train=1, lr=0.001, schedule=Sgdr(2), augment=False)


def experiment(*stages: Stage, **fields: Any) -> Experiment:
    common = {"name": "solved", "data": Synthetic(classes=3, train=60, valid=20, test=10, side=8), "model": Tiny(), "augment": (Flip(),)}
    return Experiment(**common | {"batch_size": 8, "evaluate": Eval(tta_views=0)} | fields, stages=stages or (HEAD,))


UNEVEN = Synthetic(classes=3, train=11, valid=20, test=10, side=8)  # 4, 4 and 3 images


@pytest.mark.parametrize("fields", [{}, {"data": UNEVEN, "balance": 0.5, "class_weights": 0.5, "label_smoothing": 0.1}])
def test_a_run_ends_with_the_optimum_on_all_copies(tmp_path: Path, fields: dict[str, Any]) -> None:
    e, ui = experiment(**fields), Said()
    summary = run(e, tmp_path / "run", ui=ui)
    (stage,), rows = summary["stages"], read(tmp_path / "run").rows
    (how,) = (row for row in rows if row["kind"] == "solve")
    assert stage["steps"] == 1 and stage["epochs"] == 1 and stage["kept"] and stage["valid_accuracy"] is not None
    assert how["tried"] == list(Solve().weight_decay[: len(how["tried"])]) and how["gradient"] <= 3e-5
    assert how["weight_decay"] == how["tried"][int(np.argmin(how["losses"]))]
    assert any(f"weight decay {how['weight_decay']:g}" in line for line in ui.lines)
    assert summary["compiled"]["names"].get("minimise", (0,))[0] <= 2  # all strengths share a program

    context = prepare(e)
    (p,), labels = context.plan.stages, context.data.labels["train"]
    x = activations(context, p, context.network, "train", 2, NullConsole())
    n = len(labels)
    drawn, weight = np.ones(n), np.ones(n)
    if fields:
        of_class = np.bincount(labels)
        drawn = (0.5 + 0.5 * n / (3 * of_class))[labels]
        weight = 0.5 * drawn + 0.5 * (n / 3 / of_class)[labels]  # the classes alike, however often they are drawn
    drawn, weight, labels = (np.tile(values, 2) for values in (drawn, weight, labels))
    x64 = standardised(x, drawn / drawn.sum())
    net = open_predictor(tmp_path / "run")
    params, stats = net.params["head"], net.stats["head"]
    w = np.concatenate([params["linear2"]["kernel"], params["linear2"]["bias"][None]]).astype(np.float64)
    given = (x64, labels, weight / weight.sum(), how["weight_decay"], e.label_smoothing)
    (start, first), (value, gradient) = objective(np.zeros(w.size), *given), objective(w.ravel(), *given)
    assert np.linalg.norm(gradient) <= 1e-4 * np.linalg.norm(first)
    assert stage["train_loss"] == pytest.approx(value - how["weight_decay"] / 2 * np.sum(w[:-1] ** 2), rel=1e-4) and value < start
    np.testing.assert_allclose(stats["bn2"]["mean"], (drawn / drawn.sum()) @ x, rtol=1e-4, atol=1e-6)


def test_what_is_solved_is_what_the_network_computes(tmp_path: Path) -> None:
    """One sigmoid per class, a given strength, plain activations: the validation figures are those of the solved weights."""
    data = Synthetic(classes=3, train=40, valid=20, side=8, multi_label=True)
    stage = Stage("head", 8, train="head", precompute=True, augment=False, solve=Solve(0.01))
    e = experiment(stage, data=data)
    summary = run(e, tmp_path / "run")
    context = prepare(e)
    (p,), net = context.plan.stages, open_predictor(tmp_path / "run")
    x, held_out = (activations(context, p, context.network, split, 0, NullConsole()).astype(np.float64) for split in ("train", "valid"))
    kernel, bias = (np.asarray(net.params["head"]["linear2"][name], np.float64) for name in ("kernel", "bias"))
    logits = (held_out - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) @ kernel + bias
    assert summary["valid"]["loss"] == pytest.approx(metrics.losses(logits, context.data.labels["valid"]).mean(), rel=1e-4)
    (how,) = (row for row in read(tmp_path / "run").rows if row["kind"] == "solve")
    assert how["weight_decay"] == 0.01 and how["tried"] == []


def test_a_stopped_run_goes_on_after_the_solution_with_the_same_bits(tmp_path: Path) -> None:
    e = experiment(HEAD, BODY)
    whole = run(e, tmp_path / "whole")
    with pytest.raises(Preempted):
        run(e, tmp_path / "stopped", prepared=lambda e: prepare(e)._replace(leave=lambda: True))
    assert [row["kind"] for row in read(tmp_path / "stopped").rows] == ["solve", "train", "eval"]
    resumed = run(e, tmp_path / "stopped", resume=True)
    nets = [open_predictor(tmp_path / name) for name in ("whole", "stopped")]
    assert same_bits(*((net.params, net.stats) for net in nets))
    assert resumed["valid"] == whole["valid"] and [row["kind"] for row in read(tmp_path / "stopped").rows].count("solve") == 1


def test_a_refit_solves_again_with_all_images(tmp_path: Path) -> None:
    run(experiment(refit=True), tmp_path / "run")
    rows = read(tmp_path / "run" / "refit").rows
    assert [row["kind"] for row in rows] == ["solve", "train"]
    assert rows[1]["loss"] != read(tmp_path / "run").rows[1]["loss"]


def test_copies_and_folds_of_the_images() -> None:
    labels = np.repeat([0, 1, 2, 3], [11, 7, 2, 1])
    order = np.random.default_rng(0).permutation(21)
    folds = split_folds(labels, 5, order)
    held = ~folds.fits
    assert (held.sum(0) == 1).all() and held.sum(1).max() - held.sum(1).min() <= 1
    for c, size in enumerate([11, 7, 2, 1]):
        per_fold = held[:, labels == c].sum(1)
        assert per_fold.sum() == size and per_fold.max() - per_fold.min() <= 1
    np.testing.assert_array_equal(folds.judges, held & (labels != 3))  # without its only image a class is not judged
    assert split_folds(labels[:3], 5, np.arange(3)).fits.shape == (3, 3)
    assert not split_folds(np.arange(4), 4, np.arange(4)).judges.any()


def test_folds_of_images_with_several_labels() -> None:
    labels = (np.random.default_rng(0).random((40, 4)) < [0.8, 0.4, 0.2, 0]).astype(np.float32)
    labels[5, 3] = 1
    folds = split_folds(labels, 4, np.arange(40))
    for fit, judged in zip(folds.fits, folds.judges, strict=True):
        assert not (fit & judged).any() and not judged[5]
        assert labels[fit].sum(0)[labels[judged].any(0)].all()
    assert folds.judges.any(0).sum() == 39


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": Sgdr(2)}, "schedule"),
        ({"lr": 0.1}, "lr"),
        ({"precompute": False}, "precompute"),
        ({"batch_size": 4}, "solve"),
        ({"train": "all", "views": 0, "augment": False}, "precompute"),
        ({"train": ("late", "head")}, "train"),
    ],
)
def test_a_solved_stage_refuses_what_it_would_not_use(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f'stage "head": {message}'):
        plan(
            experiment(Stage(**{"name": "head", "size": 8, "train": "head", "precompute": True, "views": 1, "solve": Solve()} | fields)), 9
        )


def test_only_linear_heads_are_solved_and_leave_no_rates() -> None:
    with pytest.raises(InputError, match=r"model\.hidden=0"):
        plan(experiment(model=Tiny(hidden=4)), 60)
    with pytest.raises(InputError, match="lr is None, but the stage before is solved"):
        plan(experiment(HEAD, Stage("head", 8, train="head", lr=None, schedule=Sgdr(1))), 60)
    with pytest.raises(InputError, match='stage "x": schedule'):
        Stage("x")


def test_plan_and_config() -> None:
    e = experiment()
    (p,) = plan(e, 60).stages
    assert (p.steps, p.epochs, p.images) == (1, 1, 120)
    assert "none: solved" in as_text(plan(e, 60)) and as_csv(plan(e, 60)).count("\n") == 2
    assert from_json(to_json(e)) == e
    trained = Stage("a", train="head", lr=Find(), schedule=Sgdr(2))
    assert "solve" not in to_json(trained) and config_hash(experiment(trained)) != config_hash(e)


def test_one_image_of_each_class_is_enough(tmp_path: Path) -> None:
    """`sgdr-jax new` wrote a file for two images of each class whose training stopped, as one of them was held out."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    data = Arrays.of((images[:2], [0, 1]), (images[2:], [0, 1]))
    summary = run(experiment(data=data), tmp_path)
    (row,) = (row for row in read(tmp_path).rows if row["kind"] == "solve")
    assert row["weight_decay"] in Solve().weight_decay and row["tried"] == [] and np.isfinite(summary["valid"]["loss"])


@pytest.mark.parametrize("seed", [1, 3])
def test_strengths_are_compared_by_their_minima(seed: int) -> None:
    """By those of SciPy in float64, where features outnumber images: minima that were not reached looked as good as stronger ones."""
    x, labels, _ = examples(n=40, d=400, seed=seed)
    even, folds, k = np.full(40, 1 / 40), split_folds(labels, 5, np.random.default_rng(0).permutation(40)), 4
    judges, fits = folds.judges / folds.judges.sum(), folds.fits / folds.fits.sum(1, keepdims=True)
    share = jnp.asarray(even, jnp.float32)
    features, _, _ = standardise(jnp.asarray(x), share, EPS)
    rows = (jnp.asarray(part, jnp.float32) for part in (fits, judges))
    chosen = choose(problem(features, jnp.asarray(labels), 0.0, share, k), Solve().weight_decay, *rows, classes=k)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    x64, exact = standardised(x, even), []
    for decay in chosen.tried:
        held_out = 0.0
        for fit, judge in zip(fits, judges, strict=True):
            given = (x64, labels, fit, decay, 0.0)
            best = minimize(objective, np.zeros(401 * k), given, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-9})
            held_out += judge @ metrics.losses(x64 @ best.x.reshape(401, k), labels)
        exact.append(held_out)
    np.testing.assert_allclose(chosen.losses, exact, rtol=5e-3)
    assert chosen.weight_decay == chosen.tried[int(np.argmin(exact))] and len(exact) == int(np.argmin(exact)) + 3


@pytest.mark.parametrize("fields", [{"weight_decay": 0.0}, {"weight_decay": ()}, {"weight_decay": (0.1, 1.0)}, {"folds": 1}])
def test_settings_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="solve"):
        Solve(**fields)


def test_activations_that_are_not_finite_are_refused() -> None:
    context = prepare(experiment())
    p = context.plan.stages[0]
    cached = context.programs.devices.spread(np.full((2 * len(context.data.labels["train"]), 4), np.nan, np.float32))
    solve = solver(context, p, cached, lambda row: None, NullConsole())
    with pytest.raises(InputError, match=r'stage ".*": the loss of the solved head is nan; the layers before the head give values'):
        solve(None)


def test_the_finder_has_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """That was said once the activations of all images had been computed, without what to do instead."""
    monkeypatch.setattr("sgdr_jax.train.find_lr.open_stage", None)
    context = prepare(experiment())
    with pytest.raises(InputError, match=r"the head is solved in all stages, .*; add a stage that trains"):
        stage_curves(context, context.plan.stages[0], context.network, NullConsole())
    context = prepare(experiment(HEAD, BODY))
    with pytest.raises(InputError, match=r"stage is 'cached head'; .* no learning rate to find; use one of 1 \(body\)"):
        stage_curves(context, context.plan.stages[0], context.network, NullConsole())


def test_the_finder_passes_over_a_solved_head() -> None:
    """A session's `find_lr()` was refused for every experiment of `fine_tune`."""
    session = Session(experiment(HEAD, replace(BODY, lr=Find(steps=8, orders=1), schedule=Sgdr(3))), ui=NullConsole())
    assert 'stage "body"' in repr(session.find_lr())
    with pytest.raises(InputError, match=r"stage is 'cached head'; .*; use one of 1 \(body\)"):
        session.find_lr("cached head")


@pytest.mark.parametrize("parallel", [Parallel(devices=1), Parallel(backend="pmap"), Parallel(sharded=True)])
def test_devices_do_not_change_the_solution(tmp_path: Path, parallel: Parallel) -> None:
    one, other = (run(experiment(parallel=p), tmp_path / str(i)) for i, p in enumerate((Parallel(), parallel)))
    assert one["valid"]["loss"] == pytest.approx(other["valid"]["loss"], rel=1e-3)
    how, same = (next(row for row in read(tmp_path / name).rows if row["kind"] == "solve") for name in ("0", "1"))
    assert how["weight_decay"] == same["weight_decay"]
    kernels = [open_predictor(tmp_path / name).params["head"]["linear2"]["kernel"] for name in ("0", "1")]
    np.testing.assert_allclose(*kernels, atol=1e-3 * np.abs(kernels[0]).max())
