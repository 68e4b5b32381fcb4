"""A stage that diverges or does not fit into memory is tried again, with half the rates or with batches in parts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.errors import Diverged, InputError, Preempted
from sgdr_jax.core.experiment import Eval, Experiment, Parallel, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs.folder import read
from sgdr_jax.runs.predictor import open_predictor
from sgdr_jax.runs.resume import CheckpointMeta, StageStart
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant, Plateau
from sgdr_jax.schedules.plateau import Lowered
from sgdr_jax.session import Session
from sgdr_jax.train.context import prepare
from sgdr_jax.train.programs import Programs

from ..helpers import Said, experiment, killed_after, same_bits

DATA = Synthetic(classes=3, train=32, valid=16, side=8)
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 24.00GiB."


def two(*stages: Stage, **fields: Any) -> Experiment:
    return experiment(*stages, data=DATA, evaluate=Eval(batch_size=8, tta_views=0), checkpoint_steps=2, **fields)


def network(folder: Path) -> Any:
    found = open_predictor(folder)
    return found.params, found.stats


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read(folder).rows]


# ---- divergence ----


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Updates from the sixth of a stage on diverge where the rate is above a limit, NaN for none."""
    limit = {"lr": 0.06, "from": 5}
    real = Programs.step

    def step(self: Programs, *how: Any) -> Any:
        update = real(self, *how)

        def perhaps(state: Any, hyper: Any, *rest: Any) -> Any:
            span = hasattr(hyper, "hyper")
            numbers = hyper.hyper if span else hyper
            if int(state.step) >= limit["from"] and float(np.max(numbers.lr)) > limit["lr"]:
                numbers = numbers._replace(lr=numbers.lr * np.float32(np.nan))
                hyper = hyper._replace(hyper=numbers) if span else numbers
            return update(state, hyper, *rest)

        vars(perhaps)["lower"] = update.lower  # by which later stages are compiled ahead on a GPU
        return perhaps

    monkeypatch.setattr(Programs, "step", step)
    return limit


STAGES = (Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)), Stage("all", size=8, lr=0.1, schedule=Constant(4)))


def test_by_default_a_run_that_diverges_stops(tmp_path: Path, diverging: dict[str, float]) -> None:
    with pytest.raises(Diverged, match="the fifth update in a row to be skipped"):
        run(two(*STAGES), tmp_path)


def test_a_stage_goes_back_to_its_newest_checkpoint_at_half_the_rates(tmp_path: Path, diverging: dict[str, float]) -> None:
    summary = run(two(*STAGES, on_divergence="halve"), tmp_path / "a")
    found = rows(tmp_path / "a")
    lowered = [row for row in found if row["kind"] == "lowered"]
    assert lowered == [{"kind": "lowered", "stage": "all", "step": 4, "lr_scale": 0.5}]
    rates = [row["lr"]["head"] for row in found if row["kind"] == "train" and row["stage"] == "all"]
    np.testing.assert_allclose(rates, [0.1] * 4 + [0.05] * 12, rtol=1e-6)
    assert not any("skipped" in row for row in found) and summary["stages"][1].get("lr_scale") == 0.5
    assert "lr_scale" not in summary["stages"][0]


def stopping(after: int) -> Any:
    """Contexts whose runs are told to stop after so many spans of updates."""
    asked = 0

    def leave() -> bool:
        nonlocal asked
        asked += 1
        return asked == after

    return lambda made: prepare(made)._replace(leave=leave)


@pytest.mark.parametrize("limit", [0.06, 0.03])
@pytest.mark.parametrize("stops", [(9,), (5, 4), (9, 7), (9, 1, 6, 1), (11, 3)])
def test_stopped_around_it_the_run_ends_with_the_same_bits(
    tmp_path: Path, diverging: dict[str, float], stops: tuple[int, ...], limit: float
) -> None:
    """A checkpoint that was saved because the run had to stop was gone back to, from another update than without the stop."""
    diverging["lr"] = limit
    halving = replace(two(*STAGES, on_divergence="halve", parallel=Parallel(steps_per_execution=1)), checkpoint_steps=None)
    run(halving, tmp_path / "whole")
    for i, after in enumerate(stops):
        with suppress(Preempted):
            run(halving, tmp_path / "stopped", resume=i > 0, prepared=stopping(after))
    run(halving, tmp_path / "stopped", resume=True)
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    assert same_bits(network(tmp_path / "stopped"), network(tmp_path / "whole"))


