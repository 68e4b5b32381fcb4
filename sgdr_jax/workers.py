"""Works off a sweep: finished runs are left alone, runs of one shape are done side by side as lanes, a failed one stops no other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from . import optim, recipe
from .config import Experiment
from .feed import free
from .lanes import Lanes
from .ledger import Entry, Keep, entries, keep_failure, tidy
from .plan import plan
from .progress import Quiet
from .setting import Pace, Setting, ground, prepare
from .sweep import Sweep, SweepRun, expand, run_folder
from .sweep import keep as keep_sweep
from .types import InputError, Source

MOST = 16
"""Lanes at most, where their memory is no limit."""


def shape(experiment: Experiment, train_size: int) -> tuple[Any, ...]:
    """Equal for experiments that can be lanes of one another: they share data and network, and their updates are the same programs, as
    many, in the same order."""
    stages = plan(experiment, train_size).stages
    steps = [(optim.kind(p.optimizer), p.trained, p.collects, p.batch_size, p.steps, tuple(sorted(set(p.sizes.tolist())))) for p in stages]
    return ground(experiment), *steps


def together(runs: Sequence[SweepRun], train_size: int) -> list[list[SweepRun]]:
    """Runs that can be lanes of one another, in the order of the sweep."""
    groups: dict[Any, list[SweepRun]] = {}
    for run in runs:
        groups.setdefault(shape(run.experiment, train_size), []).append(run)
    return list(groups.values())


def portions(count: int, most: int) -> list[int]:
    """A number of runs as portions that are as even as can be, none larger than `most`.

    >>> portions(20, 16)
    [10, 10]
    """
    parts = math.ceil(count / most)
    return [count // parts + (i < count % parts) for i in range(parts)]


def most(setting: Setting) -> int:
    """Lanes that fit half of the free memory: each has its network, gradients, slots, its best state, and copies on the way."""
    size = sum(x.nbytes for x in jax.tree.leaves((setting.params, setting.stats)))
    return max(int(free(setting.engine.devices) / 2 / (8 * size)), 1)


def work(
    sweep: Sweep,
    folder: str | Path,
    *,
    only: Sequence[int] | None = None,
    lanes: int | None = None,
    retry: bool = False,
    keep: Keep = "results",
    pace: float = 60.0,
    experiment_file: str | Path | None = None,
    ui: Quiet | None = None,
) -> list[Entry]:
    """Runs what is not finished of a sweep; gives how every run stands.

    Args:
        folder: of the sweep; made where missing.
        only: numbers of the runs to do; None for all.
        lanes: runs side by side at most; None leaves it to the planner, 1 does one after the other.
        retry: also do the runs that failed before.
        keep: what is left of a run's folder when it has finished; see `ledger.Keep`.
        pace: seconds of work that an interruption may cost a run: checkpoints at cycle ends are no closer than this. 0: at each of them.
        experiment_file: for the commit in environment.json.
        ui: progress; silent by default.

    Raises:
        InputError: as `sweep.expand` and `sweep.keep`, before anything is written.
    """
    folder, ui, runs = Path(folder), ui or Quiet(), expand(sweep)
    if only is not None and (wrong := [n for n in only if not 0 <= n < len(runs)]):
        raise InputError(f"--only is {','.join(map(str, wrong))}; the runs are 0…{len(runs) - 1}")
    keep_sweep(folder, sweep, runs)
    chosen = [run for run in runs if only is None or run.number in only]
    todo = [entry.run for entry in entries(folder, chosen) if not entry.summary and (retry or not entry.error)]
    if todo:
        ui.say(f"{sweep.name}: {len(todo)} of {len(runs)} runs to do")
        for data in dict.fromkeys(run.experiment.data for run in todo):
            source = data.open()
            for group in together([run for run in todo if run.experiment.data == data], source.sizes["train"]):
                _work_group(group, source, lanes, _How(folder, keep, pace, experiment_file, ui))
    return entries(folder, runs)


class _How(NamedTuple):
    """What is the same for all runs of a call of `work`; see there."""

    folder: Path
    keep: Keep
    pace: float
    experiment_file: str | Path | None
    ui: Quiet


def _work_group(group: list[SweepRun], source: Source, lanes: int | None, how: _How) -> None:
    """Does runs of one shape, in portions."""
    ui = how.ui
    try:
        setting = prepare(group[0].experiment, ui, source=source)
    except InputError as error:
        for run in group:
            _tell(run, error, how)
        return
    room = most(setting)
    sizes = portions(len(group), min(lanes or MOST, room))
    width = sizes[0]
    side_by_side = Lanes(setting, width, ui.say) if width > 1 else None
    ui.say(f"{len(group)} runs of one shape, {width} side by side; there is memory for {room}")
    for size in sizes:
        portion, group = group[:size], group[size:]
        began = time.perf_counter()
        outcomes = _side_by_side(side_by_side, setting, portion, how) if side_by_side else []
        outcomes = outcomes or [_alone(setting, run, how) for run in portion]
        for run, outcome in zip(portion, outcomes, strict=True):
            _tell(run, outcome, how)
        ui.say(f"  {len(portion)} runs in {time.perf_counter() - began:.1f} s")


def _side_by_side(lanes: Lanes, setting: Setting, portion: Sequence[SweepRun], how: _How) -> list[Any]:
    def lane(run: SweepRun, how: _How) -> Callable[[], Any]:
        return lambda: _run(run, how, lambda experiment: lanes.setting(prepare(experiment, like=setting)))

    return lanes.run([lane(run, how._replace(ui=Quiet()) if i else how) for i, run in enumerate(portion)])


def _alone(setting: Setting, run: SweepRun, how: _How) -> Any:
    try:
        return _run(run, how, lambda experiment: prepare(experiment, like=setting))
    except Exception as error:
        return error


def _run(run: SweepRun, how: _How, prepared: Callable[[Experiment], Setting]) -> dict[str, Any]:
    own = run_folder(how.folder, run.hash)
    options: dict[str, Any] = {"resume": True, "experiment_file": how.experiment_file}
    options |= {"pictures": False, "network": how.keep != "results"}

    def paced(experiment: Experiment) -> Setting:
        return prepared(experiment)._replace(due=Pace(0 if experiment.checkpoint_steps else how.pace))

    summary = recipe.run(run.experiment, own, **options, ui=how.ui, compile_ahead=False, prepared=paced)
    tidy(own, how.keep)
    return summary


def _tell(run: SweepRun, outcome: Any, how: _How) -> None:
    what = f"run {run.number} ({run.arm}, seed {run.seed})"
    if isinstance(outcome, Exception):
        how.ui.say(f"  {what} failed: {keep_failure(how.folder, run, outcome)}")
    elif isinstance(outcome, BaseException):
        raise outcome
    else:
        how.ui.say(f"  {what}: validation accuracy {outcome['valid']['accuracy']:.4f}")
