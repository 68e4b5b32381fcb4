"""Sampling of training examples: order of an epoch, oversampling of rare classes, padding, batches.

Everything is a pure function of its arguments: the order of an epoch of (seed, stage, epoch), a batch of (seed, stage, step). Training
can therefore resume at any step with the batches of an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError
from ..datasets.labels import strata

_ORDER = 0x0BDE  # separates the random stream of orders from other uses of the seed


class Batch(NamedTuple):
    """The examples of one step, on the host; shapes are equal for all steps.

    Attributes:
        index: int32 [b], positions in the split's arrays.
        draw: uint32 [b], seeds of the examples' augmentation: equal draws, equal augmentation.
        weight: float32 [b], 1 for examples that count, 0 for padding.
    """

    index: np.ndarray
    draw: np.ndarray
    weight: np.ndarray


def _cells(labels: np.ndarray, balance: float, rates: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each example's cell, int64 [n], and the size and expected number of draws per epoch of each cell.

    A cell is a stratum, or the part of one with equal rates; its examples are drawn alike.
    """
    label, stratum, sizes = np.unique(strata(labels), return_inverse=True, return_counts=True)
    mass = sizes if rates is None else np.bincount(stratum, rates)
    # Images without a label are no class that could be rare: their share stays.
    named = label < labels.shape[1] if labels.ndim == 2 else np.full(len(label), True)
    expected = np.where(named, (1 - balance) * mass + balance * mass[named].sum() / max(named.sum(), 1), mass)
    if rates is None:
        return stratum, sizes, expected
    kinds, first, cell, sizes = np.unique(np.stack([stratum, rates]), axis=1, return_index=True, return_inverse=True, return_counts=True)
    return cell, sizes, sizes * kinds[1] * (expected / mass)[stratum[first]]


def expected_draws(labels: np.ndarray, balance: float, rates: np.ndarray | None = None) -> np.ndarray:
    """Return how often, on average, an epoch of `Sampler` draws each example; float64 [n] with sum n.

    A class of frequency f, of C classes that occur, is drawn n ((1 - balance) f + balance / C) times. An example with several labels is
    drawn by its rarest; those with none keep their share, and n counts the others.

    >>> expected_draws(np.array([0, 0, 1, 1]), 0.5).tolist(), expected_draws(np.array([0, 0, 0, 1]), 1.0).round(3).tolist()
    ([1.0, 1.0, 1.0, 1.0], [0.667, 0.667, 0.667, 2.0])
    """
    cell, sizes, expected = _cells(labels, balance, rates)
    return (expected / sizes)[cell]


def example_weights(labels: np.ndarray, evenness: float, rates: np.ndarray | None = None, balance: float = 0.0) -> np.ndarray:
    """Return loss weights that balance classes over the whole set as `Sampler.balance` does by drawing; float32 [n].

    Their mean over the examples that an epoch shows is 1. An example of class c has weight (1 - evenness) + evenness · n / (C n_c): 0
    weighs all examples alike, 1 all classes. With several labels the rarest one decides; those with none have weight 1. With `balance` n_c
    is the number of draws that it leaves to the class, so that what is drawn more often is not weighted for the same reason again.

    >>> example_weights(np.array([0, 0, 0, 1]), 1.0).tolist()
    [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]
    """
    if balance and evenness:
        rates = expected_draws(labels, balance, rates)
    weights = expected_draws(labels, evenness, rates)
    return (weights if rates is None else weights / rates).astype(np.float32)


