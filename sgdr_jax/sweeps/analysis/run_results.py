"""Results of a sweep's runs as a comparison reads them: final figures, kept networks, learning curves, and their origin."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import InputError
from ...core.json_files import parse_json, read_json
from ...evaluation.metrics import judged_by
from ...report.run_curves import number
from ...runs.records import EvalRow
from ..run_status import read_status
from ..sweep_record import RunRecord, run_folder

FINAL = "final network"
"""Name of a run's final network among the networks that it has kept."""


class RunResult(NamedTuple):
    """One run of a sweep, finished or not.

    Attributes:
        folder: run folder.
        arm: name of its arm.
        seed: seed of the run.
        values: fields that the arm sets, with their values as JSON data.
        missing: why it does not count, or "".
        summary: summary of the finished run, else empty; its figures are those of the network.
        environment: content of environment.json; empty where it cannot be read.
        network: which network answers: "" for the final one, else a name as in the summary's "snapshots".
    """

    folder: Path
    arm: str
    seed: int
    values: dict[str, object]
    missing: str
    summary: dict[str, Any]
    environment: dict[str, Any]
    network: str = ""
    again: tuple[dict[str, Any], ...] = ()

    def value(self, split: str, measure: str, tta: bool) -> float:
        """Return a final figure, with `tta` that of all views mixed where there are several; NaN where the run has none.

        The accuracy of multi-label data is the mean average precision; see `metrics.judged_by`.
        """
        figures = self.summary.get(split) or {}
        measure = judged_by(figures) if measure == "accuracy" else measure
        mixed = figures.get(f"tta_{measure}") if tta else None
        return number(figures.get(measure) if mixed is None else mixed)

    @property
    def seconds(self) -> float:
        """Duration of all stages with their validation, those of a refit included; NaN where unknown."""
        return sum(number(stage.get("seconds")) for stage in (*self.summary.get("stages", ()), *self.again))


def read_result(folder: Path, run: RunRecord) -> RunResult:
    """Read a run of the sweep, finished or not."""
    own, reason, summary = run_folder(folder, run["hash"]), "", {}
    environment = _json(own / "environment.json")
    try:
        status = read_status(folder, run["hash"])
        summary, config = status.summary, environment.get("config_hash", run["hash"])
        if summary and config != run["hash"]:
            summary, reason = {}, f"its folder {own} holds a run of config {config}; restore the names of the folders"
        elif not summary:
            reason = f"failed: {status.error}" if status.error else "begun, not finished" if status.begun else "not run yet"
    except InputError as error:
        reason = str(error)
    again = tuple(_json(own / "refit" / "summary.json").get("stages", ())) if summary else ()
    return RunResult(own, run["arm"], run["seed"], run["values"], reason, summary, environment, again=again)


def by_network(run: RunResult) -> list[RunResult]:
    """Split a finished run by its kept networks, each as a run of its own arm.

    These are the final one, the last, averages and ensembles, but not the members (earlier cycle ends). [] where it kept none.
    Figures that some lack are left out: earlier versions measured the average precision of the final network alone.
    """
    rows = [row for row in run.summary.get("snapshots", ()) if not row["name"].startswith("stage-")]
    splits = [split for split in ("valid", "test") if rows and split in rows[0]]
    shared = {split: set.intersection(*(set(row[split]) for row in rows)) for split in splits}
    networks = []
    for row in rows:
        name = row["name"].partition(" (")[0]  # The cycle of the last network varies where a stage stopped early.
        figures = {split: {key: value for key, value in row[split].items() if key in shared[split]} for split in splits}
        networks.append(run._replace(arm=name, summary=run.summary | figures, network="" if name == FINAL else row["name"]))
    return sorted(networks, key=lambda result: result.arm != FINAL)


