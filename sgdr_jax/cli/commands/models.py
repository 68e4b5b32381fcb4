"""`sgdr-jax models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ...core.console import NullConsole
from ...core.errors import InputError, did_you_mean
from ...core.files import write_output
from ...core.text import csv_text
from ...core.validation import require
from ..options import Command, check_output

if TYPE_CHECKING:
    from ...models.base import ChainModel


@dataclass(frozen=True, kw_only=True)
class ModelsCommand(Command):
    """List the networks: parameters of the body in millions, multiply-adds per image in billions, layer groups, default weights.

    With --weights, list their published weights by tag: size of the file, number of classes, images that they were trained with, accuracy,
    licence.
    """

    section = "Networks and datasets"
    arguments = "[NAME]"

    name: tyro.conf.Positional[str] = ""
    """Part of a name, such as resnet or convnext_tiny; the name of a single network shows its blocks."""
    weights: bool = False
    """List published weights in place of networks."""
    size: int | None = None
    """Side of the image in pixels; by default that of the training of the network's weights."""
    csv: Path | None = None
    """File for the table, as CSV with plain numbers."""

    def execute(self, ui: NullConsole) -> None:
        """Print and write the table."""
        from ...models.base import networks

        check_output(self.csv)
        require(self.size is None or 32 <= self.size <= 4096, "--size", self.size, "use 32…4096 pixels")
        kinds = {name: kind() for name, kind in _matching(self.name, networks()).items()}
        from ...models import summary

        if self.weights:
            require(self.size is None, "--size", self.size, "published weights have the size of their training; leave it out")
            rows = [row for name, kind in kinds.items() for row in summary.weights_rows(name, kind)]
            require(bool(rows), "--weights", self.name, f"no weights of {', '.join(kinds)} are recorded; give a file as model.weights")
            table, lines = summary.weights_table(rows)
            ui.say(table)
            for line in lines:
                ui.say(line)
            _write(self.csv, rows)
            return
        if len(kinds) == 1:
            rows = [block._asdict() for kind in kinds.values() for block in summary.blocks(kind, self.size)]
        else:
            rows = [summary.row(name, kind, self.size) for name, kind in kinds.items()]
        ui.say(summary.table(rows))
        _write(self.csv, rows)


def _matching(word: str, kinds: Mapping[str, type[ChainModel]]) -> dict[str, type[ChainModel]]:
    """Return the networks whose name is a word, in the package or in timm, or else those whose names contain it."""
    lower = word.lower()

    def names(name: str) -> tuple[str, str]:
        return name.lower(), kinds[name].architecture()

    matching = [name for name in kinds if lower in names(name)] or [name for name in kinds if any(lower in known for known in names(name))]
    if not matching:
        near = did_you_mean(word, kinds) or did_you_mean(word, [kind.architecture() for kind in kinds.values()])
        raise InputError(f"unknown network {word!r}; {near}see sgdr-jax models")
    return {name: kinds[name] for name in matching}


def _write(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    if path:
        write_output(path, csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))
