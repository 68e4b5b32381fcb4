"""Optimizers against float64 NumPy, written from the formulas."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.core.optimizers import AdamW, Lamb, Muon, Optimizer, Sgd
from sgdr_jax.core.state import Hyper
from sgdr_jax.train import optim

from ..helpers import compilations, same_bits, seeded

TRAINED = ("late", "head")
SHAPES = {"late": {"kernel": (2, 3), "scale": (3,)}, "head": {"linear": {"kernel": (3, 2), "bias": (2,)}}}
STEPS = 6


def tree(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: rng.normal(size=shape).astype(np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def flat(whole: Any) -> dict[tuple[str, ...], np.ndarray]:
    return {tuple(part.key for part in path): np.asarray(leaf, np.float64) for path, leaf in jax.tree_util.tree_leaves_with_path(whole)}


def rows(seed: int, weight_decay: float, momentum: float | None = None) -> list[Hyper]:
    """A rate for each group and a momentum that change from update to update, as schedules change them."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0.5, 0.95, STEPS) if momentum is None else np.full(STEPS, momentum)
    return [Hyper(rng.uniform(0.001, 0.2, 2).astype(np.float32), np.float32(m), np.float32(weight_decay), np.float32(0)) for m in moving]


def slow(optimizer: Sgd | AdamW, params: Any, grads: list[Any], numbers: list[Hyper]) -> dict[tuple[str, ...], np.ndarray]:
    """The update rules as they are written in torch's documentation and in Loshchilov & Hutter 2019, one array at a time."""
    p = flat(params)
    first = {name: np.zeros_like(x) for name, x in p.items()}
    second = {name: np.zeros_like(x) for name, x in p.items()}
    for t, (tree_of_grads, h) in enumerate(zip(grads, numbers, strict=True), start=1):
        g = flat(tree_of_grads)
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        if optimizer.clip is not None and norm > optimizer.clip:
            g = {name: x * optimizer.clip / norm for name, x in g.items()}
        for name in p:
            lr, m = float(h.lr[TRAINED.index(name[0])]), float(h.momentum)
            decay = float(h.weight_decay) if name[-1] == "kernel" else 0.0
            if isinstance(optimizer, Sgd):
                d = g[name] + decay * p[name]
                first[name] = m * first[name] + d
                p[name] = p[name] - lr * (d + m * first[name] if optimizer.nesterov else first[name])
            else:
                first[name] = m * first[name] + (1 - m) * g[name]
                second[name] = optimizer.b2 * second[name] + (1 - optimizer.b2) * g[name] ** 2
                unbiased = np.sqrt(second[name] / (1 - optimizer.b2**t)) + optimizer.eps
                p[name] = p[name] - lr * decay * p[name] - lr * first[name] / (1 - m**t) / unbiased
    return p


def fast(optimizer: Optimizer, params: Any, grads: list[Any], numbers: list[Hyper]) -> Any:
    step = jax.jit(partial(optim.update, optimizer, TRAINED))
    state = optim.init(optimizer, TRAINED, params)
    for g, h in zip(grads, numbers, strict=True):
        params, state = step(h, g, state, params)
    return params


@pytest.mark.parametrize(
    "optimizer",
    [
        Sgd(0.0),
        Sgd(),
        Sgd(nesterov=True),
        Sgd(weight_decay=0.1),
        Sgd(nesterov=True, weight_decay=0.1, clip=1.0),
        Sgd(clip=1000.0),
        AdamW(weight_decay=0.0),
        AdamW(b2=0.9, eps=1e-3, weight_decay=0.2, clip=0.5),
    ],
    ids=str,
)
def test_updates_are_the_formulas_in_float64(optimizer: Any) -> None:
    params, grads = tree(0), [tree(seed) for seed in range(1, STEPS + 1)]
    # Schedules move momentum under SGD; Adam's bias correction has no agreed form for a b1 that moves.
    numbers = rows(9, optimizer.weight_decay, None if isinstance(optimizer, Sgd) and optimizer.momentum else optimizer.momentum)
    found, expected = flat(fast(optimizer, params, grads, numbers)), slow(optimizer, params, grads, numbers)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=str(name))


PROGRAM = jax.jit(partial(optim.update, Sgd(nesterov=True, clip=2.0), TRAINED))


