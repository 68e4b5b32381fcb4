"""How the runs of a sweep stand, read from its folder: finished, failed, begun, or not begun.

runs/HASH/          run folder; finished when it has its summary.json
failed/HASH.json    why the run failed the last time it was tried
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..core.errors import InputError
from ..core.files import write_atomically
from ..runs.folder import read_summary
from .spec import SweepRun, run_folder

Keep = Literal["results", "final", "all"]
"""What a finished run of a sweep keeps: its numbers, answers, rows and plan; also the networks that it ended with; also its checkpoints."""

_LEFT_OUT = {"results": ("checkpoints", "final", "snapshots"), "final": ("checkpoints",), "all": ()}


def tidy(folder: Path, keep: Keep, ended: bool = False) -> None:
    """Deletes from a finished (or `ended`) run's folder what is not to be kept; any other, which needs it to go on, is left alone."""
    if ended or read_summary(folder):
        for name in _LEFT_OUT[keep]:
            shutil.rmtree(folder / name, ignore_errors=True)


class RunStatus(NamedTuple):
    """How a run stands.

    Attributes:
        summary: of the finished run; empty where there is none.
        error: why it failed, or "".
        begun: whether it has a run folder.
    """

    summary: dict[str, Any]
    error: str
    begun: bool

    @property
    def state(self) -> str:
        """In a word."""
        return "finished" if self.summary else "failed" if self.error else "begun" if self.begun else ""


class Entry(NamedTuple):
    """A run of a sweep, and how it stands; see `RunStatus`."""

    run: SweepRun
    summary: dict[str, Any]
    error: str
    begun: bool

    @property
    def state(self) -> str:
        """In a word."""
        return RunStatus(self.summary, self.error, self.begun).state


class LocalQueue:
    """The runs of a sweep for a worker that has them to itself; where several share them, `store.Store` has the same methods."""

    def __init__(self, runs: Sequence[SweepRun]) -> None:
        self._free = {run.hash for run in runs}

    def take(self, runs: Sequence[SweepRun], most: int) -> list[SweepRun]:
        """Up to `most` of these runs that are free, in order; they are not, from then on."""
        taken = [run for run in runs if run.hash in self._free][:most]
        self._free -= {run.hash for run in taken}
        return taken

    def finish(self, run: SweepRun, value: float) -> None:
        """A run that was taken is done."""

    def fail(self, run: SweepRun, error: str, diverged: bool = False) -> None:
        """A run that was taken has failed."""

    def give_back(self, run: SweepRun) -> None:
        """Another process has the run's folder: it is left to it."""

    def left(self, runs: Sequence[SweepRun]) -> bool:
        """Whether some of these runs are free."""
        return any(run.hash in self._free for run in runs)


def entries(folder: Path, runs: Sequence[SweepRun]) -> list[Entry]:
    """How all runs stand."""
    return [Entry(run, *standing(folder, run.hash)) for run in runs]


def unfinished(folder: Path, runs: Sequence[SweepRun], only: Sequence[int] | None = None, retry: bool = False) -> list[SweepRun]:
    """The runs that are to be done: all that have not finished, and failed ones only with `retry`.

    Raises:
        InputError: where `only` holds a number that is no run's.
    """
    if only is not None and (wrong := [n for n in only if not 0 <= n < len(runs)]):
        raise InputError(f"--only is {','.join(map(str, wrong))}; the runs are 0…{len(runs) - 1}")
    chosen = [run for run in runs if only is None or run.number in only]
    return [entry.run for entry in entries(folder, chosen) if not entry.summary and (retry or not entry.error)]


def standing(folder: Path, key: str) -> RunStatus:
    """How the run with this hash stands."""
    own, failed = run_folder(folder, key), _failed(folder, key)
    summary = read_summary(own)
    error = "" if summary or not failed.exists() else json.loads(failed.read_text(encoding="utf-8"))["error"]
    return RunStatus(summary, error, own.exists())


def keep_failure(folder: Path, run: SweepRun, error: Exception) -> str:
    """Keeps why a run failed; gives it as one line."""
    text = " ".join((str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}").split())
    file = _failed(folder, run.hash)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"arm": run.arm, "seed": run.seed, "error": text}, ensure_ascii=False) + "\n")
    return text


def _failed(folder: Path, key: str) -> Path:
    return folder / "failed" / f"{key}.json"
