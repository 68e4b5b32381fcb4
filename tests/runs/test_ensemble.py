"""Snapshots, ensembles and averages: what is kept, how it is combined and chosen, and that an interrupted run has the same."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax import AdamW, Eval, Experiment, InputError, Sgd, Snapshots, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.state import NetworkState, TrainState
from sgdr_jax.datasets import Synthetic
from sgdr_jax.evaluation import metrics, predictions
from sgdr_jax.evaluation.evaluate import EvalExamples, predict_views
from sgdr_jax.evaluation.multi_label import map_of, mean_f_beta, thresholds_of
from sgdr_jax.runs import checkpoint, ensemble, recorder
from sgdr_jax.runs.ensemble import average, forward_selection, greedy_average, measures
from sgdr_jax.runs.folder import read
from sgdr_jax.runs.predictor import evaluate_split, open_predictor
from sgdr_jax.runs.records import snapshot_row
from sgdr_jax.runs.run import run
from sgdr_jax.runs.snapshots import chosen, cycle_ends, lost_cycle_ends, read_cycle_ends, save_cycle_end, snapshot_folder
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train import batch_norm
from sgdr_jax.train.context import prepare
from sgdr_jax.train.model_selection import Score

from ..helpers import Tiny, same_bits, seeded

DATA = Synthetic(classes=3, train=40, valid=24, test=17, side=16)


def job(**fields) -> Experiment:
    stages = (
        Stage("head", size=16, train="head", lr=3e-2, schedule=Sgdr(2), augment=False, precompute=True),
        Stage("all", size=16, lr=2e-2, schedule=Sgdr(3)),
    )
    common = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=2), "augment": side_on(), "optimizer": AdamW(ema=0.9)}
    return Experiment(
        **{"name": "cycles", "data": DATA, "model": Tiny(), "stages": stages, "snapshots": Snapshots(last=3)} | common | fields
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, run(job(), folder)


# ---- choosing ----


@settings(seeded)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.1, 1.0, None, float("nan")])), min_size=1, max_size=8),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_keeping_one_after_the_other_keeps_the_same_as_choosing_at_the_end(figures, last, best):
    scores = [Score.of({"accuracy": accuracy, "loss": loss}) for accuracy, loss in figures]
    how, kept = Snapshots(last=last, best=best), []
    for i in range(len(scores)):
        kept.append(i)
        kept = [kept[j] for j in chosen([scores[k] for k in kept], how)]
    assert kept == chosen(scores, how)
    if how:
        assert len(scores) - 1 in kept and set(range(len(scores))[-max(last, 1) :]) <= set(kept) and len(kept) <= max(last, 1) + best
        rank = {i: (*score.rank, -i) for i, score in enumerate(scores) if score.loss in (0.1, 1.0)}
        for i in set(rank) - set(kept):
            assert sum(rank[k] > rank[i] for k in kept if k in rank) >= best


@settings(seeded)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_forward_selection_is_never_worse_than_the_best_alone_and_cannot_be_bettered_by_one(seed, count):
    rng = np.random.default_rng(seed)
    labels, members = rng.integers(0, 3, 12), rng.dirichlet(np.ones(3), (count, 12))

    def loss(picked):
        return float(metrics.losses(np.log(members[list(picked)].mean(0)), labels).mean())

    picked = forward_selection(loss, count)
    assert picked == tuple(sorted(set(picked))) and loss(picked) <= min(loss((i,)) for i in range(count))
    assert all(loss((*picked, i)) >= loss(picked) for i in range(count) if i not in picked)


def test_a_member_that_only_harms_the_average_stays_out():
    asked = []

    def loss(members):
        asked.append(members)
        return {(0, 2): 0.2, (0, 1, 2): 0.25}[members]

    assert greedy_average(loss, [0.3, 0.9, 0.4]) == (0, 2)
    assert asked == [(0, 2), (0, 1, 2)]


def test_an_average_is_the_mean_in_float64():
    trees = [{"a": np.array([big], np.float32)} for big in (1e8, 1.0, -1e8)]
    assert average(trees)["a"] == np.float32(1 / 3)  # float32 sums would give 0


# ---- the whole ----


def test_the_table_has_everything_side_by_side_the_last_model_first(finished):
    folder, summary = finished
    rows = summary["snapshots"]
    kept = ("stage-1-cycle-0000", "stage-1-cycle-0001", "stage-1-cycle-0002")
    assert cycle_ends(folder) == kept
    assert [row["name"] for row in rows] == [
        f"last ({kept[2]})",
        "final network",
        *kept[:2],
        "moving average of weights",
        "ensemble of the last 2",
        "ensemble of all",
        "ensemble, chosen",
        "average of all weights",
        "average of weights, chosen",
    ]
    for row in rows:
        for split in ("valid", "test"):
            assert {"accuracy", "loss", "ece", "tta_accuracy", "tta_loss", "tta_ece"} <= row[split].keys()
    by_name = {row["name"]: row for row in rows}
    alone = min(row["valid"]["tta_loss"] for row in rows if "stage" in row["name"])
    assert by_name["ensemble, chosen"]["valid"]["tta_loss"] <= alone
    assert by_name["average of weights, chosen"]["valid"]["tta_loss"] <= alone + 1e-12
    # The logged validation is the one that the snapshot gives.
    assert by_name[kept[0]]["valid"]["accuracy"] == checkpoint.verify(snapshot_folder(folder), kept[0])["accuracy"]


def test_what_each_says_of_every_example_is_kept(finished):
    folder, summary = finished
    for row in summary["snapshots"]:
        for split in ("valid", "test"):
            found = predictions.load(folder, split, "" if row["name"] == "final network" else row["name"])
            for tta, prefix in ((False, ""), (True, "tta_")):
                assert found.correct(tta).mean() == pytest.approx(row[split][f"{prefix}accuracy"], abs=1e-12)
                kind = found.tta if tta else found.plain
                assert kind.loss.mean() == pytest.approx(row[split][f"{prefix}loss"], rel=1e-6)


def test_the_numbers_are_those_of_the_kept_networks(finished):
    """The uniform average and the ensemble made again by hand from what is on the disk."""
    folder, summary = finished
    context = prepare(job())
    like = {"params": context.network.params, "stats": context.network.stats}
    nets = [checkpoint.restore(snapshot_folder(folder), name, like) for name in cycle_ends(folder)]
    by_name = {row["name"]: row for row in summary["snapshots"]}
    labels = context.data.labels["test"]

    def plain(net):
        state = NetworkState(*context.programs.devices.replicate((net["params"], net["stats"])), 16)
        examples = EvalExamples(context.images["test"], 3, context.data.digests["test"])
        return predict_views(context.programs, context.experiment, state, examples, NullConsole(), "").plain

    seen = np.mean([plain(net).astype(np.float64) for net in nets], 0)
    assert metrics.losses(np.log(seen), labels).mean() == pytest.approx(by_name["ensemble of all"]["test"]["loss"], rel=1e-6)
    params = jax.tree.map(lambda *x: np.mean(np.stack(x).astype(np.float64), 0).astype(np.float32), *(net["params"] for net in nets))
    stats = batch_norm.recalibrate(context, NetworkState(*context.programs.devices.replicate((params, context.network.stats)), 16))
    found = metrics.losses(np.log(plain({"params": params, "stats": stats})), labels).mean()
    assert found == pytest.approx(by_name["average of all weights"]["test"]["loss"], rel=1e-4)
    saved = checkpoint.restore(snapshot_folder(folder), "average-uniform", like)
    assert same_bits(saved["params"], params)


def test_networks_of_several_labels_are_judged_by_the_same_measure() -> None:
    """Only the final network had the average precision: others were 20 points behind it for the same predictions."""
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(40, 5)), {"test": (rng.random((40, 5)) < 0.4).astype(np.float32)}
    found = measures({"test": {"plain": z, "tta": z}}, labels)["test"]
    assert metrics.judged_by(found) == "map" and found["map"] == found["tta_map"] == map_of(z, labels["test"])["map"]
    one = measures({"test": {"plain": z}}, {"test": np.arange(40) % 5})["test"]
    assert "map" not in one and metrics.judged_by(one) == "accuracy"


def test_networks_of_several_labels_have_thresholds_of_their_own(tmp_path, monkeypatch):
    """Theirs was one half, the final network's was fitted: comparing them compared the thresholds."""
    data = Synthetic(classes=3, train=40, valid=24, test=17, side=16, multi_label=True)
    stages = (Stage("all", size=16, lr=2e-2, schedule=Sgdr(2)),)
    monkeypatch.setattr(ensemble, "greedy_average", lambda loss, alone: (0, 1))
    folder, experiment = tmp_path / "run", job(data=data, stages=stages)
    summary = run(experiment, folder)
    rows = {row["name"]: row for row in summary["snapshots"]}
    last = rows["last (stage-0-cycle-0001)"]
    fitted = {name: row["threshold"] for name, row in rows.items() if name != "final network"}
    assert last["threshold"]["f_beta"] == pytest.approx(summary["threshold"]["f_beta"])
    assert thresholds_of(last["threshold"]) == pytest.approx(thresholds_of(summary["threshold"]))
    assert len({record["value"] for record in fitted.values()}) > 3
    titles = {"stage-0-cycle-0001": "last (stage-0-cycle-0001)", "average-ema": "moving average of weights"}
    titles |= {"average-uniform": "average of all weights", "average-greedy": "average of weights, chosen"}
    nets = {name: open_predictor(folder, name) for name in ("stage-0-cycle-0000", *titles)}
    for name, net in nets.items():
        record = fitted[titles.get(name, name)]
        assert net.thresholds == thresholds_of(record) and net.threshold(3) == record["value"]
    net, title = nets["average-ema"], titles["average-ema"]
    found, kept = evaluate_split(net, "test"), predictions.load(folder, "test", title)
    score = mean_f_beta(found.views.probabilities, found.labels, 2.0, net.threshold(3))
    assert score == pytest.approx(fitted[title]["f_beta"]["test"], rel=1e-6)
    assert (kept.tta.predicted == (found.views.probabilities > net.threshold(3))).mean() > 0.99
    assert (kept.plain.predicted == (found.views.plain > net.threshold(1))).mean() > 0.99


