"""How sure an ImageNet classifier is of photographs, and of drawings: the measure behind `similar_to_imagenet`."""

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import EfficientNetLite0, ResNet18
from sgdr_jax.recipes.auto import FAMILIAR
from sgdr_jax.recipes.domain_similarity import confidence


def folder(root, images):
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            image.save(root / name / f"{i}.png")
    return ImageFolder(str(root)).open()


def drawing(i):
    image = Image.new("RGB", (90, 70), "white")
    ImageDraw.Draw(image).line([(10 + i, 10), (60, 40 + i), (20, 60)], fill="black", width=4)
    return image


@pytest.mark.slow
def test_photographs_are_familiar_and_drawings_are_not(tmp_path) -> None:
    photos = [Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "cat", "coffee", "rocket")]
    sure = confidence(EfficientNetLite0(), folder(tmp_path / "photos", photos * 2))
    unsure = confidence(EfficientNetLite0(), folder(tmp_path / "drawings", [drawing(i) for i in range(8)]))
    assert sure is not None and unsure is not None
    assert unsure < FAMILIAR < sure and unsure > 0 and sure < 1


def test_without_a_weight_file_nothing_is_measured(tmp_path) -> None:
    source = folder(tmp_path / "few", [Image.fromarray(np.zeros((9, 9, 3), np.uint8))] * 3)
    assert confidence(ResNet18(weights=str(tmp_path / "none.safetensors")), source) is None
    assert confidence(ResNet18(weights=None), source) is None
