"""The protocols that every part meets, and the one error for bad input. Imports nothing of the package, and no jax.

A schedule, augmentation, dataset or model *is* a frozen dataclass: its fields are its configuration, one method does the work.
Each kind has an empty base class here, so that the command line can narrow a field to whatever subclass an experiment holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np


class Reduction(NamedTuple):
    """When and how much to lower the rates of a stage, decided at each cycle's end by the validation loss.

    Attributes:
        factor: what the rates are multiplied with.
        patience: cycle ends in a row that may fail to improve the loss; one more lowers the rates.
        threshold: share of the best loss by which a lower one must beat it.
        cooldown: cycle ends after a lowering that do not count.
        floor: no lower than this share of the table's rates.
    """

    factor: float
    patience: int
    threshold: float
    cooldown: int
    floor: float


class Table(NamedTuple):
    """A schedule worked out for a known number of steps per epoch; row `step` is used *for* update number `step`, from 0.

    Attributes:
        scale: float64 [steps], the learning rate as a share of the peak (a restart row of an undecayed cycle is exactly 1), or
            [steps, trained groups] where the groups' rates move apart.
        cycle: int32 [steps], index of the cycle that the step belongs to, from 0, never falling.
        momentum: float64 [steps], or None where the optimizer's own momentum holds throughout.
        weight_decay: float64 [steps], as a share of the optimizer's weight decay, or None where it holds throughout.
        plateau: when the rates of all later rows are lowered, or None where the rows are all there is.
    """

    scale: np.ndarray
    cycle: np.ndarray
    momentum: np.ndarray | None = None
    weight_decay: np.ndarray | None = None
    plateau: Reduction | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """Number of steps done at the end of each cycle; the last one is the length of the table."""
        return (*(np.flatnonzero(np.diff(self.cycle)) + 1).tolist(), len(self.cycle))


@dataclass(frozen=True)
class Length:
    """A length of a schedule that is not told in epochs; see `schedules.lengths`."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves through a stage. Lengths are numbers of epochs, or a `Length`."""

    def table(self, steps_per_epoch: int) -> Table:
        """The whole schedule as arrays, for `steps_per_epoch` ≥ 1 updates per epoch."""
        raise NotImplementedError


@dataclass(frozen=True)
class Augmentation:
    """A random change of an image, described rather than done; `augment.kernel` does it.

    Subclasses state how many uniform numbers one draw takes (`draws`), have a field `p` (the probability that the augmentation is
    applied to an example, 0…1) and one or more of the methods below. The numbers `u` are uniform in [0, 1), shape [draws]; `s` is the
    strength, 0…1, which scales magnitudes (at 0 the image stays as it is, at 1 the fields hold) and may be traced, so that a schedule
    or a sweep over strengths compiles once. The methods are plain arithmetic in the namespace of `u` (`u.__array_namespace__()`), so
    NumPy float64 can check what the device does. Coordinates are (x, y, 1) with x and y from -1 (left, top edge of the image) to +1
    (right, bottom edge).
    """

    draws: ClassVar[int] = 0
    graded: ClassVar[bool] = True
    """Whether the augmentation has a magnitude for the strength to scale; if not, the strength scales its probability."""
    symmetry: ClassVar[bool] = False
    """Whether every matrix is a symmetry of the square, so that pixels move without interpolation."""

    # matrix(u, s) -> [3, 3]: maps output coordinates to the input coordinates that are sampled.
    # bend(u, s) -> [n, n, 2]: displacements, in output coordinates, of the control points of a cubic B-spline over the image.
    # colour(u, s, mean) -> ([c, c], [c]): an affine map of the channels; `mean` [c] are the channel means before it.
    # curve(u, s, counts) -> [256, c]: the value 0…1 that each 8-bit level becomes; `counts` int [256, c]: pixels at each level before it.
    # pixels(u, s, image) -> image: float [size, size, c] in 0…1 to the same.
    # mix(u, s, image, other) -> (image, share): blends in another image of the batch; `share` of the label stays the image's own.

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        """What the kernel carries out one after the other; each part is given the numbers of the whole."""
        return (self,)

    def does(self, method: str) -> bool:
        """Whether the augmentation has this method."""
        return hasattr(self, method)

    def applies(self, u: Any, s: Any) -> Any:
        """Whether a uniform number u falls within the probability at strength s."""
        return u < self.p * (1 if self.graded else s)  # pyright: ignore[reportAttributeAccessIssue]


class Source(NamedTuple):
    """An opened dataset: names, labels and undecoded items, split by split. Cheap to make; nothing is decoded yet.

    Attributes:
        classes: names of the classes, in label order.
        labels: split name ("train", and "valid" and "test" where there are such) to int32 [n] class indices, or float32 [n, classes]
            of zeros and ones for multi-label data.
        items: split name to n images: paths of image files, encoded images as bytes, or one uint8 array [n, h, w]
            or [n, h, w, c].
        names: split name to n strings that identify the items in messages and predictions.
        ids: split name to n strings that change with the contents of the items, whatever split they are in.
        fingerprint: hex digest over the ids of all items, labels and splits.
        rates: how many times an epoch shows each training example on average, float64 [n] with sum n; None: each once.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, np.ndarray]
    items: Mapping[str, Sequence[Any] | np.ndarray]
    names: Mapping[str, Sequence[str]]
    ids: Mapping[str, Sequence[str]]
    fingerprint: str
    rates: np.ndarray | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an example can have several classes."""
        return self.labels["train"].ndim == 2

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each split."""
        return {split: len(labels) for split, labels in self.labels.items()}


@dataclass(frozen=True)
class Dataset:
    """Where images and labels come from."""

    def open(self) -> Source:
        """Finds items and labels and splits them; raises InputError where that is impossible. Reads no pixels of image files."""
        raise NotImplementedError


@dataclass(frozen=True)
class Model:
    """A network as an ordered chain of blocks, cut into named contiguous layer groups; the last group is always "head".

    The configuration half is free of jax, so that a plan can be made without it; `build` returns the computing half.
    """

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the layer groups from input to output."""
        raise NotImplementedError

    def build(self, classes: int, channels: int = 3) -> Any:
        """The network for this many classes and input channels, as a `models.chain.Network` of pure functions."""
        raise NotImplementedError