def test_the_row_of_a_kept_network_is_found_also_in_summaries_of_earlier_versions():
    def row(name, members=(), **more):
        return {"name": name, "members": list(members), **more}

    new = [row("last (b)", network="b"), row("final network"), row("a", network="a"), row("chosen", ["b"], network="average-greedy")]
    assert [snapshot_row({"snapshots": new}, name).get("name") for name in ("a", "b", "average-greedy", "c")] == [
        *("a", "last (b)", "chosen"),
        None,
    ]
    old = [row("last (b)"), row("a"), row("ensemble, chosen", ["b"])]
    assert [snapshot_row({"snapshots": old}, name).get("name") for name in ("a", "b", "c")] == ["a", "ensemble, chosen", None]
    assert snapshot_row({}, "a") == {}


@pytest.mark.parametrize(
    "stage", [{"train": "head", "precompute": True}, {"train": "all", "bn": "frozen"}], ids=["frozen body", "frozen statistics"]
)
def test_averages_keep_the_statistics_that_their_members_trained_on(tmp_path, stage):
    """Measured on the training images they would be others, which the head has never seen."""
    cycles = Stage("cycles", size=16, lr=0.01, schedule=Sgdr(3), augment=False, **stage)
    run(dataclasses.replace(job(), stages=(cycles,), augment=()), tmp_path / "run")
    context = prepare(job())
    like = {"params": context.network.params, "stats": context.network.stats}
    for name in ("average-uniform", "average-ema"):
        stats = checkpoint.restore(snapshot_folder(tmp_path / "run"), name, like)["stats"]
        assert all(same_bits(stats[group], jax.device_get(context.network.stats[group])) for group in ("early", "late"))
        assert not same_bits(stats["head"], jax.device_get(context.network.stats["head"]))


