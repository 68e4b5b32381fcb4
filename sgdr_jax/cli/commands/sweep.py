"""`sgdr-jax sweep`."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import tyro

from ...core.console import NullConsole
from ...core.errors import InputError, Preempted
from ...core.experiment import Experiment
from ...core.plan import Plan, plan
from ...core.serialization import key_text, to_json
from ...core.validation import require
from ...runs.folder import differences
from ...sweeps.analysis.tables import space_table, sweep_table, trials_table
from ...sweeps.local_workers import LAST_LINE, gpu_shares, run_workers
from ...sweeps.options import WorkerOptions
from ...sweeps.optuna_storage import check_disk
from ...sweeps.optuna_study import Study
from ...sweeps.run_status import Entry, entries, forget_failures, unfinished
from ...sweeps.shared_queue import default_store, open_queue
from ...sweeps.spec import Sweep, SweepRun, all_arms, expand
from ...sweeps.sweep_record import check_sweep, save_sweep, sweep_record
from ...sweeps.trial_records import best_trial, read_trials, recorded_runs, save_confirmation_runs
from ..experiment_file import load_sweep
from ..launch.local import DEVICES, Local
from ..launch.slurm import Slurm
from ..options import ExperimentCommand
from ..parsing import parse, parse_known
from .train import Hosts


@dataclass(frozen=True, kw_only=True)
class SweepCommand(WorkerOptions, ExperimentCommand):
    """Run a sweep: an experiment along axes of its fields, or a search among them.

    Finished runs are skipped, interrupted ones continue, and a failed run does not stop the others. The options of the experiment change
    the base of the sweep. On SIGTERM or SIGUSR1 all workers save their state, and the command exits with 75.
    """

    section = "Sweeps"
    resumable = True

    dir: Path | None = None
    """Folder of the sweep; by default runs/NAME."""
    dry_run: bool = False
    """Only print the table of runs, with estimates of their cost."""
    only: str = ""
    """Numbers of the runs to execute, such as 3,7 or 0-4, without trials; by default all."""
    workers: int = 1
    """Number of workers on this machine, or of jobs with --launch slurm; others may join with the same --store and --dir."""
    processes: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """Number of processes of each worker on this machine, which execute each run together; each uses one accelerator."""
    hosts: Hosts = field(default_factory=Hosts)
    """How the processes of a worker on several hosts find each other; each starts this same command."""
    launch: Literal["slurm"] | None = None
    """slurm: submit the workers as an array of jobs, with the options of `launch slurm`; the store is DIR/store.journal by default."""
    definition: tyro.conf.Suppress[Sweep | None] = None
    """The sweep of the file, with the options of the command line."""
    slurm: tyro.conf.Suppress[Slurm | None] = None
    """Where workers are submitted to, with --launch."""
    words: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The command line after the file, for other workers, without the options of `slurm`."""

    @classmethod
    def parse(cls, file: str, words: Sequence[str], prog: str) -> Self:
        """Load a sweep file and parse the options that follow it, among them those of a Slurm job if --launch asks for one."""
        definition, slurm, prog = load_sweep(file), None, f"{prog} {file}"
        default = cls(experiment=definition.base, file=file)
        if parse_known(cls, words, prog, default)[0].launch:
            slurm, words = parse_known(Slurm, words, f"{prog} --launch slurm")
        command = parse(cls, words, prog, default)
        changed = dataclasses.replace(definition, base=command.experiment)
        _check_effect(definition, changed)
        return dataclasses.replace(command, definition=changed, slurm=slurm, words=tuple(words))

    def execute(self, ui: NullConsole) -> None:
        """Run the sweep, or print what it would do; exit with 1 when a run has failed or is left."""
        definition = self.definition
        assert definition is not None
        task = _Task(definition, self.dir or Path("runs") / definition.name, _numbers(self.only), self, ui)
        require(self.workers >= 1, "--workers", self.workers, "use 1 or more")
        alone = self.processes == 1 or self.slurm is None
        require(alone, "--processes", self.processes, "use --nodes and --tasks-per-node with --launch slurm")
        group = Local(self.processes)
        runs = expand(definition)
        self.check_baseline(all_arms(definition, runs))
        if self.slurm:
            return _submit(task, self.slurm)
        if self.dry_run:
            task.check_folder()
            return _explain(task, runs)
        if self.workers == 1 and self.processes > 1:
            task.pending()
            raise SystemExit(group.run([sys.executable, "-m", "sgdr_jax", *task.process()]))
        try:
            _run_here(task) if self.workers == 1 else _run_workers(task)
        except (KeyboardInterrupt, Preempted):
            ui.say(f"to continue, repeat the command with --dir {task.folder}")
            raise


