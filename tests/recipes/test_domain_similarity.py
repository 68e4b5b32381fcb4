"""How sure an ImageNet classifier is of photographs, and of drawings: the measure behind `similar_to_imagenet`."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import ConvNeXtTiny, EfficientNetLite0, ResNet18
from sgdr_jax.recipes import domain_similarity
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
    for weights, reason in ((str(tmp_path / "none.safetensors"), "none.safetensors"), (None, "None")):
        with pytest.raises(domain_similarity.NoClassifier, match=reason):
            confidence(ResNet18(weights=weights), source)


def test_every_image_counts_once_however_many_there_are(tmp_path, monkeypatch) -> None:
    """In blocks, of which the last is filled up; the fake classifier is as sure of an image as it is bright."""

    def apply(params, stats, x):
        bright = 4 * x.mean((1, 2, 3))
        return jnp.stack([bright, 0 * bright, 0 * bright], 1), None

    plain = ResNet18().build(3).plain
    monkeypatch.setattr(domain_similarity, "classifier", lambda _: (SimpleNamespace(plain=plain, apply=apply), {}, {}))
    levels = [*range(0, 250, 25)]
    source = folder(tmp_path, [Image.fromarray(np.full((9, 9, 3), level, np.uint8)) for level in levels])  # 8 of each class train
    kept = [int(name.partition("/")[2].removesuffix(".png")) for name in source.names["train"]]
    e = np.exp(4 * np.array([levels[i] for i in kept]) / 255)
    wanted = float(np.mean(e / (e + 2)))
    for block in (3, 16, 64):
        monkeypatch.setattr(domain_similarity, "BLOCK", block)
        assert confidence(ResNet18(), source) == pytest.approx(wanted, abs=1e-5)
    assert confidence(ResNet18(), source, images=4) != pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("model", [ConvNeXtTiny(), ConvNeXtTiny("in12k_ft_in1k_384")])
def test_images_have_the_size_of_the_weights(model, tmp_path, monkeypatch) -> None:
    """The fake classifier's confidence tells the side of the images that it is given."""

    def apply(params, stats, x):
        assert x.shape[1] == x.shape[2]
        return jnp.tile(jnp.asarray([x.shape[1] / 100, 0, 0], jnp.float32), (len(x), 1)), None

    plain = model.build(3).plain
    monkeypatch.setattr(domain_similarity, "classifier", lambda _: (SimpleNamespace(plain=plain, apply=apply), {}, {}))
    e = np.exp(384 / 100 if "384" in model.weights else 224 / 100)
    assert confidence(model, folder(tmp_path, [drawing(0)] * 2)) == pytest.approx(e / (e + 2), abs=1e-6)
