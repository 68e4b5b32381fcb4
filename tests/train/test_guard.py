"""Updates that are not finite leave every bit as it was, also where a CPU overwrites them within a branch."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.optimizers import AdamW, Lamb, Muon, Optimizer, Sgd
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.distributed.mesh import devices
from sgdr_jax.train import guard, optim, steps
from sgdr_jax.train.guard import Trained, apply_if_finite
from sgdr_jax.train.optim import is_bounded
from sgdr_jax.train.reductions import all_finite, global_norm

from ..helpers import GROUPS, SGD, batch, fresh, host_state, hyper, network, on, same_bits, seeded

KEY = jax.random.key(7)


def poisoned(kind: str) -> tuple[Hyper, Any, Any, Any]:
    images, labels, weight = batch(3)
    if kind == "nan image":
        images[7, 2, 3, 1] = np.nan
    numbers = {"infinite rate": hyper(np.inf, 0.1, 0.1), "overflow": hyper(3e38, 3e38, 3e38)}.get(kind, hyper(0.1, 0.1, 0.1))
    return numbers, images, labels, weight


OPTIMIZERS = {"sgd": SGD, "adamw, ema": AdamW(ema=0.9), "clip": Sgd(clip=1.0), "muon": Muon(), "lamb": Lamb()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_no_bit_changes_where_an_update_is_not_applied(optimizer: Any) -> None:
    step, state = on(1).compile_step(steps.TrainStep(network(), optimizer, GROUPS, GROUPS)), fresh(GROUPS, 1, optimizer)
    images, labels, weight = batch(1)
    for kind in ("nan image", "infinite rate", "overflow"):
        count = int(state.step)
        state, sums = step(state, hyper(0.1, 0.1, 0.1), images, labels, weight, KEY)
        before = jax.tree.map(np.asarray, state)
        assert float(sums["skipped"]) == 0 and not same_bits(before.params, host_state()[0])
        state, sums = step(state, *poisoned(kind), KEY)
        assert float(sums["skipped"]) == 1 and int(state.step) == count + 2
        assert same_bits(jax.tree.map(np.asarray, state)[1:], before[1:]), kind
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("parallel", [Parallel(4), Parallel(4, "pmap"), Parallel(4, sharded=True)], ids=["jit", "pmap", "sharded"])
def test_all_devices_take_the_same_branch(parallel: Parallel) -> None:
    mesh, (params, stats) = devices(parallel), host_state()
    step = mesh.compile_step(steps.TrainStep(network(), SGD, GROUPS, GROUPS))
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


def examples(bad: str) -> tuple[Any, Trained, Any]:
    """Return statistics, what was before, and the loss, with a number that is not finite in one of them, or an update that leads to one."""
    small, large = jnp.ones(3), jnp.ones((3, 500))
    before = Trained({"a": small, "b": large}, (jnp.int32(4), large.at[2, 5].set(3e38 if bad == "slot" else 1), small), {"d": small})
    before = jax.tree.map(jnp.array, before)  # no buffer may be donated twice
    return {"d": small.at[1].set(-jnp.inf if bad == "statistics" else 2)}, before, jnp.float32(jnp.nan if bad == "loss" else 1)


def update(slots: Any, params: Any) -> tuple[Any, Any]:
    return jax.tree.map(lambda p: p - 0.5, params), (slots[0] + 1, slots[1] * 2, slots[2] * 2)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("moderate", [None, True, False])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("bad", ["", "loss", "statistics", "slot"])
def test_an_update_is_applied_as_a_whole_or_not_at_all(monkeypatch, bad: str, backend: str, moderate: bool | None, wanted: bool) -> None:
    """A slot that becomes infinite is found where it is not known that all is moderate; what a GPU is given is right on a CPU, too."""
    stats, before, loss = examples(bad)

    def step(before: Trained, wanted: Any, moderate: Any) -> tuple[Trained, Any]:
        return apply_if_finite(update, stats, before, loss, wanted, moderate)

    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: backend)
        lowered = jax.jit(step, donate_argnums=0).lower(before, wanted, moderate)
    assert lowered.as_text().count("stablehlo.case") == (backend == "cpu" and moderate is not None)
    fine = moderate is not False and (not bad or (bad == "slot" and moderate is True))
    expected = jax.tree.map(np.array, Trained(*update(before.opt_state, before.params), stats) if wanted and fine else before)
    after, finite = lowered.compile()(before, wanted, moderate)
    assert bool(finite) == fine and jax.tree.structure(after) == jax.tree.structure(expected) and same_bits(after, expected)


@dataclass(frozen=True)
class Reciprocal(Sgd):
    """A rule of one's own whose steps are infinite where gradients are zero."""

    def rule(self, lr: Any, hyper: Hyper) -> optax.GradientTransformation:
        return optax.stateless(lambda updates, params: jax.tree.map(lambda g: -lr / g, updates))


def test_rules_whose_steps_have_no_bound_are_looked_at() -> None:
    bounded = [SGD, Sgd(nesterov=True, clip=1.0, ema=0.9, sam=0.1), AdamW(), AdamW(eps=1e-6)]
    assert all(map(is_bounded, bounded))
    assert not any(map(is_bounded, [Lamb(), Muon(), Reciprocal(), AdamW(eps=1e-9), AdamW(b2=1 - 1e-8), Optimizer()]))
    state, step = fresh(GROUPS, 1, Reciprocal()), on(1).compile_step(steps.TrainStep(network(), Reciprocal(), GROUPS, ()))
    images, labels, weight = batch(1)
    _, sums = step(state, hyper(0.1, 0.1, 0.1), images, labels, 0 * weight, KEY)
    assert float(sums["skipped"]) == 1