def _check_effect(before: Sweep, now: Sweep) -> None:
    """Raise InputError for options of the experiment that change no run, since all arms set what they set."""
    seeds = f"the seeds of all arms are {', '.join(map(str, now.seeds))}: change Sweep.seeds in the file"
    require(now.base.seed == before.base.seed, "--seed", now.base.seed, seeds)
    same = {"parallel": 0}
    changes = differences(to_json(before.base) | same, to_json(now.base) | same)
    if changes and not now.search and [run.hash for run in expand(before)] == [run.hash for run in expand(now)]:
        raise InputError(f"{'; '.join(changes)}: no run changes, since every arm sets this; change the axes in the file")


class _Task(NamedTuple):
    """A sweep to run, and its command."""

    sweep: Sweep
    folder: Path
    only: list[int] | None
    command: SweepCommand
    ui: NullConsole

    @property
    def searches(self) -> bool:
        """Whether trials are to be drawn."""
        return self.sweep.search is not None and self.only is None

    def check_folder(self) -> None:
        """Raise InputError for a folder that the sweep would refuse; writes nothing."""
        check_sweep(self.folder, sweep_record(self.sweep, expand(self.sweep)))

    def pending(self) -> list[SweepRun]:
        """List the runs to execute."""
        return unfinished(self.folder, expand(self.sweep), self.only, self.command.retry)

    def added(self) -> tuple[SweepRun, ...]:
        """List the runs that are known only after others: those of the best trial, and further seeds for --until."""
        from ...sweeps.analysis.sequential import added_runs

        if self.only is not None:
            return ()
        best = save_confirmation_runs(self.sweep, self.folder) if self.sweep.search else ()
        return (*best, *added_runs(self.sweep, self.folder, self.command))

    def worker(self, store: str) -> tuple[str, ...]:
        """Return the command line of one worker: this one, whose last options win."""
        here = ("--launch", "None") if self.command.launch else ()
        own = ("--workers", "1", *here, "--no-retry", "--store", store, "--dir", str(self.folder))
        return ("sweep", self.command.file, *self.command.words, *own)

    def process(self) -> tuple[str, ...]:
        """Return the command line of one process of this worker."""
        return ("sweep", self.command.file, *self.command.words, "--processes", "1", "--dir", str(self.folder))

    def trials_left(self, store: str) -> int:
        """Count the trials that have not ended."""
        with open_queue(store, self.folder, self.sweep.name, (), grace=self.command.grace).alive() as queue:
            return Study(queue, self.sweep, self.folder).left()

    def open_store(self, store: str) -> None:
        """Create the sweep's folder and its queue, so that workers only join; raise InputError for what they would reject."""
        options = self.command
        pending = self.pending()
        if options.retry and self.only is None:
            pending += unfinished(self.folder, recorded_runs(self.sweep, self.folder), retry=True)
        save_sweep(self.folder, self.sweep, expand(self.sweep))
        with open_queue(store, self.folder, self.sweep.name, pending, grace=options.grace, retry=options.retry).alive() as queue:
            if self.sweep.search and options.retry:
                Study(queue, self.sweep, self.folder, retry=True)
        forget_failures(self.folder, pending if options.retry else ())


def _explain(task: _Task, runs: Sequence[SweepRun]) -> None:
    """Print the runs and the search space with estimates of their cost."""
    base, search, ui = task.sweep.base, task.sweep.search, task.ui
    sizes: dict[str, int] = {}

    def planned(experiment: Experiment) -> Plan:
        key = key_text(experiment.data)
        sizes[key] = sizes.get(key) or experiment.data.open().sizes["train"]
        return plan(experiment, sizes[key])

    ui.say(sweep_table(entries(task.folder, runs), [planned(run.experiment) for run in runs]))
    if search:
        ui.say(space_table(search))
        images = sum(stage.images for stage in planned(base).stages)
        ui.say(f"a trial like the base shows {images:,} images, all trials {search.count * images:,}, less what is pruned")
        ui.say(f"the best trial is then run with {len(task.sweep.seeds) - 1} other seeds, beside the arms")
        _show_trials(task)


def _show_trials(task: _Task) -> None:
    if (search := task.sweep.search) and (trials := read_trials(task.folder, search.objective)):
        task.ui.say(trials_table(trials))


