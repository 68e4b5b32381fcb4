"""`sgdr-jax prepare`."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from ...core.console import NullConsole
from ..options import Command


@dataclass(frozen=True, kw_only=True)
class PrepareCommand(Command):
    """Download and prepare a dataset of the TensorFlow Datasets catalogue, unless it is prepared already."""

    section = "Networks and datasets"
    arguments = "NAME"

    name: tyro.conf.Positional[str]
    """Name in the catalogue: NAME, NAME/CONFIG or NAME:VERSION."""
    data_dir: str | None = None
    """Folder of prepared datasets; by default TFDS_DATA_DIR, or ~/tensorflow_datasets."""

    def execute(self, ui: NullConsole) -> None:
        """Prepare the dataset and print its folder."""
        from ...datasets import tfds

        ui.say(f"{self.name}: {tfds.prepare(self.name, self.data_dir)}")
