"""Lanes: each one's numbers and files are those of its run alone, whatever the others do; their programs compile once."""

import dataclasses
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sgdr_jax import Eval, Experiment, Find, InputError, Sgd, Snapshots, Stage, Sweep, arms, grid, zipped
from sgdr_jax.augment import MixUp, side_on
from sgdr_jax.config_json import config_hash, to_json
from sgdr_jax.datasets import Synthetic, TrainAndValid
from sgdr_jax.logbook import open_run, read
from sgdr_jax.meeting import Meeting, Together
from sgdr_jax.progress import Quiet
from sgdr_jax.schedules import Constant, Sgdr
from sgdr_jax.setting import Pace
from sgdr_jax.sweep import expand, keep, run_folder
from sgdr_jax.trained import open_trained
from sgdr_jax.workers import portions, shape, together, work

from .helpers import Tiny, compilations

DATA = Synthetic(classes=3, train=58, valid=21, test=19, side=16)
CACHED = Stage("cached", size=16, train="head", lr=0.01, schedule=Sgdr(2), precompute=True, views=2)
ALL = Stage("all", size=16, lr=(0.001, 0.003, 0.01), schedule=Sgdr(2, cycle_mult=2))


def base(*stages, **fields):
    common = {"batch_size": 16, "evaluate": Eval(batch_size=16, tta_views=1), "augment": side_on(), "optimizer": Sgd()}
    return Experiment(**{"name": "small", "data": DATA, "model": Tiny()} | common | fields, stages=stages)


def both(tmp_path, sweep):
    """Run folders of all runs, done side by side and one after the other."""
    done = [work(sweep, tmp_path / name, lanes=lanes) for name, lanes in (("lanes", None), ("alone", 1))]
    assert [entry.error for entry in done[0]] == [entry.error for entry in done[1]]
    return [[read(run_folder(tmp_path / name, run.hash)) for run in expand(sweep)] for name in ("lanes", "alone")]


@pytest.fixture(autouse=True)
def worth_trying(monkeypatch):
    """The runs of these tests are too short for a trial to be worth it; they are to be vectorised all the same."""
    monkeypatch.setattr("sgdr_jax.contest.SHARE", math.inf)


