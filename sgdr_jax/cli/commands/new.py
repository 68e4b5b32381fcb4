"""`sgdr-jax new`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...core.console import NullConsole
from ...core.errors import InputError
from ...core.files import write_output
from ...core.plan import plan
from ...core.validation import require
from ..experiment_file import check_new_file
from ..options import FolderCommand

if TYPE_CHECKING:
    from ...core.experiment import Experiment
    from ...core.types import Source
    from ...models.base import ChainModel

MAX_EPOCHS = 10_000
"""Largest number of epochs; larger ones are typing errors."""


@dataclass(frozen=True, kw_only=True)
class NewCommand(FolderCommand):
    """Write an experiment file for a set of images, with a reason for each choice: size, batches, cache, balance, cycles.

    The set is what lies in FOLDER; its fields are options too, such as --data.valid-fraction 0.1.
    """

    section = "Experiments"

    out: Path | None = None
    """File to write; by default the folder's name with .py, in the current folder."""
    quality: Literal["fast", "good", "best"] = "good"
    """How much time the images are worth. fast: solves the head alone, on features of the frozen body; good: trains the body too (few
    images that are not photographs: without its first layer group); best: trains all of the network, of a short list, whose frozen features
    classify the images best, of those that train in --minutes."""
    model: str | None = None
    """Name of the network, behind a dot a tag or a file of other weights than the default: `sgdr-jax models` lists them. By default
    EfficientNetLite0, or what --quality best finds."""
    epochs: float | None = None
    """Epochs of the last stage, in which the body trains; by default seven."""
    minutes: float | None = None
    """Minutes that the last stage may take on this machine, in place of epochs; a few updates are timed."""
    measure: bool = True
    """Whether to measure how familiar the images are to the network's ImageNet classifier; takes some seconds, needs the weights."""

    def execute(self, ui: NullConsole) -> None:
        """Look at the images, print the choices and their reasons, write the file; an existing file is never overwritten."""
        from ...models.base import model_name, model_named
        from ...recipes import auto, measured
        from ...recipes.fine_tune import describe

        out = self._check()
        model = model_named(self.model or "EfficientNetLite0", "--model")
        data = self.data
        source = data.open()
        describe(source, data, ui)
        facts = measured.measure(source, model, familiar=self.measure and self.quality != "fast")
        epochs, picked, whole = 0 if self.quality == "fast" else self.epochs, list[auto.Choice](), self.quality == "best"
        if self.quality == "best":
            model, reason = self._choose(lambda model: auto.build(out.stem, data, model, facts.of(model).choices(whole=whole)), source, ui)
            picked = [auto.Choice("model", model_name(model), reason)]
            facts = facts.of(model)
        if self.minutes:
            epochs = _epochs(self.minutes, auto.build(out.stem, data, model, facts.choices(whole=whole)), source, ui)
        chosen = [*picked, *facts.choices(epochs, whole=whole)]
        ui.say(auto.choices_table(chosen))
        try:
            plan(auto.build(out.stem, data, model, chosen), source.sizes["train"])
        except InputError as error:  # before a file is written that `plan` and `train` refuse
            raise InputError(f"--epochs is {self.epochs}; {error}" if self.epochs else str(error)) from error
        text = auto.file_text(out.stem, data, type(model).__name__, chosen, None if model.weights == type(model).weights else model.weights)
        write_output(out, text)
        ui.say(f"written: {out}")
        for warning in facts.warnings():
            ui.say(warning)
        file = f"./{out}" if str(out).startswith("-") else str(out)  # which would be an option
        ui.say(f"next: sgdr-jax train {shlex.quote(file)}")

    def _choose(self, build: Callable[[ChainModel], Experiment], source: Source, ui: NullConsole) -> tuple[ChainModel, str]:
        """Choose a network and say why; `build` makes the experiment whose updates are timed."""
        from ...models.base import model_name
        from ...recipes.choose_model import choose_model

        def epochs(model: ChainModel) -> float:
            ui.say(f"timing {model_name(model)}")
            return _measured_epochs(self.minutes or 0, build(model), source)[0]

        return choose_model(self.data, ui, epochs if self.minutes else None)

    def _check(self) -> Path:
        """Return the file to write. Raises InputError for options with invalid values."""
        from ...datasets.detect import name_of

        epochs, minutes = self.epochs, self.minutes
        require(epochs is None or 0 < epochs <= MAX_EPOCHS, "--epochs", epochs, f"use a positive number of epochs, at most {MAX_EPOCHS:,}")
        require(minutes is None or 0 < minutes < math.inf, "--minutes", minutes, "use a positive number of minutes")
        require(minutes is None or epochs is None, "--minutes", minutes, "give --epochs or --minutes, not both")
        for name, value in (("--epochs", epochs), ("--minutes", minutes)):
            require(value is None or self.quality != "fast", name, value, "--quality fast trains no body that could take it; leave it out")
        require(self.model is None or self.quality != "best", "--model", self.model, "--quality best chooses one; leave one of them out")
        out = self.out or Path(f"{name_of(self.data)}.py")
        check_new_file(out, "--out")
        return out


def _measured_epochs(minutes: float, experiment: Experiment, source: Source) -> tuple[float, float]:
    """Return how many epochs of an experiment's last stage take this time on this machine, and the seconds of an update."""
    from ...recipes.timing import epochs_within, update_seconds

    seconds = update_seconds(experiment, len(source.classes))
    sizes = source.sizes
    return epochs_within(minutes, seconds, experiment, sizes["train"], sizes.get("valid", 0)), seconds


def _epochs(minutes: float, experiment: Experiment, source: Source, ui: NullConsole) -> float:
    """Return how many epochs of an experiment's last stage take this time on this machine. Raises InputError for less than one."""
    epochs, seconds = _measured_epochs(minutes, experiment, source)
    ui.say(f"an update takes {seconds:.2g} s here: {minutes:g} minutes are {epochs:.3g} epochs" + (", refit included" * experiment.refit))
    require(epochs >= 1, "--minutes", minutes, f"one epoch takes {minutes / epochs:.2g} minutes; give more, or a smaller --model")
    require(
        epochs <= MAX_EPOCHS,
        "--minutes",
        minutes,
        f"they are {epochs:.2g} epochs here; give less, at most {MAX_EPOCHS:,} epochs fit a plan",
    )
    return epochs
