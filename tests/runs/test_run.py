"""The whole recipe on small data: it learns, it resumes to the same bits, its cache changes nothing, it never ends below its best."""

import dataclasses
import gc
import io
import json

import jax
import numpy as np
import pytest

from sgdr_jax import AdamW, Eval, Experiment, Find, InputError, Sgd, Snapshots, Stage, lesson2
from sgdr_jax.augment import Flip, Lighting, side_on
from sgdr_jax.augment.plain import PlainView
from sgdr_jax.core.console import NullConsole, plain_console
from sgdr_jax.core.errors import Preempted
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.plan import plan
from sgdr_jax.core.serialization import to_json
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic, TrainAndValid
from sgdr_jax.evaluation import predictions
from sgdr_jax.evaluation.multi_label import fit_threshold, mean_f_beta
from sgdr_jax.report.run_tables import evaluation_parts, result_tables
from sgdr_jax.runs import checkpoint, resume
from sgdr_jax.runs import run as recipe
from sgdr_jax.runs.folder import read
from sgdr_jax.runs.predictor import default_split, evaluate_split, open_predictor, predict
from sgdr_jax.runs.refit import settled
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant, Plateau, Sgdr
from sgdr_jax.train import loop
from sgdr_jax.train import stage as stage_module
from sgdr_jax.train.context import prepare
from sgdr_jax.train.find_lr import find_lr
from sgdr_jax.train.model_selection import Score
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches, strength_at

from ..helpers import Killed, Tiny, compilations, killed_after, single_update

QUIET = NullConsole()
DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)


def small(*stages: Stage, **fields) -> Experiment:
    defaults = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=2), "augment": side_on(), "optimizer": AdamW()}
    return Experiment(**{"name": "small", "data": DATA, "model": Tiny()} | defaults | fields, stages=stages)


def eight_steps(**fields) -> Experiment:
    find = Find(steps=12, start=1e-4, stop=1, lowest=0.02, epochs=3, orders=2)
    stages = lesson2(16, False, lr=find, ratio=3, cached=Sgdr(4), views=2, head_cycles=1, cycles=3, cycle_len=1, warmup=0, bn="train")
    return small(*stages, **fields)


def leaves(folder):
    net = open_predictor(folder)
    return [np.asarray(x) for x in jax.tree.leaves((net.params, net.stats))]