def test_a_kept_network_can_be_opened_by_its_name(finished):
    folder, summary = finished
    rows = {row["name"]: row for row in summary["snapshots"]}
    last = cycle_ends(folder)[-1]
    by_name = {name: rows[f"last ({name})" if name == last else name] for name in cycle_ends(folder)}
    by_name |= {"average-uniform": rows["average of all weights"], "average-ema": rows["moving average of weights"]}
    for name, row in by_name.items():
        net = open_predictor(folder, name)
        seen = evaluate_split(net, "test").views.measures
        assert seen["loss"] == pytest.approx(row["test"]["loss"], rel=1e-5) and seen["accuracy"] == row["test"]["accuracy"]
        assert net.temperatures == {} and open_predictor(folder).temperatures
    for name in ("ema", "stage-9-cycle-0000", "../final"):
        with pytest.raises(InputError, match=f"network is '{name}'; the run has kept average-ema, .*; leave it out for the final network"):
            open_predictor(folder, name)


def test_stages_of_different_sizes_leave_each_average_its_own(tmp_path, monkeypatch):
    """All were of the last cycle end's size: an average of one network was not that network, and far worse."""
    stages = (
        Stage("large", size=16, lr=2e-2, schedule=Sgdr(2), optimizer=AdamW(ema=0.5)),
        Stage("small", size=8, lr=3.0, schedule=Sgdr(1), optimizer=Sgd(clip=5.0)),  # undone, so that the moving average stays
    )
    experiment, picked = job(stages=stages, leeway=0), iter([(0,), (0, 1)])
    monkeypatch.setattr(ensemble, "greedy_average", lambda loss, alone: next(picked))
    rows = {row["name"]: row for row in run(experiment, tmp_path)["snapshots"]}
    place, context = snapshot_folder(tmp_path), prepare(experiment)
    size = {name: checkpoint.verify(place, name)["size"] for name in ("ema", *cycle_ends(tmp_path))}
    assert size == {"ema": 16, "stage-0-cycle-0000": 16, "stage-0-cycle-0001": 16, "stage-1-cycle-0000": 8}
    titles = {"ema": "moving average of weights", "uniform": "average of all weights", "greedy": "average of weights, chosen"}
    sizes = {"ema": 16, "uniform": 8, "greedy": 16}
    for kind, title in titles.items():
        net = open_predictor(tmp_path, f"average-{kind}")
        seen = evaluate_split(net, "test").views.measures
        assert net.size == sizes[kind] and seen["loss"] == pytest.approx(rows[title]["test"]["loss"], rel=1e-5)
    assert rows[titles["greedy"]]["test"] == rows["stage-0-cycle-0000"]["test"]
    # The statistics of the batches are measured at the size that the network sees.
    ensemble.compare(context, tmp_path, {"valid": {}, "test": {}}, NullConsole())
    like = {"params": context.network.params, "stats": context.network.stats}
    for name in ("ema", "greedy"):
        assert checkpoint.verify(place, f"average-{name}")["size"] == 16
        kept = checkpoint.restore(place, f"average-{name}", like)
        params, stats = context.programs.devices.replicate((kept["params"], context.network.stats))
        again = batch_norm.recalibrate(context, NetworkState(params, stats, 16))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), kept["stats"], jax.device_get(again))


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", ["a cycle's end", "an update"])
def test_an_interrupted_run_has_the_same_snapshots_and_the_same_table(finished, tmp_path, monkeypatch, at):
    whole, summary = finished
    experiment, count = job(), 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at == "an update":  # between two cycle ends
            real = recorder.save_cycle_end

            def keep(*words):
                nonlocal count
                real(*words)
                count += 1
                if count == 4:
                    raise Killed

            patch.setattr(recorder, "save_cycle_end", keep)
        else:  # the snapshot is there, the checkpoint is not
            real_save = checkpoint.save

            def save(folder, name, *words):
                nonlocal count
                count += name.startswith("stage-1-step")
                if count == 2:
                    raise Killed
                real_save(folder, name, *words)

            patch.setattr(checkpoint, "save", save)
        run(experiment, tmp_path / "run")
    again = run(experiment, tmp_path / "run", resume=True)
    assert again["snapshots"] == summary["snapshots"]
    network = prepare(experiment).network
    like = {"params": network.params, "stats": network.stats}
    for name in (*cycle_ends(whole), "ema", "average-uniform", "average-greedy", "average-ema"):
        assert same_bits(*(checkpoint.restore(snapshot_folder(folder), name, like) for folder in (whole, tmp_path / "run")))


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path):
    experiment = dataclasses.replace(job(), snapshots=Snapshots(), optimizer=AdamW())
    assert "snapshots" not in run(experiment, tmp_path / "run") and not snapshot_folder(tmp_path / "run").exists()


