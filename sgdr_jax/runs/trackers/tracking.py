"""Passes the rows of a run on to trackers, as figures by name and number of updates. The run folder stays the record.

To add a tracker: a file with a class that follows `Tracker`, its name and package here, and a line in `_open`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...core.errors import InputError
from ...core.validation import require

if TYPE_CHECKING:
    from ..records import Row

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """Where figures go. Steps count the updates of all stages."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Receive figures after `step` updates. A resumed run repeats, with equal values, what came after its checkpoint."""
        ...

    def rewind(self, step: int) -> None:
        """Forget, as far as possible, what came after `step` updates: a stage has gone back, and makes them anew."""
        ...

    def finish(self, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Receive the final figures, and PNG files by name."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class Tracking:
    """Passes the rows of a run to trackers, which are opened with the first row, when the run folder exists.

    Args:
        names: of the trackers.
        folder: the run folder.
        name: of the experiment.
        config: of the experiment, as JSON data.

    Raises:
        InputError: the package of a tracker is not installed.
    """

    def __init__(self, names: Sequence[TrackerName], folder: Path, name: str, config: Mapping[str, Any]) -> None:
        check(names)
        self._names, self._folder, self._name, self._config = names, folder, name, config
        self._clock, self._trackers, self._next = _Clock(), list[Tracker](), 0

    def row(self, row: Row, earlier: Callable[[], Sequence[Row]] = tuple) -> None:
        """Pass one row on.

        Args:
            row: as appended to metrics.jsonl.
            earlier: returns the rows before it; asked for only when the trackers open.
        """
        if not self._names:
            return
        step = self._clock.step(row)
        at: list[tuple[int, Row]] = []
        back = bool(self._trackers) and row["kind"] == "train" and step < self._next
        if back or not self._trackers:
            self._clock = _Clock()
            at, step = [(self._clock.step(r), r) for r in earlier()], self._clock.step(row)
        for tracker in self._trackers if back else ():
            tracker.rewind(step)
        if not self._trackers:
            self._trackers = [_open(name, self._folder, self._name, flat(self._config), step) for name in self._names]
        # What came before a restart at the same step, such as the validation that ended a stage, is passed on again.
        for number, each in [*(pair for pair in at if pair[0] >= step), (step, row)]:
            for tracker in self._trackers:
                tracker.log(number, scalars(each))
        if row["kind"] == "train":
            self._next = step + 1

    def finish(self, summary: Mapping[str, Any], pictures: Sequence[Path]) -> None:
        """Pass on the final figures and the run's pictures."""
        figures = {f"final/{key}": float(x) for key, x in flat({k: summary[k] for k in ("valid", "test") if k in summary}).items()}
        for tracker in self._trackers:
            tracker.finish(figures, {path.stem: path for path in pictures})

    def close(self) -> None:
        """Close all trackers."""
        for tracker in self._trackers:
            tracker.close()
        self._trackers = []


def check(names: Sequence[TrackerName]) -> None:
    """Raise InputError for names of no tracker, and for trackers whose package is not installed."""
    fix = 'give a tuple of names, such as track=("tensorboard",)'
    require(isinstance(names, tuple | list), "track", names, fix)  # pyright: ignore[reportUnnecessaryIsInstance]
    for tracker in names:
        require(tracker in _PACKAGES, "track", tracker, f"use {', '.join(_PACKAGES)}")
        if importlib.util.find_spec(_PACKAGES[tracker]) is None:
            raise InputError(f"track is {tracker!r}; install its package with: pip install 'sgdr_jax[{tracker}]'")


def _open(name: TrackerName, folder: Path, title: str, config: Mapping[str, Any], first: int) -> Tracker:
    if name == "tensorboard":
        from .tensorboard import TensorBoard

        return TensorBoard(folder, config, first)
    if name == "wandb":
        from .wandb import WandB

        return WandB(folder, title, config)
    from .mlflow import MLflow

    return MLflow(folder, title, config)


class _Clock:
    """Counts updates over stages, from rows in order."""

    def __init__(self) -> None:
        self._stage, self._before, self._done = "", 0, 0

    def step(self, row: Mapping[str, Any]) -> int:
        """Return the number of updates before the work of this row, over all stages."""
        if row["stage"] != self._stage:
            self._stage, self._before, self._done = row["stage"], self._before + self._done, 0
        self._done = max(self._done, row["step"] + (row["kind"] == "train"))
        return self._before + row["step"]


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a row by name, without those that are not finite.

    >>> scalars({"kind": "train", "stage": "all", "step": 3, "loss": 0.5, "lr": {"head": 0.1}, "momentum": 0.9, "seconds": 7.0})
    {'train/loss': 0.5, 'lr/head': 0.1, 'train/momentum': 0.9}
    >>> scalars({"kind": "eval", "split": "valid", "stage": "all", "step": 9, "cycle": 0, "loss": 0.4, "accuracy": 0.8})
    {'valid/loss': 0.4, 'valid/accuracy': 0.8}
    >>> scalars({"kind": "lowered", "stage": "all", "step": 9, "lr_scale": 0.5})
    {'lowered/lr_scale': 0.5}
    """
    place = str(row.get("split", "valid")) if row["kind"] == "eval" else row["kind"]
    values: dict[str, float] = {}
    for name, value in row.items():
        if name == "lr":
            values |= {f"lr/{group}": float(rate) for group, rate in value.items()}
        elif name == "drift":
            values |= {
                f"drift/{g}/{kind}": float(x) for g, both in value.items() for kind, x in zip(("shift", "stretch"), both, strict=False)
            }
        elif isinstance(value, float) and name not in ("epoch", "seconds"):
            values[f"{place}/{name}"] = value
    return {name: value for name, value in values.items() if math.isfinite(value)}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested data as one level with dotted names; empty parts are left out.

    >>> flat({"seed": 1, "stages": [{"lr": 0.1, "bn": None}]})
    {'seed': 1, 'stages.0.lr': 0.1, 'stages.0.bn': None}
    """
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        return {name: x for key, item in items for name, x in flat(item, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: value}
