"""Keys: the same for the same names, different for different ones, and never moved by another version."""

import itertools
import math
import zlib

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sgdr_jax.core.rng import key_for

from ..helpers import seeded


def words(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_every_seed_stream_and_stage_has_a_key_of_its_own() -> None:
    seeds, streams, stages = (0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1), ("augment", "dropout", "init", "tta", "order", ""), range(8)
    keys = {words(key_for(*names)) for names in itertools.product(seeds, streams, stages)}
    assert len(keys) == len(seeds) * len(streams) * len(stages)


@seeded
@given(st.integers(0, 2**32 - 1), st.text(max_size=8), st.integers(0, 1000))
def test_a_key_is_a_function_of_its_names_alone(seed: int, stream: str, stage: int) -> None:
    first = words(key_for(seed, stream, stage))
    key_for(seed + 1 if seed < 2**32 - 1 else 0, "something else", 3)  # There is no generator that this could move on.
    assert words(key_for(seed, stream, stage)) == first


def test_keys_are_those_of_threefry_whatever_generator_is_the_default() -> None:
    """With "rbg", which is advised for TPUs, an image's augmentation depended on the rest of its batch."""
    first, before = words(key_for(1, "augment")), jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        key = key_for(1, "augment")
    finally:
        jax.config.update("jax_default_prng_impl", before)
    assert words(key) == first and jax.random.key_impl(key) == jax.random.key_impl(key_for(1, "augment"))


def threefry(key: tuple[int, int], word: int) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds on (0, word), in plain Python. Source: Salmon et al. 2011."""
    mask = 2**32 - 1
    three = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = three[0], (word + three[1]) & mask
    for i in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            a = (a + b) & mask
            b = ((b << turn | b >> (32 - turn)) & mask) ^ a
        a, b = (a + three[(i + 1) % 3]) & mask, (b + three[(i + 2) % 3] + i + 1) & mask
    return a, b


@seeded
@given(st.integers(0, 2**32 - 1), st.text(max_size=8), st.integers(0, 2**32 - 1))
@example(2**32 - 1, "init", 1)
def test_keys_stay_what_they_were(seed: int, stream: str, stage: int) -> None:
    """A change here changes every run of every experiment."""
    assert words(key_for(seed, stream, stage)) == threefry(threefry((0, seed), zlib.crc32(stream.encode())), stage)
    assert words(key_for(0, "augment")) == (2405535642, 3689800880)


def test_streams_are_not_correlated() -> None:
    draws = np.stack([jax.random.normal(key_for(0, stream, stage), (4000,)) for stream in ("augment", "dropout") for stage in (0, 1)])
    off = np.corrcoef(draws)[~np.eye(4, dtype=bool)]
    assert np.abs(off).max() < 4 / math.sqrt(4000)


@pytest.mark.parametrize("stream", ["augment", "dropout"])
def test_keys_work_inside_compiled_programs(stream: str) -> None:
    inside = jax.jit(lambda step: jax.random.key_data(jax.random.fold_in(key_for(3, stream, 1), step)))(np.int32(5))
    np.testing.assert_array_equal(inside, jax.random.key_data(jax.random.fold_in(key_for(3, stream, 1), 5)))