class Sampler(NamedTuple):
    """Draws the training examples of a stage.

    Attributes:
        seed: of the experiment.
        stage: number of the stage, from 0.
        labels: int [n], or [n, classes] of zeros and ones.
        balance: 0 (class frequencies of the data) … 1 (all classes equally often).
        rates: float64 [n] with sum n, average number of times that an epoch shows each example before balancing; None: once.
    """

    seed: int
    stage: int
    labels: np.ndarray
    balance: float = 0.0
    rates: np.ndarray | None = None

    def order(self, epoch: int) -> np.ndarray:
        """Return the positions of the examples of an epoch, int64 [n]; the same with any version of NumPy.

        Without balance and rates it is a permutation. Otherwise the epoch keeps its length, and classes appear
        ((1 - balance) f + balance / C) n times each, rounded up or down at random so that the mean over epochs is exact. Within a class
        the counts of two examples differ by one at most, and each epoch draws anew which come up more often. An example with several
        labels has the sampling weight of its rarest label, and one with none is drawn as without balance.
        """
        bits = np.random.Philox(np.random.SeedSequence((self.seed, self.stage, epoch, _ORDER)))
        n = len(self.labels)
        if not self.balance and self.rates is None:
            return _permutation(bits, n)
        cell, sizes, expected = _cells(self.labels, self.balance, self.rates)
        # Systematic sampling: one random offset decides all roundings, so that every count is within 1 of its mean and the sum is n.
        ends = np.cumsum(expected)
        ends[-1] = n
        offset = (bits.random_raw() >> 40) / 2**24  # few bits, so that the sum below is exact
        draws = np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
        shuffled = _permutation(bits, n)
        by_cell = np.split(shuffled[np.argsort(cell[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
        drawn = np.concatenate([np.resize(members, count) for members, count in zip(by_cell, draws, strict=True)])
        return drawn[_permutation(bits, n)]

    def batches(self, batch_size: int, steps: int, first_step: int = 0, views: int = 0) -> Iterator[Batch]:
        """Yield the batches of a stage from `first_step` up to, not including, `steps`; batch k does not depend on `first_step`.

        The last batch of an epoch is padded with other examples of the epoch at weight 0: they enter no loss, but batch statistics see
        distinct images, since copies of one would distort them.

        Args:
            batch_size: static size of all batches.
            steps: steps of the whole stage, of any number of epochs.
            first_step: step to start from.
            views: 0 for a new draw at every place of every step (`draw` is step · batch_size + place, modulo 2^32); K for K fixed views
                of each example (`draw` is v · n + index in pass e over the images, v being e mod K): an example drawn twice looks the same.

        Raises:
            InputError: if `views` times the number of examples exceeds 2^32.
        """
        n = len(self.labels)
        if views * n > 2**32:
            raise InputError(f"views is {views}; with {n} images use at most {2**32 // n}")
        per_epoch = steps_per_epoch(n, batch_size)
        place = np.arange(batch_size)
        current, examples = -1, np.empty(0, np.int64)
        for step in range(first_step, steps):
            epoch, batch = divmod(step, per_epoch)
            if epoch != current:
                current, examples = epoch, self.order(epoch)
            position = batch * batch_size + place
            index = examples[position % n]
            draw = epoch % views * n + index if views else step * batch_size + place
            yield Batch(index.astype(np.int32), (draw % 2**32).astype(np.uint32), (position < n).astype(np.float32))


def _permutation(bits: np.random.Philox, n: int) -> np.ndarray:
    # NumPy guarantees the raw stream of a bit generator across versions, but not the result of `permutation`.
    return np.argsort(bits.random_raw(n), kind="stable")


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches that cover n ≥ 1 examples, the last one padded."""
    return -(-n // batch_size)


def repeated(batches: Iterator[Batch], times: int, first_step: int = 0) -> Iterator[Batch]:
    """Yield batches that hold every image `times` times, each copy with its own draw; each given batch yields `times` of them.

    The copies of an image are as far apart as possible, since neighbours may be mixed. Padding is shared among them; one that would be all
    padding shows the images that fill it.

    Args:
        batches: from number first_step // times on, of a size divisible by `times`.
        times: copies of each image.
        first_step: number of the first batch to yield.

    >>> given = iter([Batch(np.array([5, 6, 7, 8]), np.arange(4), np.ones(4))])
    >>> [batch.index.tolist() for batch in repeated(given, 2)]
    [[5, 7, 5, 7], [6, 8, 6, 8]]
    """
    step = first_step
    for batch in batches:
        size = len(batch.index)
        for part in range(step % times, times):
            draw = (step * size + np.arange(size)) % 2**32
            weight = batch.weight[part::times]
            weight = weight if weight.any() else np.ones_like(weight)
            yield Batch(np.tile(batch.index[part::times], times), draw.astype(np.uint32), np.tile(weight, times))
            step += 1


def eval_batches(n: int, batch_size: int) -> Iterator[Batch]:
    """Yield all n examples once, in order, `draw` equal to `index`; the last batch is padded with example 0 at weight 0."""
    for start in range(0, n, batch_size):
        position = np.arange(start, start + batch_size)
        index = np.where(position < n, position, 0)
        yield Batch(index.astype(np.int32), index.astype(np.uint32), (position < n).astype(np.float32))


def share(batch: Batch, part: int, parts: int) -> Batch:
    """Return part number `part` of a batch divided evenly among `parts` hosts, each of which reads only its own examples.

    The parts in order make up the batch, so the order of examples does not depend on the number of hosts.

    Raises:
        InputError: if the batch is not divisible.

    >>> share(Batch(*(np.arange(6),) * 3), 1, 3).index
    array([2, 3])
    """
    size = len(batch.index)
    if size % parts:
        raise InputError(f"the batch size is {size}; use a multiple of the {parts} hosts")
    rows = slice(part * size // parts, (part + 1) * size // parts)
    return Batch(*(column[rows] for column in batch))
