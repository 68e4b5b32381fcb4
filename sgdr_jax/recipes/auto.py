"""Settings of the recipe chosen from the properties of a set of images, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..augment import side_on
from ..core.experiment import Eval, Experiment
from ..core.expression import expression
from ..core.optimizers import AdamW
from ..core.types import Dataset, Model
from .lesson2 import lesson2

if TYPE_CHECKING:
    from rich.table import Table

FAMILIAR = 0.4
"""Mean confidence of an ImageNet classifier, at the image size it was trained with, from which images count as similar to ImageNet.
Measured with EfficientNet-Lite0 at 224 px: photographs 0.45–0.50, cut-outs 0.36, emoji 0.30, icons 0.28, Fashion-MNIST 0.28, clip art 0.27,
letters 0.21, digits 0.11."""
STRANGE = 0.23
"""Confidence below which the body has much to learn even where images are few: on letters and digits (400 to 500 images) the rate 1e-3
was 1.2 points ahead of 3e-4, on photographs and stamps 14 behind (`experiments/bench/bodies.py`)."""
STRANGE_LR = 5e-4
"""Rate of few such images: on digits 0.4 ± 0.3 points behind 1e-3, on letters alike, on photographed surfaces 2.7 ± 5.3 ahead, where one of
five runs at 1e-3 fell behind its own head. Undecided on average, and the safer of the two."""
FEW = 3_000
"""Training images below which stored batch statistics are better than trained ones (on ten sets of 43 to 1,000 images by 3.3 points; at
2,000 alike, at 4,500 behind by 0.9), and a lower rate too."""
SMALLEST = 128
"""Least side in pixels that images are enlarged to. Source: BiT-HyperRule (Kolesnikov et al. 2020): 128 for images under 96."""
MANY = 20_000
"""Training images from which batches of 64 leave enough updates."""
UPDATES = 20
"""Least number of updates per epoch: a smaller set is repeated. With 12 the final network was 0.8 ± 0.7 points behind on four sets."""
FIRST_SHARE = 0.6
"""Share of these in the training before a refit, which has only to choose."""
LEEWAY = 1.5
"""Standard errors of the validation accuracy by which a trained body may be behind the solved head and still be kept: of 36 bodies at the
recipe's rate that 15 to 25 images judged, one was undone with 1, to no gain, and one of ten after the shorter first training."""
RECIPE = ("size", "similar_to_imagenet", "lr", "views", "cycles", "train", "bn", "cycle_len")
"""Choices that are settings of `lesson2`."""
REST = ("batch_size", "epoch_steps", "balance", "leeway", "refit", "first_epoch_share")
"""Choices that are fields of the experiment."""
REFIT = 5_000
"""Training images from which a second training, on the validation images too, is not worth its time."""


class Choice(NamedTuple):
    """Value chosen for one setting.

    Attributes:
        name: of the setting in the experiment file.
        value: its value; None leaves the default.
        reason: why, for people.
    """

    name: str
    value: Any
    reason: str


class NetworkTraits(NamedTuple):
    """Properties of a network that decide the settings of the recipe.

    Attributes:
        trained_at: side in pixels of the images that its weights were trained with.
        batch_norm: whether its body has batch normalisation.
        pretrained: whether it comes with weights; otherwise it is random.
        groups: number of its layer groups.
        patch: side in pixels of the patches into which it cuts images, 1 for none; what is left of them is not seen.
    """

    trained_at: int = 224
    batch_norm: bool = True
    pretrained: bool = True
    groups: int = 3
    patch: int = 1


