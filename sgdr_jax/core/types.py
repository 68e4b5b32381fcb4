"""Base classes of what experiments are made of: schedules, augmentations, datasets, models.

Each of these *is* a frozen dataclass: its fields are its configuration, one method does the work. The base classes let the command line
narrow a field to the subclass that an experiment holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .kinds import Config
from .validation import require

if TYPE_CHECKING:
    import jax
    from jax.typing import ArrayLike

IMPORTED = time.time()
"""Time of the import: a file that has not changed since holds the code of the subclasses that it defines."""


class Reduction(NamedTuple):
    """Rule that lowers the rates of a stage, applied to the validation loss at each cycle's end.

    Attributes:
        factor: of the rates, at each lowering.
        patience: cycle ends in a row without improvement that are tolerated; one more lowers the rates.
        threshold: least improvement, as a share of the best loss.
        cooldown: cycle ends that do not count after a lowering.
        floor: lowest rates, as a share of the table's.
    """

    factor: float
    patience: int
    threshold: float
    cooldown: int
    floor: float


class Table(NamedTuple):
    """Schedule for a known number of steps per epoch; row `step` applies to update number `step`, from 0.

    Attributes:
        scale: float64 [steps], the learning rate as a share of the peak (a restart row of an undecayed cycle is exactly 1), or
            [steps, trained groups] if the groups have different schedules.
        cycle: int32 [steps], index of the step's cycle, from 0, never falling.
        momentum: float64 [steps], or None for the optimizer's own momentum.
        weight_decay: float64 [steps], as a share of the optimizer's weight decay, or None for all of it.
        plateau: rule that lowers the rates of all later rows, or None.
        whole: number of steps of the schedule that these are the first of, whose course sizes and strengths follow; None: these are all.
    """

    scale: np.ndarray
    cycle: np.ndarray
    momentum: np.ndarray | None = None
    weight_decay: np.ndarray | None = None
    plateau: Reduction | None = None
    whole: int | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """Number of steps done at the end of each cycle; the last one is the length of the table."""
        return (*(np.flatnonzero(np.diff(self.cycle)) + 1).tolist(), len(self.cycle))


@dataclass(frozen=True)
class Length(Config):
    """Length of a schedule in a unit other than epochs; see `core.lengths`."""


@dataclass(frozen=True)
class Schedule(Config):
    """Base class of schedules, which move the learning rate through a stage. Lengths are numbers of epochs, or a `Length`."""

    def _label(self, name: str) -> str:
        return f"schedule.{name}"

    def table(self, steps_per_epoch: int) -> Table:
        """Return the whole schedule as arrays, for `steps_per_epoch` ≥ 1 updates per epoch."""
        raise NotImplementedError

    def after(self, table: Table) -> float:
        """Return the scale after the last update of `table`, for loops that go on; by default the last one."""
        return float(table.scale[-1])

    def as_optax(self, peak: float, steps_per_epoch: int) -> Callable[[ArrayLike], jax.Array]:
        """Return the schedule as a function of the update count, for `optax.sgd(schedule)` and the like.

        Args:
            peak: learning rate at scale 1.
            steps_per_epoch: updates per epoch, at least 1.

        Returns:
            A function from step (int or int array, from 0) to learning rates in the default float of JAX; after the last update they stay
            where `after` says.

        Raises:
            InputError: the schedule has a column for each layer group, or waits for plateaus.

        Example:
            >>> from sgdr_jax.schedules import Sgdr
            >>> schedule = Sgdr(cycles=2, cycle_len=1).as_optax(0.1, steps_per_epoch=10)
            >>> float(schedule(0)) == float(schedule(10)), float(schedule(20))
            (True, 0.0)
        """
        import jax.numpy as jnp

        table = self.table(steps_per_epoch)
        require(table.scale.ndim == 1, "schedule", type(self).__name__, "it has a schedule for each group; convert each of them")
        require(table.plateau is None, "schedule", type(self).__name__, "it waits for validation losses; use one that does not")
        scales = np.append(table.scale, self.after(table)) * peak
        rows = jnp.asarray(scales)  # pyright: ignore[reportUnknownMemberType]
        return lambda step: rows[jnp.minimum(step, len(rows) - 1)]


@dataclass(frozen=True)
class Augmentation(Config):
    """Base class of augmentations, which describe a random change of an image; `augment.kernel` applies it.

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
        """Augmentations that the kernel applies in turn; each gets the random numbers of the whole."""
        return (self,)

    def does(self, method: str) -> bool:
        """Whether the augmentation has this method."""
        return hasattr(self, method)

    def applies(self, u: Any, s: Any) -> Any:
        """Whether a uniform number u falls within the probability at strength s."""
        return u < getattr(self, "p", 1.0) * (1 if self.graded else s)


class Source(NamedTuple):
    """Opened dataset: names, labels and undecoded items of each split.

    Attributes:
        classes: names of the classes, in label order.
        labels: split name ("train", and "valid" and "test" if present) to int32 [n] class indices, or float32 [n, classes]
            of zeros and ones for multi-label data.
        items: split name to n images: paths of image files, encoded images as bytes, or one uint8 array [n, h, w]
            or [n, h, w, c].
        names: split name to n strings that name the items in messages and predictions.
        ids: split name to n strings that depend on the contents of the items alone.
        fingerprint: hex digest over the ids of all items, labels and splits.
        rates: average number of times that an epoch shows each training example, float64 [n] with sum n; None: once each.
        notes: lines for the user about what is not used (files, columns, splits) and what could have been understood otherwise.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, np.ndarray]
    items: Mapping[str, Sequence[Any] | np.ndarray]
    names: Mapping[str, Sequence[str]]
    ids: Mapping[str, Sequence[str]]
    fingerprint: str
    rates: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether an example can have several classes."""
        return self.labels["train"].ndim == 2

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples in each split."""
        return {split: len(labels) for split, labels in self.labels.items()}


OMIT_DEFAULT: Mapping[str, str] = {"json": "without default"}
"""Metadata of dataclass fields that were added to a kind after experiments with it had been run: `to_json` leaves them out while they
have their default, so that the hashes of those experiments stay."""


@dataclass(frozen=True)
class Dataset(Config):
    """Base class of datasets: where images and labels come from."""

    def _label(self, name: str) -> str:
        return f"data.{name}"

    def open(self) -> Source:
        """Find items and labels and split them, without reading pixels of image files. Raises InputError if that is impossible."""
        raise NotImplementedError


@dataclass(frozen=True)
class Model(Config):
    """Base class of models: an ordered chain of blocks, cut into named contiguous layer groups; the last is always "head".

    Configuration needs no jax, so that a plan can be made without it; `build` returns the network that computes.
    """

    smallest: ClassVar[int] = 1  # least side in pixels of the images that the network can take

    def _label(self, name: str) -> str:
        return f"model.{name}"

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the layer groups from input to output."""
        raise NotImplementedError

    @property
    def linear_head(self) -> bool:
        """Whether the head is batch normalisation, dropout and one linear layer, which `Stage.solve` can solve."""
        return False

    def build(self, classes: int, channels: int = 3) -> Any:
        """Return a `models.chain.Network` of pure functions for a number of classes and input channels."""
        raise NotImplementedError
