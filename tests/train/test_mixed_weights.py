"""Weights of classes where images are mixed: each label counts at the weight of its own class, however the updates are made."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax import Experiment, Sgd, Stage
from sgdr_jax.augment import CutMix, Flip, MixUp, kernel
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Eval, Parallel
from sgdr_jax.core.rng import key_for
from sgdr_jax.core.state import Hyper
from sgdr_jax.core.types import Augmentation
from sgdr_jax.data.sampler import example_weights
from sgdr_jax.datasets import Synthetic
from sgdr_jax.evaluation import metrics
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.image_input import mixed
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import stage_batches

from ..helpers import Tiny, same_bits

LR = 1e-3
BIAS = np.array([0.5, -1.0, 0.25], np.float32)


def ready(parallel: Parallel, mixing: Augmentation, multi_label: bool = False, **options: Any) -> RunContext:
    """A stage on 21 images of which three have the rare class, in batches of 12: an image of the second is mixed with padding."""
    stage = Stage("s", size=8, **{"lr": LR, "schedule": Constant(1), "train": "all"} | options)
    data = Synthetic(classes=3, train=21, valid=4, side=8, multi_label=multi_label)
    fields: dict[str, Any] = {"batch_size": 12, "augment": (Flip(), mixing), "class_weights": 0.8, "optimizer": Sgd(momentum=0.0)}
    context = prepare(Experiment("m", data, Tiny(), (stage,), evaluate=Eval(batch_size=8), parallel=parallel, **fields))
    labels = context.data.labels["train"]
    rare = np.arange(len(labels)) % 7 == 0
    labels[:] = np.stack([rare, ~rare, np.zeros_like(rare)], 1) if multi_label else np.where(rare, 0, 1)
    context.network.params["head"]["linear2"] = {"bias": BIAS, "kernel": np.zeros((10, 3), np.float32)}
    return context


def by_hand(context: RunContext, bias: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
    """The sums of loss and weight of a batch, of a network whose logits are its last biases whatever it sees."""
    labels, e = context.data.labels["train"], context.experiment
    weights = example_weights(labels, e.class_weights)[batch.index]
    count = context.programs.devices.count if e.parallel.backend == "pmap" else 1
    key = key_for(e.seed, "augment", 0)
    share = kernel.mix(jnp.zeros((12, 8, 8, 1)), jnp.asarray(batch.draw), key, e.augment)[1]
    other = np.concatenate([np.asarray(kernel.neighbours(jnp.asarray(part))) for part in np.split(np.arange(12), count)])
    loss = metrics.losses(jnp.broadcast_to(bias, (12, 3)), jnp.asarray(labels[batch.index]))
    own, mixed_in = share * weights * batch.weight, (1 - share) * weights[other] * batch.weight
    return jnp.sum(own * loss + mixed_in * loss[other]), jnp.sum(own + mixed_in)


WAYS: dict[str, tuple[Parallel, Augmentation, dict[str, Any]]] = {
    "mixup": (Parallel(1), MixUp(), {}),
    "cutmix, pmap": (Parallel(2, "pmap"), CutMix(p=0.8), {}),
    "several devices": (Parallel(2), MixUp(), {"accumulate": 2}),
    "a span": (Parallel(1, steps_per_execution=2), MixUp(), {}),
    "a span of a head": (Parallel(1, steps_per_execution=2), MixUp(), {"train": "head"}),
    "several labels": (Parallel(1), MixUp(), {"multi_label": True}),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_label_counts_at_the_weight_of_its_own_class(way: str) -> None:
    """A mixed-in label had the weight of the image that it was mixed into, so that a rare class had little of what was its due."""
    parallel, mixing, options = WAYS[way]
    context = ready(parallel, mixing, **options)
    (p,) = context.plan.stages
    stage = open_stage(context, p, context.network, NullConsole())
    batches = list(stage_batches(context, p, 0, 2, with_images=False))
    assert stage.span == max(parallel.steps_per_execution, 1) and batches[1].batch.weight.sum() == 9
    state, bias = stage.state, jnp.asarray(BIAS)
    for first in range(0, 2, stage.span):
        some = batches[first : first + stage.span]
        rows = Hyper(*(np.full((len(some), *end), x, np.float32) for x, end in ((LR, (len(p.trained),)), (0, ()), (0, ()), (0, ()))))
        state, sums = stage.update(state, rows, some)
        for i, each in enumerate(some):
            loss, weight = by_hand(context, bias, each.batch)
            got = [np.atleast_1d(np.asarray(sums[name]))[i] for name in ("loss", "weight")]
            np.testing.assert_allclose(got, [loss, weight], rtol=2e-3)
            slope = jax.grad(lambda bias, batch=each.batch: by_hand(context, bias, batch)[0])(bias) / weight
            bias = bias - LR * slope
    np.testing.assert_allclose(state.params["head"]["linear2"]["bias"] - BIAS, bias - BIAS, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("mixing", [MixUp(), CutMix()])
def test_labels_of_equal_weight_keep_the_bits_of_their_shares(mixing: Augmentation) -> None:
    draw, key, x = jnp.arange(4096, dtype=jnp.uint32), key_for(0, "augment", 0), jnp.zeros((4096, 2, 2, 1))
    labels = jnp.arange(4096, dtype=jnp.int32)
    got = jax.jit(lambda weights: mixed(x, labels, weights, draw, key, None, (mixing,))[1])(np.ones(4096, np.float32))
    share = jax.jit(lambda: kernel.mix(x, draw, key, (mixing,))[1])()
    assert same_bits((got.share, got.weight), (share, np.ones(4096, np.float32)))