def assert_same(lane, alone, rtol):
    """The same rows and files, with numbers as near as that."""
    assert {p.name for p in lane.path.iterdir()} == {p.name for p in alone.path.iterdir()}
    assert len(lane.rows) == len(alone.rows) and lane.config == alone.config and lane.finders.keys() == alone.finders.keys()
    for a, b in zip(lane.rows, alone.rows, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([a["loss"]], [b["loss"]], rtol=rtol)
        measured = ("loss", "seconds", "lr", "accuracy", "drift")
        assert {k: v for k, v in a.items() if k not in measured} == {k: v for k, v in b.items() if k not in measured}
        for group, moved in a.get("drift", {}).items():  # of statistics that the updates have collected: as near as the losses
            np.testing.assert_allclose(moved, b["drift"][group], rtol=rtol)
        if "lr" in a:
            np.testing.assert_allclose(list(a["lr"].values()), list(b["lr"].values()), rtol=1e-6)


def test_a_hundred_updates_of_a_cached_head_are_those_of_the_run_alone(tmp_path):
    stage = dataclasses.replace(CACHED, schedule=Sgdr(25))
    axes = (grid({"stages.0.lr": (0.01, 0.03)}), arms({"plain": {}, "decay": {"optimizer.weight_decay": 1e-2, "optimizer.momentum": 0.8}}))
    lanes, alone = both(tmp_path, Sweep("s", base(stage), axes, seeds=(0, 1)))
    assert len(lanes) == 8 and all(sum(row["kind"] == "train" for row in run.rows) == 100 for run in lanes)
    for a, b in zip(lanes, alone, strict=True):
        assert_same(a, b, 1e-5)
        assert a.summary["test"]["accuracy"] == b.summary["test"]["accuracy"]


def test_lanes_are_refitted_one_after_the_other(tmp_path):
    lanes, alone = both(tmp_path, Sweep("s", base(CACHED, refit=True), (arms({"a": {}, "b": {"stages.0.lr": 0.03}}),), seeds=(0, 1)))
    for a, b in zip(lanes, alone, strict=True):
        assert_same(a, b, 1e-5)
        assert_same(read(a.path / "refit"), read(b.path / "refit"), 1e-5)
        assert a.summary["test"]["loss"] == pytest.approx(b.summary["test"]["loss"], rel=1e-5)


def test_a_sweep_of_runs_that_hold_nothing_out_finishes(tmp_path):
    entries = work(Sweep("s", base(CACHED, data=TrainAndValid(DATA)), (), seeds=(0, 1)), tmp_path)
    assert all(entry.summary["valid"] == {} and entry.summary["test"] for entry in entries)


@pytest.mark.slow
def test_lanes_that_find_their_rates_stop_early_or_differ_in_what_they_see_are_those_of_the_run_alone(tmp_path):
    find = Find(steps=12, epochs=3, start=1e-3, stop=30, lowest=0.02)
    stages = (dataclasses.replace(CACHED, lr=find), dataclasses.replace(ALL, lr=find, patience=1))
    axis = arms(
        {
            "recipe": {},
            "plain": {"augment": ()},
            "smooth": {"label_smoothing": 0.1, "balance": 1.0},
            "from images": {"stages.0.precompute": False, "stages.1.schedule.peak_decay": 0.5},
            "weak": {"stages.1.strength": (0.2, 1.0)},
        }
    )
    sweep = Sweep("s", base(*stages), (axis,))
    assert len(together(expand(sweep), 58)) == 1
    lanes, alone = both(tmp_path, sweep)
    for a, b in zip(lanes, alone, strict=True):
        assert_same(a, b, 2e-4)
        assert [s["stopped"] != "" for s in a.summary["stages"]] == [s["stopped"] != "" for s in b.summary["stages"]]


def test_what_may_be_lanes_of_one_another():
    axis = arms(
        {
            "recipe": {},
            "rates": {"stages.0.lr": 0.5, "optimizer.momentum": 0.5, "optimizer.weight_decay": 0.1, "label_smoothing": 0.1, "augment": ()},
            "longer": {"stages.0.schedule.cycles": 3},
            "nesterov": {"optimizer.nesterov": True},
            "network": {"model.hidden": 4},
        }
    )
    runs = expand(Sweep("s", base(CACHED), (axis,)))
    assert [[run.arm for run in group] for group in together(runs, 58)] == [["recipe", "rates"], ["longer"], ["nesterov"], ["network"]]
    assert shape(runs[0].experiment, 58) != shape(runs[0].experiment, 580)
    assert [sum(portions(n, 16)) for n in range(1, 40)] == list(range(1, 40)) and portions(33, 16) == [11, 11, 11]


def test_a_lane_that_fails_stops_no_other_and_is_tried_again_only_when_asked(tmp_path):
    sweep = Sweep("s", base(ALL, augment=()), (grid({"stages.0.lr": (0.01, 1e30)}),), seeds=(0, 1))
    done = work(sweep, tmp_path)
    assert [entry.state for entry in done] == ["finished", "finished", "failed", "failed"]
    assert all("training loss is" in entry.error for entry in done[2:])
    folders = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert [e.state for e in work(sweep, tmp_path)] == [e.state for e in done]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == folders
    again = work(sweep, tmp_path, retry=True)
    assert [e.state for e in again] == [e.state for e in done] and again[0].summary == done[0].summary
    with pytest.raises(InputError, match="--only is 4; the runs are 0…3"):
        work(sweep, tmp_path, only=[4])


@pytest.mark.parametrize("store", [None, "store.db"])
def test_a_run_whose_folder_another_process_has_is_left_to_it(tmp_path, store):
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=()), (grid({"stages.0.lr": (0.01, 0.02)}),))
    first = expand(sweep)[0]
    keep(tmp_path, sweep, expand(sweep))
    book = open_run(run_folder(tmp_path, first.hash), to_json(first.experiment), config_hash(first.experiment))
    how = {"store": str(tmp_path / store), "grace": 2.0} if store else {}
    if store:  # it is waited for, and then found to be free
        timer = threading.Timer(8, book.close)
        timer.start()
    done = work(sweep, tmp_path, lanes=1, **how)
    assert [entry.state for entry in done] == ["finished" if store else "begun", "finished"] and not (tmp_path / "failed").exists()
    if store:
        timer.join()
    book.close()


