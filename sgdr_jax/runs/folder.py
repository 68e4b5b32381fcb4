"""The run folder: what was asked for, where it ran, what happened at each step, and how it ended. Plain files.

    config.json            the experiment, as `config.to_json` gives it
    environment.json       machine, package versions, command line, commit, weights file, hash of the config; one entry per (re)start
    plan.txt, plan.csv     the plan, to read and to plot
    rejected.tsv           images that could not be read and were left out, a name and a reason a line
    metrics.jsonl          one row a line, in the order of time
    finder-<stage>.json    the curve of a learning-rate finder
    launch/                logs and batch scripts of the cluster that started it
    summary.json           how the run ended; written last, so its presence means that the run is finished

Rows of metrics.jsonl, where `step` counts the updates applied in the stage before the row's work; a number that is not finite is null:

    {"kind": "train", "stage", "stage_index", "step", "epoch", "loss", "lr": {group: rate}, "momentum", "seconds"}
    {"kind": "eval", "stage", "step", "cycle", "epoch", "split": "valid", "loss", "accuracy", …, "drift": {group: [shift, stretch]}}
    {"kind": "bn", "stage", "step", "drift"}      batch statistics measured anew (`bn.drift`)
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from ..core.errors import InputError, InUse, without_password
from ..core.files import write_atomically
from ..core.serialization import stable_tags

_PACKAGES = ("sgdr_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "tensorflow-datasets", "array_record")
_LOCK = ".lock"
LAUNCH = "launch"  # is there before the run is

Row = Mapping[str, Any]
"""One line of metrics.jsonl."""


def _plain(value: Any) -> Any:
    """`value` as JSON data: NumPy and jax numbers and arrays become numbers and lists, numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it, or use another --run") from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file. A last line without its end is what a kill leaves, and is ignored; damage elsewhere is an error."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is {line[:60]!r}; it is damaged, use another --run")
        rows.append(row)
    return rows


def finder_stem(stage: str) -> str:
    """File name, without its ending, of what belongs to a stage's learning-rate finder; no two stages share one.

    >>> finder_stem("all / slowly")
    'finder-all %2F slowly'
    """
    return f"finder-{quote(stage, safe=' ')}"


# ---- where it ran ----


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit(folder: Path) -> str | None:
    """The commit that `folder` is at, with "+changes" when tracked files differ from it; None outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(
    experiment_file: str | Path | None = None, devices: Sequence[str] = (), weights: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a number may depend on besides the config: time, machine, versions, command line, the experiment's commit, the weights file.

    Args:
        experiment_file: its folder is asked for the git commit; None asks nothing.
        devices: names of the accelerators in use, as the caller knows them (this module does not ask jax).
        weights: what `pretrained.Loaded.record` gives.
    """
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [without_password(word) for word in sys.argv],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "devices": list(devices),
        "weights": dict(weights or {}),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _git_commit(Path(experiment_file).resolve().parent) if experiment_file is not None else None,
    }


# ---- writing ----


