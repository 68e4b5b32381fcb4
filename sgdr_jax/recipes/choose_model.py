"""Chooses a network for a set of images from a short list: the one whose frozen features classify them best, `sgdr-jax new --quality best`.

Which network suits depends on the images: fine-tuning 500 networks of timm, ConvNeXt was best on pets (like ImageNet), small ViTs and Swins
on satellite images (unlike it; Capelle & Howard, "Finding the New ResNet18", wandb.ai 2022), ConvNeXt-Tiny on most natural sets with few
images per class (Jeevan & Sethi 2024, arXiv 2406.05612). So these are asked, by what the recipe's first stage would reach with each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..core.console import NullConsole
from ..core.types import Dataset
from ..models import ConvNeXtNano, ConvNeXtTiny, EfficientNetLite0, ViTSmall16
from ..models.base import ChainModel, model_name
from ..models.pretrained.locate import unavailable

EPOCHS = 5
"""Least number of epochs that a network has to get in the time given; the comparison of 500 had five."""
SHORT_LIST: tuple[ChainModel, ...] = (EfficientNetLite0(), ConvNeXtNano("in12k_ft_in1k"), ConvNeXtTiny("in12k_ft_in1k"), ViTSmall16())
"""All candidates, the fastest first. On two CPU cores ConvNeXt-Tiny trains 24 images/s at 128 px, EfficientNet-Lite0 143."""


class Pick(NamedTuple):
    """The network chosen.

    Attributes:
        model: the network with its weights.
        reason: why, for people.
    """

    model: ChainModel
    reason: str


def available(ui: NullConsole, models: Sequence[ChainModel] = SHORT_LIST) -> list[ChainModel]:
    """Return the candidates whose weights are available; reports why the others are not."""
    loadable = list[ChainModel]()
    for model in models:
        if reason := unavailable(model):
            ui.say(f"left out {model_name(model)}: {reason}")
        else:
            loadable.append(model)
    return loadable


def choose_model(
    data: Dataset, ui: NullConsole, epochs: Callable[[ChainModel], float] | None = None, models: Sequence[ChainModel] = SHORT_LIST
) -> Pick:
    """Choose the candidate that `probe` ranks first on at most `probe.IMAGES` of the training images.

    Candidates without available weights, or which the machine does not train in time, are left out; if none remains, the first is chosen.

    Args:
        data: the images.
        ui: shows the ranking, and what is left out.
        epochs: measures how many epochs of the last stage fit into the time; None without a time.
        models: the candidates, the fastest first.
    """
    candidates = list[ChainModel]()
    for model in available(ui, models):
        if epochs and (count := epochs(model)) < EPOCHS:
            ui.say(f"left out {model_name(model)}: it gets {count:.2g} epochs in the time, under {EPOCHS}")
        else:
            candidates.append(model)
    if len(candidates) < 2:
        which = "has weights available" + f" and gets {EPOCHS} epochs in the time" * bool(epochs)
        if candidates:
            return Pick(candidates[0], f"the only network of a short list that {which}")
        return Pick(models[0], f"no network of a short list {which}")
    from . import probe

    rows = probe.probe(probe.at_most(probe.with_judges(data, ui), probe.IMAGES), candidates, ui)
    ui.say(probe.table(rows))
    best, second = rows[:2]
    ahead = f"{100 * second.behind:.1f} ± {100 * second.behind_error:.1f} points more than on those of {model_name(second.model)}"
    return Pick(best.model, f"a linear head on its frozen features classifies {100 * best.accuracy:.1f} % of the images correctly, {ahead}")
