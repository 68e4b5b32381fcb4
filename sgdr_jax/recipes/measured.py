"""Experiments whose settings are chosen by looking at the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..augment import side_on
from ..core.console import NullConsole
from ..core.experiment import Eval, Experiment
from ..core.expression import expression
from ..core.optimizers import AdamW
from ..core.types import Dataset, Model, Source
from ..core.validation import require
from ..datasets.detect import detect, name_of
from ..datasets.labels import counts
from ..models import EfficientNetLite0
from ..models.base import ChainModel
from ..models.pretrained.locate import trained_size
from . import auto
from .lesson2 import lesson2

if TYPE_CHECKING:
    from ..data.decode import Item


class ImageFacts(NamedTuple):
    """Properties of a set of images that decide the settings of the recipe; see `auto.choices`.

    Attributes:
        counts: number of training images of each class, [classes].
        side: median length of the shorter side, in pixels.
        confidence: mean confidence of the network's ImageNet classifier on some of the images, 0…1; None if not measured.
        trained_at: side in pixels of the images that the network's weights were trained with.
        unread: names of the images that were looked at and cannot be read.
        looked: number of images that were looked at.
        batch_norm: whether the network's body has batch normalisation.
    """

    counts: np.ndarray
    side: int
    confidence: float | None
    trained_at: int
    unread: tuple[str, ...]
    looked: int
    batch_norm: bool = True

    def warning(self, most: int = 3) -> str:
        """Return what to say about images that cannot be read, with the names of at most `most`; "" if there are none."""
        if not self.unread:
            return ""
        names = ", ".join(self.unread[:most]) + (", …" if len(self.unread) > most else "")
        fix = "repair or remove them, or raise max_bad_share, the share that a run leaves out"
        return f"{len(self.unread):,} of {self.looked:,} images looked at cannot be read; {fix} ({names})"

    def choices(self, budget: float | None = None, quality: auto.Quality = "good") -> list[auto.Choice]:
        """Choose the settings; `budget` is the epochs of the last stage."""
        return auto.choices(self.counts, self.side, self.confidence, budget, self.trained_at, self.batch_norm, quality)

    def of(self, model: ChainModel) -> ImageFacts:
        """Return the same facts for the training of another network."""
        return self._replace(trained_at=trained_size(model), batch_norm=model.batch_norm)


def measure(source: Source, model: ChainModel, *, familiar: bool = True) -> ImageFacts:
    """Look at the images of an opened dataset.

    Args:
        source: the dataset.
        model: the network to train.
        familiar: whether to measure how confident its ImageNet classifier is on them; takes some seconds, needs the weights.
    """
    confidence = None
    if familiar:
        from . import domain_similarity

        confidence = domain_similarity.confidence(model, source)
    looked, dimensions, unread = _dimensions(source.items["train"], source.names["train"])
    side = int(np.median([min(size) for size in dimensions])) if dimensions else model.size
    labels = counts(source.labels["train"], len(source.classes))
    return ImageFacts(labels, side, confidence, model.size, unread, looked, model.batch_norm)


def fine_tune(
    name: str | Path,
    data: Dataset | None = None,
    model: Model | None = None,
    size: int | None = None,
    similar_to_imagenet: bool | None = None,
    *,
    budget: float | None = None,
    quality: auto.Quality = "good",
    ui: NullConsole | None = None,
    **fields: Any,
) -> Experiment:
    """Return the eight steps as an experiment: photographs taken from the side, four TTA views, AdamW.

    Without a model, or with a folder or the like alone, the settings are chosen by looking at the images, as `sgdr-jax new` does. With data
    and a model they are the defaults of `Lesson2`, whatever the images.

    Args:
        name: of the experiment; or where the images are: a folder of classes, a table beside images, and so on, see `datasets.detect`.
        data: where images and labels come from; None for what lies there.
        model: the network; None for EfficientNetLite0.
        size: as in `Lesson2`; None chooses it, and is 224 with given data and model.
        similar_to_imagenet: as in `Lesson2`; None measures it, and is True with given data and model.
        budget: epochs of the last stage; None for seven.
        quality: "fast" for the head alone, "good" to train the body too, "best" to train the body of the network, of a short list, whose
            frozen features classify the images best.
        ui: shows the choices and their reasons; None shows nothing.
        **fields: other fields of `Experiment`, in place of these.

    Raises:
        InputError: there is no set of images, or it can be understood in several ways; "best" and a model, or "fast" and a budget.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> from sgdr_jax.models import ResNet34
        >>> fine_tune("rings", Synthetic(), ResNet34(), size=96, batch_size=32).batch_size
        32
    """
    fast, best = quality == "fast", quality == "best"
    require(fast or best or quality == "good", "quality", quality, 'use "fast", "good" or "best"')
    require(model is None or not best, "model", model, 'quality="best" chooses the network; leave one of them out')
    require(budget is None or not fast, "budget", budget, 'quality="fast" trains no body that could take it; leave one of them out')
    if data is not None and model is not None:
        size, similar = size or 224, similar_to_imagenet is not False
        stages = lesson2(size, similar, budget=budget, cycles=0 if fast else 1)
        common = {"augment": side_on(zoom=1.1), "stages": stages, "optimizer": AdamW(clip=1.0), "evaluate": Eval(tta_views=4)}
        return Experiment(**{"name": str(name), "data": data, "model": model} | common | fields)
    ui, network = ui or NullConsole(), model or EfficientNetLite0()
    require(isinstance(network, ChainModel), "model", network, "use one of sgdr_jax.models, or give data and stages too")
    assert isinstance(network, ChainModel)
    title = str(name)
    if data is None:
        data = detect(name)
        title = name_of(data)
    source = data.open()
    describe(source, data, ui)
    facts = measure(source, network, familiar=similar_to_imagenet is None and not fast)
    if best:
        from .choose_model import choose_model

        network = choose_model(data, ui).model
        facts = facts.of(network)
    chosen = facts.choices(budget, quality)
    given = {"size": size, "similar_to_imagenet": similar_to_imagenet}
    chosen = [c if given.get(c.name) is None else c._replace(value=given[c.name], reason="given") for c in chosen]
    ui.say(auto.choices_table(chosen))
    if warning := facts.warning():
        ui.say(warning)
    return replace(auto.build(title, data, network, chosen), **fields)


def describe(source: Source, data: Dataset, ui: NullConsole) -> None:
    """Show what the dataset is, its number of images and classes, and its notes."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in source.sizes.items())
    several = ", several for an image" if source.multi_label else ""
    ui.say(f"images of {len(source.classes)} classes{several} in {expression(data)}: {sizes}")
    for note in source.notes:
        ui.say(note)


def _dimensions(
    items: Sequence[Item] | np.ndarray, names: Sequence[str], most: int = 1000
) -> tuple[int, list[tuple[int, int]], tuple[str, ...]]:
    """Read the dimensions of at most `most` images, evenly spread.

    Returns:
        (number of images looked at, width and height of those that can be read, names of the others).
    """
    from ..data import decode

    decode.ready()
    n = len(items)
    index: list[int] = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist()
    # A file that was cut short has a good header.
    found = list(decode.in_threads(lambda i: decode.dimensions(items[i]) if decode.is_intact(items[i]) else None, index))
    unread = tuple(names[i] for i, size in zip(index, found, strict=True) if not size)
    return len(index), [size for size in found if size], unread
