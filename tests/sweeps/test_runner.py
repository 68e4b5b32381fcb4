"""A sweep's runs: each has the numbers of the run alone, whatever the others do; what they share is loaded and compiled once."""

import dataclasses
import threading

import numpy as np
import pytest

from sgdr_jax import Eval, Experiment, InputError, Sgd, Snapshots, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.serialization import config_hash, to_json
from sgdr_jax.datasets import Synthetic, TrainAndValid
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs import run as recipe
from sgdr_jax.runs.folder import open_run, read
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.sweeps import Categorical, LogUniform, Median, Search, Sweep, arms, grid, runner
from sgdr_jax.sweeps.analysis import plots, render
from sgdr_jax.sweeps.analysis.compare import compare_arms
from sgdr_jax.sweeps.analysis.run_results import learning_curve
from sgdr_jax.sweeps.analysis.tables import comparison_header
from sgdr_jax.sweeps.options import WorkerOptions
from sgdr_jax.sweeps.optuna_study import Study
from sgdr_jax.sweeps.runner import work
from sgdr_jax.sweeps.spec import expand
from sgdr_jax.sweeps.sweep_record import run_folder, save_sweep
from sgdr_jax.sweeps.trial_records import best_trial, read_trials
from sgdr_jax.train.context import RateLimiter

from ..helpers import Tiny, compilations
from ..jobs.workers import SEARCHED
from ..runs.trackers.test_tracking import tensorboard

DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)
CACHED = Stage("cached", size=16, train="head", lr=0.01, schedule=Sgdr(2), precompute=True, views=2)
ALL = Stage("all", size=16, lr=(0.001, 0.003, 0.01), schedule=Sgdr(2, cycle_mult=2))


def base(*stages, **fields):
    common = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=1), "augment": side_on(), "optimizer": Sgd()}
    return Experiment(**{"name": "small", "data": DATA, "model": Tiny()} | common | fields, stages=stages)


def assert_same(run, other):
    """The same rows, bit for bit but for the seconds."""
    assert run.config == other.config and run.finders.keys() == other.finders.keys() and len(run.rows) == len(other.rows)
    for a, b in zip(run.rows, other.rows, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    for split in ("valid", "test"):
        assert run.summary[split] == other.summary[split]


@pytest.mark.parametrize("on_divergence", ["stop", "halve"])
def test_where_a_stage_may_go_back_its_checkpoints_do_not_depend_on_the_pace(tmp_path, on_divergence):
    sweep = Sweep("s", base(ALL, on_divergence=on_divergence), (arms({"a": {}}),))
    (done,) = work(sweep, tmp_path, WorkerOptions(keep="all", pace=3600))
    saved = checkpoint.steps(run_folder(tmp_path, done.run.hash) / "checkpoints", 0)
    assert len(saved) == (2 if on_divergence == "halve" else 0)


def test_only_some_runs_cannot_be_run_until_an_interval(tmp_path):
    sweep = Sweep("s", base(ALL), (arms({"a": {}, "b": {"label_smoothing": 0.1}}),))
    with pytest.raises(InputError, match=r"--until is 0\.5; it adds seeds to all runs; leave --only out"):
        work(sweep, tmp_path, WorkerOptions(until=0.5), only=[0])


@pytest.mark.parametrize("keep", ["results", "final"])
def test_the_time_images_and_checkpoints_of_a_refit_belong_to_its_run(tmp_path, keep):
    sweep = Sweep("s", base(CACHED), (arms({"plain": {}, "again": {"refit": True}}),))
    done = work(sweep, tmp_path, WorkerOptions(keep=keep, pace=0))
    plain, again = compare_arms(tmp_path, split="valid").arms
    refit = read(run_folder(tmp_path, done[1].run.hash) / "refit")
    assert again.images.mean == plain.images.mean + refit.summary["stages"][0]["images"]
    own = read(run_folder(tmp_path, done[1].run.hash)).summary["stages"][0]["seconds"]
    assert again.seconds.mean == pytest.approx(own + refit.summary["seconds"])
    assert not list(refit.path.glob("checkpoints"))


def test_runs_that_share_data_and_programs_have_the_numbers_of_runs_alone(tmp_path, monkeypatch):
    rates = {"stages.0.lr": 0.03, "optimizer.weight_decay": 1e-2, "label_smoothing": 0.1}
    longer = {"stages.1.schedule.cycles": 3, "augment": (), "refit": True}
    axis = arms({"recipe": {}, "rates": rates, "longer": longer, "network": {"model.hidden": 4}})
    sweep, prepared, real = Sweep("s", base(CACHED, ALL), (axis,), seeds=(0, 1)), [], runner.prepare

    def counting(experiment, ui, like, source):
        prepared.append(like is None)
        return real(experiment, ui, like, source)

    monkeypatch.setattr(runner, "prepare", counting)
    assert [entry.error for entry in work(sweep, tmp_path / "sweep")] == [""] * 8
    assert len(prepared) == 8 and sum(prepared) == 2  # the data are loaded and the network is built once for each kind of network
    for run in expand(sweep)[3:8:2]:  # none of them is the first of those that share
        own, kept = tmp_path / "alone" / run.hash, run_folder(tmp_path / "sweep", run.hash)
        recipe.run(run.experiment, own)
        assert_same(read(kept), read(own))
        if run.experiment.refit:
            assert [row["loss"] for row in read(kept / "refit").rows] == [row["loss"] for row in read(own / "refit").rows]


def test_what_runs_share_is_said_once_and_each_records_the_commit(tmp_path):
    lines: list[str] = []

    class Listening(NullConsole):
        def say(self, text):
            lines.append(str(text))

    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=()), (grid({"stages.0.lr": (0.01, 0.02), "model.hidden": (0, 4)}),))
    work(sweep, tmp_path, commit="0f", ui=Listening())
    assert sum(line.startswith("disk: ") for line in lines) == sum(line.startswith("images: ") for line in lines) == 2  # of each network
    assert [read(run_folder(tmp_path, run.hash)).start["commit"] for run in expand(sweep)] == ["0f"] * 4


