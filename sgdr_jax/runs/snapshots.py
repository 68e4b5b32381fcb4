"""Snapshots: networks kept at cycle ends, and the moving average of the weights, in RUN/snapshots."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.snapshots import Snapshots
from ..core.state import TrainState
from ..train import weight_ema
from ..train.model_selection import Score, best_first
from . import checkpoint

_log = logging.getLogger(__name__)

EMA = "ema"
"""Name of the moving average of the weights among the snapshots."""


def snapshot_folder(run: str | Path) -> Path:
    """Return the folder of a run's snapshots."""
    return Path(run) / "snapshots"


def cycle_ends(run: str | Path) -> tuple[str, ...]:
    """List the kept cycle ends of a run, oldest first; `stage-2-cycle-0001` is the second cycle of the third stage."""
    names = (path.name.split("-") for path in snapshot_folder(run).glob("stage-*-cycle-*"))
    return tuple("-".join(parts) for parts in sorted(names, key=lambda parts: (int(parts[1]), int(parts[3]))))


def chosen(scores: Sequence[Score], snapshots: Snapshots) -> list[int]:
    """Return the positions of the cycle ends to keep, in order: the last, the very last one always among them, and the best.

    Args:
        scores: of the cycle ends, in order of time.
        snapshots: how many to keep.

    Example:
        >>> chosen([Score(accuracy, 1.0) for accuracy in (0.5, 0.9, 0.7, 0.6)], Snapshots(last=1, best=2))
        [1, 2, 3]
    """
    if not snapshots:
        return []
    return sorted({*range(len(scores))[-max(snapshots.last, 1) :], *best_first(scores)[: snapshots.best]})


def save_cycle_end(run: str | Path, state: TrainState, facts: Mapping[str, Any], snapshots: Snapshots, key: str = "") -> None:
    """Save the network at the end of a cycle, and delete those that are no longer among the last or the best.

    Args:
        run: the run folder.
        state: the state at the end of the cycle.
        facts: "stage" and "cycle" by number, "step" updates done in the stage, "size", "accuracy" and "loss" as of a `Score`.
        snapshots: which to keep, at least one.
        key: identifies the run, see `checkpoint.save`.
    """
    folder, name = snapshot_folder(run), checkpoint.cycle_name(facts["stage"], facts["cycle"])
    checkpoint.save(folder, name, {"params": state.params, "stats": state.stats}, facts, key)
    saved = read_cycle_ends(run)
    kept = chosen([Score.of(facts) for facts in saved.values()], snapshots)
    for i, name in enumerate(saved):
        if i not in kept:
            shutil.rmtree(folder / name)


def save_average(run: str | Path, state: TrainState, size: int, key: str = "") -> None:
    """Save the moving average of the weights at the end of a stage whose optimizer keeps one, replacing the stage before's."""
    params = state.params | weight_ema.averaged(state.opt_state)
    checkpoint.save(snapshot_folder(run), EMA, {"params": params, "stats": state.stats}, {"size": size}, key)


def drop_average(run: str | Path) -> None:
    """Delete the moving average of the weights, if there is one: it is not of the network that has been trained since."""
    shutil.rmtree(snapshot_folder(run) / EMA, ignore_errors=True)


def read_cycle_ends(run: str | Path) -> dict[str, dict[str, Any]]:
    """Return names and facts of the kept cycle ends, oldest first; damaged ones are deleted with a logged warning."""
    ends = {}
    for name in cycle_ends(run):
        try:
            ends[name] = checkpoint.verify(snapshot_folder(run), name)
        except checkpoint.DamagedCheckpoint as error:
            _log.warning("%s; left out", error)
            shutil.rmtree(snapshot_folder(run) / name)
    return ends


def lost_cycle_ends(
    run: str | Path, rows: Sequence[Mapping[str, Any]], later: Sequence[Mapping[str, Any]], snapshots: Snapshots
) -> list[str]:
    """Return the cycle ends that a run keeps after these rows and that are gone, though none of the later rows has taken their place.

    The later rows may be damaged: no checkpoint has recorded them.
    """
    known = {"stage_index", "cycle", "accuracy"}

    def kept(rows: Sequence[Mapping[str, Any]]) -> set[str]:
        ends = [row for row in rows if row.get("kind") == "eval" and row.get("loss") is not None and known <= row.keys()]
        kept = chosen([Score.of(row) for row in ends], snapshots)
        return {checkpoint.cycle_name(ends[i]["stage_index"], ends[i]["cycle"]) for i in kept}

    return sorted(kept(rows) & kept([*rows, *later]) - set(cycle_ends(run)))


def drop_later(run: str | Path, stage: int, step: int) -> None:
    """Delete the cycle ends after `step` updates of a stage, from where a run is resumed."""
    for name, facts in read_cycle_ends(run).items():
        if (facts["stage"], facts["step"]) > (stage, step):
            shutil.rmtree(snapshot_folder(run) / name)
