"""Building blocks of automatic policies: a choice among augmentations, and a mixture of random chains of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, overload

from jaxtyping import Float

from ..core.types import Augmentation
from ..core.validation import require
from .arithmetic import Array, ColourMap, Counts, Curve, Image, Matrix, Scalar
from .checks import check_p
from .curves import identity

type Alternative = Augmentation | tuple[Augmentation, ...]
"""An augmentation, or several that act one after the other."""


@dataclass(frozen=True)
class Slot(Augmentation):
    """One position of a chain: applies the drawn option; options without the method at hand leave the image unchanged.

    Attributes:
        options: one augmentation for each alternative, None for alternatives with shorter chains.
        pick: index into u of the number that chooses the option.
        first: index into u of the first number for the option: whether it applies, then its draws.
        gate: (index into u, threshold): the slot is used if that number reaches the threshold; None: always.
    """

    options: tuple[Augmentation | None, ...]
    pick: int
    first: int
    gate: tuple[int, float] | None = None
    p: ClassVar[float] = 1.0

    def does(self, method: str) -> bool:
        """Return whether any option has this method."""
        return any(option is not None and option.does(method) for option in self.options)

    @overload
    def _select(self, method: str, u: Array, s: Scalar, unchanged: Array, *inputs: Array) -> Array: ...
    @overload
    def _select(self, method: str, u: Array, s: Scalar, unchanged: ColourMap, *inputs: Array) -> ColourMap: ...
    def _select(self, method: str, u: Array, s: Scalar, unchanged: Array | ColourMap, *inputs: Array) -> Array | ColourMap:
        """Return the result of the chosen option's method for `inputs`, or `unchanged`."""
        xp = u.__array_namespace__()
        result, picked = unchanged, xp.floor(u[self.pick] * len(self.options))
        for k, option in enumerate(self.options):
            if option is None or not option.does(method):
                continue
            numbers = u[self.first + 1 : self.first + 1 + option.draws]
            active = (picked == k) & option.applies(u[self.first], s)
            if self.gate is not None:
                active = active & (u[self.gate[0]] >= self.gate[1])
            value = getattr(option, method)(numbers, s, *inputs)
            if isinstance(result, tuple):
                result = xp.where(active, value[0], result[0]), xp.where(active, value[1], result[1])
            else:
                result = xp.where(active, value, result)
        return result

    def matrix(self, u: Array, s: Scalar) -> Matrix:
        """Return the map of the chosen option."""
        return self._select("matrix", u, s, u.__array_namespace__().eye(3, dtype=u.dtype))

    def colour(self, u: Array, s: Scalar, mean: Array) -> ColourMap:
        """Return the affine map of the chosen option."""
        return self._select("colour", u, s, (u.__array_namespace__().eye(mean.shape[0], dtype=mean.dtype), 0 * mean), mean)

    def curve(self, u: Array, s: Scalar, counts: Counts) -> Curve:
        """Return the curve of the chosen option."""
        return self._select("curve", u, s, identity(u, counts.shape[1]), counts)

    def pixels(self, u: Array, s: Scalar, image: Image) -> Image:
        """Return the image changed by the chosen option."""
        return self._select("pixels", u, s, image, image)


def _chains(choices: Sequence[Alternative]) -> list[tuple[Augmentation, ...]]:
    return [choice if isinstance(choice, tuple) else (choice,) for choice in choices]


def _slots(chains: Sequence[tuple[Augmentation, ...]], pick: int, first: int) -> tuple[tuple[Slot, ...], int]:
    """Return slots, the j-th of which offers the j-th augmentation of every chain, and the index of the number after their last."""
    slots = []
    for j in range(max(map(len, chains))):
        options = tuple(chain[j] if j < len(chain) else None for chain in chains)
        slots.append(Slot(options, pick, first))
        first += 1 + max(option.draws for option in options if option is not None)
    return tuple(slots), first