def test_more_runs_on_the_same_data_and_network_compile_nothing(tmp_path, monkeypatch):
    sweep, counts, real = Sweep("s", base(CACHED), (grid({"stages.0.lr": (0.01, 0.02)}),), seeds=(0, 1)), [], recipe.run

    def counting(*args, **how):
        summary = real(*args, **how)
        counts.append(len(compiled))
        return summary

    monkeypatch.setattr(recipe, "run", counting)
    with compilations() as compiled:
        work(sweep, tmp_path)
    assert len(counts) == 4 and counts[0] > 0 and len(set(counts[1:])) == 1, counts


def test_a_sweep_of_runs_that_hold_nothing_out_finishes(tmp_path):
    entries = work(Sweep("s", base(CACHED, data=TrainAndValid(DATA)), (), seeds=(0, 1)), tmp_path)
    assert all(entry.summary["valid"] == {} and entry.summary["test"] for entry in entries)


def test_a_run_that_fails_stops_no_other_and_is_tried_again_only_when_asked(tmp_path):
    sweep = Sweep("s", base(ALL, augment=()), (grid({"stages.0.lr": (0.01, 1e30)}),), seeds=(0, 1))
    done = work(sweep, tmp_path)
    assert [entry.state for entry in done] == ["finished", "finished", "failed", "failed"]
    assert all("training loss is" in entry.error for entry in done[2:])
    folders = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert [e.state for e in work(sweep, tmp_path)] == [e.state for e in done]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == folders
    again = work(sweep, tmp_path, WorkerOptions(retry=True))
    assert [e.state for e in again] == [e.state for e in done] and again[0].summary == done[0].summary
    with pytest.raises(InputError, match="--only is 4; the runs are 0…3"):
        work(sweep, tmp_path, only=[4])


def test_what_needs_validation_images_fails_by_itself_where_there_are_none(tmp_path):
    axis = arms({"recipe": {}, "refit": {"refit": True}, "patience": {"stages.0.patience": 1}})
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    done = work(Sweep("s", base(stage, data=TrainAndValid(DATA)), (axis,)), tmp_path)
    assert [entry.state for entry in done] == ["finished", "failed", "failed"]
    assert all("there are no validation images" in entry.error for entry in done[1:])


@pytest.mark.parametrize("store", [None, "store.db"])
def test_a_run_whose_folder_another_process_has_is_left_to_it(tmp_path, store):
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=()), (grid({"stages.0.lr": (0.01, 0.02)}),))
    first = expand(sweep)[0]
    save_sweep(tmp_path, sweep, expand(sweep))
    book = open_run(run_folder(tmp_path, first.hash), to_json(first.experiment), config_hash(first.experiment))
    options = WorkerOptions(store=str(tmp_path / store), grace=2.0) if store else WorkerOptions()
    if store:  # it is waited for, and then found to be free
        timer = threading.Timer(8, book.close)
        timer.start()
    done = work(sweep, tmp_path, options)
    assert [entry.state for entry in done] == ["finished" if store else "begun", "finished"] and not (tmp_path / "failed").exists()
    if store:
        timer.join()
    book.close()


