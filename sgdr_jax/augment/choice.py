"""One of several augmentations, and several chains of them mixed: what automatic policies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.types import Augmentation
from ..core.validation import require
from .curves import identity
from .draw import check_p

Choice = Augmentation | tuple[Augmentation, ...]


@dataclass(frozen=True)
class Slot(Augmentation):
    """One place of a chain: the drawn alternative acts, those without the method at hand leave the image.

    Attributes:
        options: one augmentation for each alternative, None where there is none.
        pick: which number of u chooses.
        first: where the numbers for the augmentation begin: whether it applies, then its draws.
        gate: (which number of u, from where on) the slot is used at all; None: always.
    """

    options: tuple[Augmentation | None, ...]
    pick: int
    first: int
    gate: tuple[int, float] | None = None
    p: ClassVar[float] = 1.0

    def does(self, method: str) -> bool:
        return any(option is not None and option.does(method) for option in self.options)

    def _select(self, method: str, u: Any, s: Any, unchanged: Any, *more: Any) -> Any:
        """What the chosen option's method gives for `more`, else `unchanged`; both an array or a tuple of arrays."""
        xp = u.__array_namespace__()
        result, chosen = unchanged, xp.floor(u[self.pick] * len(self.options))
        for k, option in enumerate(self.options):
            if option is None or not option.does(method):
                continue
            numbers = u[self.first + 1 : self.first + 1 + option.draws]
            active = (chosen == k) & option.applies(u[self.first], s)
            if self.gate is not None:
                active = active & (u[self.gate[0]] >= self.gate[1])
            value = getattr(option, method)(numbers, s, *more)
            if isinstance(result, tuple):
                result = tuple(xp.where(active, new, old) for new, old in zip(value, result, strict=True))
            else:
                result = xp.where(active, value, result)
        return result

    def matrix(self, u: Any, s: Any) -> Any:
        """The map [3, 3] of the chosen option."""
        return self._select("matrix", u, s, u.__array_namespace__().eye(3, dtype=u.dtype))

    def colour(self, u: Any, s: Any, mean: Any) -> tuple[Any, Any]:
        """The affine map ([c, c], [c]) of the chosen option."""
        return self._select("colour", u, s, (u.__array_namespace__().eye(mean.shape[0], dtype=mean.dtype), 0 * mean), mean)

    def curve(self, u: Any, s: Any, counts: Any) -> Any:
        """The curve [256, c] of the chosen option."""
        return self._select("curve", u, s, identity(u, counts.shape[1]), counts)

    def pixels(self, u: Any, s: Any, image: Any) -> Any:
        """The image as the chosen option leaves it."""
        return self._select("pixels", u, s, image, image)


def _chains(choices: Sequence[Choice]) -> list[tuple[Augmentation, ...]]:
    return [choice if isinstance(choice, tuple) else (choice,) for choice in choices]


def _slots(chains: Sequence[tuple[Augmentation, ...]], pick: int, first: int) -> tuple[tuple[Slot, ...], int]:
    """Slot j offers the j-th augmentation of every chain; also where the numbers of the next one would begin."""
    slots = []
    for j in range(max(map(len, chains))):
        options = tuple(chain[j] if j < len(chain) else None for chain in chains)
        slots.append(Slot(options, pick, first))
        first += 1 + max(option.draws for option in options if option is not None)
    return tuple(slots), first


def _check_choices(owner: str, choices: Sequence[Choice]) -> None:
    require(len(choices) > 0, f"{owner}.choices", choices, "give at least one augmentation")
    for a in (a for chain in _chains(choices) for a in chain):
        ok = any(a.does(method) for method in ("matrix", "colour", "curve", "pixels")) and a.parts == (a,)
        require(ok, f"{owner}.choices", a, "choose among augmentations of one image that are no choice themselves")


@dataclass(frozen=True)
class OneOf(Augmentation):
    """One of the choices, all equally likely; a choice may be a tuple of augmentations that act one after the other."""

    choices: tuple[Choice, ...]
    """Augmentations, or tuples of them."""
    p: float = 1.0
    """Probability that any is applied, 0…1; the chosen one has its own beside."""

    def __post_init__(self) -> None:
        _check_choices("OneOf", self.choices)
        check_p(self)
        object.__setattr__(self, "draws", _slots(_chains(self.choices), 0, 1)[1])

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        return _slots(_chains(self.choices), 0, 1)[0]


@dataclass(frozen=True)
class AugMix(Augmentation):
    """(1 - m)·x + m·Σ w_k·chain_k(x): a few random chains of 1 to `depth` choices, mixed with random weights and with the image itself.

    w is Dirichlet(1, …, 1), m even in 0…s with s the strength. Each chain is one resampling of its own, `width` + 1 in all. What stands
    before and after it in the set is part of every chain, with the same draws. The consistency loss of the paper is not part of it.
    Source: Hendrycks et al. 2020, "AugMix".
    """

    choices: tuple[Augmentation, ...]
    """What chains are made of."""
    width: int = 3
    """Number of chains."""
    depth: int = 3
    """Longest chain; lengths from 1 are equally likely."""
    p: float = 1.0
    """Probability, 0…1."""

    def __post_init__(self) -> None:
        _check_choices("AugMix", self.choices)
        require(1 <= self.width <= 16, "AugMix.width", self.width, "use 1…16 chains")
        require(1 <= self.depth <= 16, "AugMix.depth", self.depth, "use chains of 1…16")
        check_p(self)
        object.__setattr__(self, "draws", self._layout()[1])

    def _layout(self) -> tuple[tuple[tuple[Augmentation, ...], ...], int]:
        """The chains, and how many numbers they take: m, the weights, the lengths, then a pick and the numbers of each slot."""
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

    def weights(self, u: Any, s: Any) -> Any:
        """Shares [1 + width] of the branches."""
        xp = u.__array_namespace__()
        spread = -xp.log1p(-u[1 : 1 + self.width])
        mixed = s * u[:1]
        return xp.concatenate([1 - mixed, mixed * spread / xp.maximum(spread.sum(), 1e-12)])