@settings(seeded, max_examples=40)
@given(
    lr=st.tuples(st.floats(0, 10), st.floats(0, 10)),
    momentum=st.floats(0, 0.99),
    decay=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_one_update_is_the_formula_for_any_numbers(lr: tuple[float, float], momentum: float, decay: float, seed: int) -> None:
    params, grads = tree(seed), tree(seed + 1)
    h = Hyper(np.asarray(lr, np.float32), np.float32(momentum), np.float32(decay), np.float32(0))
    found, _ = PROGRAM(h, grads, optim.init(Sgd(nesterov=True, clip=2.0), TRAINED, params), params)
    expected = slow(Sgd(nesterov=True, clip=2.0), params, [grads], [h])
    for name, array in flat(found).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()], ids=str)
def test_every_group_has_a_rate_of_its_own(optimizer: Any) -> None:
    params, grads = tree(0), tree(1)
    still = Hyper(np.array([0, 0.1], np.float32), np.float32(0.9), np.float32(0.1), np.float32(0))
    new = fast(optimizer, params, [grads], [still])
    assert same_bits(new["late"], params["late"])
    assert not any((np.asarray(a) == b).any() for a, b in zip(jax.tree.leaves(new["head"]), jax.tree.leaves(params["head"]), strict=True))


@pytest.mark.parametrize("optimizer", [Sgd(), AdamW()], ids=str)
def test_biases_and_normalisation_never_decay(optimizer: Any) -> None:
    params, none = tree(0), jax.tree.map(np.zeros_like, tree(0))
    h = Hyper(np.array([0.1, 0.1], np.float32), np.float32(0.9), np.float32(0.5), np.float32(0))
    new = fast(optimizer, params, [none], [h])
    for name, array in flat(new).items():
        expected = flat(params)[name] * (0.95 if name[-1] == "kernel" else 1.0)
        np.testing.assert_allclose(array, expected, rtol=1e-6)


def test_the_norm_that_is_clipped_is_that_of_all_groups_together() -> None:
    params, grads = tree(0), tree(1)
    h = Hyper(np.array([1, 1], np.float32), np.float32(0), np.float32(0), np.float32(0))
    new = fast(Sgd(0.0, clip=0.25), params, [grads], [h])
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(flat(new).values(), flat(params).values(), strict=True)))
    assert moved == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("size", [0.1, 10.0])
def test_clipping_by_a_known_norm_is_that_of_optax_bit_for_bit(size: float) -> None:
    grads = jax.tree.map(lambda leaf: leaf * np.float32(size), tree(1))
    (expected, _), known = optax.clip_by_global_norm(1.5).update(grads, optax.EmptyState()), optax.tree.norm(grads)
    params, h = jax.tree.map(np.zeros_like, grads), Hyper(np.ones(2, np.float32), *3 * [np.float32(0)])
    new, _ = optim.update(Sgd(0.0, clip=1.5), TRAINED, h, grads, optim.init(Sgd(0.0, clip=1.5), TRAINED, params), params, known)
    assert same_bits(jax.tree.map(np.negative, new), expected)
    new, _ = optim.update(Sgd(0.0, clip=1.5), TRAINED, h, grads, optim.init(Sgd(0.0, clip=1.5), TRAINED, params), params)  # by its own norm
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), jax.tree.map(np.negative, new), expected)


@pytest.mark.parametrize("optimizer", [Sgd(clip=1.0), AdamW()], ids=str)
def test_frozen_groups_have_no_slots(optimizer: Any) -> None:
    params = {"early": {"kernel": np.zeros((7, 11), np.float32)}} | tree(0)
    state = optim.init(optimizer, TRAINED, params)
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(state)}
    assert (2, 3) in shapes and (3, 2) in shapes and (7, 11) not in shapes
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state))  # Fresh slots are zero.


def test_other_numbers_compile_nothing() -> None:
    params, grads = tree(0), tree(1)
    step = jax.jit(partial(optim.update, AdamW(), TRAINED))
    first, second = rows(0, 0.1, 0.9)[0], rows(1, 0.7, 0.8)[0]
    state = optim.init(AdamW(), TRAINED, params)  # compiles programs of its own in a fresh process
    with compilations() as compiled:
        params, state = step(first, grads, state, params)
    assert len(compiled) == 1  # Otherwise the count below means nothing.
    with compilations() as compiled:
        step(second, grads, state, params)
    assert compiled == []