def test_stopped_in_the_first_cycle_a_later_stage_keeps_what_the_one_before_has_trained(
    tmp_path: Path, diverging: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went back to its beginning, whose network this process never had, and trained random weights."""
    diverging |= {"from": 1}
    monkeypatch.setattr("sgdr_jax.runs.run.stoppable", lambda ui, _: ui)  # bars ask as well: count the updates alone
    halving = replace(two(*STAGES, on_divergence="halve", parallel=Parallel(steps_per_execution=1)), checkpoint_steps=None)
    with suppress(Preempted):
        run(halving, tmp_path, prepared=stopping(5))  # four updates of the head, one of the body
    assert checkpoint.steps(tmp_path / "checkpoints", 1) == (1,)
    run(halving, tmp_path, resume=True)
    found = [row for row in rows(tmp_path) if row["stage"] == "all"]
    assert [row["step"] for row in found if row["kind"] == "lowered"] == [1]
    assert [row["step"] for row in found if row["kind"] == "train"] == list(range(16))


@pytest.mark.parametrize("kill", [1, 3])
def test_what_a_stage_went_back_past_is_gone_when_it_is_killed_then(tmp_path: Path, diverging: dict[str, float], kill: int) -> None:
    """Checkpoints whose rows were dropped stayed, and the run could not be resumed."""
    diverging |= {"from": 3}
    halving = replace(two(STAGES[1], on_divergence="halve", parallel=Parallel(steps_per_execution=1)), checkpoint_steps=None)
    run(halving, tmp_path / "whole")
    with suppress(Preempted):
        run(halving, tmp_path / "stopped", prepared=stopping(3))
    with killed_after(5 + kill):
        run(halving, tmp_path / "stopped", resume=True)
    run(halving, tmp_path / "stopped", resume=True)
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")
    assert same_bits(network(tmp_path / "stopped"), network(tmp_path / "whole"))


@pytest.mark.parametrize("updates", [5, 8, 11])
def test_killed_around_it_the_run_ends_with_the_same_bits(tmp_path: Path, diverging: dict[str, float], updates: int) -> None:
    halving = two(*STAGES, on_divergence="halve")
    run(halving, tmp_path / "whole")
    with killed_after(updates):
        run(halving, tmp_path / "killed")
    run(halving, tmp_path / "killed", resume=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert same_bits(network(tmp_path / "killed"), network(tmp_path / "whole"))


def test_rates_are_halved_again_and_from_the_beginning_where_there_is_no_checkpoint(tmp_path: Path, diverging: dict[str, float]) -> None:
    diverging |= {"lr": 0.03, "from": 0}
    run(two(*STAGES, on_divergence="halve"), tmp_path)
    found = rows(tmp_path)
    assert [(row["step"], row["lr_scale"]) for row in found if row["kind"] == "lowered"] == [(0, 0.25)]
    assert sum(row["kind"] == "train" and row["stage"] == "head" for row in found) == 4  # rows of the stage before stay


def test_halving_ends(tmp_path: Path, diverging: dict[str, float]) -> None:
    diverging |= {"lr": 0.0, "from": 0}
    with pytest.raises(Diverged):
        run(two(STAGES[1], on_divergence="halve"), tmp_path)


def test_a_plateau_goes_on_from_the_halved_rates(tmp_path: Path, diverging: dict[str, float]) -> None:
    stage = Stage("all", size=8, lr=0.1, schedule=Plateau(6, factor=0.5, patience=1, threshold=0.99))
    run(two(stage, on_divergence="halve"), tmp_path)
    rates = [row["lr"]["head"] for row in rows(tmp_path) if row["kind"] == "train"]
    assert rates[:12] == pytest.approx([0.1] * 4 + [0.05] * 8) and rates[-1] == pytest.approx(0.0125)


def test_a_plateau_does_not_raise_halved_rates_to_its_floor(tmp_path: Path, diverging: dict[str, float]) -> None:
    """They went back to those that had diverged, and did so again."""
    stage = Stage("all", size=8, lr=0.1, schedule=Plateau(6, factor=0.9, patience=0, threshold=0.99, floor=0.8))
    run(two(stage, on_divergence="halve"), tmp_path)
    found = rows(tmp_path)
    assert [row["lr_scale"] for row in found if row["kind"] == "lowered"] == [0.5] and not any("skipped" in row for row in found)
    assert [row["lr"]["head"] for row in found if row["kind"] == "train"][4:] == pytest.approx([0.05] * 20)


def test_what_plateaus_lowered_is_no_part_of_the_share_at_which_a_stage_goes_on(tmp_path: Path, diverging: dict[str, float]) -> None:
    """The next stage took it over as if rates that low had been needed, and after three plateaus the first halving was refused."""
    diverging |= {"lr": 1e-5, "from": 33}
    stage = Stage("all", size=8, lr=0.1, schedule=Plateau(5, factor=0.05, patience=0, threshold=0.99), batch_size=4)
    after = Stage("next", size=8, lr=None, schedule=Constant(1))
    summary = run(two(stage, after, on_divergence="halve"), tmp_path)
    found = rows(tmp_path)
    assert [(row["step"], row["lr_scale"]) for row in found if row["kind"] == "lowered"] == [(32, 0.5)]
    rates = [row["lr"]["head"] for row in found if row["kind"] == "train" and row["stage"] == "all"]
    np.testing.assert_allclose(rates, np.repeat([0.1, 0.1, 5e-3, 2.5e-4, 0.625e-5], 8), rtol=1e-5)
    assert [row.get("lr_scale") for row in summary["stages"]] == [0.5, None] and summary["stages"][1]["lr"] == [0.05] * 3


def test_checkpoints_of_earlier_versions_are_gone_on_from() -> None:
    """They have one share, which both had lowered, as the rows of their runs have."""
    first = CheckpointMeta(0, 10, [0.1], None, 0, "", None, 0.0, [])
    assert StageStart(first, 0.5).lowered == Lowered(0.5, halved=0.5)
    assert StageStart(first._replace(lowered=[0.25, 0.5, 1, 2]), 0.5).lowered == Lowered(0.125, 0.5, 1, 2, 0.125)
    assert StageStart(first._replace(lowered=[0.05, 0.5, 1, 2, 0.5]), 0.5).lowered == Lowered(0.025, 0.5, 1, 2, 0.25)


def test_a_refit_trains_at_the_halved_rates(tmp_path: Path, diverging: dict[str, float]) -> None:
    run(two(*STAGES, on_divergence="halve", refit=True), tmp_path)
    found = [row for row in rows(tmp_path / "refit") if row["kind"] == "train" and row["stage"] == "all"]
    np.testing.assert_allclose([row["lr"]["head"] for row in found], 0.05, rtol=1e-6)


def test_a_stage_in_a_session_goes_back_as_in_a_run(tmp_path: Path, diverging: dict[str, float]) -> None:
    """It ended in `Diverged` there, whatever `on_divergence` was."""
    halving = two(*STAGES, on_divergence="halve")
    run(halving, tmp_path)
    session = Session(halving, ui=NullConsole()).fit(0).fit(1)
    assert [row["lr_scale"] for row in session._state.rows if row["kind"] == "lowered"] == [0.5]
    assert same_bits((session.params, session.stats), network(tmp_path))
    with pytest.raises(Diverged):
        Session(two(STAGES[1]), ui=NullConsole()).fit(0)


# ---- memory ----


def scarce(monkeypatch: pytest.MonkeyPatch, parts: int) -> list[int]:
    """Updates need more memory than there is unless the batch is in so many parts; returns the parts that were tried."""
    tried, real = list[int](), Programs.step

    def step(self: Programs, p: Any, *how: Any) -> Any:
        def exhausted(*_: Any) -> Any:
            tried.append(p.stage.accumulate)
            raise jax.errors.JaxRuntimeError(FULL)

        return real(self, p, *how) if p.stage.accumulate >= parts else exhausted

    monkeypatch.setattr(Programs, "step", step)
    return tried


LATE = Stage("late", size=8, train=("late",), lr=0.05, schedule=Constant(2), bn="frozen")  # neither batch statistics nor dropout


def test_a_batch_that_does_not_fit_is_split_with_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = two(LATE, batch_size=16)
    run(whole, tmp_path / "whole")
    with monkeypatch.context() as patch:
        assert scarce(patch, 4) == []
        summary = run(whole, tmp_path / "split")
    assert summary["stages"][0].get("accumulate") == 4 and "accumulate" not in read(tmp_path / "whole").summary["stages"][0]
    run(two(replace(LATE, accumulate=4), batch_size=16), tmp_path / "asked")
    assert rows(tmp_path / "split") == rows(tmp_path / "asked")
    assert same_bits(network(tmp_path / "split"), network(tmp_path / "asked"))
    for one, other in zip(*(jax.tree.leaves(network(tmp_path / name)) for name in ("whole", "split")), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_the_split_is_recorded_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = scarce(monkeypatch, 2)
    with killed_after(3):
        run(two(LATE), tmp_path)
    assert tried == [1] and read(tmp_path).path.joinpath("splits.json").exists()
    run(two(LATE), tmp_path, resume=True)
    assert tried == [1]


@pytest.mark.parametrize("stage, most", [(LATE, 4), (replace(LATE, bn="train"), 2)])
def test_parts_with_batch_statistics_of_their_own_keep_some_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage, most: int
) -> None:
    """They were split down to single images, whose statistics make all images look the same to what follows."""
    tried = scarce(monkeypatch, 99)
    with pytest.raises(InputError, match=r"^batch_size is 8: out of device memory"):
        run(two(stage, parallel=Parallel(devices=1)), tmp_path)
    assert tried == [1, 2, 4, 8][: [1, 2, 4, 8].index(most) + 1 + (stage is LATE)]


def test_more_devices_go_on_in_as_many_parts_as_they_can_share_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        scarce(patch, 4)
        with killed_after(3):
            run(two(LATE, parallel=Parallel(devices=1)), tmp_path)
    assert run(two(LATE, parallel=Parallel(devices=4)), tmp_path, resume=True)["stages"][0]["steps"] == 8


def test_where_memory_ends_what_was_saved_at_a_stop_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(two(LATE, parallel=Parallel(steps_per_execution=1)), checkpoint_steps=None)
    with suppress(Preempted):
        run(made, tmp_path, prepared=stopping(3))
    scarce(monkeypatch, 2)
    said = Said()
    run(made, tmp_path, resume=True, ui=said)
    assert sum(row["kind"] == "train" for row in rows(tmp_path)) == 8
    assert checkpoint.names(tmp_path / "checkpoints")[-1] == checkpoint.step_name(0, 8)


def test_halved_rates_stay_where_memory_ends_before_the_next_checkpoint(
    tmp_path: Path, diverging: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share was forgotten, so that the stage diverged once more and went on at a quarter."""
    real = Programs.step

    def step(self: Programs, p: Any, *how: Any) -> Any:
        update = real(self, p, *how)

        def perhaps(state: Any, hyper: Any, *rest: Any) -> Any:
            rate = float(np.max((hyper.hyper if hasattr(hyper, "hyper") else hyper).lr))
            if p.stage.accumulate == 1 and 0.04 < rate < 0.06:
                raise jax.errors.JaxRuntimeError(FULL)
            return update(state, hyper, *rest)

        vars(perhaps)["lower"] = vars(update).get("lower")
        return perhaps

    monkeypatch.setattr(Programs, "step", step)
    summary = run(two(*STAGES, on_divergence="halve"), tmp_path)
    assert summary["stages"][1].get("accumulate") == 2 and summary["stages"][1].get("lr_scale") == 0.5
    lowered = [row for row in rows(tmp_path) if row["kind"] == "lowered"]
    assert lowered == [{"kind": "lowered", "stage": "all", "step": 4, "lr_scale": 0.5}]


def test_a_batch_that_cannot_be_split_further_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = scarce(monkeypatch, 99)
    with pytest.raises(InputError, match=r"^batch_size is 8: out of device memory in stage"):
        run(two(LATE), tmp_path)
    assert tried == [1, 2]  # then each of four devices has one image