def choices(
    counts: np.ndarray,
    side: int,
    confidence: float | None,
    epochs: float | None = None,
    network: NetworkTraits = NetworkTraits(),  # noqa: B008 (it is a tuple)
    images: int | None = None,
    whole: bool = False,
) -> list[Choice]:
    """Choose size, rate, batch size, cache, balance, trained groups, batch normalisation, refit and length for a set.

    Args:
        counts: number of training images of each class, [classes], those without any do not count; an image with several classes
            counts in each.
        side: median length of the images' shorter side, in pixels.
        confidence: mean confidence of the ImageNet classifier on some of the images, 0…1; None if not measured.
        epochs: of the last stage; None for seven, 0 for the head alone, without what is chosen for the body.
        network: that is to be trained.
        images: number of training images; None for the sum of `counts`, which is that of images with one class each.
        whole: whether all layer groups train even where images are few.

    Example:
        >>> values = {c.name: c.value for c in choices(np.array([300, 40]), 480, 0.7)}
        >>> values["size"], values["similar_to_imagenet"], values["batch_size"], values["bn"]
        (224, True, 32, 'frozen')
    """
    n, shown = int(counts.sum()) if images is None else images, counts[counts > 0]  # a class may be in validation images alone
    most, least = int(shown.max(initial=0)), int(shown.min(initial=n))
    size, views, batch = _size(side, network), _views(n), _batch_size(n)
    balance = Choice("balance", 0.5 if most >= 2 * least else 0.0, f"the classes have {least:,} to {most:,} images")
    if epochs == 0:
        head = Choice("cycles", 0, "the head alone: a trained body takes most of the time for some points more")
        return [size, views, head, balance, _refit(n)]
    return [
        size,
        _rate(confidence, n, network.pretrained),
        batch,
        _epoch_steps(n, batch.value),
        views,
        balance,
        *([] if whole or not network.pretrained or network.groups < 3 else _train(confidence, n, batch.value)),
        _bn(n, network.batch_norm, network.pretrained),
        Choice("leeway", LEEWAY, "standard errors of the validation accuracy within which two states count as equal"),
        _refit(n),
        *_first_epoch_share(n, batch.value),
        *_length(epochs),
    ]