def _check_choices(owner: str, choices: Sequence[Alternative]) -> None:
    require(len(choices) > 0, f"{owner}.choices", choices, "give at least one augmentation")
    for a in (a for chain in _chains(choices) for a in chain):
        ok = any(a.does(method) for method in ("matrix", "colour", "curve", "pixels")) and a.parts == (a,)
        require(ok, f"{owner}.choices", a, "choose among augmentations of one image that are not choices themselves")


@dataclass(frozen=True)
class OneOf(Augmentation):
    """Applies one of the choices, each with probability P(k) = p / len(choices); tuples of augmentations act one after the other.

    Source: the sub-policies of Cubuk et al. 2019, "AutoAugment"; `RandomChoice` of torchvision.

    Example:
        >>> from sgdr_jax.augment import Blur, Noise, Sharpen
        >>> blurred_or_noisy = OneOf((Blur(p=1.0), (Noise(p=1.0), Sharpen(p=1.0))), p=0.5)
        >>> [len(slot.options) for slot in blurred_or_noisy.parts]
        [2, 2]
    """

    choices: tuple[Alternative, ...]
    """Augmentations, or tuples of them."""
    p: float = 1.0
    """Probability that a choice is applied, 0…1; its augmentations have their own probabilities in addition."""

    def __post_init__(self) -> None:
        _check_choices("OneOf", self.choices)
        check_p(self)
        object.__setattr__(self, "draws", _slots(_chains(self.choices), 0, 1)[1])

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        """Slots that the kernel carries out one after the other."""
        return _slots(_chains(self.choices), 0, 1)[0]


@dataclass(frozen=True)
class AugMix(Augmentation):
    """Mixes random chains of 1 to `depth` choices with the image: x ← (1 - m)·x + m·Σ w_k·chain_k(x).

    w is Dirichlet(1, …, 1), m uniform on 0…s with the strength s. Each chain is resampled separately, `width` + 1 times in all. The
    augmentations before and after it in the set are part of every chain, with the same draws. The consistency loss of the paper is not
    included.

    Source: Hendrycks et al. 2020, "AugMix".

    Example:
        >>> import numpy as np
        >>> from sgdr_jax.augment import Posterize, Rotate
        >>> mixture = AugMix((Rotate(20.0), Posterize()), width=2)
        >>> mixture.weights(np.full(mixture.draws, 0.5), 1.0)
        array([0.5 , 0.25, 0.25])
    """

    choices: tuple[Augmentation, ...]
    """Augmentations that the chains are made of."""
    width: int = 3
    """Number of chains."""
    depth: int = 3
    """Length of the longest chain; all lengths from 1 are equally likely."""
    p: float = 1.0
    """Probability, 0…1."""

    def __post_init__(self) -> None:
        _check_choices("AugMix", self.choices)
        require(1 <= self.width <= 16, "AugMix.width", self.width, "use 1…16 chains")
        require(1 <= self.depth <= 16, "AugMix.depth", self.depth, "use chains of length 1…16")
        check_p(self)
        object.__setattr__(self, "draws", self._layout()[1])

    def _layout(self) -> tuple[tuple[tuple[Augmentation, ...], ...], int]:
        """Return the chains, and the number of draws: m, the weights, the lengths, then a pick and the draws of each slot."""
        first, branches = 1 + 2 * self.width, []
        for k in range(self.width):
            chain = []
            for j in range(self.depth):
                (slot,), end = _slots(_chains(self.choices), first, first + 1)
                chain.append(Slot(slot.options, slot.pick, slot.first, (1 + self.width + k, j / self.depth)))
                first = end
            branches.append(tuple(chain))
        return tuple(branches), first

    @property
    def branches(self) -> tuple[tuple[Augmentation, ...], ...]:
        """The image itself, as an empty chain, and the random chains."""
        return ((), *self._layout()[0])

    def weights(self, u: Array, s: Scalar) -> Float[Array, " branches"]:
        """Return the shares of the 1 + width branches."""
        xp = u.__array_namespace__()
        spread = -xp.log1p(-u[1 : 1 + self.width])
        mixed = s * u[:1]
        return xp.concatenate([1 - mixed, mixed * spread / xp.maximum(spread.sum(), 1e-12)])
