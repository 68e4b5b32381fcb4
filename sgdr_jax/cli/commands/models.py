"""`sgdr-jax models`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import tyro

from ...core.console import NullConsole
from ...core.errors import InputError, did_you_mean
from ...core.validation import require
from ..options import Command, check_output


@dataclass(frozen=True, kw_only=True)
class ModelsCommand(Command):
    """List the networks: parameters of the body in millions, multiply-adds per image in billions, layer groups, default weights."""

    section = "Networks and datasets"
    arguments = "[NAME]"

    name: tyro.conf.Positional[str] = ""
    """Part of a name, such as resnet; the name of a single network shows its blocks."""
    size: int | None = None
    """Side of the image in pixels; by default that of the training of the network's weights."""
    csv: Path | None = None
    """File for the table, as CSV with plain numbers."""

    def execute(self, ui: NullConsole) -> None:
        """Print and write the table."""
        from ...models.base import networks

        check_output(self.csv)
        require(self.size is None or 32 <= self.size <= 4096, "--size", self.size, "use 32…4096 pixels")
        known = {name.lower(): name for name in networks()}
        word = self.name.lower()
        names = [known[word]] if word in known else [name for lower, name in known.items() if word in lower]
        if not names:
            raise InputError(f"unknown network {self.name!r}; {did_you_mean(self.name, known.values())}see sgdr-jax models")
        from ...models import summary

        kinds = {name: networks()[name]() for name in names}
        if len(kinds) == 1:
            rows = [block._asdict() for block in summary.blocks(kinds[names[0]], self.size)]
        else:
            rows = [summary.row(name, kind, self.size) for name, kind in kinds.items()]
        ui.say(summary.table(rows))
        if self.csv:
            with self.csv.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
