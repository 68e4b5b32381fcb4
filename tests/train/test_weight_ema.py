"""The moving average of weights, against its formula in float64."""

import jax
import numpy as np

from sgdr_jax import Sgd
from sgdr_jax.train.weight_ema import Averaged, averaged

from .. import helpers
from ..helpers import batch, fresh, hyper, program


def test_the_moving_average_is_that_of_a_loop_in_float64():
    optimizer = Sgd(ema=0.95)
    step, trained = program(helpers.GROUPS, helpers.GROUPS, optimizer=optimizer), helpers.GROUPS
    state = fresh(trained, optimizer=optimizer)
    x, labels, weight = batch()
    mean = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    for t in range(30):
        state, _ = step(state, hyper(0.05, 0.05, 0.05), x, labels, weight, jax.random.key(0))
        d = min(0.95, (1 + t) / (10 + t))
        mean = jax.tree.map(lambda a, p: d * a + (1 - d) * np.asarray(p, np.float64), mean, state.params)  # noqa: B023
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), state.opt_state.params, mean)
    plain = fresh(trained)
    for _ in range(30):
        plain, _ = program(trained, trained)(plain, hyper(0.05, 0.05, 0.05), x, labels, weight, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params, plain.params)


def test_without_a_decay_the_slots_are_the_optimizers_own():
    assert not isinstance(fresh(("head",)).opt_state, Averaged)
    assert averaged(()) == {}
