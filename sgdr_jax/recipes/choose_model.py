"""Chooses a network for a set of images and a machine from a short list, with the reason: `sgdr-jax new --model auto`.

What is known: fine-tuning 500 networks of timm on pets (like ImageNet) and satellite images (unlike it), ConvNeXt was best on the former,
small ViTs and Swins on the latter, within five epochs (Capelle & Howard, "Finding the New ResNet18", wandb.ai 2022). With few images per
class attention fell behind convolutions, and ConvNeXt-Tiny was the best small network on most natural sets (Jeevan & Sethi 2024, arXiv
2406.05612). On two CPU cores ConvNeXt-Tiny trains 24 images/s at 128 px, EfficientNet-Lite0 143 (experiments/bench/results). Beyond these
the size of the set decides nothing here. `sgdr-jax probe` compares networks on the images themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..models import ConvNeXtNano, ConvNeXtTiny, EfficientNetLite0, ViTSmall16
from ..models.base import ChainModel
from .auto import FAMILIAR

FEW = 1_000
"""Training images below which attention is not chosen: the satellite images on which small ViTs were best were 1,000."""
EPOCHS = 5
"""Least number of epochs that a network has to get in the time given; the comparison above had five."""
SMALL = EfficientNetLite0()
"""The network for machines without accelerator."""
TINY, NANO, ATTENTION = ConvNeXtTiny("in12k_ft_in1k"), ConvNeXtNano("in12k_ft_in1k"), ViTSmall16()
SHORT_LIST: tuple[ChainModel, ...] = (SMALL, NANO, TINY, ATTENTION)
"""All candidates, the fastest first."""


class Pick(NamedTuple):
    """The network chosen.

    Attributes:
        model: the network with its weights.
        reason: why, for people.
    """

    model: ChainModel
    reason: str


def candidates(images: int, confidence: float | None) -> tuple[tuple[ChainModel, ...], str]:
    """Return the networks to try, the preferred one first, and why it is that.

    Args:
        images: number of training images.
        confidence: of EfficientNet-Lite0's ImageNet classifier on some of them, see `domain_similarity`; None if not measured.

    >>> [type(model).__name__ for model in candidates(5000, 0.2)[0]]
    ['ViTSmall16', 'ConvNeXtNano', 'EfficientNetLite0']
    """
    if confidence is None:
        return (TINY, NANO, SMALL), "likeness to ImageNet not measured; ConvNeXt was best on images like it"
    if confidence >= FAMILIAR:
        return (TINY, NANO, SMALL), f"ImageNet classifier's confidence {confidence:.2f}: like ImageNet, where ConvNeXt was best"
    unlike = f"ImageNet classifier's confidence {confidence:.2f}: unlike ImageNet"
    if images >= FEW:
        return (ATTENTION, NANO, SMALL), f"{unlike}, where small ViTs were best"
    return (TINY, NANO, SMALL), f"{unlike}, but {images:,} images are few for attention"


def choose_model(
    images: int,
    confidence: float | None,
    accelerator: bool,
    unavailable: Callable[[ChainModel], str],
    epochs: Callable[[ChainModel], float] | None = None,
) -> Pick:
    """Choose the first candidate whose weights can be had and which the machine trains in time; the last one is always taken.

    Args:
        images, confidence: as in `candidates`.
        accelerator: whether there is a GPU or TPU.
        unavailable: tells why weights cannot be had; "" for weights that can.
        epochs: measures how many epochs of the last stage fit into the time; None without a time, when CPUs get the smallest network.
    """
    models, why = candidates(images, confidence)
    if not accelerator and epochs is None:
        return Pick(SMALL, f"{why}, but a CPU without --minutes gets the fastest network of the short list")
    passed: list[str] = []
    for model in models[:-1]:
        name = type(model).__name__
        if reason := unavailable(model):
            passed.append(f"{name}: {reason}")
        elif epochs and (count := epochs(model)) < EPOCHS:
            passed.append(f"{name} gets {count:.2g} epochs in the time, under {EPOCHS}")
        else:
            return Pick(model, "; ".join([why, *passed]))
    return Pick(models[-1], "; ".join([why, *passed]))