def _submit(task: _Task, slurm: Slurm) -> None:
    """Submit the workers as an array of jobs; what they would reject is rejected before."""
    command, store = task.command, task.command.store or default_store(task.folder)
    task.check_folder()
    task.pending()
    check_disk(store)
    line = (sys.executable, "-m", "sgdr_jax", *task.worker(store))
    submit = partial(slurm.workers, line, command.workers, task.folder, task.sweep.name, task.ui)
    if not slurm.dry_run:
        slurm.check(task.folder, task.sweep.name)
        task.open_store(store)
        task.ui.say(f"sweep folder: {task.folder}")
    submit()


def _run_here(task: _Task) -> None:
    """Run the sweep in this process, or in this one together with those of other hosts."""
    from ...distributed import hosts
    from ...distributed.preemption import handle_signals
    from ...runs.environment import git_commit
    from ...sweeps.runner import work

    command = task.command
    hosts.initialize(**command.hosts.options([run.experiment for run in expand(task.sweep)]))
    with hosts.exit_together(), hosts.watch_hosts(), handle_signals() as leave:
        ui = task.ui if hosts.is_leader() else NullConsole()
        ui.say(f"sweep folder: {task.folder}")
        commit = hosts.on_leader(lambda: git_commit(command.file))
        done = work(task.sweep, task.folder, command, only=task.only, commit=commit, ui=ui, leave=leave)
        well = hosts.on_leader(lambda: _show(task, done))  # the others may not see the folder
    _end(well)


def _run_workers(task: _Task) -> None:
    """Run several processes; what they would reject is rejected before any of them starts."""
    folder, runs, pending = task.folder, expand(task.sweep), task.pending()
    workers, each = task.command.workers, task.command.processes
    task.ui.say(f"sweep folder: {folder}")
    search = task.sweep.search if task.searches else None
    if not pending and not search and not task.command.until:
        save_sweep(folder, task.sweep, runs)
        return _end(_show(task, entries(folder, runs)))
    store = task.command.store or default_store(folder)
    task.open_store(store)
    total = len(pending) + (search.count if search else 0)

    def ended() -> int:
        trials = read_trials(folder, search.objective) if search else []
        return len(pending) - len(unfinished(folder, pending)) + sum(trial.ended for trial in trials)

    groups = [{DEVICES: ",".join(map(str, range(i, i + each)))} for i in range(0, workers * each, each)]
    devices = groups if each > 1 else gpu_shares(workers)
    lost = run_workers(devices, task.worker(store), folder / "workers", ended, total, task.ui)
    added = task.added()
    left = len(unfinished(folder, (*pending, *added)))
    trials = task.trials_left(store) if search else 0
    what = f"{left} runs and {trials} trials" if search else f"{left} runs"
    require(not left and not trials, "--workers", workers, f"{lost} of them were lost, {what} are left; see {folder / 'workers'}")
    _end(_show(task, entries(folder, (*runs, *added))))


def _end(well: bool) -> None:
    """Exit with 1 unless all has ended well."""
    if not well:
        raise SystemExit(1)


def _show(task: _Task, done: Sequence[Entry]) -> bool:
    """Print how the runs have ended; return whether none has failed, and none is left because another process has it."""
    task.ui.say(sweep_table(done))
    _show_trials(task)
    for entry in done:
        if entry.error:
            task.ui.say(f"run {entry.run.number} ({entry.run.arm}, seed {entry.run.seed}) failed: {entry.error}")
    left = sum(not entry.summary and not entry.error for entry in done if task.only is None or entry.run.number in task.only)
    if left:
        runs, they = ("run is", "it") if left == 1 else ("runs are", "them")
        task.ui.say(f"{left} {runs} left: another process has {they}; repeat the command")
    failed, search = left > 0 or any(entry.error for entry in done), task.sweep.search
    if search and task.searches and not best_trial(search, trials := read_trials(task.folder, search.objective)):
        reason = Counter(trial.error for trial in trials if trial.error).most_common(1)
        task.ui.say(f"no trial has finished{f': {reason[0][0]}' if reason else ', see above'}")
        failed = True
    task.ui.say(f"{LAST_LINE}{task.folder}")
    return not failed


def _numbers(text: str) -> list[int] | None:
    """Parse "3,7" or "0-4" to numbers; None for an empty text."""
    if not text:
        return None
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise InputError(f"--only is {text!r}; give numbers of runs, such as 3,7 or 0-4")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    require(bool(numbers), "--only", text, "that names no run; give numbers such as 3,7 or 0-4")
    return numbers
