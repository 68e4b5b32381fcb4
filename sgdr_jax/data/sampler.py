"""Which examples each step sees: the order of an epoch, oversampling of rare classes, padding, and batches.

Nothing here is random but by derivation: the order of an epoch is a function of (seed, stage, epoch), a batch one of (seed, stage,
step). So training can go on from any step with the very batches it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError
from ..datasets.labels import strata

_ORDER = 0x0BDE  # name of the random stream for orders, apart from other uses of the same seed


class Batch(NamedTuple):
    """The examples of one step, on the host; the shapes are the same for all steps.

    Attributes:
        index: int32 [b], positions in the split's arrays.
        draw: uint32 [b], what the examples' augmentation is derived from: equal draws, equal augmentation.
        weight: float32 [b], 1 for examples that count, 0 for padding.
    """

    index: np.ndarray
    draw: np.ndarray
    weight: np.ndarray


def _cells(labels: np.ndarray, balance: float, rates: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Examples that are drawn alike: each one's cell, int64 [n], the sizes of the cells, and how many of each an epoch expects.

    A cell is a stratum, or the part of one that has the same rate.
    """
    _, stratum, sizes = np.unique(strata(labels), return_inverse=True, return_counts=True)
    if rates is None:
        return stratum, sizes, (1 - balance) * sizes + balance * sizes.sum() / len(sizes)
    mass = np.bincount(stratum, rates)
    kinds, first, cell, sizes = np.unique(np.stack([stratum, rates]), axis=1, return_index=True, return_inverse=True, return_counts=True)
    wanted = (1 - balance) * mass + balance * mass.sum() / len(mass)
    return cell, sizes, sizes * kinds[1] * (wanted / mass)[stratum[first]]


def expected_counts(labels: np.ndarray, balance: float, rates: np.ndarray | None = None) -> np.ndarray:
    """How many examples of each class an epoch of `order` has on average; float64 [classes], up to the largest class in `labels`.

    Single-label: n ((1 - balance) f + balance / C), for class frequencies f and C classes that occur. Multi-label: examples are drawn
    by their rarest label in that way, and each counts for all its labels.

    >>> expected_counts(np.array([0, 0, 0, 1]), 1.0)
    array([2., 2.])
    """
    cell, sizes, expected = _cells(labels, balance, rates)
    weights = (expected / sizes)[cell]
    return np.bincount(labels, weights) if labels.ndim == 1 else weights @ labels.astype(np.float64)


def example_weights(labels: np.ndarray, evenness: float, rates: np.ndarray | None = None) -> np.ndarray:
    """Weights in the loss that do what `balance` does by drawing; float32 [n] with mean 1.

    An example of class c weighs (1 - evenness) + evenness · n / (C n_c): 0 weighs all examples alike, 1 all classes. With several labels
    the rarest one decides.

    >>> example_weights(np.array([0, 0, 0, 1]), 1.0).tolist()
    [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]
    """
    cell, sizes, expected = _cells(labels, evenness, rates)
    weights = (expected / sizes)[cell]
    return (weights if rates is None else weights / rates).astype(np.float32)