def rows(folder):
    """All logged rows without their clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(eight_steps(), folder)


def test_the_eight_steps_learn_and_leave_a_full_run_folder(finished):
    folder, summary = finished
    assert [s["name"] for s in summary["stages"]] == ["cached head", "head", "all"]
    head, late, early = summary["stages"][2]["lr"][::-1]
    np.testing.assert_allclose([late * 3, early * 9], head)
    assert summary["test"]["accuracy"] > 0.6 and summary["test"]["tta_accuracy"] > 0.6  # chance is a third
    names = {p.name for p in folder.iterdir()}
    wanted = {"config.json", "environment.json", "metrics.jsonl", "plan.txt", "plan.csv", "summary.json", "final"}
    assert wanted <= names
    assert {"finder-cached head.json", "finder-all.json"} <= names


def test_the_final_network_is_never_below_a_stage(finished):
    _, summary = finished
    assert summary["valid"]["accuracy"] >= max(s["valid_accuracy"] for s in summary["stages"])


def test_a_stage_that_ruins_the_network_is_undone(tmp_path):
    good = Stage("good", size=16, train="head", lr=1e-2, schedule=Constant(3), precompute=True, augment=False)
    ruin = Stage("ruin", size=16, train="all", lr=3.0, schedule=Constant(1), augment=False)
    summary = run(small(good, ruin, optimizer=Sgd(clip=1e3)), tmp_path / "run")
    first, second = summary["stages"]
    assert second["valid_accuracy"] < first["valid_accuracy"] and not second["kept"]
    assert summary["valid"]["accuracy"] == first["valid_accuracy"]
    np.testing.assert_allclose(summary["valid"]["loss"], first["valid_loss"], rtol=1e-5)


def test_a_finished_run_is_evaluated_to_the_same_numbers(finished):
    folder, summary = finished
    again = evaluate_split(open_predictor(folder), "test").views.measures
    np.testing.assert_allclose([again[k] for k in summary["test"]], list(summary["test"].values()), rtol=1e-6)
    with pytest.raises(InputError, match="split is 'nowhere'"):
        evaluate_split(open_predictor(folder), "nowhere")


@pytest.mark.parametrize("train", ["head", 1])
def test_runs_with_one_frozen_body_share_what_it_makes_of_the_held_out_images(tmp_path, monkeypatch, train):
    first = Stage("first", size=16, train="head", lr=0.05, schedule=Sgdr(2), precompute=True, views=2)
    second = Stage("second", size=16, train=train, lr=0.02, schedule=Sgdr(2), precompute=True, views=2)
    seen = []
    real = stage_module.activations
    monkeypatch.setattr(stage_module, "activations", lambda *a, **k: seen.append(a[3]) or real(*a, **k))
    run(small(first, second), tmp_path / "run")
    assert seen.count("test") == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for split in ("valid", "test"):
        found = evaluate_split(open_predictor(tmp_path / "run"), split)
        assert found.views.measures == pytest.approx(summary[split], rel=1e-5)
        kept = predictions.load(tmp_path / "run", split)
        assert kept.correct().mean() == summary[split]["accuracy"] and kept.correct(tta=True).mean() == summary[split]["tta_accuracy"]
        assert kept.plain.loss.mean() == pytest.approx(summary[split]["loss"], rel=1e-5)
    # Where a later stage trains what the cache goes through, or sees another size, the images themselves are looked at.
    seen.clear()
    run(small(first, Stage("all", size=16, lr=0.01, schedule=Sgdr(1)), keep_best=False), tmp_path / "all")
    assert "test" not in seen


@pytest.mark.parametrize("at", [3, 18, 31])
def test_a_killed_run_resumes_to_the_same_bits(finished, tmp_path, at):
    """Killed inside each of the three stages, away from a checkpoint."""

    experiment = eight_steps(checkpoint_steps=2)
    with killed_after(at):
        run(experiment, tmp_path / "run")
    summary = run(experiment, tmp_path / "run", resume=True)
    folder, whole = finished
    assert summary["test"] == whole["test"] and summary["valid"] == whole["valid"]
    assert "resumed" in summary and "resumed" not in whole  # its seconds are not all
    assert rows(tmp_path / "run") == rows(folder)
    for a, b in zip(leaves(tmp_path / "run"), leaves(folder), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at", [9, 13])
def test_a_plateau_schedule_resumes_with_the_rates_it_had(tmp_path, monkeypatch, at):
    """A threshold that no loss reaches lowers the rate after every epoch but the first."""

    lazy = Stage("s", size=16, train="head", lr=0.01, schedule=Plateau(4, 0.5, patience=0, threshold=0.99), precompute=True, augment=False)
    experiment = small(lazy, checkpoint_steps=3)
    run(experiment, tmp_path / "whole")
    real = recipe.open_stage

    def fragile(*args):
        stage = real(*args)

        def updates(state, *rest):
            if int(state.step) >= at:
                raise Killed
            return stage.update(state, *rest)

        return stage._replace(update=updates)

    with monkeypatch.context() as patch:
        patch.setattr(recipe, "open_stage", fragile)
        with pytest.raises(Killed):
            run(experiment, tmp_path / "run")
    run(experiment, tmp_path / "run", resume=True)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    rates = [row["lr"]["head"] for row in rows(tmp_path / "run") if row["kind"] == "train"]
    np.testing.assert_allclose(rates, 0.01 * np.repeat([1, 1, 0.5, 0.25], 4), rtol=1e-6)


def test_a_run_folder_belongs_to_one_config(finished):
    folder, _ = finished
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"batch_size: 16 → 12"):
        run(eight_steps(batch_size=12), folder, resume=True)
    with pytest.raises(InputError, match="--resume"):
        run(eight_steps(), folder)
    assert (folder / "config.json").read_bytes() == before


def one_stage(stage: Stage, **fields):
    context = prepare(small(stage, **fields))
    p = context.plan.stages[0]
    return context, p, open_stage(context, p, context.network, QUIET)


def train(context, p, stage):
    """Final state and losses of a stage at a fixed rate."""
    hyper = hyper_rows(context, p, (0.01,) * len(p.trained))
    state, losses = stage.state, []
    for step, batch in enumerate(stage_batches(context, p, 0, p.steps)):
        state, sums = single_update(stage, state, Hyper(*(r[step] for r in hyper)), batch)
        losses.append(float(sums["loss"]))
    return state, losses


def test_a_class_that_is_drawn_more_often_is_not_weighted_for_it_again():
    data = Synthetic(classes=3, train=11, valid=20, test=10, side=16)  # 4, 4 and 3 images
    context, p, stage = one_stage(Stage("s", 16, lr=0.01, schedule=Constant(1)), data=data, balance=1.0, class_weights=1.0)
    hyper = Hyper(*(row[0] for row in hyper_rows(context, p, (0.01,) * len(p.trained))))
    batches = stage_batches(context, p, 0, p.steps)
    weights = [np.asarray(single_update(stage, stage.state, hyper, batch)[1]["weight"]) for batch in batches]
    assert sum(weights) == pytest.approx(11)


@pytest.mark.parametrize("augment, views", [(False, 0), (True, 2)], ids=["plain", "two views"])
@pytest.mark.parametrize("train_from", ["head", 1], ids=["head", "late and head"])
def test_training_from_the_cache_equals_training_without(augment, views, train_from):
    with_cache = Stage("s", size=16, train=train_from, lr=0.01, schedule=Constant(3), augment=augment, views=views, precompute=True)
    results = [train(*one_stage(s)) for s in (with_cache, dataclasses.replace(with_cache, precompute=False))]
    (a, losses_a), (b, losses_b) = results
    assert len(losses_a) == 12
    np.testing.assert_allclose(losses_a, losses_b, rtol=1e-6)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_views_are_different_copies_that_come_round():
    stage = Stage("s", size=16, train="head", lr=0.01, schedule=Constant(2), views=2, precompute=True)
    context, p, _ = one_stage(stage, augment=(Flip(p=0.5), Lighting(brightness=0.3)))
    from sgdr_jax.train.stage_inputs import activations

    rows = activations(context, p, context.network, "train", 2, QUIET)
    n = len(context.data.labels["train"])
    assert len(rows) == 2 * n and not np.allclose(rows[:n], rows[n:])


def test_frozen_groups_keep_their_bits_through_a_stage():
    context, _, stage = (result := one_stage(Stage("s", size=16, train="head", lr=0.01, schedule=Constant(1))))
    before = jax.device_get((context.network.params, context.network.stats))
    state, _ = train(*result)
    for group in ("early", "late"):
        for tree, old in zip((state.params, state.stats), before, strict=True):
            jax.tree.map(np.testing.assert_array_equal, tree[group], old[group])
    assert not any("early" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(stage.state.opt_state))


def test_the_finder_leaves_the_state_as_it_was():
    context, p, stage = one_stage(Stage("s", size=16, lr=Find(steps=10, epochs=3), schedule=Constant(1)))
    before = jax.device_get(stage.state)
    curve = find_lr(context, p, stage, p.stage.lr, QUIET)
    assert len(curve.lrs) > 5
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(stage.state), before)


@pytest.mark.parametrize("optimizer", [AdamW(weight_decay=4.0), AdamW(weight_decay=40.0), Sgd(weight_decay=4.0)])
def test_the_finder_ends_where_the_guard_applies_no_update(optimizer):
    """From lr · wd = 1 on nothing is updated, so the loss is flat: not a stretch of good rates."""
    find = Find(start=1e-3, stop=10, steps=16, epochs=4, orders=2)
    curve = find_lr(*one_stage(Stage("s", size=16, lr=find, schedule=Constant(1), optimizer=optimizer)), find, QUIET)
    step = 10 ** (4 / 15)
    assert len(curve.lrs) > 2 and curve.lrs[-1] <= step / optimizer.weight_decay * (1 + 1e-6)


def test_another_rate_or_schedule_compiles_nothing():
    context, p, stage = one_stage(Stage("s", size=16, lr=0.01, schedule=Sgdr(2)))
    rows, batches = hyper_rows(context, p, (0.01,) * 3), list(stage_batches(context, p, 0, p.steps))
    state, _ = single_update(stage, stage.state, Hyper(*(r[0] for r in rows)), batches[0])
    other = hyper_rows(context, dataclasses.replace(p, table=Constant(2).table(p.steps_per_epoch)), (0.5, 0.3, 0.1))
    with compilations() as compiled:
        for step, batch in enumerate(batches[1:5]):
            state, _ = single_update(stage, state, Hyper(*(r[step] for r in (rows, other)[step % 2])), batch)
        jax.block_until_ready(state)
    assert not compiled


def test_statistics_are_measured_before_the_stage_and_only_then(tmp_path):

    stages = (
        Stage("first", size=16, lr=1e-2, schedule=Constant(1)),
        Stage("bigger", size=24, train="head", lr=1e-2, schedule=Constant(2), recalibrate=("early", "late")),
    )
    experiment = small(*stages, keep_best=False)
    run(experiment, tmp_path / "whole")
    moved = [row for row in rows(tmp_path / "whole") if row["kind"] == "bn"]
    assert len(moved) == 1 and moved[0]["stage"] == "bigger" and moved[0]["step"] == 0
    assert min(moved[0]["drift"]["early"]) > 0 and moved[0]["drift"]["head"] == [0, 0]
    drifts = [row["drift"] for row in rows(tmp_path / "whole") if row["kind"] == "eval" and "drift" in row]
    assert len(drifts) == 1 and drifts[0].keys() == {"early", "late"}  # of the first stage: the second collects none of the body's
    with killed_after(9):  # the first epoch of the second stage is saved
        run(experiment, tmp_path / "run")
    run(experiment, tmp_path / "run", resume=True)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    for a, b in zip(leaves(tmp_path / "run"), leaves(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match=r"recalibrate is .*use True, False, or names out of early, late, head"):
        run(small(dataclasses.replace(stages[1], recalibrate=("nose",))), tmp_path / "other")


def test_the_crop_of_a_network_is_kept_with_it(tmp_path):
    stages = (Stage("head", 16, "head", 0.1, schedule=Sgdr(1), augment=False, precompute=True), Stage("all", 16, lr=0.1, schedule=Sgdr(1)))
    summaries = {}
    for crop in (None, 0.5):
        summaries[crop] = run(small(*stages, model=Tiny(crop=crop)), tmp_path / f"{crop}", ui=QUIET)
        net = open_predictor(tmp_path / f"{crop}")
        assert net.programs.network.plain == PlainView("bilinear", crop or 1.0)
        again = evaluate_split(net, "test").views.measures
        assert again["loss"] == pytest.approx(summaries[crop]["test"]["loss"], abs=1e-6)
    assert summaries[None]["test"]["loss"] != summaries[0.5]["test"]["loss"]


def test_a_bigger_size_follows(tmp_path):
    stages = (
        Stage("small", size=16, train="head", lr=1e-2, schedule=Constant(2), precompute=True, augment=False),
        Stage("bigger", size=24, train="all", lr=1e-3, schedule=Sgdr(1)),
    )
    summary = run(small(*stages, keep_best=False), tmp_path / "run")
    assert summary["size"] == 24 and [s["size"] for s in summary["stages"]] == [16, 24]
    assert open_predictor(tmp_path / "run").size == 24


def test_without_keep_best_the_figures_of_a_stage_are_those_of_its_end(tmp_path):
    """They were those of its best cycle, which nobody has, and a stage behind the one before was told as undone."""
    stages = (Stage("good", size=16, lr=1e-2, schedule=Constant(6)), Stage("bad", size=16, lr=3.0, schedule=Constant(3)))
    summary = run(small(*stages, keep_best=False), tmp_path / "run")
    evals = [row for row in rows(tmp_path / "run") if row["kind"] == "eval"]
    for stage, cycles in zip(summary["stages"], (6, 3), strict=True):
        own = [row for row in evals if row["stage"] == stage["name"]]
        assert (stage["valid_accuracy"], stage["valid_loss"]) == (own[-1]["accuracy"], own[-1]["loss"])
        assert stage["kept"] and stage["cycles"] == cycles == len(own)
    assert summary["valid"]["loss"] == pytest.approx(evals[-1]["loss"], rel=1e-6)
    assert min(row["loss"] for row in evals if row["stage"] == "bad") < evals[-1]["loss"]  # so that its best cycle is another


def test_it_stops_at_a_cycle_end_when_it_overfits(tmp_path):
    stage = Stage("all", size=16, lr=2.0, schedule=Constant(8), patience=1, augment=False)  # a rate at which the loss cannot keep falling
    summary = run(small(stage, optimizer=Sgd(clip=1.0)), tmp_path / "run")
    done = summary["stages"][0]
    assert done["epochs"] < 8 and "validation loss" in done["stopped"]


@pytest.mark.parametrize(("lr", "said"), [(1e6, "(nan|inf)"), (1e30, r"[\d.]+ with gradients or rates out of range")], ids=str)
def test_a_loss_or_a_rate_that_is_not_usable_names_the_update(tmp_path, lr, said):
    stage = Stage("all", size=16, lr=lr, schedule=Constant(2), augment=False)
    with pytest.raises(InputError, match=rf"training loss is {said} at update \d+"):
        run(small(stage, optimizer=Sgd()), tmp_path / "run")


def blind(monkeypatch, cycles: set[tuple[str, int]]) -> None:
    """Let the validation loss be nan after these cycles, though all training losses are finite."""
    real = recipe.open_stage

    def open_stage(context, plan, *rest):
        stage, ends = real(context, plan, *rest), list(plan.table.ends)

        def validate(state):
            cycle = ends.index(int(state.step))
            return stage.validate(state) | ({"loss": float("nan"), "accuracy": 1.0} if (plan.stage.name, cycle) in cycles else {})

        return stage._replace(validate=validate)

    monkeypatch.setattr(recipe, "open_stage", open_stage)


def test_a_validation_loss_that_is_not_finite_ends_the_run_in_a_line_also_when_it_is_resumed(tmp_path, monkeypatch):
    made = small(Stage("all", size=16, lr=0.01, schedule=Constant(2)))
    blind(monkeypatch, {("all", 0), ("all", 1)})
    for resume_ in (False, True):
        with pytest.raises(InputError, match=r"^the validation loss is nan after cycle 1; use a lower lr, or .* in another run folder$"):
            run(made, tmp_path / "run", resume=resume_)
        assert not list((tmp_path / "run").glob("checkpoints/stage-*"))


def test_a_stage_whose_validation_loss_is_not_finite_is_undone(tmp_path, monkeypatch):
    made = small(Stage("head", size=16, train="head", lr=0.01, schedule=Constant(1)), Stage("all", size=16, lr=0.01, schedule=Constant(2)))
    blind(monkeypatch, {("all", 0), ("all", 1)})
    summary = run(made, tmp_path / "run")
    assert [(stage["kept"], stage["valid_loss"] is None) for stage in summary["stages"]] == [(True, False), (False, True)]
    assert summary["valid"]["accuracy"] == summary["stages"][0]["valid_accuracy"]
    monkeypatch.undo()
    blind(monkeypatch, {("all", 1)})
    kept = run(made, tmp_path / "other")["stages"][1]
    assert kept["valid_loss"] is not None and kept["cycles"] in (1, 2)


def test_skipped_updates_are_counted_and_leave_the_rest_of_the_run(tmp_path, monkeypatch, caplog):
    """Two updates of the stage see images that are not numbers."""
    made, real = small(Stage("all", size=16, lr=0.01, schedule=Constant(2))), recipe.open_stage

    def open_stage(*args):
        stage = real(*args)

        def updates(state, hyper, feds):
            if int(state.step) in (2, 5):
                hyper = hyper._replace(label_smoothing=np.full_like(hyper.label_smoothing, np.nan))
            return stage.update(state, hyper, feds)

        return stage._replace(update=updates)

    monkeypatch.setattr(recipe, "open_stage", open_stage)
    (stage,) = run(made, tmp_path / "run")["stages"]
    assert stage["skipped"] == 2 and stage["steps"] == 8 and np.isfinite(stage["train_loss"])
    skipped = [row for row in rows(tmp_path / "run") if row.get("skipped")]
    assert [(row["step"], row["loss"]) for row in skipped] == [(2, None), (5, None)]
    assert "stage 'all': update 2 is skipped, loss nan" in caplog.text
    assert all(np.isfinite(leaf).all() for leaf in leaves(tmp_path / "run"))


def shown(*parts: object) -> str:
    text = io.StringIO()
    for part in parts:
        plain_console(text).print(part)
    return text.getvalue()


def test_multi_label_data_run(tmp_path):
    data = Synthetic(classes=3, train=48, valid=16, side=16, multi_label=True)
    stage = Stage("all", size=16, lr=1e-2, schedule=Constant(1))
    summary = run(small(stage, data=data), tmp_path / "run")
    valid, (stage,) = summary["valid"], summary["stages"]
    assert {"loss", "accuracy", "f2", "tta_f2", "map", "tta_map"} <= valid.keys()
    assert stage["valid_accuracy"] == pytest.approx(valid["map"], abs=1e-3)  # by logits there, by probabilities in float32 here
    net = open_predictor(tmp_path / "run")
    evaluated = evaluate_split(net, "valid")
    threshold = summary["threshold"]["value"]
    p, labels = evaluated.views.probabilities, evaluated.labels
    assert (net.threshold(2), summary["threshold"]["beta"]) == (threshold, 2) and threshold == fit_threshold(p, labels)
    assert summary["threshold"]["f_beta"] == {"valid": pytest.approx(mean_f_beta(p, labels, 2.0, threshold))}
    kept = predictions.load(tmp_path / "run", "valid")
    assert (kept.tta.predicted == (p > threshold)).all()
    assert [net.label(row, 2) for row in p] == [net.true_label(row) for row in kept.tta.predicted]
    said = shown(*evaluation_parts("valid", evaluated, net))
    assert f"{threshold:.4f}" in said and "mAP" in shown(*result_tables(summary))
    for name, fixed in (("accuracy", 0.5), ("tta_accuracy", 0.5), ("f2", 0.2), ("tta_f2", 0.2)):
        assert f"valid {name:<14} {evaluated.views.measures[name]:.4f}, classes predicted above {fixed}\n" in said
    images = [np.asarray(image) for image in data.open().items["valid"][:3]]
    plain, scaled = (predict(net, images, calibrated=calibrated) for calibrated in (False, True))
    assert plain.labels == scaled.labels and not np.allclose(plain.probabilities, scaled.probabilities)


def test_the_plain_view_has_a_threshold_of_its_own(tmp_path):
    """That of the mixture of views was used for it too, which lies elsewhere: far higher for the highest of several probabilities."""
    data = Synthetic(classes=4, train=120, valid=48, test=16, side=16, multi_label=True)
    views = Eval(tta_views=3, tta_kind="scales", tta_mean="max", beta=0.5)
    summary = run(small(Stage("all", size=16, lr=2e-2, schedule=Constant(6)), data=data, evaluate=views), tmp_path / "run")
    net, record = open_predictor(tmp_path / "run"), summary["threshold"]
    mixed, alone = (evaluate_split(net, "valid", number) for number in (None, 0))
    plain, labels = mixed.views.plain, mixed.labels
    own = fit_threshold(plain, labels, 0.5)
    assert net.threshold(1) == record["plain"] == own < record["value"]
    assert net.threshold(4) == record["value"] == fit_threshold(mixed.views.probabilities, labels, 0.5)
    kept = predictions.load(tmp_path / "run", "valid")
    assert (kept.plain.predicted == (plain > own)).all() and (kept.tta.predicted == (mixed.views.probabilities > record["value"])).all()
    said = shown(*evaluation_parts("valid", alone, net))
    assert f"{mean_f_beta(plain, labels, 0.5, own):.4f}, classes predicted above {own:.4f}" in said
    images = [np.asarray(image) for image in data.open().items["test"]]
    for number in (None, 0):
        found = predict(net, images, number)
        at = net.threshold(found.views)
        assert found.labels == tuple(" ".join(np.array(net.classes)[row > at]) for row in found.probabilities)
    file = tmp_path / "run" / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threshold": {"value": 0.25, "beta": 2.0, "f_beta": {}}}))
    early = open_predictor(tmp_path / "run")  # of a version that fitted one
    assert early.threshold(1) == early.threshold(4) == 0.25


def test_a_run_without_views_fits_one_threshold(tmp_path):
    data = Synthetic(classes=3, train=24, valid=16, side=16, multi_label=True)
    stage = Stage("all", size=16, lr=1e-2, schedule=Constant(1))
    record = run(small(stage, data=data, evaluate=Eval(tta_views=0)), tmp_path / "run")["threshold"]
    net = open_predictor(tmp_path / "run")
    assert "plain" not in record and net.threshold(1) == net.threshold(2) == record["value"]


def test_scores_compare_by_accuracy_then_loss():
    assert Score(0.9, 0.5).beats(Score(0.8, 0.1)) and Score(0.9, 0.4).beats(Score(0.9, 0.5))
    assert not Score(0.9, 0.5).beats(Score(0.9, 0.5)) and not Score(1.0, float("nan")).beats(None)


def test_a_stage_resumes_on_the_body_that_the_stage_before_left(tmp_path):
    """The frozen groups of a resumed stage come from its checkpoint, not from the pretrained weights."""

    stages = (
        Stage("all", size=16, lr=1e-2, schedule=Constant(1)),
        Stage("head", size=16, train="head", lr=1e-2, schedule=Constant(2), precompute=True, augment=False),
    )
    experiment = small(*stages, keep_best=False, parallel=Parallel(steps_per_execution=3))
    run(experiment, tmp_path / "whole")
    with killed_after(10):  # four updates of the first stage, an epoch and a half of the second
        run(experiment, tmp_path / "run")
    run(experiment, tmp_path / "run", resume=True)
    for a, b in zip(leaves(tmp_path / "run"), leaves(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resuming_a_finished_run_changes_nothing(finished):
    folder, summary = finished
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert run(eight_steps(), folder, resume=True) == summary
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_the_finders_orders_differ_and_the_first_is_that_of_training():
    context, p, _ = one_stage(Stage("s", size=16, lr=Find(steps=10, epochs=3), schedule=Constant(1)))
    orders = [[fed.batch.index.tolist() for fed in stage_batches(context, p, 0, 4, order)] for order in range(3)]
    assert orders[0] == [fed.batch.index.tolist() for fed in stage_batches(context, p, 0, 4)]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_finder_tries_groups_alone_and_several_ratios():
    from sgdr_jax.train.find_lr import find_lr

    find = Find(steps=10, epochs=3, orders=1, start=1e-3, stop=10, ratio=(1, 100))
    context, p, stage = one_stage(Stage("s", size=16, lr=find, schedule=Constant(1), bn="frozen"))
    seen = []

    def updates(state, hyper, feds):
        seen.extend(hyper.lr)
        return stage.update(state, hyper, feds)

    curve = find_lr(context, p, stage._replace(update=updates), find, QUIET)
    assert curve.ratio in (1, 100) and curve.orders == 1
    shares = {tuple(np.round(lr.astype(float) / lr[-1], 6).tolist()) for lr in seen}
    assert shares == {(1.0, 1.0, 1.0), (0.0001, 0.01, 1.0)}
    seen.clear()
    find_lr(context, p, stage._replace(update=updates), find, QUIET, group="late")
    assert all(lr[0] == lr[2] == 0 < lr[1] for lr in seen)


def test_the_finder_sees_the_statistics_that_a_stage_measures_first():
    """On statistics of other images it found a rate 150 times from that of the training."""
    from sgdr_jax.train.batch_norm import recalibrate
    from sgdr_jax.train.find_lr import stage_curves

    find = Find(steps=10, epochs=3, orders=1)
    context, p, _ = one_stage(Stage("s", size=16, lr=find, schedule=Constant(1), bn="frozen", recalibrate=True))
    measured = context.network._replace(stats=recalibrate(context, context.network._replace(size=16)))
    plain = dataclasses.replace(p, stage=dataclasses.replace(p.stage, recalibrate=False))
    found, wanted, other = (
        stage_curves(context, stage, network, QUIET)[""].losses
        for stage, network in ((p, context.network), (plain, measured), (plain, context.network))
    )
    assert np.array_equal(found, wanted) and not np.array_equal(found, other)


def test_a_resumed_stage_takes_the_memory_of_a_fresh_one(tmp_path, monkeypatch):
    """A second state, of which nothing was used, stayed on the devices to the stage's end."""
    made, counts, real = small(Stage("all", size=16, lr=1e-2, schedule=Sgdr(3))), [], recipe.fit

    def counted(state, *rest):
        kernel = max(jax.tree.leaves(state.params), key=lambda x: x.ndim)
        gc.collect()
        counts.append(sum(x.shape == kernel.shape for x in jax.live_arrays()))
        return real(state, *rest)

    monkeypatch.setattr(recipe, "fit", counted)
    prepared = prepare(made)
    run(made, tmp_path / "whole", prepared=lambda _: prepared)
    with killed_after(6):
        run(made, tmp_path / "run", prepared=lambda _: prepared)
    run(made, tmp_path / "run", resume=True, prepared=lambda _: prepared)
    fresh, _, resumed = counts
    assert resumed <= fresh + 2  # the network that it began with, and the best so far


