"""From stored images to the pixels that a network sees in training: augmentation or resize, and mixing."""

# pyright: reportUnknownMemberType=false
# jax types its functions of trees only in part.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
from jaxtyping import Array, Float, Key, UInt8, UInt32

from ..augment import kernel
from ..augment.plain import WHOLE, PlainView
from ..core.types import Augmentation
from ..evaluation.metrics import Mixed


class Parts(Protocol):
    """The functions that pixels are made with: the compiled ones of `Programs`, or `Traced` ones within a larger program."""

    @property
    def augmented(self) -> Callable[..., Array]:
        """As the function `augmented`."""
        ...

    @property
    def mixed(self) -> Callable[..., tuple[Array, Mixed]]:
        """As the function `mixed`."""
        ...

    @property
    def plain(self) -> Callable[..., Array]:
        """As `kernel.resize`."""
        ...


class Traced(NamedTuple):
    """Functions to be traced into one program, see `traced`."""

    augmented: Callable[..., Array]
    mixed: Callable[..., tuple[Array, Mixed]]
    plain: Callable[..., Array]


def traced(plain: PlainView) -> Traced:
    """Return the functions for a network's `plain` images, with a barrier after each, as if they were programs of their own."""

    def apart(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **static: jax.lax.optimization_barrier(function(*args, **static))

    return Traced(apart(partial(augmented, plain=plain)), apart(mixed), apart(partial(kernel.resize, plain=plain)))


@dataclass(frozen=True)
class ImageInput:
    """Makes the pixels of a batch; the fields are the static part.

    Attributes:
        augmentations: the set, in order; () resizes only.
        size: side in pixels that the network sees.
    """

    augmentations: tuple[Augmentation, ...]
    size: int

    @property
    def mixes(self) -> bool:
        """Whether images are blended with their neighbours in the batch."""
        return any(a.does("mix") for a in self.augmentations)

    def __call__(
        self,
        parts: Parts,
        images: UInt8[Array, "b s s c"],
        draw: UInt32[Array, " b"],
        labels: Any,
        key: Key[Array, ""],
        strength: Any,
    ) -> tuple[Array, Any]:
        """Return the pixels [b, size, size, c] and the labels, `metrics.Mixed` if images are blended.

        Args:
            parts: the functions to use.
            images: stored images.
            draw: seeds of their augmentation.
            labels: [b, ...]; if images are blended a pair of them and the weights of their examples, float [b].
            key: the stage's key "augment".
            strength: of the augmentations; None for 1.
        """
        chosen = {"augmentations": self.augmentations}
        if self.augmentations:
            x = parts.augmented(images, draw, key, strength, **chosen, size=self.size)
        else:
            x = parts.plain(images, size=self.size)
        if self.mixes:
            x, labels = parts.mixed(x, *labels, draw, key, strength, **chosen)
        return x, labels


def augmented(
    images: UInt8[Array, "b s s c"],
    draw: UInt32[Array, " b"],
    key: Key[Array, ""],
    strength: Any,
    augmentations: tuple[Augmentation, ...],
    size: int,
    plain: PlainView = WHOLE,
) -> Float[Array, "b {size} {size} c"]:
    """Augment images, as `kernel.augment`; strength None is 1."""
    return kernel.augment(images, draw, key, augmentations, size, 1.0 if strength is None else strength, plain)


def mixed(
    pixels: Float[Array, "b s s c"],
    labels: Array,
    weights: Float[Array, " b"],
    draw: UInt32[Array, " b"],
    key: Key[Array, ""],
    strength: Any,
    augmentations: tuple[Augmentation, ...],
) -> tuple[Float[Array, "b s s c"], Mixed]:
    """Blend images and labels with their neighbours, as `kernel.mix`, each label at its own weight; strength None is 1."""
    pixels, share = kernel.mix(pixels, draw, key, augmentations, 1.0 if strength is None else strength)
    weights = weights.astype(share.dtype)
    own, other = share * weights, (1 - share) * kernel.neighbours(weights)
    return pixels, Mixed(labels, kernel.neighbours(labels), own / (own + other), own + other)