def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch):
    sweep = Sweep("s", base(CACHED, ALL), (grid({"stages.0.lr": (0.01, 0.02)}),), seeds=(0, 1))
    work(sweep, tmp_path / "whole")
    real, ends = recipe.run_stage, []

    def fragile(context, plan, **rest):
        if plan.index == 1:
            ends.append(plan)
            if len(ends) == 2:
                raise KeyboardInterrupt
        return real(context, plan, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe, "run_stage", fragile)
        work(sweep, tmp_path / "sweep", WorkerOptions(pace=0))
    done = work(sweep, tmp_path / "sweep")
    assert [entry.state for entry in done] == ["finished"] * 4
    for run in expand(sweep):
        assert_same(*(read(run_folder(tmp_path / name, run.hash)) for name in ("sweep", "whole")))


@pytest.mark.parametrize(
    "keep, there", [("results", set()), ("final", {"final", "snapshots"}), ("all", {"final", "snapshots", "checkpoints"})]
)
def test_what_a_finished_run_keeps(tmp_path, keep, there):
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=(), snapshots=Snapshots(last=1)), (grid({"stages.0.lr": (0.01, 1e30)}),), seeds=(0, 1))
    done = work(sweep, tmp_path, WorkerOptions(keep=keep, pace=0))
    assert [entry.state for entry in done] == ["finished", "finished", "failed", "failed"]
    for entry in done[:2]:
        own = run_folder(tmp_path, entry.run.hash)
        kept = {p.name for p in own.iterdir()}
        assert {"summary.json", "config.json", "metrics.jsonl", "examples-test.npz", "plan.txt"} <= kept
        assert kept & {"final", "snapshots", "checkpoints"} == there and not list(own.glob("*.png"))
        if keep == "results":
            with pytest.raises(InputError, match="has kept no network; run its sweep in another --dir with --keep final"):
                open_predictor(own)
        else:
            assert open_predictor(own).classes == ("rings0", "rings1", "rings2")


def test_checkpoints_keep_their_distance(tmp_path):
    clock = [0.0]
    due, seen = RateLimiter(10, lambda: clock[0]), []
    for now in (1, 9.9, 10, 12, 19, 25, 26, 34.9, 35):
        clock[0] = now
        seen.append(due())
    assert seen == [False, False, True, False, False, True, False, False, True]
    sweep = Sweep("s", base(dataclasses.replace(CACHED, schedule=Constant(1)), augment=()), (), seeds=(0, 1))
    work(sweep, tmp_path, WorkerOptions(keep="all"))  # done in less than a minute
    assert not list(tmp_path.glob("runs/*/checkpoints")) and len(list(tmp_path.glob("runs/*/final"))) == 2


# ---- searches ----


def test_a_search_runs_its_trials_ends_some_and_compares_the_best_with_the_base(tmp_path):
    """The highest rate makes the loss infinite; such trials end early."""
    space = {"stages.all.lr": Categorical((1e-4, 0.003, 0.03, 1e30)), "stages.cached.lr": LogUniform(1e-3, 0.1)}
    made = dataclasses.replace(SEARCHED, search=Search(space, 10, "tpe", Median(startup=2), startup=4))
    done = work(made, tmp_path / "a")
    assert [(e.run.arm, e.run.seed, e.state) for e in done] == [
        ("base", 0, "finished"),
        ("base", 1, "finished"),
        ("best trial", 1, "finished"),
    ]
    found = read_trials(tmp_path / "a", "accuracy")
    states = [t.state for t in found]
    assert len(found) == 10 and {"finished", "pruned"} <= set(states) <= {"finished", "pruned", "failed"}, states
    wild = [t.state for t in found if t.values["stages.all.lr"] == 1e30]
    assert wild and "finished" not in wild
    assert all("training loss is" in t.error for t in found if t.state == "failed")
    for trial in found:
        ends = [row for row in read(run_folder(tmp_path / "a", trial.hash)).rows if row["kind"] == "eval"]
        if trial.state == "pruned":
            assert len(ends) == trial.cycle_ends < 5 and ends[-1]["accuracy"] == trial.value
            assert not (run_folder(tmp_path / "a", trial.hash) / "checkpoints").exists()
    top = best_trial(made.search, found)
    assert top and {name: to_json(value) for name, value in done[2].run.values} == top.values
    answer = compare_arms(tmp_path / "a")
    assert [(arm.name, len(arm.runs)) for arm in answer.arms] == [("base", 2), ("best trial", 1)] and len(answer.trials) == 10
    paired = answer.arms[1].paired
    assert paired and paired.seeds == (1,)
    again = work(made, tmp_path / "a")
    assert [e.summary for e in again] == [e.summary for e in done] and read_trials(tmp_path / "a", "accuracy") == found
    more = dataclasses.replace(made, search=dataclasses.replace(made.search, trials=11))
    work(more, tmp_path / "a")
    assert read_trials(tmp_path / "a", "accuracy")[:10] == found and len(read_trials(tmp_path / "a", "accuracy")) == 11