# ---- once more on every image ----


def test_a_refit_trains_the_kept_stages_on_every_image_at_the_rates_that_were_found(tmp_path):
    summary = run(eight_steps(refit=True), tmp_path / "run")
    first = run(eight_steps(), tmp_path / "first")
    again = json.loads((tmp_path / "run" / "refit" / "summary.json").read_text())
    kept = [stage for stage in summary["stages"] if stage["kept"]]
    assert [s["name"] for s in again["stages"]] == [s["name"] for s in kept]
    assert [s["lr"] for s in again["stages"]] == [s["lr"] for s in kept]
    cycles = {"cached head": 1, "head": 1, "all": 2}  # epochs of cycle i: cycles ** i
    for told, once in zip(again["stages"], kept, strict=True):
        assert told["steps"] == sum(cycles[told["name"]] ** i for i in range(once["cycles"])) * 5  # 58 + 21 images in batches of 16
        assert told["valid_accuracy"] is None and told["kept"]
    assert summary["refit"] and not first["refit"]
    assert summary["valid"] == first["valid"] and summary["calibration"]["valid"] == first["calibration"]["valid"]
    assert summary["test"] != first["test"]
    assert not [row for row in rows(tmp_path / "run" / "refit") if row["kind"] == "eval"]
    # The final network is the second one, at the first one's temperature.
    net = open_predictor(tmp_path / "run")
    assert evaluate_split(net, "test").views.measures["loss"] == pytest.approx(summary["test"]["loss"], rel=1e-6)
    with pytest.raises(InputError, match="split is 'valid'; after a refit the network has trained on these images too; use test"):
        evaluate_split(net, "valid")
    assert (
        default_split(net) == "test" and default_split(net._replace(experiment=dataclasses.replace(net.experiment, refit=False))) == "valid"
    )


