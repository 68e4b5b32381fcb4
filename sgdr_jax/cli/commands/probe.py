"""`sgdr-jax probe`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.console import NullConsole
from ...core.files import write_output
from ...core.validation import require
from ..options import FolderCommand, check_output

if TYPE_CHECKING:
    from ...models.base import ChainModel


@dataclass(frozen=True, kw_only=True)
class ProbeCommand(FolderCommand):
    """Rank networks for a folder of images by cross-validated logistic regression on their frozen features, in minutes.

    The set is what lies in FOLDER; its fields are options too. Training images alone are used, unless no class has two. Nothing is
    trained. Features are kept in the cache of activations: a network that is named again costs seconds.
    """

    section = "Experiments"

    models: tuple[str, ...] = ()
    """Networks to compare: names of `sgdr-jax models`, or of timm, behind a dot a tag or a file of other weights than the default, as in
    convnext_tiny.dinov3_lvd1689m and ResNet34.FOLDER/model.safetensors. By default the short list of `sgdr-jax new --quality best`,
    as far as its weights can be had."""
    images: int = 2000
    """Largest number of images to use, an even share of each class; 0 for all."""
    size: int | None = None
    """Side in pixels that the networks see; by default that which `sgdr-jax new` would choose for each."""
    csv: Path | None = None
    """File for the table, as CSV with plain numbers."""

    def check(self) -> None:
        """Raise InputError for options with invalid values."""
        from ...models.base import model_named

        check_output(self.csv)
        require(len(set(self.models)) == len(self.models), "--models", " ".join(self.models), "name each network once")
        require(self.images >= 0, "--images", self.images, "use a number of images, or 0 for all")
        require(self.size is None or 8 <= self.size <= 4096, "--size", self.size, "use 8…4096 pixels")
        for name in self.models:
            model_named(name, "--models")

    def execute(self, ui: NullConsole) -> None:
        """Print and write the table."""
        import numpy as np

        from ...core.text import csv_text
        from ...models.base import model_name, model_named

        models = [model_named(name, "--models") for name in self.models] or self._short_list(ui)
        self.data.open()  # raises InputError for what is no set, before jax is imported
        from ...recipes import probe

        data = probe.with_judges(self.data, ui)
        total = data.open().sizes["train"]
        rows = probe.probe(probe.at_most(data, self.images), models, ui, self.size)
        ui.say(probe.table(rows))
        best, judged = rows[0], np.count_nonzero(~np.isnan(rows[0].correct))
        ui.say(f"accuracy of {judged:,} of {total:,} images, held out, and its 95 % interval")
        ui.say("behind: the best, image by image, ± one standard error")
        equal = [model_name(row.model) for row in rows[1:] if row.behind <= 2 * row.behind_error]
        ui.say(f"best: {model_name(best.model)}" + (f"; within two standard errors of it: {', '.join(equal)}" if equal else ""))
        if self.csv:
            write_output(self.csv, csv_text(probe.csv_rows(rows)))

    def _short_list(self, ui: NullConsole) -> list[ChainModel]:
        """Return the networks of the short list whose weights can be had. Raises InputError if there is none."""
        from ...recipes.choose_model import available

        models = available(ui)
        require(bool(models), "--models", "", "no weights of the short list can be had; name networks whose weights are here")
        return models
