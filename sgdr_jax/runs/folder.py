"""Run folder: the experiment, its environment, every update and the final figures, as plain files.

    config.json            the experiment (`core.serialization.to_json`)
    environment.json       hash of the experiment and, for each start, machine, package versions, command line, commit, weights file
    plan.txt, plan.csv     the plan, to read and to plot
    data.json              classes, images of each class and split, images that occur several times
    rejected.tsv           images that could not be read and were left out: name and reason
    images.json.gz         every image by name, class and digest; see `data_index`
    metrics.jsonl          one row per update and per validation, in the order of time; see `rows`
    finder-<stage>.json    the curve of a learning-rate finder
    splits.json            stage name to the parts of its batches, where they did not fit the devices' memory
    launch/                logs and batch scripts of the cluster job
    summary.json           the final figures; written last, so its presence means that the run is finished

`records` describes the rows and the summary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote

from filelock import FileLock, Timeout

from ..core.errors import InputError, InUse
from ..core.files import flush_folder, write_atomically
from ..core.json_files import read_json
from ..core.sealed import checksum
from ..core.serialization import stable_tags
from ..core.text import tsv_rows, tsv_text
from .environment import environment
from .records import DataRecord, Environment, FinderCurve, Row, RunSummary, Start
from .rows import RowFile, plain, read_rows

_LOCK = ".lock"
METRICS = "metrics.jsonl"
LAUNCH = "launch"  # exists before the run does


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read_json[T](path: Path, kind: type[T]) -> T | None:
    """Read a file of a run; earlier versions wrote fewer fields."""
    return read_json(path, kind, "restore it, or use another run folder", whole=False)


def finder_stem(stage: str) -> str:
    """Return the file name, without its ending, for a stage's learning-rate finder; unique for each stage name.

    Of a name that is longer than 100 characters in this form, which short ones in another script are, the rest becomes a hash.

    >>> finder_stem("all / slowly")
    'finder-all %2F slowly'
    """
    name = quote(stage, safe=" ")
    return f"finder-{name if len(name) <= 100 else f'{name[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}'}"


# ---- writing ----


class RunFolder:
    """An open run folder, locked for this process. Made by `open_run`; a context manager that closes and unlocks it.

    Attributes:
        path: the folder.
        resumed: whether the folder already held this run.
        metrics: the rows of metrics.jsonl.
        track: receives every row after it is written, with a function that returns the rows before it.
    """

    def __init__(self, path: Path, lock: FileLock, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._lock = lock
        self.metrics = RowFile(path / METRICS)
        self.track: Callable[[Row, Callable[[], Sequence[Row]]], None] = lambda row, earlier: None

    def append(self, row: Row) -> None:
        """Append one row to metrics.jsonl; it survives the death of the process."""
        self.metrics.append(row)
        self.track(row, lambda: self.rows()[:-1])

    def rows(self) -> list[Row]:
        """Return the rows so far."""
        return self.metrics.rows()

    def mark(self) -> tuple[int, str]:
        """Flush the rows; return how many there are and their digest."""
        return self.metrics.mark()

    def write_plan(self, text: str, table: str) -> None:
        """Save the plan as printed (`text`) and as CSV (`table`)."""
        write_atomically(self.path / "plan.txt", text)
        write_atomically(self.path / "plan.csv", table)

    def write_rejected(self, rejected: Sequence[tuple[str, str]]) -> None:
        """Save the names of the images that were left out, each with the reason."""
        write_atomically(self.path / "rejected.tsv", tsv_text(rejected).encode("utf-8", "surrogateescape"))

    def write_data(self, record: DataRecord) -> None:
        """Save what the data are."""
        _write_json(self.path / "data.json", record)

    def write_finder(self, stage: str, curve: Mapping[str, Any]) -> None:
        """Save the curve of a stage's learning-rate finder, the fields of `train.lr_curve.LrCurve`."""
        written = plain(dict(curve) | {"stage": stage})
        _write_json(self.path / f"{finder_stem(stage)}.json", written | {"digest": _digest(written)})

    def splits(self) -> dict[str, int]:
        """Return the number of parts that the batches of a stage are split into, by its name, for stages that ran out of memory."""
        return _read_json(self.path / "splits.json", dict[str, int]) or {}

    def write_split(self, stage: str, parts: int) -> None:
        """Save the number of parts that the batches of a stage are split into."""
        _write_json(self.path / "splits.json", self.splits() | {stage: parts})

    def write_summary(self, summary: RunSummary) -> None:
        """Save the summary, which marks the run as finished."""
        _write_json(self.path / "summary.json", summary)

    def close(self) -> None:
        """Close the files and release the lock. May be called twice."""
        self.metrics.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(path: Path) -> FileLock:
    """Lock the folder until `release`, or until the process ends however it ends. Raises InUse where another process holds it."""
    file = FileLock(path / _LOCK, thread_local=False)  # Any thread may close the folder.
    try:
        file.acquire(timeout=0)
    except Timeout:
        starts = _read_environment(path).get("starts") or [Start()]
        holder = starts[-1].get("process", "its number is not known yet")
        raise InUse(f"run folder {path} is in use by another process ({holder}); wait for it, or use another run folder") from None
    return file


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Return where two configs, as JSON data, differ, as "stages[1].lr: 0.1 → 0.2"."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{where}.{key}".lstrip("."), old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new and type(old) is type(new) else [f"{where}: {_short(old)} → {_short(new)}"]
    return [line for name, a, b in pairs for line in differences(a, b, name)]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 50 else text[:47] + "…"