def test_a_refit_goes_through_sizes_and_strengths_as_the_first_training_did(tmp_path):
    """It divided them anew over the cycles that were kept, and failed after all the training where these were too short."""
    grows = Stage("all", size=(8, 16, 24), lr=1e-2, schedule=Sgdr(3), strength=(0.0, 1.0))
    chosen = {"kept": True, "lr": (0.01,) * 3, "cycles": 1}
    whole = plan(small(grows), 64).stages[0]
    again = plan(settled(small(grows, refit=True), [chosen], [whole]), 64).stages[0]
    assert again.sizes.tolist() == whole.sizes[: again.steps].tolist() and again.size == whole.size == 24
    for step in range(again.steps + 3):
        assert strength_at(again, step) == strength_at(whole, min(step, again.steps - 1))
    assert strength_at(whole, whole.steps - 1) == strength_at(whole, whole.steps + 40) == 1


@pytest.mark.parametrize("canvas", [None, 40])
def test_a_refit_ends_at_the_size_and_on_the_stored_images_that_the_chosen_network_was_validated_with(tmp_path, monkeypatch, canvas):
    """Cut off before the last size, or without the stage of the largest, its network was used at a size that nothing had validated."""
    judge = loop.judge

    def first_is_best(rules, progress, score, cycle, *args, **options):
        best = rules.stage == 0 and cycle == 0
        return judge(rules, progress, score if best else score._replace(accuracy=0.0), cycle, *args, **options)

    monkeypatch.setattr(loop, "judge", first_is_best)
    grows, larger = Stage("all", size=(8, 16), lr=1e-3, schedule=Constant(2)), Stage("larger", size=32, lr=1e-3, schedule=Constant(1))
    summary = run(small(grows, larger, refit=True, canvas=canvas), tmp_path)
    assert [stage["kept"] for stage in summary["stages"]] == [True, False] and summary["stages"][0]["cycles"] == 1
    again = read(tmp_path / "refit")
    sizes = again.summary["size"], again.summary["stages"][0]["size"], summary["stages"][0]["size"], summary["size"]
    assert sizes == (16,) * 4 and again.config["canvas"] == (canvas or 37)


