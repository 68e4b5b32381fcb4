"""`sgdr-jax sweep`."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...core.console import NullConsole
from ...core.errors import InputError
from ...core.plan import plan
from ...core.validation import require
from ...sweeps import local_workers
from ...sweeps.analysis.tables import space_table, sweep_table, trials_table
from ...sweeps.optuna_study import Study
from ...sweeps.run_status import Entry, entries, unfinished
from ...sweeps.shared_queue import SharedQueue, check_disk, opened
from ...sweeps.spec import Sweep, expand, keep
from ...sweeps.trial_records import chosen, trials
from .. import experiment_file
from ..launch import Slurm
from ..options import SweepCommand


def sweep(command: SweepCommand, file: str, words: Sequence[str], ui: NullConsole, slurm: Slurm | None = None) -> None:
    """Runs the sweep of a file, or says what it would do; exits with 1 when a run has failed.

    Args:
        words: the command line after the file, for further workers, without what `slurm` was made of.
        slurm: where workers are submitted to, with --launch.
    """
    made = dataclasses.replace(experiment_file.load_sweep(file), base=command.experiment)
    folder = command.dir or Path("runs") / made.name
    only = _numbers(command.only)
    require(command.workers >= 1, "--workers", command.workers, "use 1 or more")
    require(command.pace >= 0, "--pace", command.pace, "use a number of seconds, or 0 for every cycle's end")
    require(command.grace > 0, "--grace", command.grace, "use a number of seconds above 0")
    runs = expand(made)
    if slurm:
        return _submit(made, folder, only, command, file, words, slurm, ui)
    if command.dry_run:
        sizes = {data: data.open().sizes["train"] for data in dict.fromkeys(run.experiment.data for run in runs)}
        plans = [plan(run.experiment, sizes[run.experiment.data]) for run in runs]
        ui.say(sweep_table(entries(folder, runs), plans))
        if made.search:
            ui.say(space_table(made.search))
            images = sum(stage.images for stage in plan(made.base, sizes[made.base.data]).stages)
            ui.say(f"a trial like the base shows {images:,} images, all of them {made.search.count * images:,}, less what is ended early")
            ui.say(f"the best trial is then run with {len(made.seeds) - 1} other seeds, beside the arms")
            _say_trials(made, folder, ui)
        return
    ui.say(f"sweep folder: {folder}")
    try:
        done = _here(made, folder, only, command, file, ui) if command.workers == 1 else _crew(made, folder, only, command, file, words, ui)
    except KeyboardInterrupt:
        ui.say(f"to go on, repeat the command with --dir {folder}")
        raise
    ui.say(sweep_table(done))
    _say_trials(made, folder, ui)
    for entry in done:
        if entry.error:
            ui.say(f"run {entry.run.number} ({entry.run.arm}, seed {entry.run.seed}) failed: {entry.error}")
    ui.say(f"sweep folder: {folder}")
    if any(entry.error for entry in done):
        raise SystemExit(1)


def _say_trials(made: Sweep, folder: Path, ui: NullConsole) -> None:
    if made.search and (found := trials(folder, made.search.objective)):
        ui.say(trials_table(found, made.search.objective))


def _submit(
    made: Sweep, folder: Path, only: list[int] | None, command: SweepCommand, file: str, words: Sequence[str], slurm: Slurm, ui: NullConsole
) -> None:
    """The sweep by an array of jobs. Whatever its store refuses is refused here, before it is submitted."""
    runs, store = expand(made), command.store or str(folder / "store.journal")
    todo = unfinished(folder, runs, only, command.retry)
    check_disk(store)
    slurm.check_single()
    worker = ("sweep", file, *_for_workers(words), "--store", store, "--dir", str(folder))
    ready = partial(slurm.workers, (sys.executable, "-m", "sgdr_jax", *worker), command.workers, folder, made.name, ui)
    if slurm.dry_run:
        return ready()
    slurm.check(folder, made.name)
    keep(folder, made, runs)
    ui.say(f"sweep folder: {folder}")
    with opened(store, folder, made.name, todo, grace=command.grace, retry=command.retry).alive() as door:
        _free_failed(made, folder, command, door)
    ready()


def _free_failed(made: Sweep, folder: Path, command: SweepCommand, door: SharedQueue) -> None:
    """Queues the failed trials of a search again, with --retry."""
    if made.search and command.retry:
        Study(door, made, folder, retry=True).take(0)


def _for_workers(words: Sequence[str]) -> list[str]:
    return local_workers.without(words, ("--workers", "--store", "--dir", "--launch"), ("--retry", "--no-retry"))


def _here(made: Sweep, folder: Path, only: list[int] | None, command: SweepCommand, file: str, ui: NullConsole) -> list[Entry]:
    from ...sweeps.runner import work

    how: dict[str, Any] = {name: getattr(command, name) for name in ("retry", "keep", "pace", "store", "grace")}
    return work(made, folder, only=only, **how, experiment_file=file, ui=ui)


def _crew(
    made: Sweep, folder: Path, only: list[int] | None, command: SweepCommand, file: str, words: Sequence[str], ui: NullConsole
) -> list[Entry]:
    """The sweep by several processes. Whatever their store refuses is refused here, before any of them starts."""
    runs = expand(made)
    todo = unfinished(folder, runs, only, command.retry)
    keep(folder, made, runs)
    store = command.store or str(folder / "store.db")
    searching = made.search if only is None else None
    if todo or searching:
        with opened(store, folder, made.name, todo, grace=command.grace, retry=command.retry).alive() as door:
            _free_failed(made, folder, command, door)
        line = ("sweep", file, *_for_workers(words), "--store", store, "--dir", str(folder))
        total = len(todo) + (searching.count if searching else 0)

        def ended() -> int:
            tried = trials(folder, searching.objective) if searching else []
            return len(todo) - len(unfinished(folder, todo)) + sum(trial.ended for trial in tried)

        lost = local_workers.run(command.workers, line, folder / "workers", ended, total, ui)
        left = len(unfinished(folder, todo))
        require(lost < command.workers or not left, "--workers", command.workers, f"all have ended, {left} runs are left; see above")
        runs += chosen(made, folder) if searching else ()
    return entries(folder, runs)


def _numbers(text: str) -> list[int] | None:
    """The numbers that "3,7" or "0-4" stand for; None for none."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise InputError(f"--only is {text!r}; give numbers of runs, such as 3,7 or 0-4")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found or None
