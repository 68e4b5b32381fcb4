"""Record of a sweep on disk: sweep.json and where its runs lie.

The folder of a sweep holds sweep.json (`SweepRecord`) and runs/HASH, the run folder of each run (see `runs.folder`). A run is finished when
its folder has a summary.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.json_files import read_json
from ..core.serialization import first_tags, from_json, stable_tags, to_json
from ..runs.folder import differences
from .spec import Sweep, SweepRun, baseline_name, with_values


class RunRecord(TypedDict):
    """A run as JSON data.

    Attributes:
        number: position in the sweep, from 0.
        arm: name of the arm.
        values: fields that the arm sets, with their values as JSON data.
        seed: seed of the run.
        hash: `config_hash` of the experiment; names the run folder.
    """

    number: int
    arm: str
    values: dict[str, object]
    seed: int
    hash: str


class SweepRecord(TypedDict):
    """Content of sweep.json.

    Attributes:
        hash: of all the rest.
        name: of the sweep.
        question: that it answers, or "".
        baseline: name of the arm that the others are compared with.
        seeds: of every arm.
        base: base experiment, JSON data.
        runs: in the order of `expand`.
        search: fields of `Search` as JSON data, where there is one.
    """

    hash: str
    name: str
    question: str
    baseline: str
    seeds: list[int]
    base: dict[str, object]
    runs: list[RunRecord]
    search: NotRequired[dict[str, Any]]


def sweep_record(sweep: Sweep, runs: Sequence[SweepRun]) -> SweepRecord:
    """Describe a sweep as JSON data, for sweep.json."""
    record = SweepRecord(
        hash="",
        name=sweep.name,
        question=sweep.question,
        baseline=baseline_name(sweep),
        seeds=list(sweep.seeds),
        base=to_json(sweep.base),
        runs=[run_record(run) for run in runs],
    )
    if sweep.search:
        space = {field: to_json(domain) for field, domain in sweep.search.space.items()}
        others = {f.name: to_json(getattr(sweep.search, f.name)) for f in dataclasses.fields(sweep.search) if f.name != "space"}
        record["search"] = {"space": space} | others
    hashed = {name: value for name, value in record.items() if name != "hash"}
    record["hash"] = hashlib.sha256(json.dumps(first_tags(hashed), sort_keys=True).encode()).hexdigest()[:12]
    return record


def run_record(run: SweepRun) -> RunRecord:
    """Describe a run as JSON data."""
    values = {field: to_json(value) for field, value in run.values}
    return RunRecord(number=run.number, arm=run.arm, values=values, seed=run.seed, hash=run.hash)


def recorded_run(sweep: Sweep, record: RunRecord) -> SweepRun:
    """Return the run of a sweep that a record describes."""
    values = tuple((field, from_json(value)) for field, value in record["values"].items())
    experiment = with_values(sweep.base, (*values, ("seed", record["seed"])))
    return SweepRun(record["number"], record["arm"], values, record["seed"], experiment, record["hash"])


def save_sweep(folder: str | Path, sweep: Sweep, runs: Sequence[SweepRun]) -> int:
    """Create the folder of a sweep, or open it again, and return the number of runs that are new to it.

    A sweep may grow by arms or seeds; what its folder held before is kept.

    Raises:
        InputError: as `check_sweep`. Nothing is written then.
    """
    folder, record = Path(folder), sweep_record(sweep, runs)
    old = check_sweep(folder, record)
    if record != old:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "sweep.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return len(runs) - (len(old["runs"]) if old else 0)


def check_sweep(folder: Path, record: SweepRecord) -> SweepRecord | None:
    """Return the record of the sweep that a folder already holds, or None; writes nothing.

    Raises:
        InputError: where the folder holds a sweep with other runs than those of `record`, or anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"sweep folder {folder} is a file; use another --dir")
    if (folder / "sweep.json").exists():
        old = read_sweep(folder)
        _check_same_sweep(folder, old, record)
        _check_same_search(folder, old, record)
        return old
    if folder.exists() and (foreign := sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))):
        raise InputError(f"sweep folder {folder} holds {foreign[0]} but no sweep.json; use another --dir")
    return None


def _check_same_sweep(folder: Path, old: SweepRecord, new: SweepRecord) -> None:
    """Raise InputError where the folder has runs that the sweep lacks."""
    missing = [run for run in old["runs"] if run["hash"] not in {run["hash"] for run in new["runs"]}]
    if missing:
        example = f"such as {missing[0]['arm']!r} with seed {missing[0]['seed']}"
        raise InputError(
            f"sweep folder {folder} belongs to sweep {old['name']} ({old['hash']}), this is {new['hash']}: "
            f"it lacks {len(missing)} of the folder's {len(old['runs'])} runs, {example}; use another --dir"
        )


def _check_same_search(folder: Path, old: SweepRecord, new: SweepRecord) -> None:
    """Raise InputError for another search than that of the folder's trials, or another base; their number and the pruner may change."""
    was, wanted = old.get("search") or {}, new.get("search") or {}
    for name in was:
        if name not in ("trials", "pruner") and wanted.get(name) != was[name]:
            raise InputError(f"sweep folder {folder} has a search with another {name}; use another --dir")
    same = {"seed": 0, "parallel": 0}  # Trials have the first seed; devices and hosts may change.
    if was and (other := differences(old["base"] | same, new["base"] | same)):
        raise InputError(f"sweep folder {folder} has trials of another base: {'; '.join(other[:3])}; use another --dir")
    if was and old["seeds"][:1] != new["seeds"][:1]:
        raise InputError(f"sweep folder {folder} has trials with seed {old['seeds'][0]}, now the first is {new['seeds'][0]}; keep it first")


def read_sweep(folder: str | Path) -> SweepRecord:
    """Read sweep.json of a folder.

    Raises:
        InputError: where there is none, or it is damaged.
    """
    file = Path(folder) / "sweep.json"
    record = read_json(file, SweepRecord, "restore it, or use another --dir")
    if record is None:
        raise InputError(f"{folder} has no sweep.json; name the folder of a sweep")
    return stable_tags(record)


def run_folder(folder: str | Path, key: str) -> Path:
    """Return the run folder of the run with this hash."""
    return Path(folder) / "runs" / key
