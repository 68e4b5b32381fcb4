"""Which examples each step sees: the order of an epoch, oversampling of rare classes, padding, and batches. No jax.

Nothing here is random but by derivation: the order of an epoch is a function of (seed, stage, epoch), a batch one of (seed, stage,
step). So training can go on from any step with the very batches it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .types import InputError

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


def counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 [classes]: how many examples have each class."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.astype(np.int64).sum(axis=0)


def _strata(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each example's stratum, from 0, int64 [n], and the sizes of the strata: its class, or the rarest of its labels.

    Examples without a label are a stratum of their own.
    """
    if labels.ndim == 2:
        rarity = np.append(counts(labels, labels.shape[1]), len(labels) + 1)
        having = np.concatenate([labels > 0, ~labels.any(axis=1, keepdims=True)], axis=1)
        labels = np.where(having, rarity, len(labels) + 2).argmin(axis=1)
    _, strata, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return strata, sizes


def _expected(sizes: np.ndarray, balance: float) -> np.ndarray:
    return (1 - balance) * sizes + balance * sizes.sum() / len(sizes)


def expected_counts(labels: np.ndarray, balance: float) -> np.ndarray:
    """How many examples of each class an epoch of `order` has on average; float64 [classes], up to the largest class in `labels`.

    Single-label: n ((1 - balance) f + balance / C), for class frequencies f and C classes that occur. Multi-label: examples are drawn
    by their rarest label in that way, and each counts for all its labels.

    >>> expected_counts(np.array([0, 0, 0, 1]), 1.0)
    array([2., 2.])
    """
    strata, sizes = _strata(labels)
    weights = (_expected(sizes, balance) / sizes)[strata]
    return np.bincount(labels, weights) if labels.ndim == 1 else weights @ labels.astype(np.float64)


def order(seed: int, stage: int, epoch: int, labels: np.ndarray, balance: float = 0.0) -> np.ndarray:
    """Which examples an epoch sees, in order: a pure function of its arguments, the same with any NumPy.

    balance 0 is a permutation. Above 0 the epoch keeps its length, and classes appear ((1 - balance) f + balance / C) n times each,
    rounded up or down at random so that the mean over epochs is exact. Within a class no example comes up more than once more often
    than another; which ones come up more often is drawn anew for each epoch. With several labels per example, the rarest one decides
    (as if each example had the sampling weight of its rarest label).

    Args:
        seed: of the experiment; `stage` and `epoch` count from 0.
        labels: int [n], or [n, classes] of zeros and ones.
        balance: 0 (as they are) … 1 (all classes equally often).

    Returns:
        int64 [n], positions of examples.
    """
    bits = np.random.Philox(np.random.SeedSequence((seed, stage, epoch, _ORDER)))
    n = len(labels)
    if not balance:
        return _permutation(bits, n)
    strata, sizes = _strata(labels)
    # Systematic sampling: one random offset decides all roundings, so that every count is within 1 of its mean and the sum is n.
    ends = np.cumsum(_expected(sizes, balance))
    ends[-1] = n
    offset = (bits.random_raw() >> 40) / 2**24  # few bits, so that the sum below is exact
    draws = np.diff(np.floor(ends + offset), prepend=0).astype(np.int64)
    shuffled = _permutation(bits, n)
    by_stratum = np.split(shuffled[np.argsort(strata[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    chosen = np.concatenate([np.resize(members, count) for members, count in zip(by_stratum, draws, strict=True)])
    return chosen[_permutation(bits, n)]


def _permutation(bits: np.random.Philox, n: int) -> np.ndarray:
    # NumPy promises the raw stream of a bit generator for all versions, but not what its `permutation` makes of it.
    return np.argsort(bits.random_raw(n), kind="stable")


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Batches that cover n ≥ 1 examples, the last one padded."""
    return -(-n // batch_size)


def train_batches(
    seed: int, stage: int, labels: np.ndarray, *, batch_size: int, steps: int, first_step: int = 0, views: int = 0, balance: float = 0.0
) -> Iterator[Batch]:
    """The batches of a stage from `first_step` up to, not including, `steps`; the same whether or not it starts in the middle.

    The last batch of an epoch is filled up with other examples of the epoch, with weight 0: they count in no loss, but batch
    statistics see real and different images, where copies of one image would distort them.

    Args:
        seed, stage, labels, balance: as for `order`.
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
            current, examples = epoch, order(seed, stage, epoch, labels, balance)
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
