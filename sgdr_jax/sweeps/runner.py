"""Executes the pending runs of a sweep, optionally sharing them with other workers. Finished runs are skipped, a failed one stops no other.

Runs are executed one after the other. Consecutive ones with the same `ground` share opened data, images on the devices and compiled
programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..core.console import NullConsole
from ..core.errors import Diverged, InUse, Pruned
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.types import Source
from ..core.validation import require
from ..runs import run as recipe
from ..runs.folder import read
from ..train.context import RateLimiter, RunContext, ground, prepare
from .optuna_study import Study
from .run_status import Entry, Keep, LocalQueue, entries, keep_failure, tidy, unfinished
from .search_space import described, text
from .shared_queue import SharedQueue, opened
from .spec import Sweep, SweepRun, expand, run_folder
from .spec import keep as keep_sweep
from .trial_records import chosen


def work(
    sweep: Sweep,
    folder: str | Path,
    *,
    only: Sequence[int] | None = None,
    retry: bool = False,
    keep: Keep = "results",
    pace: float = 60.0,
    store: str | None = None,
    grace: float = 60.0,
    experiment_file: str | Path | None = None,
    ui: NullConsole | None = None,
) -> list[Entry]:
    """Runs what is not finished of a sweep; gives how every run stands.

    Args:
        folder: of the sweep; made where missing.
        only: numbers of the runs to do; None for all.
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
    folder, ui, runs = Path(folder), ui or NullConsole(), expand(sweep)
    todo = unfinished(folder, runs, only, retry)
    keep_sweep(folder, sweep, runs)
    searching = sweep.search is not None and only is None
    if todo or searching:
        ui.say(f"{sweep.name}: {len(todo)} of {len(runs)} runs to do")
        store = store or (str(folder / "store.db") if searching else None)
        with _shared(todo, sweep, folder, store, grace, retry) as line:
            how = _How(folder, keep, pace, experiment_file, ui, line, _Reuse(ui))
            _work_all(todo, how)
            if searching and isinstance(line, SharedQueue):
                _search(sweep, Study(line, sweep, folder, retry), how)
                best = chosen(sweep, folder)
                _work_all(unfinished(folder, best, retry=retry), how)
                runs += best
    return entries(folder, runs)


class _Reuse:
    """Prepares one run after the other; what runs with the same `ground` may share is loaded and compiled for the first of them."""

    def __init__(self, ui: NullConsole) -> None:
        self._ui = ui
        self._sources: dict[Any, Source] = {}
        self._ground, self._first = "", None

    def source(self, data: Any) -> Source:
        """Opens a dataset, once."""
        if data not in self._sources:
            self._sources[data] = data.open()
        return self._sources[data]

    def prepare(self, experiment: Experiment) -> RunContext:
        """Makes an experiment ready to run. Raises InputError as `context.prepare`."""
        if (key := ground(experiment)) != self._ground:
            self._ground, self._first = key, None  # freed before the next images are loaded
        context = prepare(experiment, self._ui, self._first, self.source(experiment.data))
        self._first = self._first or context
        return context


def _work_all(todo: Sequence[SweepRun], how: _How) -> None:
    """Executes all free runs until none is left. Raises InputError, before any of them, where one cannot be planned."""
    assert not isinstance(how.line, Study)
    groups: dict[str, list[SweepRun]] = {}
    for run in todo:
        plan(run.experiment, how.reuse.source(run.experiment.data).sizes["train"])
        groups.setdefault(ground(run.experiment), []).append(run)
    while todo and how.line.left(todo):
        for group in groups.values():
            while taken := how.line.take(group, 1):
                _attempt(taken[0], how)


def _search(sweep: Sweep, study: Study, how: _How) -> None:
    """Draws trials and runs them one by one, until no worker has any left."""
    assert sweep.search
    how = how._replace(line=study, measure=sweep.search.objective)
    how.ui.say(described(sweep.search))
    with study:
        while (drawn := study.take(1)) or study.left():
            for run in drawn:
                how.ui.say(f"  {run.arm}: {', '.join(f'{name}={text(value)}' for name, value in run.values)}")
                _attempt(run, how)


@contextmanager
def _shared(
    todo: Sequence[SweepRun], sweep: Sweep, folder: Path, store: str | None, grace: float, retry: bool
) -> Iterator[LocalQueue | SharedQueue]:
    """Where the runs are taken from."""
    if store is None:
        yield LocalQueue(todo)
    else:
        with opened(store, folder, sweep.name, todo, grace=grace, retry=retry).alive() as line:
            yield line


class _How(NamedTuple):
    """What is the same for all runs of a call of `work`; see there. `line` is where runs are taken from, and is told the `measure`."""

    folder: Path
    keep: Keep
    pace: float
    experiment_file: str | Path | None
    ui: NullConsole
    line: LocalQueue | SharedQueue | Study
    reuse: _Reuse
    measure: str = "accuracy"


def _attempt(run: SweepRun, how: _How) -> None:
    """Executes a run, and tells how it ended."""
    try:
        outcome = _run(run, how)
    except Exception as error:
        outcome = error
    _tell(run, outcome, how)


def _run(run: SweepRun, how: _How) -> dict[str, Any]:
    own = run_folder(how.folder, run.hash)
    options: dict[str, Any] = {"resume": True, "experiment_file": how.experiment_file}
    options |= {"pictures": False, "network": how.keep != "results"}

    def paced(experiment: Experiment) -> RunContext:
        context = how.reuse.prepare(experiment)._replace(due=RateLimiter(0 if experiment.checkpoint_steps else how.pace))
        if not isinstance(how.line, Study):
            return context
        require("valid" in context.images, "data", experiment.data, "trials are judged on validation images, and here are none")
        return context._replace(watch=_watch(run, context, how.line, how.measure, own))

    summary = recipe.run(run.experiment, own, **options, ui=how.ui, compile_ahead=False, prepared=paced)
    tidy(own, how.keep)
    return summary


def _watch(run: SweepRun, context: RunContext, study: Study, measure: str, folder: Path) -> Callable[[dict[str, Any]], None]:
    """Reports a trial's cycle ends, counted over all stages; those that its run folder knows from an earlier try at once."""
    counts = [len(p.table.ends) for p in context.plan.stages]

    def report(row: dict[str, Any], last: bool = False) -> None:
        end = sum(counts[: row["stage_index"]]) + row["cycle"] + 1
        study.report(run, end, row[measure], last=last or end == sum(counts))

    for row in read(folder).rows if (folder / "config.json").exists() else ():
        if row["kind"] == "eval":
            report(row, last=True)  # only known again: what was not ended there is not ended now
    return report


def _tell(run: SweepRun, outcome: dict[str, Any] | Exception, how: _How) -> None:
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
    else:
        judged = outcome["valid"].get(how.measure)  # None where there are no validation images; the store wants a number
        how.line.finish(run, judged or 0.0)
        how.ui.say(f"  {what}: " + ("finished" if judged is None else f"validation {how.measure} {judged:.4f}"))
