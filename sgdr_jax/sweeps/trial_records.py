"""Status of the trials of a search, read from the sweep's folder.

trials/HASH.json    `TrialRecord`: number and values of a trial, written when it is drawn; its run folder is runs/HASH
pruned/HASH.json    `PrunedRecord`: at which cycle end, and with which value, it was pruned
chosen.json         `ConfirmationRecord`: the runs of the best trial with the other seeds of the sweep
added.json          list of `RunRecord`: runs with further seeds, which arms need for an interval as narrow as wanted
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from ..core.files import write_atomically
from ..core.json_files import read_json
from ..core.serialization import from_json
from ..evaluation.metrics import SCORE_NAMES, judged_by
from .run_status import read_status
from .search_space import Search, short_name, value_text
from .spec import Sweep, SweepRun, confirmation_runs
from .sweep_record import RunRecord, recorded_run, run_record


class TrialRecord(RunRecord):
    """Content of trials/HASH.json: the run, and its values as text by short names."""

    shown: dict[str, str]


class PrunedRecord(TypedDict):
    """Content of pruned/HASH.json: number of the trial, cycle ends that it reached, value of the objective there."""

    trial: int
    cycle_ends: int
    value: float


class ConfirmationRecord(TypedDict):
    """Content of chosen.json: number of the best trial, and its runs with the other seeds."""

    trial: int
    runs: list[RunRecord]


class Trial(NamedTuple):
    """A trial of a search.

    Attributes:
        number: in the order in which the trials were drawn, from 0.
        values: fields that it sets, with their values as JSON data.
        shown: the same as text, by short names of the fields.
        hash: hash of its run.
        state: "finished", "pruned", "failed", "begun", or "" before that.
        value: objective of the finished run, or where it was pruned; None where there is none.
        measure: what it is: "accuracy", "mAP" or "loss"; see `Search.objective`.
        cycle_ends: cycle ends that it reached where it was pruned, else 0.
        seconds: duration of the finished run, or None.
        error: why it failed, or "".
    """

    number: int
    values: dict[str, object]
    shown: dict[str, str]
    hash: str
    state: str
    value: float | None
    measure: str
    cycle_ends: int
    seconds: float | None
    error: str

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state in ("finished", "pruned", "failed")


def save_trial(folder: Path, run: SweepRun) -> None:
    """Record the values of a trial; of equal draws the first is kept."""
    file, names = folder / "trials" / f"{run.hash}.json", [name for name, _ in run.values]
    if not file.exists():
        shown = {short_name(name, names): f"{x:.3g}" if isinstance(x, float) else value_text(x) for name, x in run.values}
        _write(file, TrialRecord(**run_record(run), shown=shown))


def save_pruned(folder: Path, run: SweepRun, cycle_ends: int, value: float) -> None:
    """Record that a trial was pruned."""
    _write(folder / "pruned" / f"{run.hash}.json", PrunedRecord(trial=run.number, cycle_ends=cycle_ends, value=value))


def _write(file: Path, record: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(record, ensure_ascii=False) + "\n")


def _read[T](file: Path, kind: type[T]) -> T | None:
    """Return the content of a file; None where there is none."""
    return read_json(file, kind, "restore it, or use another --dir")


def read_trials(folder: Path, objective: str) -> list[Trial]:
    """Read all trials of a sweep's folder, in the order in which they were drawn.

    Args:
        folder: folder of the sweep.
        objective: "accuracy" or "loss", see `Search`.
    """
    records = [record for file in (folder / "trials").glob("*.json") if (record := _read(file, TrialRecord))]
    return sorted((_trial(folder, record, objective) for record in records), key=lambda trial: trial.number)


def _trial(folder: Path, record: TrialRecord, objective: str) -> Trial:
    status = read_status(folder, record["hash"])
    pruned = None if status.summary else _read(folder / "pruned" / f"{record['hash']}.json", PrunedRecord)
    value, measure = objective_value(status.summary.get("valid", {}), objective)
    return Trial(
        number=record["number"],
        values=record["values"],
        shown=record["shown"],
        hash=record["hash"],
        state="pruned" if pruned else status.state,
        value=pruned["value"] if pruned else value,
        measure=measure,
        cycle_ends=pruned["cycle_ends"] if pruned else 0,
        seconds=status.summary.get("seconds"),
        error="" if pruned else status.error,
    )


def objective_value(figures: Mapping[str, Any], objective: str) -> tuple[float | None, str]:
    """Return the objective among the figures of validation images, None without, and what it is called; see `Search.objective`."""
    measure = judged_by(figures) if objective == "accuracy" else objective
    return figures.get(measure), SCORE_NAMES.get(measure, measure)


def best_trial(search: Search, trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial with the best value, of equal ones the first; None where none has finished."""
    sign = 1 if search.objective == "accuracy" else -1
    finished = [(sign * trial.value, trial) for trial in trials if trial.state == "finished" and trial.value is not None]
    return max(finished, key=lambda pair: pair[0])[1] if finished else None


def save_confirmation_runs(sweep: Sweep, folder: Path) -> tuple[SweepRun, ...]:
    """Record and return the runs of the best trial with the other seeds, once all trials have ended; () before.

    Raises:
        InputError: for values of types that no imported file defines.
    """
    assert sweep.search
    trials = read_trials(folder, sweep.search.objective)
    if not all(trial.ended for trial in trials) or not (best := best_trial(sweep.search, trials)):
        return ()
    runs = confirmation_runs(sweep, tuple((name, from_json(value)) for name, value in best.values.items()))
    _write(folder / "chosen.json", ConfirmationRecord(trial=best.number, runs=[run_record(run) for run in runs]))
    return runs


def read_confirmation_runs(folder: Path) -> list[RunRecord]:
    """Read the runs of the best trial with the other seeds; [] before it is known."""
    record = _read(folder / "chosen.json", ConfirmationRecord)
    return record["runs"] if record else []


def recorded_runs(sweep: Sweep, folder: Path) -> list[SweepRun]:
    """Return the recorded runs beside those that the sweep lists: those of the best trial, and those with further seeds."""
    return [recorded_run(sweep, record) for record in (*read_confirmation_runs(folder), *read_added_runs(folder))]


def save_added_runs(folder: Path, runs: Sequence[SweepRun]) -> None:
    """Record runs with further seeds, beside those that were recorded before."""
    known = read_added_runs(folder)
    new = [run_record(run) for run in runs if run.hash not in {record["hash"] for record in known}]
    if new:
        write_atomically(folder / "added.json", json.dumps([*known, *new], ensure_ascii=False) + "\n")


def read_added_runs(folder: Path) -> list[RunRecord]:
    """Read the runs with further seeds; [] where there are none. Those of a best trial that is the best no longer are left out."""
    best = {run["arm"]: run["values"] for run in read_confirmation_runs(folder)}
    return [run for run in _read(folder / "added.json", list[RunRecord]) or [] if run["values"] == best.get(run["arm"], run["values"])]
