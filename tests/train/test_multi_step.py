"""Spans of updates: each update once and in order, none across a bound, none longer than allowed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdr_jax.train.multi_step import bounds, sections, span_length, spans

from ..helpers import seeded

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=6)
EVERY = st.none() | st.integers(1, 50)


def cycles(lengths: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)), lengths)


@settings(seeded)
@given(lengths=LENGTHS, length=st.integers(1, 20), every=EVERY, data=st.data())
def test_every_update_comes_once_and_no_span_crosses_a_bound(
    lengths: list[int], length: int, every: int | None, data: st.DataObject
) -> None:
    cycle = cycles(lengths)
    whole = list(spans(cycle, length, every))
    assert [step + i for step, count in whole for i in range(count)] == list(range(len(cycle)))
    assert all(1 <= count <= length for _, count in whole)
    assert len(whole) == sum(-(-int(part) // length) for part in np.diff(bounds(cycle, every)))
    stops = {*np.cumsum(lengths).tolist(), *(range(every, len(cycle), every) if every else ())}
    assert stops <= {step + count for step, count in whole}
    first = data.draw(st.sampled_from([step for step, _ in whole]))
    assert list(spans(cycle, length, every, first)) == [span for span in whole if span[0] >= first]
    first = data.draw(st.integers(0, len(cycle)))
    assert [step + i for step, count in spans(cycle, length, every, first) for i in range(count)] == list(range(first, len(cycle)))


@settings(seeded)
@given(lengths=LENGTHS, other=LENGTHS)
def test_a_section_is_a_stretch_without_a_change(lengths: list[int], other: list[int]) -> None:
    steps = min(sum(lengths), sum(other))
    columns = [np.repeat(np.arange(len(own)) % 2, own)[:steps] for own in (lengths, other)]
    found = sections(*columns)
    assert len(found) == steps and found[0] == 0
    for i in range(1, steps):
        assert found[i] - found[i - 1] == any(column[i] != column[i - 1] for column in columns)


@settings(seeded)
@given(between=st.lists(st.integers(1, 300), min_size=1, max_size=6), most=st.integers(1, 32))
def test_the_length_of_spans_wastes_little(between: list[int], most: int) -> None:
    """No length takes less time, by updates that are computed and spans; what divides everything, near the largest, is taken."""

    def costs(length: int) -> tuple[int, int]:
        dispatched = [len(list(spans(cycles([n]), length))) for n in between]
        return sum(dispatched) * (length + 1), -length

    assert costs(span_length(between, most)) == min(map(costs, range(1, most + 1)))


def test_bounds_are_ends_of_cycles_and_checkpoints() -> None:
    assert bounds(cycles([7, 3, 5])) == [0, 7, 10, 15]
    assert bounds(cycles([7, 3, 5]), 4) == [0, 4, 7, 8, 10, 12, 15]
    assert bounds(cycles([3]), 100) == [0, 3]
