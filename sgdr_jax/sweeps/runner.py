"""Executes the pending runs of a sweep, optionally sharing them with other workers.

Finished runs are skipped, and a failed run does not stop the others. Runs are executed one after the other; consecutive ones with the same
`ground` share opened data, images on the devices and compiled programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.console import NullConsole
from ..core.errors import Diverged, InUse, Pruned
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.serialization import to_json
from ..core.types import Dataset, Source
from ..core.validation import require
from ..runs import run as recipe
from ..runs.folder import read
from ..runs.records import RunSummary
from ..runs.trackers.tracking import Tracking
from ..train.context import RateLimiter, RunContext, ground, prepare
from .local_queue import LocalQueue, Outcomes, Queue
from .options import WorkerOptions
from .optuna_study import Study
from .run_status import Entry, entries, save_failure, tidy, unfinished
from .search_space import describe_search, value_text
from .shared_queue import SharedQueue, open_queue
from .spec import Sweep, SweepRun, expand
from .sweep_record import run_folder, save_sweep
from .trial_records import save_confirmation_runs


def work(
    sweep: Sweep,
    folder: str | Path,
    options: WorkerOptions = WorkerOptions(),  # noqa: B008 (it is frozen)
    *,
    only: Sequence[int] | None = None,
    experiment_file: str | Path | None = None,
    ui: NullConsole | None = None,
) -> list[Entry]:
    """Execute the unfinished runs of a sweep, and return the status of all runs.

    Args:
        sweep: sweep to run.
        folder: folder of the sweep; created where missing.
        options: options of this worker.
        only: numbers of the runs to execute, without any search; None for all.
        experiment_file: file whose commit is recorded in environment.json.
        ui: progress; silent by default.

    Raises:
        InputError: as `expand`, `save_sweep` and `open_queue`, before anything is executed.
    """
    folder, ui, runs = Path(folder), ui or NullConsole(), expand(sweep)
    pending = unfinished(folder, runs, only, options.retry)
    save_sweep(folder, sweep, runs)
    searching = sweep.search is not None and only is None
    if pending or searching:
        ui.say(f"{sweep.name}: {len(pending)} of {len(runs)} runs to do")
        store = options.store or (str(folder / "store.db") if searching else None)
        worker = _Worker(sweep.name, folder, options, experiment_file, ui, _Shared(ui))
        with _queue(pending, sweep, folder, store, options) as queue:
            worker.execute_all(pending, queue)
            if searching and isinstance(queue, SharedQueue):
                with Study(queue, sweep, folder, options.retry) as study:
                    worker.search(study)
                best = save_confirmation_runs(sweep, folder)
                worker.execute_all(unfinished(folder, best, retry=options.retry), queue)
                runs += best
    return entries(folder, runs)


@contextmanager
def _queue(pending: Sequence[SweepRun], sweep: Sweep, folder: Path, store: str | None, options: WorkerOptions) -> Iterator[Queue]:
    """Open the queue that the runs are taken from."""
    if store is None:
        yield LocalQueue(pending)
    else:
        with open_queue(store, folder, sweep.name, pending, grace=options.grace, retry=options.retry).alive() as queue:
            yield queue


class _Shared:
    """Opened datasets, and the first of consecutive runs with the same `ground`, whose data and programs the others use."""

    def __init__(self, ui: NullConsole) -> None:
        self._ui = ui
        self._sources: dict[Dataset, Source] = {}
        self._ground, self._first = "", None

    def source(self, data: Dataset) -> Source:
        """Open a dataset, once."""
        if data not in self._sources:
            self._sources[data] = data.open()
        return self._sources[data]

    def prepare(self, experiment: Experiment) -> RunContext:
        """Prepare a run; see `train.context.prepare`."""
        if (key := ground(experiment)) != self._ground:
            self._ground, self._first = key, None  # Memory is freed before the next images are loaded.
        context = prepare(experiment, self._ui, self._first, self.source(experiment.data))
        self._first = self._first or context
        return context


@dataclass(frozen=True)
class _Worker:
    """What all runs of one call of `work` have in common."""

    sweep: str
    folder: Path
    options: WorkerOptions
    experiment_file: str | Path | None
    ui: NullConsole
    shared: _Shared

    def execute_all(self, runs: Sequence[SweepRun], queue: Queue) -> None:
        """Execute all free runs until none is left. Raises InputError, before any of them, where one cannot be planned."""
        groups: dict[str, list[SweepRun]] = {}
        for run in runs:
            plan(run.experiment, self.shared.source(run.experiment.data).sizes["train"])
            groups.setdefault(ground(run.experiment), []).append(run)
        while runs and queue.wait(runs):
            for group in groups.values():
                while run := queue.take(group):
                    self._attempt(run, queue)

    def search(self, study: Study) -> None:
        """Draw trials and execute them one by one, until no worker has any left."""
        self.ui.say(describe_search(study.search))
        while (run := study.take()) or study.wait():
            if run:
                self.ui.say(f"  {run.arm}: {', '.join(f'{name}={value_text(value)}' for name, value in run.values)}")
                self._attempt(run, study, study.search.objective)

    def _attempt(self, run: SweepRun, outcomes: Outcomes, objective: str = "accuracy") -> None:
        """Execute a run, and report how it ended."""
        title, study = f"run {run.number} ({run.arm}, seed {run.seed})", outcomes if isinstance(outcomes, Study) else None
        try:
            summary = self._execute(run, study)
        except Pruned as pruned:
            assert study
            tidy(run_folder(self.folder, run.hash), self.options.keep, ended=True)
            study.prune(run)
            self.ui.say(f"  {title}: {pruned}")
        except InUse as error:
            outcomes.give_back(run)
            self.ui.say(f"  {title} is skipped: {error}")
        except Exception as error:
            reason = save_failure(self.folder, run, error)
            outcomes.fail(run, reason, isinstance(error, Diverged))
            self.ui.say(f"  {title} failed: {reason}")
        else:
            value = summary["valid"].get(objective)  # None without validation images, but the queue needs a number.
            outcomes.finish(run, value or 0.0)
            self.ui.say(f"  {title}: " + ("finished" if value is None else f"validation {objective} {value:.4f}"))

    def _execute(self, run: SweepRun, study: Study | None) -> RunSummary:
        own, keep = run_folder(self.folder, run.hash), self.options.keep
        config = to_json(run.experiment) | {"sweep": {"arm": run.arm, "seed": run.seed}}
        tracking = Tracking(self.options.track, own, self.sweep, config)

        def prepared(experiment: Experiment) -> RunContext:
            due = RateLimiter(0 if experiment.checkpoint_steps else self.options.pace)
            context = self.shared.prepare(experiment)._replace(due=due, track=tracking.row)
            if not study:
                return context
            require("valid" in context.images, "data", experiment.data, "trials are judged by validation images, and there are none")
            return context._replace(watch=_reporter(run, context, study, own))

        with closing(tracking):
            summary = recipe.run(
                run.experiment,
                own,
                resume=True,
                experiment_file=self.experiment_file,
                keep_network=keep != "results",
                ui=self.ui,
                compile_ahead=False,
                prepared=prepared,
            )
            tracking.finish(summary, ())
        tidy(own, keep)
        return summary


def _reporter(run: SweepRun, context: RunContext, study: Study, folder: Path) -> Callable[[dict[str, Any]], None]:
    """Return a function that reports a trial's cycle ends, counted over all stages; reports those of an earlier attempt at once."""
    counts = [len(p.table.ends) for p in context.plan.stages]

    def report(row: dict[str, Any], last: bool = False) -> None:
        end = sum(counts[: row["stage_index"]]) + row["cycle"] + 1
        study.report(run, end, row[study.search.objective], last=last or end == sum(counts))

    for row in read(folder).rows if (folder / "config.json").exists() else ():
        if row["kind"] == "eval":
            report(dict(row), last=True)  # Replayed from an earlier attempt: never prune on replayed values.
    return report
