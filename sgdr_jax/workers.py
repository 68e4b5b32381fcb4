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
from .config import Experiment, require
from .feed import free
from .lanes import Lanes
from .ledger import Alone, Entry, Keep, entries, keep_failure, tidy, unfinished
from .logbook import read
from .plan import plan
from .progress import Quiet
from .search import described, text
from .setting import Pace, Setting, ground, prepare
from .store import Store, opened
from .study import Study
from .sweep import Sweep, SweepRun, expand, run_folder
from .sweep import keep as keep_sweep
from .trials import chosen
from .types import Diverged, InputError, InUse, Pruned, Source

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
        grace: see `store.opened`.
        experiment_file: for the commit in environment.json.
        ui: progress; silent by default.

    Raises:
        InputError: as `sweep.expand`, `sweep.keep` and `store.opened`, before anything is run.
    """
    folder, ui, runs = Path(folder), ui or Quiet(), expand(sweep)
    todo = unfinished(folder, runs, only, retry)
    keep_sweep(folder, sweep, runs)
    searching = sweep.search is not None and only is None
    if todo or searching:
        ui.say(f"{sweep.name}: {len(todo)} of {len(runs)} runs to do")
        store = store or (str(folder / "store.db") if searching else None)
        with _shared(todo, sweep, folder, store, grace, retry) as line:
            how = _How(folder, keep, pace, experiment_file, ui, line)
            _work_all(todo, lanes, how)
            if searching and isinstance(line, Store):
                _search(sweep, Study(line, sweep, folder, retry), lanes or 1, how)
                best = chosen(sweep, folder)
                _work_all(unfinished(folder, best, retry=retry), lanes, how)
                runs += best
    return entries(folder, runs)


def _work_all(todo: Sequence[SweepRun], lanes: int | None, how: _How) -> None:
    """Does what is free of these runs until all are done."""
    assert not isinstance(how.line, Study)
    sources = {data: data.open() for data in dict.fromkeys(run.experiment.data for run in todo)}
    groups = [
        (group, source)
        for data, source in sources.items()
        for group in together([run for run in todo if run.experiment.data == data], source.sizes["train"])
    ]
    while todo and how.line.left(todo):
        for group, source in groups:
            _work_group(group, source, lanes, how)


def _search(sweep: Sweep, study: Study, width: int, how: _How) -> None:
    """Draws trials and runs them, up to `width` of one shape side by side, until no worker has any left."""
    assert sweep.search
    how = how._replace(line=study, measure=sweep.search.objective)
    how.ui.say(described(sweep.search))
    sources: dict[Any, Source] = {}
    known: dict[str, Setting] = {}
    with study:
        while (portion := study.take(width)) or study.left():
            for data in dict.fromkeys(run.experiment.data for run in portion):
                source = sources.get(data) or data.open()
                sources[data] = source
                runs = [run for run in portion if run.experiment.data == data]
                for run in runs:
                    how.ui.say(f"  {run.arm}: {', '.join(f'{name}={text(value)}' for name, value in run.values)}")
                for group in _shapes(runs, source, how):
                    _trials(group, source, known, how)


def _shapes(runs: Sequence[SweepRun], source: Source, how: _How) -> list[list[SweepRun]]:
    """Trials of one shape together; those that cannot be planned have failed."""
    good = []
    for run in runs:
        try:
            shape(run.experiment, source.sizes["train"])
            good.append(run)
        except InputError as error:
            _tell(run, error, how)
    return together(good, source.sizes["train"])


def _trials(group: list[SweepRun], source: Source, known: dict[str, Setting], how: _How) -> None:
    """Runs trials of one shape; `known` holds the newest setting by its `ground`, so that trials share data and programs."""
    key = ground(group[0].experiment)
    try:
        setting = prepare(group[0].experiment, how.ui, like=known.get(key), source=source)
        require("valid" in source.labels, "data", group[0].experiment.data, "trials are judged on validation images, and here are none")
    except InputError as error:
        for run in group:
            _tell(run, error, how)
        return
    known.clear()
    known[key] = setting
    width = min(len(group), most(setting))
    for first in range(0, len(group), width):
        part = group[first : first + width]
        outcomes = _side_by_side(Lanes(setting, len(part), how.ui.say), setting, part, how) if len(part) > 1 else []
        for run, outcome in zip(part, outcomes or [_alone(setting, run, how) for run in part], strict=True):
            _tell(run, outcome, how)


@contextmanager
def _shared(todo: Sequence[SweepRun], sweep: Sweep, folder: Path, store: str | None, grace: float, retry: bool) -> Iterator[Alone | Store]:
    """Where the runs are taken from."""
    if store is None:
        yield Alone(todo)
    else:
        with opened(store, folder, sweep.name, todo, grace=grace, retry=retry).alive() as line:
            yield line


class _How(NamedTuple):
    """What is the same for all runs of a call of `work`; see there. `line` is where runs are taken from, and is told the
    `measure`."""

    folder: Path
    keep: Keep
    pace: float
    experiment_file: str | Path | None
    ui: Quiet
    line: Alone | Store | Study
    measure: str = "accuracy"


def _work_group(group: Sequence[SweepRun], source: Source, lanes: int | None, how: _How) -> None:
    """Does what is free of the runs of one shape, in portions."""
    ui, line = how.ui, how.line
    assert not isinstance(line, Study)
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
    side_by_side = Lanes(setting, width, ui.say, -(-count // (width * line.expect()))) if width > 1 else None
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
        setting = prepared(experiment)._replace(due=Pace(0 if experiment.checkpoint_steps else how.pace))
        return setting._replace(watch=_watch(run, setting, how.line, how.measure, own)) if isinstance(how.line, Study) else setting

    summary = recipe.run(run.experiment, own, **options, ui=how.ui, compile_ahead=False, prepared=paced)
    tidy(own, how.keep)
    return summary


def _watch(run: SweepRun, setting: Setting, study: Study, measure: str, folder: Path) -> Callable[[dict[str, Any]], None]:
    """Reports a trial's cycle ends, counted over all stages; those that its run folder knows from an earlier try at once."""
    counts = [len(p.table.ends) for p in setting.plan.stages]

    def report(row: dict[str, Any], last: bool = False) -> None:
        end = sum(counts[: row["stage_index"]]) + row["cycle"] + 1
        study.report(run, end, row[measure], last=last or end == sum(counts))

    for row in read(folder).rows if (folder / "config.json").exists() else ():
        if row["kind"] == "eval":
            report(row, last=True)  # only known again: what was not ended there is not ended now
    return report


def _tell(run: SweepRun, outcome: Any, how: _How) -> None:
    what = f"run {run.number} ({run.arm}, seed {run.seed})"
    if isinstance(outcome, Pruned) and isinstance(how.line, Study):
        tidy(run_folder(how.folder, run.hash), how.keep, ended=True)
        how.line.prune(run)
        how.ui.say(f"  {what}: {outcome}")
    elif isinstance(outcome, InUse):
        how.line.give_back(run)
        how.ui.say(f"  {what} is left alone: {outcome}")
    elif isinstance(outcome, Exception):
        why = keep_failure(how.folder, run, outcome)
        how.line.fail(run, why, isinstance(outcome, Diverged))
        how.ui.say(f"  {what} failed: {why}")
    elif isinstance(outcome, BaseException):
        raise outcome
    else:
        judged = outcome["valid"].get(how.measure)  # None where there are no validation images; the store wants a number
        how.line.finish(run, judged or 0.0)
        how.ui.say(f"  {what}: " + ("finished" if judged is None else f"validation {how.measure} {judged:.4f}"))
