"""Status of the runs of a sweep, read from its folder: finished, failed, begun, or not begun.

runs/HASH/          run folder; finished when it has a summary.json
failed/HASH.json    `Failure`: why the run failed when it was last executed
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.json_files import read_json
from ..runs.folder import read_summary
from .options import Keep
from .spec import SweepRun
from .sweep_record import run_folder

_DELETED = {"results": ("checkpoints", "final", "snapshots"), "final": ("checkpoints",), "all": ()}


def tidy(folder: Path, keep: Keep, ended: bool = False) -> None:
    """Delete from the folder of a finished (or `ended`) run what is not kept; other runs need everything to continue."""
    if ended or read_summary(folder):
        for name in _DELETED[keep]:
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.rmtree(folder / "refit" / name, ignore_errors=True)


class Failure(TypedDict):
    """Content of failed/HASH.json: the run's arm and seed, and the error in one line."""

    arm: str
    seed: int
    error: str


@dataclass(frozen=True)
class RunStatus:
    """Status of a run.

    Attributes:
        summary: summary of the finished run; empty where it has not finished.
        error: why it failed, or "".
        begun: whether it has a run folder.
    """

    summary: dict[str, Any]
    error: str
    begun: bool

    @property
    def state(self) -> str:
        """One of "finished", "failed", "begun", and "" before that."""
        return "finished" if self.summary else "failed" if self.error else "begun" if self.begun else ""


@dataclass(frozen=True)
class Entry(RunStatus):
    """A run of a sweep with its status."""

    run: SweepRun


def entries(folder: Path, runs: Sequence[SweepRun]) -> list[Entry]:
    """Read the status of each run."""
    return [Entry(**vars(read_status(folder, run.hash)), run=run) for run in runs]


def unfinished(folder: Path, runs: Sequence[SweepRun], only: Sequence[int] | None = None, retry: bool = False) -> list[SweepRun]:
    """List the runs that have not finished; failed ones only with `retry`.

    Args:
        folder: folder of the sweep.
        runs: all runs of the sweep.
        only: numbers of the runs to consider; None for all.
        retry: include the runs that have failed.

    Raises:
        InputError: for an unknown number in `only`.
    """
    if only is not None and (unknown := [n for n in only if not 0 <= n < len(runs)]):
        raise InputError(f"--only is {','.join(map(str, unknown))}; the runs are 0…{len(runs) - 1}")
    considered = [run for run in runs if only is None or run.number in only]
    return [entry.run for entry in entries(folder, considered) if not entry.summary and (retry or not entry.error)]


def read_status(folder: Path, key: str) -> RunStatus:
    """Read the status of the run with this hash."""
    own, file = run_folder(folder, key), _failure_file(folder, key)
    summary, error = read_summary(own), ""
    if not summary and (failure := read_json(file, Failure, "delete it to execute the run again")):
        error = failure["error"]
    return RunStatus(dict(summary), error, own.exists())


def save_failure(folder: Path, run: SweepRun, error: Exception) -> str:
    """Record why a run failed, and return it as one line."""
    text = " ".join((str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}").split())
    file = _failure_file(folder, run.hash)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(Failure(arm=run.arm, seed=run.seed, error=text), ensure_ascii=False) + "\n")
    return text


def forget_failures(folder: Path, runs: Sequence[SweepRun]) -> None:
    """Delete the records of why these runs have failed, so that workers execute them again."""
    for run in runs:
        _failure_file(folder, run.hash).unlink(missing_ok=True)


def _failure_file(folder: Path, key: str) -> Path:
    return folder / "failed" / f"{key}.json"
