"""The losses of a stage's updates as rows, read from the devices a little late; ends a stage whose updates are skipped in a row."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.errors import Diverged
from ..core.state import Hyper

PATIENCE = 5
"""Updates in a row that may be skipped, as their loss is not finite, or gradients or rates out of range; with the last of them the stage
has diverged."""

FIX = "use a lower lr, or gradient clipping with optimizer.clip, in another run folder"

type Row = dict[str, Any]
"""A row of metrics.jsonl."""


class LossLog:
    """Logs the losses of updates a few spans late, while the devices go on with later ones."""

    def __init__(self, log: Callable[[Row], None], tick: Callable[[float], None], late: int) -> None:
        self._log, self._tick, self._late, self._smoothed, self._seen = log, tick, late, 0.0, 0
        self._pending: deque[tuple[int, Hyper, Mapping[str, Any]]] = deque()
        self.streak = 0
        """Updates in a row that were skipped, of those logged."""

    def add(self, start: int, hyper: Hyper, sums: Mapping[str, Any]) -> None:
        """Queue the sums of a span that begins with update `start`, and log those that are old enough."""
        self._pending.append((start, hyper, sums))
        self.flush(self._late)

    def flush(self, keep: int = 0) -> None:
        """Log all spans but the last `keep`. Raises Diverged if `PATIENCE` updates in a row were skipped."""
        while len(self._pending) > keep:
            start, hyper, sums = self._pending.popleft()
            columns = (np.atleast_1d(np.asarray(sums[name], np.float64))[: len(hyper.lr)] for name in ("loss", "weight", "skipped"))
            losses, weights, skipped = columns
            means = (losses / np.where(weights > 0, weights, 1)).tolist()
            rows = zip(means, hyper.lr.tolist(), hyper.momentum.tolist(), skipped.tolist(), strict=True)
            for step, (loss, lr, momentum, skip) in enumerate(rows, start):
                row: Row = {"kind": "train", "step": step, "loss": loss, "lr": lr, "momentum": momentum}
                self._add(row | {"skipped": True} if skip else row)

    def _add(self, row: Row) -> None:
        loss, step = row["loss"], row["step"]
        self._log(row)
        self.streak = self.streak + 1 if "skipped" in row else 0
        if self.streak == PATIENCE:
            of = " with gradients or rates out of range" if math.isfinite(loss) else ""
            raise Diverged(f"the training loss is {loss}{of} at update {step} of the stage, the fifth update in a row to be skipped; {FIX}")
        if not self.streak:
            self._seen += 1
            self._smoothed = 0.98 * self._smoothed + 0.02 * loss
        self._tick(self._smoothed / (1 - 0.98 ** max(self._seen, 1)))
