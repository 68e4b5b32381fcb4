"""Updates that are not finite leave every bit as it was, also where a CPU overwrites large arrays within a branch."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.optimizers import AdamW, Sgd
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.distributed.mesh import devices
from sgdr_jax.train import guard, optim, steps
from sgdr_jax.train.guard import Trained, all_finite, apply_if_finite

from ..helpers import GROUPS, SGD, batch, fresh, host_state, hyper, network, on, same_bits

KEY = jax.random.key(7)


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """All arrays count as large."""
    monkeypatch.setattr(guard, "LARGE", 1)


def poisoned(kind: str) -> tuple[Hyper, Any, Any, Any]:
    images, labels, weight = batch(3)
    if kind == "nan image":
        images[7, 2, 3, 1] = np.nan
    numbers = {"infinite rate": hyper(np.inf, 0.1, 0.1), "overflow": hyper(3e38, 3e38, 3e38)}.get(kind, hyper(0.1, 0.1, 0.1))
    return numbers, images, labels, weight


@pytest.mark.parametrize("optimizer", [SGD, AdamW(ema=0.9), Sgd(clip=1.0)], ids=["sgd", "adamw, ema", "clip"])
def test_no_bit_changes_in_a_branch_that_is_not_taken(in_place, optimizer: Any) -> None:
    step, state = on(1).compile_step(steps.Step(network(), optimizer, GROUPS, GROUPS)), fresh(GROUPS, 1, optimizer)
    images, labels, weight = batch(1)
    for kind in ("nan image", "infinite rate", *(() if optimizer.clip else ("overflow",))):  # clipped gradients do not overflow
        count = int(state.step)
        state, sums = step(state, hyper(0.1, 0.1, 0.1), images, labels, weight, KEY)
        before = jax.tree.map(np.asarray, state)
        assert float(sums["skipped"]) == 0 and not same_bits(before.params, host_state()[0])
        state, sums = step(state, *poisoned(kind), KEY)
        assert float(sums["skipped"]) == 1 and int(state.step) == count + 2
        assert same_bits(jax.tree.map(np.asarray, state)[1:], before[1:]), kind
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("parallel", [Parallel(4), Parallel(4, "pmap"), Parallel(4, sharded=True)], ids=["jit", "pmap", "sharded"])
def test_all_devices_take_the_same_branch(in_place, parallel: Parallel) -> None:
    mesh, (params, stats) = devices(parallel), host_state()
    step = mesh.compile_step(steps.Step(network(), SGD, GROUPS, GROUPS))
    state = mesh.hold(TrainState(np.int32(0), params, stats, optim.init(SGD, GROUPS, params)))
    numbers, *examples = poisoned("nan image")
    state, sums = step(state, numbers, *mesh.scatter(tuple(examples)), KEY)
    assert float(np.asarray(sums["skipped"])) == 1
    for leaf, known in zip(jax.tree.leaves((state.params, state.stats)), jax.tree.leaves((params, stats)), strict=True):
        assert all(np.array_equal(np.asarray(shard.data), known[shard.index]) for shard in leaf.addressable_shards)
    numbers, *examples = poisoned("none")
    state, sums = step(state, numbers, *mesh.scatter(tuple(examples)), KEY)
    assert float(np.asarray(sums["skipped"])) == 0
    changed = [
        not np.array_equal(np.asarray(shard.data), known[shard.index])
        for leaf, known in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
        for shard in leaf.addressable_shards
    ]
    assert np.mean(changed) > 0.9


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("bad", ["", "loss", "gradient", "statistics"])
def test_small_and_large_arrays_go_the_same_way(monkeypatch: pytest.MonkeyPatch, bad: str, wanted: bool) -> None:
    """Arrays of 3 and 9 numbers; by 4 and more a branch does it, which writes over what was there."""
    monkeypatch.setattr(guard, "LARGE", 4)
    nan = jnp.float32(jnp.nan)
    before = Trained({"a": jnp.ones(3), "b": jnp.ones((3, 3))}, (jnp.int32(4), jnp.ones(9)), {"c": jnp.zeros(3), "d": jnp.zeros(9)})
    grads, stats, loss = {"a": jnp.ones(3), "b": jnp.ones((3, 3))}, {"c": jnp.ones(3), "d": jnp.ones(9)}, jnp.float32(1)
    grads = grads | {"b": grads["b"].at[2, 2].set(nan)} if bad == "gradient" else grads
    stats = stats | {"c": stats["c"].at[0].set(nan)} if bad == "statistics" else stats
    loss = nan if bad == "loss" else loss

    def rule(grads: Any, slots: Any, params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda p, g: p - g / 2, params, grads), (slots[0] + 1, slots[1] * 2)

    def update(before: Trained, wanted: Any) -> tuple[Trained, Any]:
        return apply_if_finite(rule, grads, stats, before, loss, wanted)

    lowered = jax.jit(update, donate_argnums=0).lower(before, wanted)
    assert lowered.as_text().count("stablehlo.case") == 1 and not re.search(r"select .*tensor<(9|3x3)xf32>", lowered.as_text())
    expected = Trained(*rule(grads, before.opt_state, before.params), stats) if wanted and not bad else before
    expected = jax.tree.map(np.array, expected)
    after, finite = lowered.compile()(before, wanted)
    assert bool(finite) == (not bad) and jax.tree.structure(after) == jax.tree.structure(expected) and same_bits(after, expected)


def test_arrays_of_one_shape_are_checked_together() -> None:
    """An update of many small arrays would otherwise be mostly kernels that look at one of them."""
    tree = {str(i): jnp.zeros(3 + i % 2) for i in range(20)}
    assert jax.jit(all_finite).lower(tree).as_text().count("stablehlo.reduce") == 2
    assert all_finite(tree | {"count": jnp.int32(2**31 - 1)})
    for name in tree:
        assert not all_finite(tree | {name: tree[name].at[-1].set(-np.inf)})


def test_what_another_rounding_could_make_infinite_is_not_finite() -> None:
    most = np.finfo(np.float32).max
    assert all_finite(jnp.float32(0.49 * most)) and not all_finite(jnp.float32(most)) and not all_finite(jnp.float32(-0.51 * most))
