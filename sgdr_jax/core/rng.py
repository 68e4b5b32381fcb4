"""Random keys as pure functions of (seed, stream name, stage), and then of the step or example that is folded in.

There is no generator state, so any step can be replayed alone, resuming needs no saved key, and a new stream shifts no other.
"""

from __future__ import annotations

import zlib

import jax


def key_for(seed: int, stream: str, stage: int = 0) -> jax.Array:
    """Return the key of a named stream of randomness in a stage.

    Args:
        seed: root seed of the experiment, 0 ≤ seed < 2^32.
        stream: name such as "augment" or "dropout"; hashed with CRC-32, which is stable across processes and versions.
        stage: index of the stage, from 0.

    Returns:
        A scalar typed key; fold in the step (or an example's draw number) where it is used.

    Example:
        >>> import jax
        >>> bool((jax.random.key_data(key_for(0, "dropout")) == jax.random.key_data(key_for(0, "augment"))).all())
        False
    """
    # Whatever generator is jax's default: with "rbg" what an image draws would depend on the others of its batch.
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(stream.encode())), stage)
