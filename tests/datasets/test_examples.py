"""Fingerprints of examples; joining and selecting are tested in test_derived_sets."""

import numpy as np

from sgdr_jax.datasets.examples import fingerprint


def test_fingerprint_tells_parts_shapes_and_types_apart():
    texts = [
        ["ab", "c"],
        ["a", "bc"],
        ["abc"],
        ["a:b"],
        ["a", "b"],
        [np.zeros(4, np.uint8)],
        [np.zeros((2, 2), np.uint8)],
        [np.zeros(1, np.float32)],
        [],
    ]
    assert len({fingerprint(parts) for parts in texts}) == len(texts)