def images(run: RunResult) -> float:
    """Count the images shown in training, over all stages, those of a refit included. NaN where unknown.

    Of runs of earlier versions: updates times images per update, which is not right for solved heads and padded batches.
    """
    config = _json(run.folder / "config.json")
    try:
        sizes = {stage["name"]: stage.get("batch_size") or config["batch_size"] for stage in config["stages"]}
        return float(sum(stage.get("images", stage["steps"] * sizes[stage["name"]]) for stage in (*run.summary["stages"], *run.again)))
    except (KeyError, TypeError):
        return math.nan


def class_names(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Return the names of the classes as the first of the runs that has kept them has it; () where none has."""
    return next((tuple(map(str, names)) for run in runs if (names := _json(run.folder / "data.json").get("classes"))), ())


def _json(file: Path) -> dict[str, Any]:
    """Return the data of a file; empty where it cannot be read."""
    try:
        return read_json(file, dict[str, Any], "") or {}
    except InputError:
        return {}


class Origin(NamedTuple):
    """How and where runs were made: different values of each fact, the commonest first; of the dates the first and the last."""

    command: tuple[str, ...]
    machine: tuple[str, ...]
    versions: tuple[str, ...]
    commit: tuple[str, ...]
    dates: tuple[str, ...]


def origin(runs: Sequence[RunResult]) -> Origin:
    """Return commands, machines, versions, commits and dates of runs."""
    facts = [fact for run in {run.folder: run for run in runs}.values() if (fact := _facts(run.environment))]
    command, machine, versions, commit, dates = zip(*facts, strict=True) if facts else ((),) * 5
    first_and_last = tuple(dict.fromkeys(sorted(dates)[i] for i in (0, -1))) if dates else ()
    return Origin(_common(command), _common(machine), _common(versions), _common(commit), first_and_last)


def _common(values: Iterable[str]) -> tuple[str, ...]:
    """List different values, the commonest first."""
    counts = Counter(filter(None, values))
    return tuple(sorted(counts, key=lambda value: (-counts[value], value)))


def _facts(environment: dict[str, Any]) -> tuple[str, str, str, str, str] | None:
    """Return command, machine, versions, commit and date of a run's last start; None where they are unknown."""
    try:
        start = environment["starts"][-1]
        packages = start["packages"]
        versions = [f"{name} {packages[name]}" for name in ("sgdr_jax", "jax", "flax", "numpy") if name in packages]
        return (
            " ".join((Path(start["command"][0]).name, *start["command"][1:])),
            f"{start['cpus']} cores of {start['cpu']}; {', '.join(start['devices'])}",
            ", ".join((*versions, f"Python {start['python']}")),
            str(start.get("commit") or ""),
            start["started"][:10],
        )
    except (KeyError, IndexError, TypeError):
        return None


class LearningCurve(NamedTuple):
    """Validation accuracy (see `metrics.judged_by`) of one run at its cycle ends, over epochs and seconds since the first update."""

    epochs: np.ndarray
    seconds: np.ndarray
    accuracy: np.ndarray


def learning_curve(run: RunResult) -> LearningCurve:
    """Read the learning curve of a finished run; empty where its rows are missing."""
    rows: list[EvalRow] = []
    try:
        with (run.folder / "metrics.jsonl").open("rb") as file:
            rows = [parse_json(line, EvalRow, whole=False) for line in file if line.startswith(b'{"kind": "eval"') and line.endswith(b"\n")]
    except (OSError, ValueError):
        pass
    starts, epochs, seconds = {}, 0.0, 0.0
    for stage in run.summary.get("stages", ()):
        starts[stage["name"]] = (epochs, seconds)
        epochs, seconds = epochs + number(stage.get("epochs")), seconds + number(stage.get("seconds"))
    known = [row for row in rows if row.get("stage") in starts and {"epoch", "seconds", "accuracy"} <= row.keys()]
    points = [(starts[row["stage"]][0] + row["epoch"], starts[row["stage"]][1] + row["seconds"], row[judged_by(row)]) for row in known]
    points = [point for point in points if not math.isnan(point[-1])]
    return LearningCurve(*np.array(points, float).reshape(-1, 3).T)
