"""The demonstration's recipe on small pictures, with a network of its own: what kept run folders hold.

Written by the package as it was before its modules moved into rooms, by `make.sh` beside this file.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sgdr_jax import AdamW, Eval, Experiment, Find, Sgd, Snapshots, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models.base import ChainModel
from sgdr_jax.schedules import Sgdr
from sgdr_jax.sweeps import Categorical, LogUniform, Search, Sweep, arms


@dataclass(frozen=True)
class Small(ChainModel):
    """Two convolutions with batch normalisation and a head."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("second",)
    hidden: int = 0

    imagenet: ClassVar = "package:no-such-package"
    classifier: ClassVar = ("fc",)
    features: ClassVar = 5
    mean: ClassVar = (0.4, 0.5, 0.6)
    std: ClassVar = (0.3, 0.2, 0.25)

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("first", "second")

    def modules(self, channels: int) -> dict[str, Any]:
        from jax.nn import relu

        from sgdr_jax.models.blocks import ConvBN

        first = ConvBN(3, channels, 4, eps=1e-5, stride=2, padding=1, activation=relu)
        return {"first": first, "second": ConvBN(3, 4, 5, eps=1e-5, padding=1)}


FIND = Find(steps=12, start=1e-4, stop=1, lowest=0.02, epochs=3, orders=2)
BODY = Stage("all", 16, lr=replace(FIND, ratio=3.0), schedule=Sgdr(1, 1, 2), bn=("late", "head"), patience=1)

experiment = Experiment(
    name="small",
    data=Synthetic(classes=3, train=58, valid=21, test=19, side=16),
    model=Small(),
    augment=side_on(zoom=1.1),
    stages=(
        Stage("cached head", 16, train="head", lr=FIND, schedule=Sgdr(4), precompute=True, views=2),
        Stage("head", 16, train="head", lr=None, schedule=Sgdr(1)),
        replace(BODY, name="gradual", train=1, schedule=Sgdr(2, cycle_mult=3)),
        BODY,
    ),
    batch_size=16,
    optimizer=AdamW(ema=0.9),
    snapshots=Snapshots(last=2),
    evaluate=Eval(batch_size=16, tta_views=3),
)

sweep = Sweep(
    "arms",
    replace(
        experiment,
        name="base",
        stages=(
            Stage("head", size=16, train="head", lr=0.02, schedule=Sgdr(2), precompute=True, views=2),
            Stage("body", size=16, train="all", lr=(0.002, 0.005, 0.01), schedule=Sgdr(1, 1, 2)),
        ),
        optimizer=AdamW(),
        snapshots=Snapshots(),
    ),
    axes=(arms({"recipe": {}, "no augmentation": {"augment": ()}, "SGD": {"optimizer": Sgd(), "stages.body.schedule": Sgdr(2)}}),),
    seeds=(0, 1),
    search=Search({"stages.body.lr": LogUniform(1e-4, 1e-1), "optimizer": Categorical((Sgd(), AdamW()))}, trials=3, startup=2),
    question="Does a kept sweep open?",
)
