"""Weights & Biases; its own environment variables (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline) hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WandB:
    """Logs to a run of Weights & Biases whose id follows from the run folder, so that a resumed run goes on with it.

    Args:
        folder: the run folder; local files lie in its folder `wandb`.
        name: of the experiment; the project, unless WANDB_PROJECT names one.
        config: of the experiment, flat.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or name,
            name=folder.name,
            id=hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`; Weights & Biases ignores steps that it has."""
        self._run.log(dict(values), step=step)

    def rewind(self, step: int) -> None:
        """See `Tracker.rewind`; Weights & Biases keeps the steps that it has, and shows others from the first new one on."""

    def finish(self, figures: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """See `Tracker.finish`."""
        import wandb

        self._run.summary.update(dict(figures))
        self._run.log({name: wandb.Image(str(path)) for name, path in pictures.items()})

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()
