"""Updates that are not finite leave every bit as it was, also where a CPU overwrites them within a branch."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.optimizers import AdamW, Muon, Sgd
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


@pytest.mark.parametrize("optimizer", [SGD, AdamW(ema=0.9), Sgd(clip=1.0), Muon()], ids=["sgd", "adamw, ema", "clip", "muon"])
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


SHAPE = (3, 5 * guard.LARGE)
"""Shape of an array that is folded, once by nine or less and then again."""


def examples(bad: str) -> tuple[Any, Any, Trained, Any]:
    """Return gradients, statistics, what was before, and the loss, with a number that is not finite in one of them."""
    nan, small, large = jnp.float32(jnp.nan), jnp.ones(3), jnp.ones(SHAPE)
    before = Trained({"a": small, "b": large, "c": large}, (jnp.int32(4), large, large, small), {"d": small, "e": jnp.zeros(guard.LARGE)})
    grads, stats = {"a": small, "b": large, "c": large}, {"d": small * 2, "e": jnp.ones(guard.LARGE)}
    place = {"first": (0, 0), "middle": (1, 7), "last": (-1, -1)}.get(bad)
    grads = grads | {"c": large.at[place].set(nan)} if place else grads
    stats = stats | {"e": stats["e"].at[1000].set(-jnp.inf)} if bad == "statistics" else stats
    before = before._replace(opt_state=(*before.opt_state[:2], large.at[2, 5].set(3e38), small)) if bad == "slot" else before
    before = jax.tree.map(jnp.array, before)  # no buffer may be donated twice
    return grads, stats, before, nan if bad == "loss" else jnp.float32(1)


def rule(grads: Any, slots: Any, params: Any) -> tuple[Any, Any]:
    return jax.tree.map(lambda p, g: p - g / 2, params, grads), (slots[0] + 1, slots[1] * 2, slots[2] * 2, slots[3] + 1)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("bad", ["", "loss", "first", "middle", "last", "statistics", "slot"])
def test_an_update_is_applied_as_a_whole_or_not_at_all(bad: str, wanted: bool) -> None:
    grads, stats, before, loss = examples(bad)

    def update(before: Trained, wanted: Any) -> tuple[Trained, Any]:
        return apply_if_finite(rule, grads, stats, before, loss, wanted)

    lowered = jax.jit(update, donate_argnums=0).lower(before, wanted)
    text = lowered.as_text()
    assert text.count("stablehlo.case") == 1 and not re.search(r"select .*tensor<(\d{5}|3x\d+)xf32>", text)
    expected = Trained(*rule(grads, before.opt_state, before.params), stats) if wanted and not bad else before
    expected = jax.tree.map(np.array, expected)
    after, finite = lowered.compile()(before, wanted)
    assert bool(finite) == (not bad) and jax.tree.structure(after) == jax.tree.structure(expected) and same_bits(after, expected)


@settings(deadline=None, max_examples=25)  # each shape compiles
@given(st.data())
def test_no_place_of_any_array_is_overlooked(data: st.DataObject) -> None:
    """Arrays are folded by nine or less, of lengths that these divide and that they do not; statistics have shapes of their own."""
    n, m = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 50))
    arrays = [np.ones(shape, np.float32) for shape in ((n,), (n,), (2, m), (n,), (n,), (2, m), (n,), (m,))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "LARGE", 4)
        patch.setattr(guard, "MARKS", 4)
        for bad in (None, data.draw(st.sampled_from([np.nan, np.inf, -np.inf, -2e38]))):
            if bad is not None:
                array = data.draw(st.sampled_from(range(len(arrays))))
                arrays[array].flat[data.draw(st.integers(0, arrays[array].size - 1))] = bad
            a, b, c, *slots, d, e = map(jnp.asarray, arrays)
            after = Trained({"a": a, "b": b, "c": c}, tuple(slots), {"d": d, "e": e})
            found = guard._all_finite_at_once(jnp.float32(1), guard._by_size(after)[0], after)
            assert bool(found) == (bad is None)


def test_a_rule_that_multiplies_matrices_is_computed_once(in_place) -> None:
    """Muon's would otherwise take as long as the rest of an update of small images."""

    def products(optimizer: Any) -> list[str]:
        step = steps.Step(network(), optimizer, GROUPS, GROUPS)
        return re.findall(r"stablehlo\.(?:dot_general|case)\b", jax.jit(step).lower(*arguments(optimizer)).as_text())

    def arguments(optimizer: Any) -> tuple[Any, ...]:
        return fresh(GROUPS, 1, optimizer), hyper(0.1, 0.1, 0.1), *batch(1), KEY

    assert "stablehlo.case" in products(SGD) and "stablehlo.case" not in products(Muon())
    assert products(Muon()).count("stablehlo.dot_general") > products(AdamW()).count("stablehlo.dot_general")


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