EXTREMES = st.sampled_from([0.0, 1e-38, 1e-20, 1e-12, 1e-3, 1.0, 1e3, 1e6, 1e12])
MOMENTA = st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.99999, 1 - 6e-8])


@settings(seeded, max_examples=60)
@given(
    optimizer=st.sampled_from([Sgd(), Sgd(nesterov=True), AdamW(), AdamW(b2=0.0), AdamW(b2=1 - 1e-6), Sgd(clip=1e6), AdamW(ema=0.9)]),
    numbers=st.lists(st.tuples(EXTREMES, EXTREMES, MOMENTA, st.lists(EXTREMES, min_size=4, max_size=4)), min_size=1, max_size=12),
)
def test_moderate_gradients_and_rates_lead_to_finite_numbers(optimizer: Any, numbers: list[Any]) -> None:
    """Updates at the bounds, one after the other, in any order; immoderate ones are refused by their numbers."""
    params = {"g": {"kernel": jnp.float32([[1, -1], [1e-30, 1e3]]), "bias": jnp.zeros(2)}}
    slots, step = optim.init(optimizer, ("g",), params), partial(optim.update, optimizer, ("g",))
    step = jax.jit(step)
    for lr, decay, momentum, gradient in numbers:
        given = hyper(min(lr, 1e6), momentum=momentum, weight_decay=min(decay, 1e6, 0.999 / max(lr, 1e-6)))
        grads = {
            "g": {
                "kernel": jnp.float32(gradient).reshape(2, 2) / 4 * jnp.float32([[1, -1], [1, 1]]),
                "bias": jnp.float32(gradient[:2]) / -4,
            }
        }
        assert guard.is_moderate(global_norm(grads), given)
        params, slots = step(given, grads, slots, params)
        assert all_finite((params, slots)), (given, gradient)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_weight_decay_does_not_enlarge_as_far_as_it_is_moderate(nesterov: bool, momentum: float) -> None:
    """SGD's passes through the momentum; with Nesterov's, weights would be infinite after a hundred updates of lr · wd = 2."""
    step = jax.jit(partial(optim.update, Sgd(nesterov=nesterov), ("g",)))

    def largest(decay: float) -> float:
        params = {"g": {"kernel": jnp.ones((2, 2))}}
        slots, none = optim.init(Sgd(), ("g",), params), jax.tree.map(jnp.zeros_like, params)
        for _ in range(400):
            params, slots = step(hyper(0.1, momentum=momentum, weight_decay=decay), none, slots, params)
        return float(jnp.max(jnp.abs(params["g"]["kernel"])))

    given = hyper(0.1, momentum=momentum, weight_decay=10.0)
    assert guard.is_moderate(jnp.float32(0), given) and largest(10.0) <= 1
    assert not guard.is_moderate(jnp.float32(0), given._replace(weight_decay=np.float32(10.1)))
    assert not nesterov or momentum < 0.9 or not largest(20.0) < 1e30


def test_gradients_that_are_clipped_may_be_large_but_have_a_norm() -> None:
    given = hyper(0.1)
    assert not guard.is_moderate(jnp.float32(1e13), given) and guard.is_moderate(jnp.float32(1e13), given, 1.0)
    assert not guard.is_moderate(jnp.float32(1e13), given, 1e14)
    assert not any(guard.is_moderate(jnp.float32(norm), given, 1.0) for norm in (np.inf, np.nan))
    params, grads = {"g": {"kernel": jnp.ones((2, 2))}}, {"g": {"kernel": jnp.full((2, 2), 1e18)}}
    assert guard.is_moderate(global_norm(grads), given, 1.0)
    after = optim.update(Sgd(clip=1.0), ("g",), given, grads, optim.init(Sgd(clip=1.0), ("g",), params), params)
    np.testing.assert_allclose(after[0]["g"]["kernel"], 0.95, rtol=1e-6)


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("place", ["gradient", "lr", "weight_decay", "momentum"])
def test_numbers_that_are_not_moderate_are_refused(place: str, number: float) -> None:
    norm, given = jnp.float32(1), hyper(0.1, 0.1)
    assert guard.is_moderate(norm, given)
    if place == "gradient":
        assert not guard.is_moderate(global_norm({"a": jnp.ones(9), "b": jnp.float32([1, -number])}), given)
    else:
        given = given._replace(**{place: np.float32([0.1, number] if place == "lr" else number)})
        assert not guard.is_moderate(norm, given)
    assert not guard.is_moderate(norm, hyper(1.5, weight_decay=1.0)) and not guard.is_moderate(norm, hyper(0.1, momentum=1.0))


def test_a_norm_is_taken_once() -> None:
    """Clipping and the guard share it: the guard of a clipped update costs next to nothing."""

    def reductions(optimizer: Any) -> int:
        step = steps.TrainStep(network(), optimizer, GROUPS, GROUPS)
        arguments = fresh(GROUPS, 1, optimizer), hyper(0.1, 0.1, 0.1), *batch(1), KEY
        return jax.jit(step).lower(*arguments).as_text().count("stablehlo.reduce(")

    assert reductions(Sgd(clip=1.0)) == reductions(Sgd()) and reductions(AdamW(clip=1.0)) == reductions(AdamW())