def test_more_lanes_of_the_same_shape_compile_nothing(tmp_path):
    sweep = Sweep("s", base(CACHED), (grid({"stages.0.lr": (0.01, 0.02, 0.03, 0.04)}),), seeds=(0, 1))
    counts = []

    class Counting(Quiet):
        def say(self, text):
            if "runs in" in str(text):
                counts.append(len(compiled))

    with compilations() as compiled:
        work(sweep, tmp_path, lanes=4, ui=Counting())
    assert len(counts) == 2 and counts[1] == counts[0] > 0


def test_interrupted_lanes_go_on(tmp_path, monkeypatch):
    import sgdr_jax.recipe as recipe

    sweep = Sweep("s", base(CACHED, ALL), (grid({"stages.0.lr": (0.01, 0.02)}),), seeds=(0, 1))
    work(sweep, tmp_path / "whole")
    real, ends = recipe.run_stage, []

    def fragile(setting, p, *rest):
        if p.index == 1 and len(ends) < 4:
            ends.append(p)
            raise KeyboardInterrupt
        return real(setting, p, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe, "run_stage", fragile)
        work(sweep, tmp_path / "sweep")
    done = work(sweep, tmp_path / "sweep")
    assert [entry.state for entry in done] == ["finished"] * 4
    for run in expand(sweep):
        assert_same(*(read(run_folder(tmp_path / name, run.hash)) for name in ("sweep", "whole")), 1e-5)


def test_mixed_labels_and_spread_devices(tmp_path):
    stage = dataclasses.replace(ALL, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=(MixUp(),)), (zipped({"stages.0.lr": (0.001, 0.003, 0.005, 0.01)}),))
    for a, b in zip(*both(tmp_path, sweep), strict=True):
        assert_same(a, b, 1e-5)


def test_updates_in_turn_are_those_of_the_run_alone(tmp_path, monkeypatch):
    """As where vectorising gains nothing, with networks that are kept although a later stage is no better."""
    monkeypatch.setattr("sgdr_jax.contest.LONG", 0.0)
    stages = (CACHED, dataclasses.replace(ALL, schedule=Constant(1)))
    sweep = Sweep("s", base(*stages, keep_best=False), (), seeds=(0, 1))
    said = []

    class Listening(Quiet):
        def say(self, text):
            said.append(str(text))

    work(sweep, tmp_path / "lanes", ui=Listening())
    work(sweep, tmp_path / "alone", lanes=1)
    assert sum("in turn (" in text for text in said) == 2
    for run in expand(sweep):
        assert_same(*(read(run_folder(tmp_path / name, run.hash)) for name in ("lanes", "alone")), 1e-5)


def test_a_meeting_takes_turns_and_lets_those_behind_catch_up():
    seen, between = [], []
    meeting = Meeting(lambda: between.append(len(seen)))

    def both(calls):
        seen.append(sorted(calls))
        return {i: 10 * x for i, x in calls.items()}

    def task(n):
        def go():
            total = 0
            for k in range(n):
                meeting.turn()
                total += meeting.together(Together(both, 0, k == 0, k))
            if n == 3:
                raise InputError("three")
            return meeting.index, total

        return go

    outcomes = meeting.run([task(2), task(3), task(1)])
    assert outcomes[0] == (0, 10) and outcomes[2] == (2, 0) and isinstance(outcomes[1], InputError)
    assert seen == [[0, 1, 2], [0, 1], [1]] and between


def test_time_is_shared_by_those_that_use_it():
    clock = [0.0]
    meeting = Meeting(clock=lambda: clock[0])

    def spend(seconds):
        clock[0] += seconds

    def both(calls):
        spend(10)
        return dict.fromkeys(calls)

    def task(rounds, own):
        def go():
            for k in range(rounds):
                spend(own)
                meeting.together(Together(both, 0, k == 0, None))
            spend(100 if rounds == 2 else 0)
            return meeting.seconds

        return go

    # Both: a round of 2 + 4, a meeting of 10. Then the second has another round of 4 (2 and 4 in all) and a meeting, and goes on alone.
    first, second = meeting.run([task(1, 2.0), task(2, 4.0)])
    assert first == (6 + 10) / 2 and second == (6 + 10) / 2 + 4 + 10 + 100
    assert first + second == clock[0]