def test_a_damaged_snapshot_is_left_out(tmp_path, caplog):
    facts = {"stage": 0, "cycle": 0, "step": 1, "accuracy": 0.5, "loss": 1.0}
    save_cycle_end(tmp_path, TrainState(np.int32(1), {"a": np.zeros(2)}, {}, None), facts, Snapshots(last=2))
    (next((snapshot_folder(tmp_path) / cycle_ends(tmp_path)[0]).glob("*.json"))).write_text("{}")
    assert read_cycle_ends(tmp_path) == {} and "left out" in caplog.text


def test_the_best_cycle_ends_of_images_with_several_classes_are_those_by_average_precision(tmp_path, monkeypatch):
    """The share of right labels is high for a network that predicts none, and decided which ones to keep."""
    said = []
    monkeypatch.setattr(recorder, "save_cycle_end", lambda path, state, facts, *rest: said.append(facts))
    made = {
        "name": "several",
        "data": Synthetic(classes=3, train=32, valid=16, side=8, multi_label=True),
        "model": Tiny(),
        "batch_size": 16,
    }
    stage = Stage("all", size=8, lr=1e-2, schedule=Sgdr(3), augment=False)
    run(Experiment(**made, stages=(stage,), snapshots=Snapshots(best=1), evaluate=Eval(tta_views=0)), tmp_path)
    ends = [row for row in read(tmp_path).rows if row["kind"] == "eval"]
    assert [facts["accuracy"] for facts in said] == [row["map"] for row in ends] != [row["accuracy"] for row in ends]
    rows = [
        {"kind": "eval", "stage_index": 0, "cycle": i, "loss": 1.0, "accuracy": a, "map": m}
        for i, (a, m) in enumerate([(0.9, 0.1), (0.8, 0.7)])
    ]
    assert lost_cycle_ends(tmp_path, [*rows, {**rows[0], "cycle": 2}], [], Snapshots(best=1)) == [
        "stage-0-cycle-0001",
        "stage-0-cycle-0002",
    ]