def test_a_refit_that_an_earlier_version_began_goes_on(tmp_path):
    """Where all sizes are left, its experiment is what it was: a canvas of its own would be another."""
    made = small(Stage("all", size=16, lr=0.01, schedule=Constant(1)), Stage("b", size=8, lr=0.01, schedule=Constant(1)), refit=True)
    kept = [{"name": name, "kept": name == "all", "lr": (0.01,) * 3, "cycles": 1} for name in ("all", "b")]
    plans = plan(made, 64).stages
    assert settled(made, kept, plans).canvas is None
    assert settled(made, [kept[0], kept[1] | {"kept": True}], plans).canvas is None
    assert "share" not in to_json(settled(made, kept, plans).stages[0].schedule)


@pytest.mark.parametrize("patience", [None, 1])
def test_what_a_refit_follows_is_saved_before_it_begins(tmp_path, patience):
    """A refit that was interrupted could not go on where the first training, repeated on other devices, found other rates."""
    stage = Stage("all", size=16, lr=1e-9, schedule=Constant(6), patience=patience)
    summary = run(small(stage, refit=True), tmp_path, prepared=lambda made: prepare(made)._replace(due=lambda: False))
    assert checkpoint.steps(tmp_path / "checkpoints", 0) == (summary["stages"][0]["steps"],)
    assert (summary["stages"][0]["stopped"] == "") == (patience is None)