def test_seconds_of_lanes_add_up_to_those_of_their_group(tmp_path):
    stages = (CACHED, dataclasses.replace(ALL, schedule=Constant(2)))
    sweep = Sweep("s", base(*stages, augment=()), (grid({"stages.1.lr": (0.001, 0.003, 0.005)}),), seeds=(0, 1))
    began = time.perf_counter()
    done = work(sweep, tmp_path)
    spent, told = time.perf_counter() - began, [entry.summary["seconds"] for entry in done]
    assert 0.3 * spent < sum(told) < spent  # the data are loaded, and the network is made, before any of them begins
    for entry in done:
        stages = [stage["seconds"] for stage in entry.summary["stages"]]
        assert all(seconds > 0 for seconds in stages) and sum(stages) < entry.summary["seconds"] < 2 * min(told) + 0.1 * spent


@pytest.mark.parametrize(
    "keep, there", [("results", set()), ("final", {"final", "snapshots"}), ("all", {"final", "snapshots", "checkpoints"})]
)
def test_what_a_finished_run_keeps(tmp_path, keep, there):
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    sweep = Sweep("s", base(stage, augment=(), snapshots=Snapshots(last=1)), (grid({"stages.0.lr": (0.01, 1e30)}),), seeds=(0, 1))
    done = work(sweep, tmp_path, keep=keep, pace=0)
    assert [entry.state for entry in done] == ["finished", "finished", "failed", "failed"]
    for entry in done[:2]:
        own = run_folder(tmp_path, entry.run.hash)
        kept = {p.name for p in own.iterdir()}
        assert {"summary.json", "config.json", "metrics.jsonl", "examples-test.npz", "plan.txt"} <= kept
        assert kept & {"final", "snapshots", "checkpoints"} == there and not list(own.glob("*.png"))
        if keep == "results":
            with pytest.raises(InputError, match="has kept no network; run its sweep in another --dir with --keep final"):
                open_trained(own)
        else:
            assert open_trained(own).classes == ("rings0", "rings1", "rings2")


def test_checkpoints_keep_their_distance(tmp_path):
    clock = [0.0]
    due, seen = Pace(10, lambda: clock[0]), []
    for now in (1, 9.9, 10, 12, 19, 25, 26, 34.9, 35):
        clock[0] = now
        seen.append(due())
    assert seen == [False, False, True, False, False, True, False, False, True]
    sweep = Sweep("s", base(dataclasses.replace(CACHED, schedule=Constant(1)), augment=()), (), seeds=(0, 1))
    work(sweep, tmp_path, keep="all")  # done in less than a minute
    assert not list(tmp_path.glob("runs/*/checkpoints")) and len(list(tmp_path.glob("runs/*/final"))) == 2


@pytest.mark.slow
def test_lanes_of_whole_networks_differ_from_the_runs_alone_by_rounding_only(tmp_path):
    """Forty updates of all groups, vectorised: in float64 within 1e-12 (measured 4e-15), in float32 within 1e-5 (measured 2e-6)."""
    done = subprocess.run(
        (sys.executable, "-m", "tests.lanes_job", str(tmp_path)), cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for dtype, rtol in (("float64", 1e-12), ("float32", 1e-5)):
        found = json.loads((tmp_path / f"{dtype}.json").read_text())
        assert list(found) == ["SGD", "AdamW"]
        for losses in found.values():
            assert np.shape(losses["lanes"]) == (4, 40) and len({tuple(run) for run in losses["alone"]}) == 4
            np.testing.assert_allclose(losses["lanes"], losses["alone"], rtol=rtol)


def test_where_lanes_gain_nothing_the_other_runs_are_done_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr("sgdr_jax.contest.LONG", 0.0)  # no update is tried vectorised
    stage = dataclasses.replace(CACHED, schedule=Constant(1))
    said = []

    class Listening(Quiet):
        def say(self, text):
            said.append(str(text))

    sweep = Sweep("s", base(stage, augment=()), (grid({"stages.0.lr": (0.01, 0.02)}),), seeds=(0, 1))
    done = work(sweep, tmp_path / "cached", lanes=2, ui=Listening())
    assert [entry.state for entry in done] == ["finished"] * 4
    assert sum("nothing was gained" in text for text in said) == 1 and sum("in turn (" in text for text in said) == 1
    said.clear()
    seen = dataclasses.replace(stage, precompute=False, views=0)  # lanes of one seed share what the body makes of their images
    work(Sweep("s", base(seen), (grid({"stages.0.lr": (0.01, 0.02, 0.03, 0.04)}),)), tmp_path / "seen", lanes=2, ui=Listening())
    assert not any("nothing was gained" in text for text in said)