def check_run(path: str | Path, config: Any, config_hash: str, *, resume: bool = False) -> bool:
    """Return whether the folder already holds this run; writes nothing. Raises InputError where `open_run` would refuse the folder."""
    if (path := Path(path)).exists() and not path.is_dir():
        raise InputError(f"run folder {path} is a file; use another run folder")
    if path.exists() and not (path / "config.json").exists():
        foreign = [p.name for p in path.iterdir() if p.name not in (_LOCK, ".config.json.new", LAUNCH)]
        foreign.sort(key=lambda name: (name == "__pycache__", name))  # Python leaves one beside an experiment file
        if foreign:
            raise InputError(f"run folder {path} holds {foreign[0]} but no config.json; it is no run folder, use another run folder")
    old = _read_json(path / "config.json", dict[str, Any])
    if old is None:
        return False
    known = _read_environment(path)
    # Devices and hosts may change: N of them go on with what M began.
    changes = differences(stable_tags(old) | {"parallel": 0}, plain(config) | {"parallel": 0})
    _check_same(path, known.get("config_hash", "(unknown)"), config_hash, changes)
    if not resume:
        raise InputError(f"run folder {path} already holds this run; go on with it by --resume (resume=True), or use another run folder")
    return True


def open_run(
    path: str | Path,
    config: Any,
    config_hash: str,
    *,
    resume: bool = False,
    commit: str | None = None,
    devices: Sequence[str] = (),
    weights: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Create a run folder, or open that of the same experiment to continue; another run never overwrites anything in it.

    Args:
        path: the folder; created with its parents where missing.
        config: the experiment as JSON data.
        config_hash: hash of the experiment, for messages.
        resume: continue the run in the folder, or start one where there is none.
        commit, devices, weights: see `environment`.

    Raises:
        InputError: where the folder holds another experiment, or this one without `resume`, or other files.
        InUse: where another process has it.
    """
    path = Path(path)
    check_run(path, config, config_hash, resume=resume)
    path.mkdir(parents=True, exist_ok=True)
    flush_folder(path.parent)
    held = lock(path)
    try:
        resumed = check_run(path, config, config_hash, resume=resume)  # another process may have been faster
        known = _read_environment(path)
        if not resumed:
            _write_json(path / "config.json", config)
        starts = [*known.get("starts", ()), environment(commit, devices, weights)]
        _write_json(path / "environment.json", {"config_hash": config_hash, "starts": starts})
        return RunFolder(path, held, resumed=resumed)
    except BaseException:
        held.release()
        raise


def _check_same(path: Path, old_hash: str, new_hash: str, changes: list[str]) -> None:
    if changes:
        shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise InputError(
            f"run folder {path} belongs to config {old_hash}, this is {new_hash}: {shown}; "
            "use another run folder, or go on with the same config"
        )


# ---- reading ----


class Run(NamedTuple):
    """A run folder as data.

    Attributes:
        path: the folder.
        config: the experiment as JSON data; `core.serialization.from_json` restores it.
        start: of the latest process; empty where the file is missing.
        rows: metrics.jsonl.
        finders: stage name to finder curve.
        summary: summary.json; empty while the run is not finished.
        data: data.json; None for runs of early versions.
        rejected: name and reason of each image that was left out.
    """

    path: Path
    config: dict[str, Any]
    start: Start
    rows: list[Row]
    finders: dict[str, FinderCurve]
    summary: RunSummary
    data: DataRecord | None = None
    rejected: tuple[tuple[str, str], ...] = ()


def read(path: str | Path) -> Run:
    """Read a run folder, finished or not, also while it is being written. Raises InputError where there is none."""
    path = Path(path)
    config = _read_json(path / "config.json", dict[str, Any])
    if config is None:
        raise InputError(f"run folder {path} has no config.json; name the folder of a run")
    starts = _read_environment(path).get("starts") or [Start()]
    finders = [curve for file in sorted(path.glob("finder-*.json")) if (curve := _read_finder(file))]
    return Run(
        path=path,
        config=stable_tags(config),
        start=starts[-1],
        rows=read_rows(path / METRICS),
        finders={curve["stage"]: curve for curve in finders},
        summary=read_summary(path),
        data=_read_json(path / "data.json", DataRecord),
        rejected=_read_rejected(path / "rejected.tsv"),
    )


def _read_finder(path: Path) -> FinderCurve | None:
    """Read a curve that can be plotted: positive rates, one loss for each."""
    curve = read_json(path, FinderCurve, "restore or delete it")
    if curve:
        rates = (*curve["lrs"], *curve["suggestions"].values(), curve["chosen"])
        names = ("lrs", "losses", "smoothed", *(("low", "high") if curve.get("orders", 1) > 1 else ()))
        lengths = {len(curve.get(name, ())) for name in names}
        if len(lengths) != 1 or 0 in lengths or not all(1e-30 < rate < 1e30 for rate in rates):
            raise InputError(f"{path} cannot be read (its lists differ in length, or a rate is not positive); restore or delete it")
        written: dict[str, Any] = json.loads(path.read_text("utf-8"))  # whole numbers are floats in the curve
        if curve.pop("digest", None) not in (None, _digest({name: written[name] for name in written if name != "digest"})):
            raise InputError(f"{path} is not what was written (its digest differs); restore or delete it")
    return curve


def _digest(content: Mapping[str, Any]) -> str:
    """Return the digest of JSON data, which is that of the data read again."""
    return f"{checksum(json.dumps(content, sort_keys=True).encode()):016x}"


def _read_rejected(path: Path) -> tuple[tuple[str, str], ...]:
    if not path.exists():
        return ()
    rows = tsv_rows(path.read_text("utf-8", "surrogateescape"))
    return tuple((row[0], " ".join(row[1:])) for row in rows)


def read_summary(path: str | Path) -> RunSummary:
    """Read the summary of a run folder; empty while the run is not finished."""
    return _read_json(Path(path) / "summary.json", RunSummary) or cast(RunSummary, {})


def _read_environment(path: Path) -> Environment:
    return _read_json(path / "environment.json", Environment) or {}
