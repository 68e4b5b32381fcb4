"""Tables of one's own schedules: what cannot be trained with is refused by `plan`, in a line that names the column."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Stage
from sgdr_jax.core.plan import plan
from sgdr_jax.core.tables import checked_table
from sgdr_jax.core.types import Schedule, Table

from ..helpers import GROUPS, experiment, seeded

ONES, FIRST = np.ones(3), np.zeros(3, np.int32)
RETURNED: list[Any] = [None]
"""What the schedule returns; no config could hold it."""


@dataclass(frozen=True)
class Own(Schedule):
    """Returns whatever it is told to."""

    epochs: float = 1.0

    def table(self, steps_per_epoch: int) -> Table:
        return RETURNED[0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"table\(…\) is a NoneType; return a Table"),
        ((ONES, FIRST), r"table\(…\) is a tuple; return a Table"),
        (Table(None, FIRST), "scale is a NoneType; use a NumPy array"),
        (Table([1.0, 1.0, 1.0], FIRST), "scale is a list; use a NumPy array"),
        (Table(np.array(1.0), FIRST), r"scale is float64\[\]; use a NumPy array"),
        (Table(ONES.astype(object), FIRST), r"scale is object\[3\]; use a NumPy array"),
        (Table(np.ones((3, 3, 1)), FIRST), r"scale is float64\[3, 3, 1\]; use"),
        (Table(ONES[:0], FIRST[:0]), "scale is empty; return a row for each update"),
        (Table(np.ones((3, 0)), FIRST), "scale is empty; return a row for each update"),
        (Table(np.ones((3, 2)), FIRST), ".groups is 2; give 3 schedules: one for each of early, late, head"),
        (Table(np.array([1, np.nan, 1]), FIRST), r"scale\[1\] is nan; use shares of the peak"),
        (Table(np.array([1, 1, -0.5]), FIRST), r"scale\[2\] is -0\.5; use shares of the peak"),
        (Table(np.array([[1, 1, 1], [1, np.inf, 1]]), FIRST[:2]), r"scale\[1, 1\] is inf; use shares of the peak"),
        (Table(ONES, FIRST[:2]), "cycle is 2 rows; scale has 3"),
        (Table(ONES, [0, 0, 0]), "cycle is a list; use a NumPy array"),
        (Table(ONES, np.array([0, 1, 0])), r"cycle\[2\] is 0; it is 1 before; cycles may not fall"),
        (Table(ONES, np.array([-1, 0, 0])), r"cycle\[0\] is -1\.0; use whole numbers"),
        (Table(ONES, np.array([0, 0.5, 1])), "cycle is fractional; use the whole number"),
        (Table(ONES, FIRST, ONES), r"momentum\[0\] is 1\.0; use numbers in 0…1, below 1"),
        (Table(ONES, FIRST, 0.9), "momentum is a float; use a NumPy array"),
        (Table(ONES, FIRST, np.zeros(4)), "momentum is 4 rows; scale has 3"),
        (Table(ONES, FIRST, None, -ONES), r"weight_decay\[0\] is -1\.0; use shares"),
        (Table(ONES, FIRST, plateau=3), "plateau is 3; use a Reduction"),
        (Table(ONES, FIRST, whole=2), r"whole is 2; use None, or a number from 3"),
    ],
)
def test_a_table_that_cannot_be_trained_with_is_refused_by_the_plan(table: Any, message: str) -> None:
    RETURNED[0] = table
    with pytest.raises(InputError, match=rf'^stage "own": schedule.*{message}'):
        plan(experiment(Stage("own", lr=0.1, schedule=Own())), 64)


numbers = st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0, float("nan"), float("inf")])
columns = arrays.arrays(np.float64, st.integers(0, 4), elements=numbers)


@seeded
@given(columns, arrays.arrays(np.int32, st.integers(0, 4), elements=st.integers(-1, 3)), st.none() | columns)
def test_what_is_accepted_has_a_good_row_for_every_update(scale: np.ndarray, cycle: np.ndarray, momentum: np.ndarray | None) -> None:
    good = len(scale) == len(cycle) > 0 and bool(np.all(np.isfinite(scale) & (scale >= 0)))
    good &= bool(np.all(np.diff(cycle) >= 0) and np.all(cycle >= 0))
    good &= momentum is None or (len(momentum) == len(scale) and bool(np.all((momentum >= 0) & (momentum < 1))))
    try:
        checked_table(Table(scale, cycle, momentum), GROUPS)
    except InputError as error:
        assert not good and "\n" not in str(error)
    else:
        assert good


def test_columns_of_jax_and_of_any_integers_are_taken_as_numpy_has_them() -> None:
    columns = checked_table(Table(jnp.ones(3), jnp.zeros(3, int), momentum=jnp.full(3, 0.5)), GROUPS)  # pyright: ignore[reportArgumentType]
    assert all(isinstance(column, np.ndarray) for column in (columns.scale, columns.cycle, columns.momentum))
    with pytest.raises(InputError, match="cycles may not fall"):  # differences of unsigned integers do not
        checked_table(Table(ONES, np.array([1, 1, 0], np.uint8)), GROUPS)