def test_a_refit_shares_the_programs_of_the_first_training(tmp_path):
    """Its epochs have 5 updates instead of 4: spans of both are as long, and nothing is compiled or loaded twice."""
    head = Stage("head", size=16, train="head", lr=0.1, schedule=Sgdr(2), precompute=True, augment=False)
    summary = run(small(head, refit=True), tmp_path / "run")
    names = {name: count for name, (count, _) in summary["compiled"]["names"].items()}
    assert names["update_head"] == 1 and names["slots"] == 1


def test_an_interrupted_refit_ends_with_the_same_network(tmp_path, monkeypatch):
    made = small(Stage("all", size=16, lr=1e-2, schedule=Sgdr(2)), refit=True)
    run(made, tmp_path / "whole")
    real, left = resume.save, [4]

    def failing(*args):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(resume, "save", failing)  # two cycle ends of the first training, and the second one of the refit
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "cut")
    monkeypatch.undo()
    assert (tmp_path / "cut" / "refit" / "checkpoints").is_dir()
    run(made, tmp_path / "cut", resume=True)
    for a, b in zip(leaves(tmp_path / "whole"), leaves(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_refit_makes_room_when_it_is_told_to(tmp_path):
    made = small(Stage("all", size=16, lr=1e-2, schedule=Sgdr()), refit=True)  # 4 updates, and 5 of the refit
    asked = iter(range(100))
    with pytest.raises(Preempted, match="saved after update 2 of 5 of the stage"):
        run(made, tmp_path / "cut", prepared=lambda e: prepare(e)._replace(leave=lambda: next(asked) == 5))
    run(made, tmp_path / "cut", resume=True)
    run(made, tmp_path / "whole")
    for a, b in zip(leaves(tmp_path / "whole"), leaves(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_several_hosts_stop_together_before_the_updates_of_a_stage(tmp_path, monkeypatch, at):
    """Before the stage, its rates and its first update, which is compiled: no bar stops them there, as it would a single one."""
    made, asked = small(Stage("all", size=16, lr=1e-2, schedule=Sgdr())), iter(range(100))
    monkeypatch.setattr(recipe, "is_multi_host", lambda: True)
    with pytest.raises(Preempted, match="stopped before the updates of stage 'all'; the same command with --resume goes on"):
        run(made, tmp_path / "cut", prepared=lambda e: prepare(e)._replace(leave=lambda: next(asked) == at))
    assert next(asked) == at + 1
    run(made, tmp_path / "cut", resume=True)
    run(made, tmp_path / "whole")
    for a, b in zip(leaves(tmp_path / "whole"), leaves(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_validation_images_everything_trains_and_nothing_is_fitted_to_the_test_images(tmp_path):
    data = TrainAndValid(DATA)
    summary = run(small(Stage("all", size=16, lr=1e-2, schedule=Sgdr(2)), data=data), tmp_path / "run")
    assert summary["stages"][0]["steps"] == 2 * 5 and summary["valid"] == {} and summary["calibration"] == {}
    assert summary["test"]["accuracy"] > 0.3
    refused = {
        'stage "all": patience is 1; there are no validation images; use None': {"patience": 1},
        'stage "all": schedule is .*; there are no validation images; use one that does not wait for plateaus': {"schedule": Plateau(2)},
    }
    for message, fields in refused.items():
        stage = dataclasses.replace(Stage("all", size=16, lr=1e-2, schedule=Sgdr(2)), **fields)
        with pytest.raises(InputError, match=message):
            run(small(stage, data=data), tmp_path / "none")
    stage = Stage("all", size=16, lr=1e-2, schedule=Sgdr(2))
    with pytest.raises(InputError, match="refit is True; there are no validation images that could choose anything; use False"):
        run(small(stage, data=data, refit=True), tmp_path / "none")
    for fields, message in (
        (
            {"snapshots": Snapshots(last=2)},
            r"snapshots is .*; refit trains on the validation images, to compare them; keep none, or .* refit=False \(--no-refit\)$",
        ),
        (
            {"optimizer": AdamW(ema=0.9)},
            r'stage "all": optimizer.ema is 0.9; refit .* images, to compare it; use 0, or train with refit=False \(--no-refit\)$',
        ),
    ):
        with pytest.raises(InputError, match=message):
            run(small(stage, refit=True, **fields), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_batch_of_one_with_batch_statistics_is_told(capsys) -> None:
    class Said(NullConsole):
        def say(self, text: object) -> None:
            print(text)

    def said(**fields) -> list[str]:
        prepare(small(Stage("only", size=16, lr=0.1, schedule=Sgdr(), **fields), parallel=Parallel(devices=1)), Said())
        return [line for line in capsys.readouterr().out.splitlines() if "batch statistics" in line]

    wanted = "only: batch statistics of a single image make all images look the same to the head; use a larger batch_size"
    assert said(batch_size=4) == [] and said(batch_size=1) == [wanted]
    assert said(batch_size=4, accumulate=4) == [wanted + ", or a smaller accumulate"]


@pytest.mark.parametrize(
    ("stage", "notes"),
    [
        (Stage("all", size=8, lr=0.1, schedule=Sgdr(1)), []),
        (Stage("all", size=8, lr=0.1, schedule=Sgdr(1), bn="frozen"), ["batch statistics of early, late: from no images"]),
        (Stage("late", size=8, train=1, lr=0.1, schedule=Sgdr(1)), ["early: random, and no stage trains it; give weights, or use"]),
        (
            Stage("late", size=8, train=1, lr=0.1, schedule=Sgdr(1), bn="frozen"),
            ["early: random, and no stage trains it", "batch statistics of late: from no images, and no stage collects them"],
        ),
    ],
)
def test_what_stays_random_of_a_network_without_weights_is_told(stage, notes):
    """As when a file that was chosen for a pretrained network is given `--model.weights None`."""
    lines: list[str] = []

    class Listening(NullConsole):
        def say(self, text):
            lines.append(str(text))

    prepare(small(stage), Listening())
    found = [line.strip() for line in lines if "random, and" in line or "from no images" in line]
    assert len(found) == len(notes) and all(line.startswith(note) for line, note in zip(found, notes, strict=True)), found
