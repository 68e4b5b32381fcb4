"""`sgdr-jax new`: an experiment file for a folder of images, with everything chosen for them and the reasons."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from ...core.console import NullConsole
from ...core.errors import did_you_mean
from ...core.types import Source
from ...core.validation import require
from ...data import decode
from ...datasets import ImageFolder
from ...datasets.labels import counts
from ...models.base import networks
from ...recipes.auto import Choice, choices, file_text
from ..experiment_file import load_experiment
from ..options import NewCommand

EPOCHS = 10_000
"""Of the longest budget: more is a slip of the pen."""


def new(command: NewCommand, ui: NullConsole) -> None:
    """Looks at the images, prints what is chosen and why, writes the file; an existing file is never overwritten."""
    c = command
    kind = networks().get(c.model)
    require(kind is not None, "--model", c.model, f"{did_you_mean(c.model, networks())}see sgdr-jax models")
    assert kind is not None
    require(c.budget is None or 0 < c.budget <= EPOCHS, "--budget", c.budget, f"use a positive number of epochs, at most {EPOCHS:,}")
    require(c.minutes is None or 0 < c.minutes < math.inf, "--minutes", c.minutes, "use a positive number of minutes")
    require(c.minutes is None or c.budget is None, "--minutes", c.minutes, "give epochs (--budget) or minutes, not both")
    out = c.out or Path(f"{c.folder.resolve().name.replace(' ', '_') or 'photos'}.py")
    require(out.suffix == ".py", "--out", str(out), "use a name that ends in .py")
    require(not out.exists(), "--out", str(out), "it is there already; give another name")
    require(out.absolute().parent.is_dir(), "--out", str(out), "name a file in a folder that exists")
    root = str(c.folder.resolve())
    data = ImageFolder(root)
    source = data.open()
    sizes = ", ".join(f"{n:,} {split}" for split, n in source.sizes.items())
    ui.say(f"images of {len(source.classes)} classes in {root}: {sizes}")
    if rest := data.ignored_files(source):
        ui.say(f"not part of the set: {rest}")
    confidence = None
    if c.measure:
        from ...recipes.domain_similarity import confidence as measured

        confidence = measured(kind(), source)
    looked, found = _dimensions(source.items["train"])
    sides = [min(size) for size in found]
    side = int(np.median(sides)) if sides else kind.size
    chosen = partial(choices, counts(source.labels["train"], len(source.classes)), side, confidence, trained_at=kind.size)
    budget = _epochs(c.minutes, file_text(out.stem, root, c.model, chosen()), source, ui) if c.minutes else c.budget
    chosen = chosen(budget=budget)
    ui.say(choices_table(chosen))
    out.write_text(file_text(out.stem, root, c.model, chosen), encoding="utf-8")
    ui.say(f"written: {out}")
    if len(found) < looked:
        ui.say(f"{looked - len(found)} of {looked:,} images looked at cannot be read; sgdr-jax data {shlex.quote(str(out))} names them")
    ui.say(f"next: sgdr-jax train {shlex.quote(str(out))}")


def choices_table(chosen: Sequence[Choice]) -> Table:
    """What was chosen for a set of images, and why."""
    table = Table("choice", "value", "reason", box=box.SIMPLE_HEAD)
    for choice in chosen:
        table.add_row(choice.name, "default" if choice.value is None else f"{choice.value}", choice.reason)
    return table


def _epochs(minutes: float, text: str, source: Source, ui: NullConsole) -> float:
    """Epochs of the last stage of an experiment file's text that take so many minutes on this machine."""
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
    require(epochs <= EPOCHS, "--minutes", minutes, f"they are {epochs:.2g} epochs here; give less, at most {EPOCHS:,} epochs fit a plan")
    return epochs


def _dimensions(items: object, most: int = 1000) -> tuple[int, list[tuple[int, int]]]:
    """How many images were looked at, at most so many, evenly spread, and width and height of those that can be read."""
    decode.ready()
    n = len(items)  # pyright: ignore[reportArgumentType]
    index = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist()
    found = decode.in_threads(lambda i: decode.dimensions(lambda: items[i]), index)  # pyright: ignore[reportIndexIssue]
    return len(index), [size for size in found if size]
