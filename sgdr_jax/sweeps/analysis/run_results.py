"""The runs of a sweep as a comparison reads them: final figures, kept networks, curves, and where they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import InputError
from ...runs.folder import read_summary
from .. import spec

FINAL = "final network"
"""What the run's final network is called among the networks that it has kept."""


class Found(NamedTuple):
    """One run of a sweep, as far as it has come.

    Attributes:
        folder: of the run.
        arm, seed, values: see `sweep.SweepRun`; the values are JSON data.
        missing: why it does not count, or "".
        summary: of the finished run, else empty; the figures in it are those of the network.
        network: which answers; "" for the final one, else a name as in the summary's "snapshots".
    """

    folder: Path
    arm: str
    seed: int
    values: dict[str, Any]
    missing: str
    summary: dict[str, Any]
    network: str = ""

    def value(self, split: str, measure: str, tta: bool) -> float:
        """A final figure; with `tta` that of all views mixed, where there are several. Not a number where the run has none."""
        figures = self.summary.get(split) or {}
        held = figures.get(f"tta_{measure}") if tta else None
        held = figures.get(measure) if held is None else held
        return math.nan if held is None else float(held)

    @property
    def seconds(self) -> float:
        """Time of all stages, with their validation; not a number where unknown."""
        return sum(number(stage.get("seconds")) for stage in self.summary.get("stages", ()))


def find(folder: Path, row: dict[str, Any]) -> Found:
    """A run of the sweep, finished or not."""
    own, reason, summary = spec.run_folder(folder, row["hash"]), "", {}
    try:
        summary = read_summary(own)
        made = _json(own / "environment.json").get("config_hash", row["hash"])
        if summary and made != row["hash"]:
            summary, reason = {}, f"its folder {own} holds a run of config {made}; give folders their own names again"
    except InputError as error:
        reason = str(error)
    if not summary and not reason:
        failed = folder / "failed" / f"{row['hash']}.json"
        if failed.exists():
            reason = f"failed: {json.loads(failed.read_text(encoding='utf-8')).get('error', 'for no known reason')}"
        else:
            reason = "begun, not finished" if own.exists() else "not run yet"
    return Found(own, row["arm"], row["seed"], row["values"], reason, summary)


def by_network(run: Found) -> list[Found]:
    """A finished run's networks, each as a run of an arm of its own: the final one, the last, averages and ensembles; not the members, the
    earlier cycle ends. [] where it kept none."""
    kept = []
    for row in run.summary.get("snapshots", ()):
        name = row["name"].partition(" (")[0]  # of the last one without its cycle, which is another where a stage ended early
        if not name.startswith("stage-"):
            figures = {split: row[split] for split in ("valid", "test") if split in row}
            kept.append(run._replace(arm=name, summary=run.summary | figures, network="" if name == FINAL else row["name"]))
    return sorted(kept, key=lambda one: one.arm != FINAL)


def images(run: Found) -> float:
    """Images shown in training: updates times images per update, over all stages."""
    config = _json(run.folder / "config.json")
    try:
        sizes = {stage["name"]: stage.get("batch_size") or config["batch_size"] for stage in config["stages"]}
        return float(sum(stage["steps"] * sizes[stage["name"]] for stage in run.summary["stages"]))
    except (KeyError, TypeError):
        return math.nan


def _json(file: Path) -> dict[str, Any]:
    """The data of a file; empty where it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def origin(folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Commands, dates, machines, versions and commits of the runs, the commonest first; dates as first and last."""
    tallies: dict[str, dict[str, int]] = {name: {} for name in ("command", "date", "machine", "versions", "commit")}
    for folder in folders:
        try:
            start = _json(folder / "environment.json")["starts"][-1]
            words = [Path(start["command"][0]).name, *start["command"][1:]]
            packages = start["packages"]
            facts = {
                "command": " ".join(words),
                "date": start["started"][:10],
                "machine": f"{start['cpus']} cores of {start['cpu']}; {', '.join(start['devices'])}",
                "versions": ", ".join(f"{name} {packages[name]}" for name in ("sgdr_jax", "jax", "flax", "numpy") if name in packages)
                + f", Python {start['python']}",
                "commit": str(start.get("commit") or ""),
            }
        except (KeyError, IndexError, TypeError):
            continue
        for name, fact in facts.items():
            tallies[name][fact] = tallies[name].get(fact, 0) + 1
    dates = sorted(tallies.pop("date"))
    common = {name: tuple(sorted(filter(None, tally), key=lambda fact: (-tally[fact], fact))) for name, tally in tallies.items()}
    return common | {"date": tuple(dict.fromkeys(dates[:1] + dates[-1:]))}


class Curve(NamedTuple):
    """Validation accuracy of one run at its cycle ends, over all stages: epochs and seconds since the first update, and the accuracy."""

    epochs: np.ndarray
    seconds: np.ndarray
    accuracy: np.ndarray


def curve(run: Found) -> Curve:
    """The curve of a finished run; empty where its rows are gone."""
    stages, rows = {stage["name"]: stage for stage in run.summary.get("stages", ())}, []
    try:
        with (run.folder / "metrics.jsonl").open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.startswith('{"kind": "eval"') and line.endswith("\n")]
    except (OSError, ValueError):
        pass
    starts, epochs, seconds = {}, 0.0, 0.0
    for name, stage in stages.items():
        starts[name] = (epochs, seconds)
        epochs, seconds = epochs + number(stage.get("epochs")), seconds + number(stage.get("seconds"))
    points = [
        (starts[row["stage"]][0] + row["epoch"], starts[row["stage"]][1] + row["seconds"], row["accuracy"])
        for row in rows
        if row.get("stage") in starts and row.get("accuracy") is not None
    ]
    return Curve(*np.array(points, float).reshape(-1, 3).T)


def number(value: Any) -> float:
    """A figure of a summary; not a number where it is missing."""
    return math.nan if value is None else float(value)