def test_searches_and_comparisons_of_multi_label_data_are_by_mean_average_precision(tmp_path, monkeypatch):
    """They were by the share of right labels, of which a network that predicts none has most; cycle ends were not even alike."""
    reported = list[float]()
    monkeypatch.setattr(Study, "report", lambda self, run, end, value, last=False: reported.append(value))
    data = Synthetic(classes=4, train=64, valid=32, test=32, side=16, multi_label=True)
    search = Search({"stages.0.lr": LogUniform(1e-3, 1e-1)}, 3, "random", pruner=None)
    lines: list[str] = []

    class Listening(NullConsole):
        def say(self, text):
            lines.append(str(text))

    sweep = Sweep("labels", base(dataclasses.replace(ALL, schedule=Constant(1), lr=0.01), data=data), seeds=(0, 1), search=search)
    work(sweep, tmp_path, ui=Listening())
    trials = read_trials(tmp_path, "accuracy")
    summaries = [read(run_folder(tmp_path, trial.hash)).summary["valid"] for trial in trials]
    assert [trial.value for trial in trials] == [summary["map"] for summary in summaries] != [x["accuracy"] for x in summaries]
    assert {trial.measure for trial in trials} == {"mAP"} and len(reported) == 3
    assert reported == pytest.approx([trial.value for trial in trials], abs=1e-6)
    assert sum("validation mAP 0." in line for line in lines) == 6  # the base, the trials and the best of them
    found = compare_arms(tmp_path)
    for arm in found.arms:
        assert arm.accuracy.mean == pytest.approx(np.mean([run.summary["test"]["map"] for run in arm.runs]))
        for run in arm.runs:
            assert learning_curve(run).accuracy == pytest.approx([read(run.folder).summary["stages"][0]["valid_accuracy"]])
    assert "mAP %" in comparison_header(found) and "mAP on the test images" in plots.title(found)
    assert "| trial | lr | validation mAP |" in render.markdown(found) and ",mAP,mAP_sd," in render.table_csv(found)


def test_a_search_that_is_interrupted_goes_on_with_the_same_draws_and_the_same_numbers(tmp_path, monkeypatch):
    real, ends = Study.report, []

    def report(self, run, end, value, **how):
        real(self, run, end, value, **how)
        ends.append(end)
        if len(ends) == 7:
            raise KeyboardInterrupt

    work(SEARCHED, tmp_path / "whole", WorkerOptions(pace=0))
    monkeypatch.setattr(Study, "report", report)
    with pytest.raises(KeyboardInterrupt):
        work(SEARCHED, tmp_path / "cut", WorkerOptions(pace=0))
    assert len(read_trials(tmp_path / "cut", "accuracy")) == 2
    monkeypatch.setattr(Study, "report", real)
    work(SEARCHED, tmp_path / "cut", WorkerOptions(pace=0))
    whole, cut = (read_trials(tmp_path / name, "accuracy") for name in ("whole", "cut"))
    assert [t._replace(seconds=None) for t in whole] == [t._replace(seconds=None) for t in cut]


def test_trackers_show_every_run_with_its_arm(tmp_path, monkeypatch):
    sweep = Sweep("s", base(CACHED), (arms({"plain": {}, "smoothed": {"label_smoothing": 0.1}}),))
    entries = work(sweep, tmp_path / "sweep", WorkerOptions(track=("tensorboard",)))
    assert [entry.error for entry in entries] == ["", ""]
    for entry in entries:
        folder = run_folder(tmp_path / "sweep", entry.run.hash)
        found, _ = tensorboard(folder)
        losses = [row["loss"] for row in read(folder).rows if row["kind"] == "train"]
        assert found["train/loss"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in enumerate(losses)] and losses
        settings = b"".join(path.read_bytes() for path in (folder / "tensorboard").rglob("events.*"))
        assert b"sweep.arm" in settings and entry.run.arm.encode() in settings
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"track is 'wandb'; install its package"):
        WorkerOptions(track=("wandb",))
