"""The eight-step recipe for a set of images as one call, its settings chosen by looking at them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..augment import side_on
from ..core.console import NullConsole
from ..core.errors import InputError, did_you_mean
from ..core.experiment import Eval, Experiment
from ..core.expression import expression
from ..core.optimizers import AdamW
from ..core.types import Dataset, Model, Source
from ..core.validation import finite, require, whole
from ..datasets.detect import detect, name_of
from ..datasets.labels import constant_notes
from ..models import EfficientNetLite0
from ..models.base import ChainModel
from . import auto
from .lesson2 import Lesson2, lesson2
from .measured import measure


def fine_tune(
    name: str | Path,
    data: Dataset | None = None,
    model: Model | Literal["best"] | None = None,
    size: int | None = None,
    similar_to_imagenet: bool | None = None,
    *,
    epochs: float | None = None,
    ui: NullConsole | None = None,
    **fields: Any,
) -> Experiment:
    """Return the eight steps as an experiment: photographs taken from the side, four TTA views, AdamW.

    Without a model, or with a folder or the like alone, the settings are chosen by looking at the images, as `sgdr-jax new` does. With data
    and a model they are the defaults of `Lesson2`, whatever the images.

    Args:
        name: of the experiment; or where the images are: a folder of classes, a table beside images, and so on, see `datasets.detect`.
        data: where images and labels come from; None for what lies there.
        model: the network; None for EfficientNetLite0, "best" for the one of a short list whose frozen features classify the images best,
            all of whose layer groups train.
        size: as in `Lesson2`; None chooses it, and is 224 with given data and model.
        similar_to_imagenet: as in `Lesson2`; None measures it, and is True with given data and model.
        epochs: of the last stage, in which the body trains; None for seven, 0 for the head alone.
        ui: shows the choices and their reasons; None shows nothing.
        **fields: other fields of `Experiment`, in place of these.

    Raises:
        InputError: there is no set of images, or it can be understood in several ways.

    Example:
        >>> from sgdr_jax.datasets import Synthetic
        >>> from sgdr_jax.models import ResNet34
        >>> fine_tune("rings", Synthetic(), ResNet34(), size=96, batch_size=32).batch_size
        32
    """
    _check(name, data, model, size, similar_to_imagenet, epochs)
    _check_names(fields)
    if data is not None and model is not None and model != "best":
        size, similar = 224 if size is None else size, similar_to_imagenet is not False
        stages = lesson2(size, similar, budget=epochs or None, cycles=0 if epochs == 0 else 1)
        common = {"augment": side_on(zoom=1.1), "stages": stages, "optimizer": AdamW(clip=1.0), "evaluate": Eval(tta_views=4)}
        return Experiment(**{"name": str(name), "data": data, "model": model} | common | fields)
    ui, network = ui or NullConsole(), EfficientNetLite0() if model in (None, "best") else model
    require(isinstance(network, ChainModel), "model", network, "use one of sgdr_jax.models, or give data and stages too")
    assert isinstance(network, ChainModel)
    title = str(name)
    if data is None:
        data = detect(name)
        title = name_of(data)
    source = data.open()
    describe(source, data, ui)
    facts = measure(source, network, familiar=similar_to_imagenet is None and epochs != 0)
    if model == "best":
        from .choose_model import choose_model

        network = choose_model(data, ui).model
        facts = facts.of(network)
    chosen = facts.choices(epochs, whole=model == "best")
    given = {"size": size, "similar_to_imagenet": similar_to_imagenet}
    chosen = [c if given.get(c.name) is None else c._replace(value=given[c.name], reason="given") for c in chosen]
    ui.say(auto.choices_table(chosen))
    for warning in facts.warnings():
        ui.say(warning)
    return replace(auto.build(title, data, network, chosen), **fields)


def _check(name: object, data: object, model: object, size: object, similar_to_imagenet: object, epochs: object) -> None:
    """Raise InputError for an argument of another kind: files of experiments are not type-checked."""
    place = "give a folder of images, or a name with data and model"
    require(isinstance(name, str | Path), "name", name, place)
    fix = "give a dataset, such as ImageFolder(FOLDER), or the folder alone as the first argument; a network is given as model=…"
    require(data is None or isinstance(data, Dataset), "data", data, fix)
    known = 'use one of sgdr_jax.models, such as ResNet18(), or "best"'
    require(model is None or model == "best" or isinstance(model, Model), "model", model, known)
    require(size is None or whole(size), "size", size, "use a number of pixels, such as 224, or None")
    require(similar_to_imagenet in (None, True, False), "similar_to_imagenet", similar_to_imagenet, "use True, False or None")
    ok = epochs is None or (finite(epochs) and epochs >= 0)  # pyright: ignore[reportOperatorIssue]
    require(ok, "epochs", epochs, "use a positive number of epochs, 0 for the head alone, or None")


def _check_names(given: Collection[str]) -> None:
    """Raise InputError, which says where it belongs, for a keyword that is neither an argument nor a field of an experiment."""
    own = {"size", "similar_to_imagenet", "epochs", "ui"} | {field.name for field in dataclass_fields(Experiment)}
    parts = {"stages=lesson2(224, {}=…)": Lesson2, "evaluate=Eval({}=…)": Eval, "optimizer=AdamW({}=…)": AdamW}
    if "budget" in given and "stages" not in given:
        raise InputError("fine_tune: budget is the most epochs that a plan may have; the length of the last stage is epochs=…")
    for name in sorted(set(given) - own):
        places = [text.format(name) for text, part in parts.items() if name in {field.name for field in dataclass_fields(part)}]
        fix = (
            f"use {' or '.join(places)}"
            if places
            else f"{did_you_mean(name, own, 1)}use the fields of Experiment; rates and cycles belong to stages=lesson2(224, lr=…)"
        )
        raise InputError(f"fine_tune has no argument {name}; {fix}")


def describe(source: Source, data: Dataset, ui: NullConsole) -> None:
    """Show what the dataset is, its number of images and classes, and its notes."""
    sizes = ", ".join(f"{n:,} {split}" for split, n in source.sizes.items())
    several = ", several for an image" if source.multi_label else ""
    ui.say(f"images of {len(source.classes)} classes{several} in {expression(data)}: {sizes}")
    for note in (*source.notes, *constant_notes(source.classes, source.labels)):
        ui.say(note)
