"""Executes the pending runs of a sweep, optionally sharing them with other workers.

Finished runs are skipped, and a failed run does not stop the others. Runs are executed one after the other; consecutive ones with the same
`sharing_key` share opened data, images on the devices and compiled programs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.console import NullConsole
from ..core.errors import Diverged, ImagesChanged, InputError, InUse, Preempted, Pruned
from ..core.experiment import Experiment
from ..core.plan import plan
from ..core.serialization import key_text, to_json
from ..core.types import Dataset, Source
from ..core.validation import require
from ..distributed.hosts import is_leader, is_multi_host, on_leader, run_on_all_hosts
from ..distributed.preemption import stoppable
from ..runs import run as recipe
from ..runs.folder import read
from ..runs.records import RunSummary
from ..runs.trackers.tracking import Tracking
from ..train.context import RateLimiter, RunContext, prepare, sharing_key
from .analysis.sequential import added_runs
from .local_queue import LocalQueue, Outcomes, Queue
from .options import WorkerOptions
from .optuna_study import Study
from .run_status import Entry, entries, save_failure, tidy, unfinished
from .same_images import images_changed
from .search_space import Search, describe_search, value_text
from .shared_queue import SharedQueue, default_store, open_queue
from .spec import Sweep, SweepRun, all_arms, expand
from .sweep_record import recorded_run, run_folder, run_record, save_sweep
from .trial_records import objective_value, save_confirmation_runs

NAP = 0.25
"""Seconds between two questions whether to stop, while other workers have the runs that are left."""


def work(
    sweep: Sweep,
    folder: str | Path,
    options: WorkerOptions = WorkerOptions(),  # noqa: B008 (it is frozen)
    *,
    only: Sequence[int] | None = None,
    commit: str | None = None,
    ui: NullConsole | None = None,
    leave: Callable[[], bool] = lambda: False,
) -> list[Entry]:
    """Execute the unfinished runs of a sweep, and return the status of all runs.

    The processes of a multi-host worker call this together. The leading one takes runs from the queue and reports them, and all execute
    each run together.

    Args:
        sweep: sweep to run.
        folder: folder of the sweep; created where missing.
        options: options of this worker.
        only: numbers of the runs to execute, without any search; None for all.
        commit: recorded in each run's environment.json, see `environment.git_commit`.
        ui: progress; silent by default.
        leave: whether to save and stop, see `preemption.handle_signals`.

    Raises:
        InputError: as `expand`, `save_sweep` and `open_queue`, before anything is executed.
        Preempted: after `leave` has returned True and the state of the current run is saved.
    """
    folder, ui, runs = Path(folder), ui or NullConsole(), expand(sweep)
    options.check_baseline(all_arms(sweep, runs))
    require(not options.until or only is None, "--until", options.until, "it adds seeds to all runs; leave --only out")
    pending = _pending(folder, runs, only, options)
    run_on_all_hosts(lambda: is_leader() and save_sweep(folder, sweep, runs))
    searching = sweep.search is not None and only is None
    if pending or searching or options.until:
        ui.say(f"{sweep.name}: {len(pending)} of {len(runs)} runs to do")
        store = options.store or (default_store(folder) if searching else None)
        stop = _Stop(leave)
        worker = _Worker(sweep, folder, options, commit, ui, stop, _Shared(stoppable(ui, stop), folder))
        with _queue(pending, sweep, folder, store, options) as queue:
            worker.execute_all(pending, queue)
            if sweep.search and only is None:
                with _study(queue, sweep, folder, options) as study:
                    worker.search(sweep.search, study)
                runs += _further(worker, queue, lambda: save_confirmation_runs(sweep, folder))
            if options.until and only is None:
                runs += _further(worker, queue, lambda: added_runs(sweep, folder, options))
    return entries(folder, runs)


def _pending(folder: Path, runs: Sequence[SweepRun], only: Sequence[int] | None, options: WorkerOptions) -> list[SweepRun]:
    """List the runs to execute, the same on all hosts."""
    keys = set(on_leader(lambda: [run.hash for run in unfinished(folder, runs, only, options.retry)]))
    return [run for run in runs if run.hash in keys]


def _further(worker: _Worker, queue: Queue, find: Callable[[], Sequence[SweepRun]]) -> tuple[SweepRun, ...]:
    """Execute runs that are known only after others, as the leading host finds them, and return them."""
    runs = _agreed_runs(worker.sweep, find)
    pending = _pending(worker.folder, runs, None, worker.options)
    if isinstance(queue, SharedQueue):
        queue.fill(pending, retry=worker.options.retry)
    worker.execute_all(pending, queue)
    return runs


def _agreed_runs(sweep: Sweep, runs: Callable[[], Sequence[SweepRun]]) -> tuple[SweepRun, ...]:
    """Return the runs that the leading host finds, on all hosts: each executes them together with the others."""
    if not is_multi_host():
        return tuple(runs())
    return tuple(recorded_run(sweep, record) for record in on_leader(lambda: [run_record(run) for run in runs()]))


def _queue(
    pending: Sequence[SweepRun], sweep: Sweep, folder: Path, store: str | None, options: WorkerOptions
) -> AbstractContextManager[Queue]:
    """Open the queue that the runs are taken from, on the leading host."""
    queue = run_on_all_hosts(
        lambda: open_queue(store, folder, sweep.name, pending, grace=options.grace, retry=options.retry) if store and is_leader() else None
    )
    return queue.alive() if queue else nullcontext(LocalQueue())


def _study(queue: Queue, sweep: Sweep, folder: Path, options: WorkerOptions) -> AbstractContextManager[Study | None]:
    """Open the search, on the leading host."""
    return Study(queue, sweep, folder, options.retry) if isinstance(queue, SharedQueue) else nullcontext()


class _Stop:
    """Question whether to stop, which all hosts of a worker ask equally often; remembers the answer."""

    def __init__(self, leave: Callable[[], bool]) -> None:
        self._leave, self.stopping = leave, False

    def __call__(self) -> bool:
        self.stopping = self.stopping or self._leave()
        return self.stopping


class _Shared:
    """Opened datasets, and the first of consecutive runs with the same `sharing_key`, whose data and programs the others use."""

    def __init__(self, ui: NullConsole, folder: Path) -> None:
        self._ui, self._folder = ui, folder
        self._sources: dict[str, Source] = {}
        self._key, self._first = "", None

    def source(self, data: Dataset) -> Source:
        """Open a dataset, once."""
        key = key_text(data)
        if key not in self._sources:
            self._sources[key] = data.open()
        return self._sources[key]

    def prepare(self, experiment: Experiment) -> RunContext:
        """Prepare a run; see `train.context.prepare`. Raises ImagesChanged for other images than those of earlier runs of the sweep."""
        if (key := sharing_key(experiment)) != self._key:
            self._key, self._first = key, None  # Memory is freed before the next images are loaded.
        context = prepare(experiment, self._ui, self._first, self.source(experiment.data))
        if not self._first and (changed := on_leader(lambda: images_changed(self._folder, experiment.data, context.data))):
            raise ImagesChanged(f"the images are not those of the runs in {self._folder}: {changed}; restore them, or use another --dir")
        self._first = self._first or context
        return context


@dataclass(frozen=True)
class _Worker:
    """What all runs of one call of `work` have in common."""

    sweep: Sweep
    folder: Path
    options: WorkerOptions
    commit: str | None
    ui: NullConsole
    stop: _Stop
    shared: _Shared

    def execute_all(self, runs: Sequence[SweepRun], queue: Queue) -> None:
        """Execute all free runs until none is left. Raises InputError, before any of them, where one cannot be planned."""
        groups: dict[str, list[SweepRun]] = {}
        for run in runs:
            run_on_all_hosts(lambda run=run: plan(run.experiment, self.shared.source(run.experiment.data).sizes["train"]))
            groups.setdefault(sharing_key(run.experiment), []).append(run)

        ordered = [run for group in groups.values() for run in group]
        for run in self._turns(lambda: queue.take(ordered), lambda: bool(runs) and queue.left(ordered), queue.pause):
            self._attempt(run, queue)

    def search(self, search: Search, study: Study | None) -> None:
        """Draw trials, on the leading host, and execute them one by one, until no worker has any left."""
        self.ui.say(describe_search(search))
        outcomes = study or LocalQueue()
        take, left = (study.take, lambda: study.left() > 0) if study else (lambda: None, lambda: False)
        for run in self._turns(take, left, outcomes.pause):
            self.ui.say(f"  {run.arm}: {', '.join(f'{name}={value_text(value)}' for name, value in run.values)}")
            self._attempt(run, outcomes, search)

    def _turns(self, take: Callable[[], SweepRun | None], left: Callable[[], bool], pause: float) -> Iterator[SweepRun]:
        """Yield the runs to execute, the same on all hosts.

        Args:
            take: returns a free run, or None; called on the leading host, as `left`.
            left: whether any run may become free.
            pause: seconds to wait before the next look, while there is none.
        """
        due = 0.0

        def turn() -> tuple[SweepRun | None, bool]:
            nonlocal due
            if time.monotonic() < due:
                return None, True
            run, more = take(), True
            if not run and (more := left()):
                run = take()
            due = 0.0 if run else time.monotonic() + pause
            return run, more

        more = True
        while more:
            if self.stop():
                raise Preempted("preempted between two runs; the same command goes on")
            run, more = self._agreed(turn)
            if run:
                yield run
            elif more:
                time.sleep(min(NAP, pause))

    def _agreed(self, turn: Callable[[], tuple[SweepRun | None, bool]]) -> tuple[SweepRun | None, bool]:
        """Return the next run and whether more may follow, as the leading host has decided."""
        if not is_multi_host():
            return turn()

        def record() -> list[Any]:
            run, more = turn()
            return [run and run_record(run), more]

        known, more = on_leader(record)
        return known and recorded_run(self.sweep, known), more

    def _attempt(self, run: SweepRun, outcomes: Outcomes, search: Search | None = None) -> None:
        """Execute a run, a trial of `search` if given, and report how it ended."""
        title, objective = f"run {run.number} ({run.arm}, seed {run.seed})", search.objective if search else "accuracy"
        study = outcomes if isinstance(outcomes, Study) else None
        try:
            summary = self._execute(run, search, study)
        except Preempted:
            raise
        except ImagesChanged:
            outcomes.give_back(run)
            raise
        except Pruned as pruned:
            if study:
                tidy(run_folder(self.folder, run.hash), self.options.keep, ended=True)
                study.prune(run)
            self.ui.say(f"  {title}: {pruned}")
        except InUse as error:
            outcomes.give_back(run)
            self.ui.say(f"  {title} is skipped: {str(error).rpartition('; ')[0]}")  # what to do instead is for a run alone
            time.sleep(outcomes.pause)
        except Exception as error:
            if is_multi_host() and not isinstance(error, InputError):
                raise  # It may be of one host: all end, and another worker takes the run.
            if is_leader():
                reason = save_failure(self.folder, run, error)
                outcomes.fail(run, reason, isinstance(error, Diverged))
                self.ui.say(f"  {title} failed: {reason}")
        else:
            value, measure = objective_value(summary["valid"], objective)  # None without validation images, but the queue needs a number.
            outcomes.finish(run, value or 0.0)
            self.ui.say(f"  {title}: " + ("finished" if value is None else f"validation {measure} {value:.4f}"))

    def _execute(self, run: SweepRun, search: Search | None, study: Study | None) -> RunSummary:
        own, keep = run_folder(self.folder, run.hash), self.options.keep
        config = to_json(run.experiment) | {"sweep": {"arm": run.arm, "seed": run.seed}}
        tracking = Tracking(self.options.track, own, self.sweep.name, config)

        def prepared(experiment: Experiment) -> RunContext:
            # A stage that diverges goes back to its newest checkpoint, which must not depend on the clock.
            always = experiment.checkpoint_steps or experiment.on_divergence == "halve"
            limiter = RateLimiter(0 if always else self.options.pace)
            context = self.shared.prepare(experiment)._replace(
                due=lambda: self.stop.stopping or on_leader(limiter),  # hosts have different clocks
                leave=self.stop,
                track=tracking.row,
            )
            if not search:
                return context
            require("valid" in context.images, "data", experiment.data, "trials are judged by validation images, and there are none")
            return context._replace(watch=_reporter(run, context, search.objective, study, own))

        with closing(tracking):
            summary = recipe.run(
                run.experiment,
                own,
                resume=True,
                commit=self.commit,
                keep_network=keep != "results",
                ui=self.ui,
                compile_ahead=False,
                prepared=prepared,
            )
            if is_leader():
                tracking.finish(summary, ())
                tidy(own, keep)
        return summary


def _reporter(run: SweepRun, context: RunContext, objective: str, study: Study | None, folder: Path) -> Callable[[dict[str, Any]], None]:
    """Return a function that reports a trial's cycle ends, counted over all stages; reports those of an earlier attempt at once.

    Only the leading host has the study; all end a trial that is pruned.
    """
    counts = [len(p.table.ends) for p in context.plan.stages]

    def report(row: dict[str, Any], last: bool = False) -> None:
        end = sum(counts[: row["stage_index"]]) + row["cycle"] + 1

        def verdict() -> str:
            assert study
            try:
                value, _ = objective_value(row, objective)
                assert value is not None
                study.report(run, end, value, last=last or end == sum(counts))
            except Pruned as pruned:
                return str(pruned)
            return ""

        if reason := on_leader(verdict):
            raise Pruned(reason)

    def earlier() -> list[dict[str, Any]]:
        rows = read(folder).rows if (folder / "config.json").exists() else ()
        return [dict(row) for row in rows if row["kind"] == "eval"]

    for row in on_leader(earlier):
        report(row, last=True)  # Replayed from an earlier attempt: never prune on replayed values.
    return report