def _size(side: int, network: NetworkTraits) -> Choice:
    patch = network.patch
    step, own = max(32 // patch, 1) * patch, max(network.trained_at // patch, 1) * patch
    smallest = _up(SMALLEST, step)
    size = min(max(_up(side, step), smallest), own)
    reasons = {own: f"the network's own size is {own}", smallest: "smaller images gain by being enlarged to it"}
    return Choice("size", size, f"the images' shorter side has {side} px; {reasons.get(size, 'more would only enlarge them')}")


def _up(side: int, step: int) -> int:
    return step * math.ceil(side / step)


def _rate(confidence: float | None, n: int, pretrained: bool) -> Choice:
    """Choose the rate by how like ImageNet's the images are: one of the two of `similar_to_imagenet`, or one of its own between them."""
    if not pretrained:
        return Choice("similar_to_imagenet", False, "the network is random: all its layers have to learn")
    if confidence is None:
        return Choice("similar_to_imagenet", True, "not measured")
    sure, few = f"the ImageNet classifier's mean confidence on them is {confidence:.2f}", n < FEW
    if confidence >= FAMILIAR:
        return Choice("similar_to_imagenet", True, f"{sure}, as on photographs of everyday things")
    if confidence >= STRANGE and few:
        return Choice("similar_to_imagenet", True, f"{sure}, under {FAMILIAR}, but {n:,} images are too few to train its early layers")
    if few:
        return Choice("lr", STRANGE_LR, f"{sure}, under {STRANGE}: the body has much to learn, but at 1e-3 {n:,} images may ruin it")
    return Choice("similar_to_imagenet", False, f"{sure}, under {FAMILIAR}: the body has more to learn")


def _batch_size(n: int) -> Choice:
    many = n >= MANY
    return Choice("batch_size", 64 if many else 32, f"{n:,} images are " + ("enough for it" if many else "better shown in more updates"))


def _epoch_steps(n: int, batch_size: int) -> Choice:
    updates = math.ceil(n / batch_size)
    few = _repeats(n, batch_size)
    reason = f"one pass over the images has {updates} update{'s' * (updates != 1)}"
    return Choice("epoch_steps", UPDATES if few else None, reason + ("" if few else ": enough"))


def _train(confidence: float | None, n: int, batch_size: int) -> list[Choice]:
    """Leave the first layer group as it is where images are few, but for photographs (-2.6 ± 2.6 points; other sets +0.6 ± 1.0)."""
    few = _repeats(n, batch_size) and confidence is not None and confidence < FAMILIAR
    why = f"{n:,} images that are not photographs lose about half a point without the first layer group, and two fifths of the time"
    return [Choice("train", 1, why)] if few else []


def _views(n: int) -> Choice:
    views = min(max(10_000 // n, 1), 4)
    return Choice("views", views, f"augmented copies in the cache: up to 4 of each image, about 10,000 in all, of {n:,} images")


def _bn(n: int, batch_norm: bool, pretrained: bool) -> Choice:
    if not batch_norm:
        return Choice("bn", None, "the network's body has no batch normalisation: nothing to estimate")
    if not pretrained:
        return Choice("bn", "train", "the network is random: it has no statistics worth keeping")
    small = n < FEW
    why = "too few" if small else "enough"
    return Choice("bn", "frozen" if small else "train", f"{n:,} images are {why} to estimate means and variances for the whole body")


def _refit(n: int) -> Choice:
    few = n < REFIT
    return Choice(
        "refit",
        few,
        f"of {n:,} images " + ("every one counts: the final training includes those held out" if few else "some can be spared"),
    )


def _repeats(n: int, batch_size: int) -> bool:
    """Return whether an epoch goes through the images more often than once."""
    return math.ceil(n / batch_size) < UPDATES


def _first_epoch_share(n: int, batch_size: int) -> list[Choice]:
    why = "of epoch_steps, before the refit: enough to choose; the refit has all"
    return [Choice("first_epoch_share", FIRST_SHARE, why)] if _repeats(n, batch_size) else []


def _length(epochs: float | None) -> list[Choice]:
    return [] if epochs is None else [Choice("cycle_len", round(epochs, 3), "epochs, given")]


def build(name: str, data: Dataset, model: Model, chosen: Sequence[Choice]) -> Experiment:
    """Return the experiment of these choices, the one that the file of `file_text` defines.

    Args:
        name: of the experiment.
        data: the images.
        model: the network.
        chosen: as returned by `choices`.
    """
    values = {choice.name: choice.value for choice in chosen if choice.value is not None}
    return Experiment(
        name=name,
        data=data,
        model=model,
        augment=side_on(zoom=1.1),
        stages=lesson2(**{field: values[field] for field in RECIPE if field in values}),
        optimizer=AdamW(clip=1.0),
        evaluate=Eval(batch_size=32, tta_views=4),
        **{field: values[field] for field in REST if field in values},
    )


def file_text(name: str, data: Dataset, model: str, chosen: list[Choice], weights: str | None = None) -> str:
    """Return the text of an experiment file, with the reasons as comments.

    Args:
        name: of the experiment.
        data: the images, one of `sgdr_jax.datasets`.
        model: name of a network in `sgdr_jax.models`.
        chosen: as returned by `choices`; the reason of a choice "model" stands behind the network.
        weights: of the network; None for its default.
    """
    options = f"weights={weights!r}" if weights else ""
    why = "".join(f"  # {choice.reason}" for choice in chosen if choice.name == "model")

    def lines(names: tuple[str, ...], indent: str) -> str:
        given = [choice for choice in chosen if choice.name in names and choice.value is not None]
        return "\n".join(f"{indent}{c.name}={c.value!r},  # {c.reason}" for c in given)

    return f'''"""The eight-step recipe with settings chosen for these images, and why. Change what you know better."""

from sgdr_jax import AdamW, Eval, Experiment, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import {type(data).__name__}
from sgdr_jax.models import {model}

experiment = Experiment(
    name={name!r},
    data={expression(data, 4, len("data="))},
    model={model}({options}),{why}
    augment=side_on(zoom=1.1),
    stages=lesson2(
{lines(RECIPE, "        ")}
    ),
    optimizer=AdamW(clip=1.0),
    evaluate=Eval(batch_size=32, tta_views=4),
{lines(REST, "    ")}
)
'''


def choices_table(chosen: Sequence[Choice]) -> Table:
    """Return a table of the choices and their reasons."""
    from rich import box
    from rich.table import Table

    table = Table("choice", "value", "reason", box=box.SIMPLE_HEAD)
    for choice in chosen:
        table.add_row(choice.name, "default" if choice.value is None else f"{choice.value}", choice.reason)
    return table