def order(seed: int, stage: int, epoch: int, labels: np.ndarray, balance: float = 0.0, rates: np.ndarray | None = None) -> np.ndarray:
    """Which examples an epoch sees, in order: a pure function of its arguments, the same with any NumPy.

    balance 0 is a permutation. Above 0 the epoch keeps its length, and classes appear ((1 - balance) f + balance / C) n times each,
    rounded up or down at random so that the mean over epochs is exact. Within a class no example comes up more than once more often
    than another; which ones come up more often is drawn anew for each epoch. With several labels per example, the rarest one decides
    (as if each example had the sampling weight of its rarest label).

    Args:
        seed: of the experiment; `stage` and `epoch` count from 0.
        labels: int [n], or [n, classes] of zeros and ones.
        balance: 0 (as they are) … 1 (all classes equally often).
        rates: float64 [n] with sum n, how many times each example comes up on average before balancing; None: once.

    Returns:
        int64 [n], positions of examples.
    """
    bits = np.random.Philox(np.random.SeedSequence((seed, stage, epoch, _ORDER)))
    n = len(labels)
    if not balance and rates is None:
        return _permutation(bits, n)
    cell, sizes, expected = _cells(labels, balance, rates)
    # Systematic sampling: one random offset decides all roundings, so that every count is within 1 of its mean and the sum is n.
    ends = np.cumsum(expected)
    ends[-1] = n
    offset = (bits.random_raw() >> 40) / 2**24  # few bits, so that the sum below is exact
    draws = np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
    shuffled = _permutation(bits, n)
    by_cell = np.split(shuffled[np.argsort(cell[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    chosen = np.concatenate([np.resize(members, count) for members, count in zip(by_cell, draws, strict=True)])
    return chosen[_permutation(bits, n)]


def _permutation(bits: np.random.Philox, n: int) -> np.ndarray:
    # NumPy promises the raw stream of a bit generator for all versions, but not what its `permutation` makes of it.
    return np.argsort(bits.random_raw(n), kind="stable")


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Batches that cover n ≥ 1 examples, the last one padded."""
    return -(-n // batch_size)


def train_batches(
    seed: int,
    stage: int,
    labels: np.ndarray,
    *,
    batch_size: int,
    steps: int,
    first_step: int = 0,
    views: int = 0,
    balance: float = 0.0,
    rates: np.ndarray | None = None,
) -> Iterator[Batch]:
    """The batches of a stage from `first_step` up to, not including, `steps`; the same whether or not it starts in the middle.

    The last batch of an epoch is filled up with other examples of the epoch, with weight 0: they count in no loss, but batch
    statistics see real and different images, where copies of one image would distort them.

    Args:
        seed, stage, labels, balance, rates: as for `order`.
        batch_size: static size of all batches.
        steps: steps of the whole stage, of any number of epochs.
        first_step: where to begin.
        views: 0 for a fresh draw at every place of every step (`draw` is step · batch_size + place, modulo 2^32); K for K fixed views
            of each example (`draw` is v · n + index in epoch e, with v = e mod K), so that an example drawn twice looks the same.
    """
    n = len(labels)
    if views * n > 2**32:
        raise InputError(f"views is {views}; with {n} images use at most {2**32 // n}")
    per_epoch = steps_per_epoch(n, batch_size)
    place = np.arange(batch_size)
    current, examples = -1, np.empty(0, np.int64)
    for step in range(first_step, steps):
        epoch, batch = divmod(step, per_epoch)
        if epoch != current:
            current, examples = epoch, order(seed, stage, epoch, labels, balance, rates)
        position = batch * batch_size + place
        index = examples[position % n]
        draw = epoch % views * n + index if views else step * batch_size + place
        yield Batch(index.astype(np.int32), (draw % 2**32).astype(np.uint32), (position < n).astype(np.float32))


def repeated(batches: Iterator[Batch], times: int, first_step: int = 0) -> Iterator[Batch]:
    """Batches in which every image comes up `times` times, each with a draw of its own: one given batch makes `times` of these.

    The copies of an image are as far apart as they can be, for neighbours may be mixed.

    Args:
        batches: from number first_step // times on, of a size that `times` divides.
        times: copies of each image.
        first_step: number of the first batch to make.

    >>> given = iter([Batch(np.array([5, 6, 7, 8]), np.arange(4), np.ones(4))])
    >>> [batch.index.tolist() for batch in repeated(given, 2)]
    [[5, 6, 5, 6], [7, 8, 7, 8]]
    """
    step = first_step
    for batch in batches:
        size = len(batch.index)
        for part in range(step % times, times):
            rows = slice(part * size // times, (part + 1) * size // times)
            draw = (step * size + np.arange(size)) % 2**32
            yield Batch(np.tile(batch.index[rows], times), draw.astype(np.uint32), np.tile(batch.weight[rows], times))
            step += 1


def eval_batches(n: int, batch_size: int) -> Iterator[Batch]:
    """All n examples once, in order, `draw` equal to `index`; the last batch is padded with example 0 at weight 0."""
    for start in range(0, n, batch_size):
        position = np.arange(start, start + batch_size)
        index = np.where(position < n, position, 0)
        yield Batch(index.astype(np.int32), index.astype(np.uint32), (position < n).astype(np.float32))


def share(batch: Batch, part: int, parts: int) -> Batch:
    """Part number `part` of a batch that is divided evenly among `parts` hosts, each of which reads its own examples only.

    The parts in order are the batch, so an order of examples does not depend on the number of hosts. Raises InputError for a batch that
    cannot be divided.

    >>> share(Batch(*(np.arange(6),) * 3), 1, 3).index
    array([2, 3])
    """
    size = len(batch.index)
    if size % parts:
        raise InputError(f"the batch size is {size}; use a multiple of the {parts} hosts")
    rows = slice(part * size // parts, (part + 1) * size // parts)
    return Batch(*(column[rows] for column in batch))
