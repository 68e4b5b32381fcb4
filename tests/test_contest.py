"""Trials of two ways: the faster is taken, and a trial costs no more than a share of what it could gain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.contest import LONG, MARGIN, SHARE, contest

from .helpers import seeded


class World:
    """A clock, and programs that take time on it: the first call compiles."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def program(self, name, compiling, seconds):
        def call():
            self.now += seconds + (compiling if name not in self.calls else 0)
            self.calls.append(name)

        return call

    def contest(self, compiling, single, fast, count, calls):
        alone, together = self.program("alone", compiling, single), self.program("together", compiling, fast)
        return contest(alone, together, count, calls, lambda: self.now)


@pytest.mark.parametrize("fast, gains", [(0.01, True), (0.99 * MARGIN * 0.08, True), (0.99 * 0.08, False), (0.08, False), (0.2, False)])
def test_one_program_is_taken_where_it_gains_more_than_noise(fast, gains):
    found = World().contest(1.0, 0.01, fast, 8, 10_000)
    assert found.gains == gains and found.why == "" and found.fast == pytest.approx(fast) and found.slow == pytest.approx(0.08)
    assert found.cost == pytest.approx(2 + 3 * 0.01 + 3 * fast)


@seeded
@given(st.floats(1e-3, 20), st.floats(1e-5, 0.3), st.floats(0.1, 3), st.integers(2, 16), st.integers(1, 10_000))
def test_a_trial_costs_no_more_than_a_share_of_what_it_could_gain(compiling, single, share, count, calls):
    world = World()
    fast = share * single * count
    found = world.contest(compiling, single, fast, count, calls)
    tried = "together" in world.calls
    assert tried == (not found.why) and found.gains == (tried and found.fast < MARGIN * found.slow and found.fast < MARGIN * found.slow)
    if tried:  # beside compiling the single program, which in turn needs too
        assert compiling + single + 3 * single * count <= SHARE * (count - 1) * single * calls * (1 + 1e-9) and single < LONG * (1 + 1e-9)
    else:
        assert world.calls == ["alone"] * 3 and math.isnan(found.fast)
    assert found.cost == pytest.approx(world.now)
