"""Pickles of plain values: what Python writes is read as Python reads it."""

import io
import pickle
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.models.pretrained.pickle_values import PickleReader, StateDict

PLAIN = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
    max_leaves=20,
)


def reader() -> PickleReader:
    return PickleReader({"collections OrderedDict": lambda *args: StateDict()}, lambda pid: pid)


@given(VALUES, st.integers(0, 5))
def test_values_are_read_as_the_unpickler_reads_them(value, protocol):
    data = pickle.dumps([value, value], protocol)
    assert reader().read(io.BytesIO(data)) == pickle.loads(data)


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dicts_with_a_state_are_dicts(protocol):
    value = OrderedDict(a=1, b=(2,))
    value._metadata = OrderedDict(version=3)  # type: ignore[attr-defined]
    assert reader().read(io.BytesIO(pickle.dumps(value, protocol))) == {"a": 1, "b": (2,)}


def test_pickles_follow_one_another():
    stream, mine = io.BytesIO(pickle.dumps(1) + pickle.dumps("two")), reader()
    assert [mine.read(stream), mine.read(stream)] == [1, "two"]


@pytest.mark.parametrize("value", [{(1, 2): 3}, {b"key": 1}, {frozenset(): 1}, {1, 2}, 1 << 80, bytearray(b"x"), len, type])
def test_other_values_are_refused(value):
    with pytest.raises(InputError):
        reader().read(io.BytesIO(pickle.dumps(value)))
