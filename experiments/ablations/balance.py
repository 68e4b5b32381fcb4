"""Does oversampling help rare classes? A long tail: from 80 training images of the first class down to 3 of the last.

The test images are 1,000 of each class, so every class counts the same.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sgdr_jax import load_experiment
from sgdr_jax.core.types import Dataset, Source
from sgdr_jax.datasets import FashionMnist
from sgdr_jax.datasets.examples import examples_of, make_source
from sgdr_jax.datasets.splits import ranks
from sgdr_jax.sweeps import Sweep, arms, with_values

base = load_experiment(Path(__file__).with_name("base.py"))


@dataclass(frozen=True)
class LongTail(Dataset):
    """Another set whose training classes get rarer geometrically, the last by `factor`; validation and test images are all kept."""

    data: Dataset = field(default_factory=FashionMnist)
    factor: float = 30.0

    def open(self) -> Source:
        source = self.data.open()
        train = examples_of(source, "train")
        counts = np.bincount(train.labels)
        limit = np.ceil(counts * np.geomspace(1, 1 / self.factor, len(counts)))
        rank, _ = ranks(train.names, train.labels, 0, "long tail")
        found = {split: examples_of(source, split) for split in source.labels}
        found["train"] = train.at(np.flatnonzero(rank < limit[train.labels]))
        return make_source(source.classes, found, 0.5, 0, None)


sweep = Sweep(
    "balance",
    with_values(base, (("data", LongTail(base.data)), ("epoch_steps", 20))),
    axes=(
        arms(
            {
                "as they are": {},
                "half way": {"balance": 0.5},
                "oversampled": {"balance": 1.0},
                "weighted loss": {"class_weights": 1.0},
            }
        ),
    ),
    seeds=(0, 1, 2, 3, 4),
    question=__doc__,
)
