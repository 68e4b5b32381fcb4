"""Fingerprints of examples; joining and selecting are tested in test_derived_sets."""

import os

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.core.errors import InputError
from sgdr_jax.datasets import Arrays, ImageFolder
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


@pytest.mark.parametrize(("each", "held_out"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (20, 4)])
def test_it_is_told_where_many_more_images_are_held_out_than_asked_for(each: int, held_out: int) -> None:
    """With two images of each class half of them were held out, and nothing said why."""
    labels = np.repeat(np.arange(3), [each, each, 20])
    source = Arrays.of((np.zeros((len(labels), 6, 6), np.uint8), labels)).open()
    assert source.sizes["valid"] == 2 * held_out + 4 and source.notes == ()  # most are of the large class
    labels = np.repeat(np.arange(9), [max(each, 2), *[each] * 8])
    source = Arrays.of((np.zeros((len(labels), 6, 6), np.uint8), labels)).open()
    whole = f"{source.sizes['valid']} of {len(labels)} images are held out for validation, more than the share of 0.2, since"
    assert [note.startswith(whole) for note in source.notes] == [True] * (each in (2, 3))