def test_the_base_class_has_no_rule() -> None:
    with pytest.raises(NotImplementedError):
        optim.init(Optimizer(), TRAINED, tree(0))


def test_parameters_stay_float32() -> None:
    new = fast(AdamW(), tree(0), [tree(1)], rows(0, 0.1, 0.9)[:1])
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32")}


def test_lamb_scales_each_array_of_adamw_to_the_norm_of_its_weights() -> None:
    """One update in float64: r = Adam's step + wd·p for kernels; p - lr·|p|/|r|·r."""
    params, grads = tree(0), tree(1)
    h = rows(3, 0.1, 0.9)[0]
    new = flat(fast(Lamb(weight_decay=0.1), params, [grads], [h]))
    for name, p in flat(params).items():
        g = flat(grads)[name]
        step = g / (np.abs(g) + 1e-6) + (0.1 * p if name[-1] == "kernel" else 0)  # the first update's moments are g and g² after correction
        expected = p - float(h.lr[TRAINED.index(name[0])]) * np.linalg.norm(p) / np.linalg.norm(step) * step
        np.testing.assert_allclose(new[name], expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [AdamW, Lamb, Muon])
def test_weight_decay_spares_all_but_matrices_and_kernels(kind: type[AdamW]) -> None:
    """Without a gradient nothing else moves; optax's Muon let its Adam decay biases, scales, tokens and positions."""
    params = {g: {"b": np.ones(3), "w": np.ones((3, 3)), "k": np.ones((3, 3, 2, 2)), "tokens": np.ones((1, 4, 3))} for g in TRAINED}
    grads = jax.tree.map(np.zeros_like, params)
    h = Hyper(np.array([0.1, 0.2], np.float32), np.float32(0.9), np.float32(0.5), np.float32(0))
    for (group, name), new in flat(fast(kind(), params, [grads], [h])).items():
        if kind is not Lamb or name in ("b", "tokens"):
            decay = 0.5 * h.lr[TRAINED.index(group)] * (name in "wk")
            np.testing.assert_allclose(new, 1 - decay, rtol=1e-6)
        else:
            assert (new < 1).all()


@pytest.mark.parametrize("kind", [AdamW, Lamb, Muon])
def test_eps_matters(kind: type[AdamW]) -> None:
    params, grads, h = tree(0), tree(1), rows(3, 0.1, 0.9)[0]
    small, large = (flat(fast(kind(eps=eps), params, [grads], [h])) for eps in (1e-8, 10.0))
    assert all(np.abs(small[name] - large[name]).max() > 1e-4 for name in small)


def test_muon_moves_matrices_along_orthogonal_directions_and_the_rest_as_nadam_does() -> None:
    params, grads = tree(0), tree(1)
    h = Hyper(np.array([0.1, 0.1], np.float32), np.float32(0.9), np.float32(0), np.float32(0))
    new = flat(fast(Muon(weight_decay=0.0, iterations=5), params, [grads], [h]))
    for name, p in flat(params).items():
        moved = (p - new[name]) / 0.1
        g = flat(grads)[name]
        if name[-1] == "kernel":
            u, _, v = np.linalg.svd(g, full_matrices=False)
            values = np.linalg.svd(moved, compute_uv=False)
            assert (values.max() / values.min()) < 2  # five iterations bring all singular values near one another
            assert (moved * (u @ v)).sum() / np.linalg.norm(moved) / np.linalg.norm(u @ v) > 0.95
        else:
            # Adam with Nesterov's look ahead, as Dozat 2016 has it: b·m / (1 - b²) + (1 - b)·g / (1 - b), where m = (1 - b)·g.
            np.testing.assert_allclose(moved, (0.9 * 0.1 / 0.19 + 1) * g / (np.abs(g) + 1e-8), rtol=1e-3)


def test_the_sharpest_point_is_a_radius_away_along_the_gradient() -> None:
    params, grads = tree(0), tree(1)
    there = optim.sam_perturbed(0.05, grads, params)
    away = np.concatenate([(np.asarray(a) - b).ravel() for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(params), strict=True)])
    along = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)])
    assert np.linalg.norm(away) == pytest.approx(0.05, rel=1e-4)
    assert away @ along == pytest.approx(0.05 * np.linalg.norm(along), rel=1e-4)
    assert same_bits(jax.tree.map(np.asarray, optim.sam_perturbed(0.05, jax.tree.map(np.zeros_like, params), params)), params)
