"""`sgdr-jax sweep`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from .. import experiment_file
from ..config import require
from ..ledger import entries
from ..options import SweepCommand
from ..plan import plan
from ..progress import Quiet
from ..sweep import expand
from ..tables import sweep_table
from ..types import InputError


def sweep(command: SweepCommand, file: str, ui: Quiet) -> None:
    """Runs the sweep of a file, or says what it would do; exits with 1 when a run has failed."""
    made = dataclasses.replace(experiment_file.load_sweep(file), base=command.experiment)
    folder = command.dir or Path("runs") / made.name
    only = _numbers(command.only)
    require(command.lanes is None or command.lanes >= 1, "--lanes", command.lanes, "use 1 or more")
    runs = expand(made)
    if command.dry_run:
        sizes = {data: data.open().sizes["train"] for data in dict.fromkeys(run.experiment.data for run in runs)}
        plans = [plan(run.experiment, sizes[run.experiment.data]) for run in runs]
        ui.say(sweep_table(entries(folder, runs), plans))
        return
    from ..workers import work

    ui.say(f"sweep folder: {folder}")
    try:
        how = {"only": only, "lanes": command.lanes, "retry": command.retry, "keep": command.keep}
        done = work(made, folder, **how, experiment_file=file, ui=ui)
    except KeyboardInterrupt:
        ui.say(f"to go on, repeat the command with --dir {folder}")
        raise
    ui.say(sweep_table(done))
    for entry in done:
        if entry.error:
            ui.say(f"run {entry.run.number} ({entry.run.arm}, seed {entry.run.seed}) failed: {entry.error}")
    ui.say(f"sweep folder: {folder}")
    if any(entry.error for entry in done):
        raise SystemExit(1)


def _numbers(text: str) -> list[int] | None:
    """The numbers that "3,7" or "0-4" stand for; None for none."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise InputError(f"--only is {text!r}; give numbers of runs, such as 3,7 or 0-4")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found or None
