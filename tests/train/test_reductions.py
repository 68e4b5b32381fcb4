"""Norm and finiteness of trees, whose small arrays are looked at together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.train.reductions import SMALL, all_finite, global_norm

SHAPES = st.sampled_from([(), (0,), (1,), (3, 5), (SMALL,), (SMALL + 1,), (2, SMALL // 2, 3)])
DTYPES = st.sampled_from([np.float32, jnp.bfloat16])


@st.composite
def trees(draw: Any) -> dict[str, Any]:
    shapes, random = draw(st.lists(SHAPES, min_size=1, max_size=6)), np.random.default_rng(draw(st.integers(0, 9)))
    return {str(i): {"x": jnp.asarray(random.normal(size=shape), draw(DTYPES))} for i, shape in enumerate(shapes)}


@settings(max_examples=25, deadline=None)
@given(trees())
def test_the_norm_is_that_of_all_numbers(tree: Any) -> None:
    tree = jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    numbers = np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
    np.testing.assert_allclose(jax.jit(global_norm)(tree), np.linalg.norm(numbers), rtol=3e-6)


@settings(max_examples=25, deadline=None)
@given(trees(), st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_one_number_that_is_not_finite_is_seen_wherever_it_is(tree: Any, number: float, data: Any) -> None:
    tree |= {"count": jnp.int32(2**31 - 1), "python": 0.5}
    check = jax.jit(all_finite)
    assert check(tree)
    places = [name for name in tree if name not in ("count", "python") and tree[name]["x"].size]
    if not places:
        return
    name = data.draw(st.sampled_from(places))
    x = tree[name]["x"]
    at = data.draw(st.integers(0, x.size - 1))
    assert not check(tree | {name: {"x": x.ravel().at[at].set(number).reshape(x.shape)}})


def test_a_tree_without_numbers_is_finite() -> None:
    assert all_finite({}) and all_finite({"count": jnp.int32(3), "none": None})


@pytest.mark.parametrize("function", [global_norm, all_finite])
def test_small_arrays_are_reduced_together(function: Any) -> None:
    """A reduction of each would be most of the kernels of a small network's update."""
    tree = {str(i): jnp.zeros(3 + i % 2) for i in range(20)} | {"large": jnp.zeros((3, SMALL))}
    assert jax.jit(function).lower(tree).as_text().count("stablehlo.reduce(") == 2