class RunFolder:
    """An open run folder that this process alone writes to. Made by `open_run`; a context manager that closes and unlocks it.

    Attributes:
        path: the folder.
        resumed: whether the folder already held this run.
    """

    def __init__(self, path: Path, lock: Any, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self._rows = _open_rows(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row to metrics.jsonl; it survives the death of the process."""
        self._rows.write(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n")
        self._rows.flush()

    def truncate_after(self, stage: str, step: int) -> int:
        """Drops the rows of everything that happened after `step` updates of `stage` had been applied; returns how many.

        Of the stage itself it keeps training rows with a smaller `step` and other rows up to `step`; of what was written before the
        stage began everything; of later stages nothing. Call it with the restored position, so that no row appears twice.
        """
        rows = _read_rows(self.path / "metrics.jsonl")
        own = [i for i, row in enumerate(rows) if row.get("stage") == stage]
        end = next((i for i, row in enumerate(rows) if own and i > own[0] and row.get("stage", stage) != stage), len(rows))

        def past(i: int) -> bool:
            at = rows[i].get("step", 0)
            return at >= step if rows[i].get("kind") == "train" else at > step

        keep = [row for i, row in enumerate(rows[:end]) if not (own and i >= own[0] and past(i))]
        if len(keep) < len(rows):
            self._rows.close()
            write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in keep))
            self._rows = _open_rows(self.path)
        return len(rows) - len(keep)

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return _read_rows(self.path / "metrics.jsonl")

    def write_plan(self, text: str, table: str) -> None:
        """Keeps the plan as it is printed (`text`) and as CSV (`table`)."""
        write_atomically(self.path / "plan.txt", text)
        write_atomically(self.path / "plan.csv", table)

    def write_rejected(self, rejected: Sequence[tuple[str, str]]) -> None:
        """Keeps the names of the images that were left out, each with the reason."""
        write_atomically(self.path / "rejected.tsv", "".join(f"{name}\t{reason}\n" for name, reason in rejected))

    def write_finder(self, stage: str, curve: Mapping[str, Any]) -> None:
        """Keeps the curve of the stage's learning-rate finder; see `report.plot_lr_finder` for its fields."""
        _write_json(self.path / f"{finder_stem(stage)}.json", dict(curve) | {"stage": stage})

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Marks the run as finished, with its results; see `tables.summary_table` for the fields."""
        _write_json(self.path / "summary.json", summary)

    def close(self) -> None:
        """Closes the files and lets other processes have the folder. May be called twice."""
        self._rows.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_rows(path: Path) -> Any:
    """metrics.jsonl for appending, after cutting off the unfinished line that a kill may have left."""
    file = path / "metrics.jsonl"
    if file.exists():
        text = file.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(file, whole)
    return file.open("a", encoding="utf-8")


def lock(path: Path) -> Any:
    """The folder's lock, held until it is closed or the process ends however it ends."""
    file = (path / _LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise InUse(f"run folder {path} is in use by another process ({holder}); wait for it, or use another --run") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two configs differ, as "stages[1].lr: 0.1 → 0.2"."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{where}.{key}".lstrip("."), old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new and type(old) is type(new) else [f"{where}: {_short(old)} → {_short(new)}"]
    return [line for name, a, b in pairs for line in _differences(a, b, name)]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 50 else text[:47] + "…"


def check_run(path: str | Path, config: Any, config_hash: str, *, resume: bool = False) -> bool:
    """Whether the folder already holds this run. Raises InputError where `open_run` would refuse the folder; writes nothing."""
    if (path := Path(path)).exists() and not path.is_dir():
        raise InputError(f"run folder {path} is a file; use another --run")
    if path.exists() and not (path / "config.json").exists():
        foreign = [p.name for p in path.iterdir() if p.name not in (_LOCK, ".config.json.new", LAUNCH)]
        foreign.sort(key=lambda name: (name == "__pycache__", name))  # that one Python leaves beside an experiment file
        if foreign:
            raise InputError(f"run folder {path} holds {foreign[0]} but no config.json; it is no run folder, use another --run")
    old = _read_json(path / "config.json")
    if old is None:
        return False
    known = _read_json(path / "environment.json") or {}
    # Where it runs may change: N devices or hosts go on with what M began.
    changes = _differences(stable_tags(old) | {"parallel": 0}, _plain(config) | {"parallel": 0})
    _check_same(path, known.get("config_hash", "(unknown)"), config_hash, changes)
    if not resume:
        raise InputError(f"run folder {path} already holds this run; add --resume to go on with it, or use another --run")
    return True


def open_run(
    path: str | Path,
    config: Any,
    config_hash: str,
    *,
    resume: bool = False,
    experiment_file: str | Path | None = None,
    devices: Sequence[str] = (),
    weights: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Makes a run folder, or opens that of the same experiment again to go on; nothing that is in it is ever overwritten by another run.

    Args:
        path: the folder; made with its parents where missing.
        config: JSON data of the experiment (`config.to_json`).
        config_hash: of the experiment (`config.config_hash`), shown to people.
        resume: go on with the run that is there; where there is none, start one.
        experiment_file: for the commit in environment.json.
        devices: for environment.json.
        weights: for environment.json.

    Raises:
        InputError: when the folder holds another experiment, or this one and `resume` is False, or files of some other kind, or is in
            use by another process.
    """
    path = Path(path)
    check_run(path, config, config_hash, resume=resume)
    path.mkdir(parents=True, exist_ok=True)
    held = lock(path)
    try:
        resumed = check_run(path, config, config_hash, resume=resume)  # another process may have been faster
        known = _read_json(path / "environment.json") or {}
        if not resumed:
            _write_json(path / "config.json", config)
        starts = [*known.get("starts", ()), environment(experiment_file, devices, weights)]
        _write_json(path / "environment.json", {"config_hash": config_hash, "starts": starts})
        return RunFolder(path, held, resumed=resumed)
    except BaseException:
        held.close()
        raise


def _check_same(path: Path, old_hash: str, new_hash: str, changes: list[str]) -> None:
    if changes:
        shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise InputError(
            f"run folder {path} belongs to config {old_hash}, this is {new_hash}: {shown}; "
            "use another --run, or --resume with the same config"
        )


# ---- reading ----


class Run(NamedTuple):
    """A run folder as data.

    Attributes:
        path: the folder.
        config: JSON data of the experiment; `config.from_json` makes it one again.
        environment: of the run's latest start; see `environment`. Empty where the file is missing.
        rows: of metrics.jsonl.
        finders: stage name to finder curve.
        summary: of summary.json; empty while the run is not finished.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    finders: dict[str, dict[str, Any]]
    summary: dict[str, Any]


def read(path: str | Path) -> Run:
    """Reads a run folder, finished or not, also while it is being written. Raises InputError where there is none."""
    path = Path(path)
    config = _read_json(path / "config.json")
    if config is None:
        raise InputError(f"run folder {path} has no config.json; name the folder of a run")
    starts = (_read_json(path / "environment.json") or {}).get("starts") or [{}]
    finders = [_read_json(file) for file in sorted(path.glob("finder-*.json"))]
    return Run(
        path=path,
        config=stable_tags(config),
        environment=starts[-1],
        rows=_read_rows(path / "metrics.jsonl"),
        finders={curve["stage"]: curve for curve in finders if isinstance(curve, dict) and "stage" in curve},
        summary=_read_json(path / "summary.json") or {},
    )


def read_summary(path: str | Path) -> dict[str, Any]:
    """The summary of a run folder; empty while the run is not finished."""
    return _read_json(Path(path) / "summary.json") or {}
