"""`sgdr-jax new`."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from ...core.console import NullConsole
from ...core.errors import did_you_mean
from ...core.validation import require
from ..experiment_file import load_experiment
from ..options import Command

if TYPE_CHECKING:
    from rich.table import Table

    from ...core.types import Source
    from ...data.decode import Item
    from ...recipes.auto import Choice

MAX_EPOCHS = 10_000
"""Largest budget in epochs; larger ones are typing errors."""


@dataclass(frozen=True, kw_only=True)
class NewCommand(Command):
    """Write an experiment file for a folder of images, with a reason for each choice: size, batches, cache, balance, cycles."""

    section = "Experiments"
    arguments = "FOLDER"

    folder: tyro.conf.Positional[Path]
    """Folder with train/CLASS/* and valid/CLASS/*, or only CLASS/*."""
    out: Path | None = None
    """File to write; by default the folder's name with .py, in the current folder."""
    model: str = "EfficientNetLite0"
    """Name of the network; `sgdr-jax models` lists them."""
    budget: float | None = None
    """Epochs of the last stage, in which everything trains; by default 1 + 2 + 4."""
    minutes: float | None = None
    """Minutes that the last stage may take on this machine, in place of epochs; a few updates are timed."""
    measure: bool = True
    """Whether to measure how familiar the images are to the network's ImageNet classifier; takes some seconds, needs the weights."""

    def execute(self, ui: NullConsole) -> None:
        """Look at the images, print the choices and their reasons, write the file; an existing file is never overwritten."""
        from ...datasets import ImageFolder
        from ...datasets.labels import counts
        from ...models.base import networks
        from ...recipes.auto import choices, file_text

        kind = networks().get(self.model)
        require(kind is not None, "--model", self.model, f"{did_you_mean(self.model, networks())}see sgdr-jax models")
        assert kind is not None
        out = self._check()
        root = str(self.folder.resolve())
        source = ImageFolder(root).open()
        sizes = ", ".join(f"{n:,} {split}" for split, n in source.sizes.items())
        ui.say(f"images of {len(source.classes)} classes in {root}: {sizes}")
        for note in source.notes:
            ui.say(note)
        confidence = None
        if self.measure:
            from ...recipes import domain_similarity

            confidence = domain_similarity.confidence(kind(), source)
        looked, dimensions = _dimensions(source.items["train"])
        side = int(np.median([min(size) for size in dimensions])) if dimensions else kind.size
        choose = partial(choices, counts(source.labels["train"], len(source.classes)), side, confidence, trained_at=kind.size)
        budget = self.budget
        if self.minutes:
            budget = _epochs(self.minutes, file_text(out.stem, root, self.model, choose()), source, ui)
        chosen = choose(budget=budget)
        ui.say(choices_table(chosen))
        out.write_text(file_text(out.stem, root, self.model, chosen), encoding="utf-8")
        ui.say(f"written: {out}")
        if len(dimensions) < looked:
            bad = looked - len(dimensions)
            ui.say(f"{bad} of {looked:,} images looked at cannot be read; sgdr-jax data {shlex.quote(str(out))} names them")
        ui.say(f"next: sgdr-jax train {shlex.quote(str(out))}")

    def _check(self) -> Path:
        """Return the file to write. Raises InputError for options with invalid values."""
        budget, minutes = self.budget, self.minutes
        require(budget is None or 0 < budget <= MAX_EPOCHS, "--budget", budget, f"use a positive number of epochs, at most {MAX_EPOCHS:,}")
        require(minutes is None or 0 < minutes < math.inf, "--minutes", minutes, "use a positive number of minutes")
        require(minutes is None or budget is None, "--minutes", minutes, "give epochs (--budget) or minutes, not both")
        out = self.out or Path(f"{self.folder.resolve().name.replace(' ', '_') or 'photos'}.py")
        require(out.suffix == ".py", "--out", str(out), "use a name that ends in .py")
        require(not out.exists(), "--out", str(out), "it is there already; give another name")
        require(out.absolute().parent.is_dir(), "--out", str(out), "name a file in a folder that exists")
        return out


def choices_table(chosen: Sequence[Choice]) -> Table:
    """Return a table of the choices and their reasons."""
    from rich import box
    from rich.table import Table

    table = Table("choice", "value", "reason", box=box.SIMPLE_HEAD)
    for choice in chosen:
        table.add_row(choice.name, "default" if choice.value is None else f"{choice.value}", choice.reason)
    return table


def _epochs(minutes: float, text: str, source: Source, ui: NullConsole) -> float:
    """Return how many epochs of the last stage of an experiment file, given as text, take this time on this machine."""
    from ...recipes.timing import epochs_within, update_seconds

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photos.py"
        file.write_text(text, encoding="utf-8")
        experiment = load_experiment(file)
    seconds = update_seconds(experiment, len(source.classes))
    sizes = source.sizes
    epochs = epochs_within(minutes, seconds, experiment, sizes["train"], sizes["valid"])
    ui.say(f"an update takes {seconds:.2g} s here: {minutes:g} minutes are {epochs:.3g} epochs" + (", refit included" * experiment.refit))
    require(epochs >= 1, "--minutes", minutes, f"one epoch takes {minutes / epochs:.2g} minutes; give more, or a smaller --model")
    require(
        epochs <= MAX_EPOCHS,
        "--minutes",
        minutes,
        f"they are {epochs:.2g} epochs here; give less, at most {MAX_EPOCHS:,} epochs fit a plan",
    )
    return epochs


def _dimensions(items: Sequence[Item] | np.ndarray, most: int = 1000) -> tuple[int, list[tuple[int, int]]]:
    """Read the dimensions of at most `most` images, evenly spread.

    Returns:
        (number of images looked at, width and height of those that can be read).
    """
    from ...data import decode

    decode.ready()
    n = len(items)
    index = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist()
    dimensions = decode.in_threads(lambda i: decode.dimensions(items[i]), index)
    return len(index), [size for size in dimensions if size]
