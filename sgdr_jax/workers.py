"""Works off a sweep, alone or beside other workers: what is finished is left alone, runs of one shape are done side by side as lanes, a
failed one stops no other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from . import optim, recipe
from .config import Experiment
from .feed import free
from .lanes import Lanes
from .ledger import Alone, Entry, Keep, entries, keep_failure, tidy, unfinished
from .plan import plan
from .progress import Quiet
from .setting import Pace, Setting, ground, prepare
from .store import Store, opened
from .sweep import Sweep, SweepRun, expand, run_folder
from .sweep import keep as keep_sweep
from .types import InputError, InUse, Source

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
    store: str | None = None,
    grace: float = 60.0,
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
        store: where several workers share the sweep; see `store.address`. None for this one alone.
        grace: seconds without a sign of life after which another worker's runs are taken over.
        experiment_file: for the commit in environment.json.
        ui: progress; silent by default.

    Raises:
        InputError: as `sweep.expand`, `sweep.keep` and `store.opened`, before anything is run.
    """
    folder, ui, runs = Path(folder), ui or Quiet(), expand(sweep)
    todo = unfinished(folder, runs, only, retry)
    keep_sweep(folder, sweep, runs)
    if todo:
        ui.say(f"{sweep.name}: {len(todo)} of {len(runs)} runs to do")
        with _shared(todo, sweep, folder, store, grace, retry) as line:
            how = _How(folder, keep, pace, experiment_file, ui, line)
            sources = {data: data.open() for data in dict.fromkeys(run.experiment.data for run in todo)}
            groups = [
                (group, source)
                for data, source in sources.items()
                for group in together([run for run in todo if run.experiment.data == data], source.sizes["train"])
            ]
            while line.left(todo):
                for group, source in groups:
                    _work_group(group, source, lanes, how)
    return entries(folder, runs)


@contextmanager
def _shared(todo: Sequence[SweepRun], sweep: Sweep, folder: Path, store: str | None, grace: float, retry: bool) -> Iterator[Alone | Store]:
    """Where the runs are taken from."""
    if store is None:
        yield Alone(todo)
    else:
        with opened(store, folder, sweep.name, todo, grace=grace, retry=retry).alive() as line:
            yield line


class _How(NamedTuple):
    """What is the same for all runs of a call of `work`; see there. `line` is where runs are taken from."""

    folder: Path
    keep: Keep
    pace: float
    experiment_file: str | Path | None
    ui: Quiet
    line: Alone | Store


def _work_group(group: Sequence[SweepRun], source: Source, lanes: int | None, how: _How) -> None:
    """Does what is free of the runs of one shape, in portions."""
    ui, line = how.ui, how.line
    portion = line.take(group, 1)  # nothing is loaded where there is nothing to do
    if not portion:
        return
    try:
        setting = prepare(portion[0].experiment, ui, source=source)
    except InputError as error:
        for run in (*portion, *line.take(group, len(group))):
            _tell(run, error, how)
        return
    count, room = 1 + line.waiting(group), most(setting)
    width = portions(math.ceil(count / line.expect()), min(lanes or MOST, room))[0]
    side_by_side = Lanes(setting, width, ui.say) if width > 1 else None
    ui.say(f"{count} runs of one shape, {width} side by side; there is memory for {room}")
    portion += line.take(group, width - 1)
    while portion:
        began = time.perf_counter()
        outcomes = _side_by_side(side_by_side, setting, portion, how) if side_by_side else []
        outcomes = outcomes or [_alone(setting, run, how) for run in portion]
        for run, outcome in zip(portion, outcomes, strict=True):
            _tell(run, outcome, how)
        ui.say(f"  {len(portion)} runs in {time.perf_counter() - began:.1f} s")
        if side_by_side and not side_by_side.useful:
            ui.say("  nothing was gained side by side: the others one after the other")
            side_by_side = None
        portion = line.take(group, width)


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
    if isinstance(outcome, InUse):
        how.line.give_back(run)
        how.ui.say(f"  {what} is left alone: {outcome}")
    elif isinstance(outcome, Exception):
        text = keep_failure(how.folder, run, outcome)
        how.line.fail(run, text)
        how.ui.say(f"  {what} failed: {text}")
    elif isinstance(outcome, BaseException):
        raise outcome
    else:
        how.line.finish(run, outcome["valid"]["accuracy"])
        how.ui.say(f"  {what}: validation accuracy {outcome['valid']['accuracy']:.4f}")
