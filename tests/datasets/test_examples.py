"""Fingerprints of examples; joining and selecting are tested in test_derived_sets."""

import os

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import ImageFolder
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


def test_names_of_classes_that_are_not_utf8_are_refused(tmp_path):
    """A run had made half of its folder when it could not write them."""
    for name in (b"\xffbird", b"cat"):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        for i in range(2):
            Image.new("RGB", (8, 8)).save(os.path.join(os.fsdecode(folder), f"{i}.png"))
    with pytest.raises(InputError, match=r"data: names of classes is .*udcffbird.*not UTF-8"):
        ImageFolder(str(tmp_path)).open()
