"""How the runs of a sweep stand, read from its folder: finished, failed, begun, or not begun. No jax.

runs/HASH/          run folder; finished when it has its summary.json
failed/HASH.json    why the run failed the last time it was tried
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .logbook import read_summary
from .sweep import SweepRun, run_folder
from .types import InputError

Keep = Literal["results", "final", "all"]
"""What a finished run of a sweep keeps: its numbers, answers, rows and plan; also the networks that it ended with; also its checkpoints."""

_LEFT_OUT = {"results": ("checkpoints", "final", "snapshots"), "final": ("checkpoints",), "all": ()}


def tidy(folder: Path, keep: Keep) -> None:
    """Deletes from a finished run's folder what is not to be kept; an unfinished run, which needs it to go on, is left alone."""
    if read_summary(folder):
        for name in _LEFT_OUT[keep]:
            shutil.rmtree(folder / name, ignore_errors=True)


class Entry(NamedTuple):
    """How a run of a sweep stands.

    Attributes:
        run: which.
        summary: of the finished run; empty where there is none.
        error: why it failed, or "".
        begun: whether it has a run folder.
    """

    run: SweepRun
    summary: dict[str, Any]
    error: str
    begun: bool

    @property
    def state(self) -> str:
        """In a word."""
        return "finished" if self.summary else "failed" if self.error else "begun" if self.begun else ""


def entries(folder: Path, runs: Sequence[SweepRun]) -> list[Entry]:
    """How all runs stand."""
    return [_entry(folder, run) for run in runs]


def _entry(folder: Path, run: SweepRun) -> Entry:
    own, failed = run_folder(folder, run.hash), _failed(folder, run)
    summary = read_summary(own)
    error = "" if summary or not failed.exists() else json.loads(failed.read_text(encoding="utf-8"))["error"]
    return Entry(run, summary, error, own.exists())


def keep_failure(folder: Path, run: SweepRun, error: Exception) -> str:
    """Keeps why a run failed; gives it as one line."""
    text = " ".join((str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}").split())
    file = _failed(folder, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"arm": run.arm, "seed": run.seed, "error": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    return text


def _failed(folder: Path, run: SweepRun) -> Path:
    return folder / "failed" / f"{run.hash}.json"
