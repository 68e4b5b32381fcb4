"""Augmentations against independent NumPy float64 code, and the promises of the kernel: what an image depends on, and what stays exact."""

import math
import subprocess
import sys
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sgdr_jax.augment import (
    Blur,
    Crop,
    Dihedral,
    Erase,
    Flip,
    Invert,
    Lighting,
    OneOf,
    Posterize,
    Rotate,
    Zoom,
    aug_mix,
    auto_augment,
    kernel,
    rand_augment,
    side_on,
    top_down,
    trivial_augment,
)
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.serialization import from_json, to_json
from sgdr_jax.core.types import Augmentation

from ..helpers import compilations
from .augmentations import COLOURS, CURVES, EVERY, GEOMETRY, KEY, PIXELS, POLICIES, augment, photos, resize, seeds

ALL = (Rotate(25), Zoom(1.5), Crop(), Flip(), Dihedral(), Lighting(0.2, 0.4), Erase())

STILL = Rotate(0, p=1)
"""Geometry that moves nothing, so that the pixels are those of the resampling."""
unit = st.floats(0, 1, exclude_max=True, width=32)


# ---- the reference: one example, one augmentation after the other, float64 ----


def reference_matrix(a: Augmentation, u: np.ndarray) -> np.ndarray:
    """The map of an augmentation, written as the corners of the window that is seen."""
    match a:
        case Flip():
            return np.diag([-1.0, 1, 1])
        case Rotate():
            t = np.deg2rad(a.degrees) * (2 * u[0] - 1)
            return np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
        case Dihedral():
            k = int(8 * u[0])
            m = np.diag([-1.0 if k & 1 else 1.0, -1.0 if k & 2 else 1.0])
            m = m @ np.array([[0, 1], [1, 0]]) if k & 4 else m
            return np.block([[m, np.zeros((2, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])
        case Zoom():
            w = h = 1 / (1 + (a.most - 1) * u[0])
            left, top = (1 - w) * u[1], (1 - h) * u[2]
        case Crop():
            area, ratio = np.interp(u[0], [0, 1], a.area), np.exp(np.interp(u[1], [0, 1], np.log(a.aspect)))
            w, h = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
            left, top = (1 - w) * u[2], (1 - h) * u[3]
        case _:
            raise AssertionError(a)
    # The window in shares of the image, turned into coordinates from -1 to 1.
    return np.array([[w, 0, 2 * left + w - 1], [0, h, 2 * top + h - 1], [0, 0, 1]])


def reference_sample(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """`image` seen through `matrix` in float64; the canvas is halved in whole steps where it is finer than the output."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:2, :2]))) * image.shape[0] / size
    for _ in range(max(0, round(math.log2(scale)))):
        blocks = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, -1).astype(int)
        image = (blocks.sum((1, 3)) + 2) // 4
    side, grid = image.shape[0], (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(grid, grid)
    columns, rows, _ = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
    where = [(v + 1) * side / 2 - 0.5 for v in (rows, columns)]
    planes = [ndimage.map_coordinates(plane.astype(np.float64), where, order=1, mode="reflect") for plane in np.moveaxis(image, -1, 0)]
    return np.stack(planes, -1) / 255


def reference(image: np.ndarray, seed: int, augmentations: tuple[Augmentation, ...], size: int) -> np.ndarray:
    u = np.asarray(jax.random.uniform(jax.random.fold_in(KEY, seed), (sum(1 + a.draws for a in augmentations),)), np.float64)
    parts = np.split(u, np.cumsum([1 + a.draws for a in augmentations])[:-1])
    active = [(a, part[1:]) for a, part in zip(augmentations, parts, strict=True) if part[0] < a.p]
    matrix = np.eye(3)
    for a, u in active:
        if hasattr(a, "matrix"):
            matrix = matrix @ reference_matrix(a, u)
    out = reference_sample(image, matrix, size)
    for a, u in active:
        if isinstance(a, Lighting):
            b, c = a.brightness * (2 * u[0] - 1), a.contrast * (2 * u[1] - 1)
            mean = out.mean()
            out = (out - mean) * (c + 1 if c >= 0 else -1 / (c - 1)) + mean + b
    out = out.clip(0, 1)
    for a, u in active:
        if isinstance(a, Erase):
            area, ratio = np.interp(u[0], [0, 1], a.share), np.exp(np.interp(u[1], [0, 1], np.log(a.aspect)))
            w, h = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
            left, top, fill = (1 - w) * u[2], (1 - h) * u[3], out.mean((0, 1)) if a.fill == "mean" else 0
            out = out.copy()
            for row in range(size):
                for column in range(size):
                    if top <= (row + 0.5) / size < top + h and left <= (column + 0.5) / size < left + w:
                        out[row, column] = fill
    return out


@pytest.mark.parametrize("canvas, size, channels", [(16, 40, 1), (64, 20, 3)])
@pytest.mark.parametrize(
    "augmentations",
    [
        (Rotate(180, p=1),),
        (Crop(), Zoom(3), Rotate(40, p=1)),
        (Rotate(10), Lighting(0.3, 0.8, p=1), Lighting(0.1, 0.3, p=1)),
        ALL,
    ],
    ids=lambda value: "+".join(type(a).__name__ for a in value),
)
def test_kernel_agrees_with_float64(augmentations, canvas, size, channels):
    images = photos(12, canvas, channels)
    got = augment(images, seeds(12), KEY, augmentations=augmentations, size=size)
    assert got.shape == (12, size, size, channels)
    assert got.dtype == jnp.float32
    want = np.stack([reference(image, 100 + i, augmentations, size) for i, image in enumerate(images)])
    np.testing.assert_allclose(got, want, atol=5e-5)


# ---- geometry ----


@settings(max_examples=50, deadline=None)
@given(u=st.lists(unit, min_size=4, max_size=4), most=st.floats(1, 5), low=st.floats(0.01, 1), high=st.floats(0.01, 1))
def test_windows_stay_inside(u, most, low, high):
    crop = Crop(area=(min(low, high), max(low, high)))
    for a in (Zoom(most), crop):
        m = a.matrix(np.asarray(u[: a.draws]), 1.0)
        assert np.abs(m[:2, :2]).sum(1).tolist() == m[[0, 1], [0, 1]].tolist()
        assert np.all(np.abs(m[:2, 2]) + m[[0, 1], [0, 1]] <= 1 + 1e-12)
    m = crop.matrix(np.asarray(u), 1.0)
    if max(m[0, 0], m[1, 1]) < 1:
        assert crop.area[0] - 1e-9 <= m[0, 0] * m[1, 1] <= crop.area[1] + 1e-9
        assert 3 / 4 - 1e-9 <= m[0, 0] / m[1, 1] <= 4 / 3 + 1e-9


@pytest.mark.parametrize("canvas, size", [(12, 12), (28, 96)])
def test_zero_strength_is_the_plain_view(canvas, size):
    images = jnp.asarray(photos(4, canvas, 3))
    plain = resize(images, size=size)
    nothing = (Rotate(0, p=1), Zoom(1, p=1), Crop(area=(1, 1), aspect=(1, 1)), Lighting(0, 0, p=1), Erase(share=(0, 0), p=1))
    np.testing.assert_allclose(augment(images, seeds(4), KEY, augmentations=nothing, size=size), plain, atol=2e-6)
    if canvas == size:
        np.testing.assert_allclose(
            augment(images, seeds(4), KEY, augmentations=tuple(type(a)(p=0) for a in ALL), size=size), plain, atol=2e-6
        )
    np.testing.assert_allclose(augment(images, seeds(4), KEY, augmentations=(), size=size), plain, atol=2e-7)


@pytest.mark.parametrize("a", EVERY, ids=repr)
def test_nothing_changes_at_zero_strength(a):
    u, image = np.linspace(0.05, 0.95, a.draws), photos(1, 9, 3)[0] / 255
    if not a.graded:
        assert not a.applies(0.0, 0.0)
        return
    assert a.applies(0.0, 0.0) or a.p == 0
    if a.does("matrix"):
        np.testing.assert_allclose(a.matrix(u, 0.0), np.eye(3), atol=1e-12)
    if a.does("colour"):
        np.testing.assert_allclose(np.column_stack(a.colour(u, 0.0, image.mean((0, 1)))), np.eye(3, 4), atol=1e-12)
    if a.does("curve"):
        np.testing.assert_allclose(a.curve(u, 0.0, np.ones((256, 3), np.int32)), np.tile(np.arange(256) / 255, (3, 1)).T, atol=1e-12)
    if a.does("pixels"):
        np.testing.assert_allclose(a.pixels(u, 0.0, image), image, atol=1e-12)


@pytest.mark.parametrize("several", [GEOMETRY, (*COLOURS, *CURVES), PIXELS, POLICIES], ids=["geometry", "colours", "pixels", "policies"])
def test_strength_is_traced(several):
    """One program for every strength; at 0 the plain view, but for the resampling that geometry takes; in range and finite throughout."""
    images = jnp.asarray(photos(4, 19, 3))
    with compilations() as programs:
        zero, half, one = (
            np.asarray(augment(images, seeds(4), KEY, augmentations=several, size=17, strength=s)) for s in strengths(0, 0.5, 1)
        )
    assert sum("augment" in message for message in programs) == 1
    moved = any(part.does("matrix") for a in several for part in a.parts)
    plain = augment(images, seeds(4), KEY, augmentations=(STILL,), size=17) if moved else resize(images, size=17)
    if several is not POLICIES:  # the branches of AugMix are several resamplings
        np.testing.assert_allclose(zero, plain, atol=5e-6)
    for got in (half, one):
        assert got.shape == (4, 17, 17, 3) and got.dtype == np.float32 and got.min() >= 0 and got.max() <= 1 + 1e-6
        assert sum(np.abs(x - y).max() > 0.02 for x, y in zip(got, zero, strict=True)) >= 2


def strengths(*values: float) -> list[jax.Array]:
    return [jnp.float32(value) for value in values]


def test_each_augmentation_can_have_its_own_strength():
    images, s, several = jnp.asarray(photos(4, 12, 3)), seeds(4), (Flip(p=1), Lighting(0.2, 0.4, p=1))
    got = augment(images, s, KEY, augmentations=several, size=12, strength=jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose(got, augment(images, s, KEY, augmentations=several[:1], size=12), atol=2e-6)


# ---- what an image depends on ----


def test_an_example_depends_on_its_seed_alone():
    images, s = jnp.asarray(photos(6, 20, 3)), seeds(6)
    batch = augment(images, s, KEY, augmentations=ALL, size=24)
    np.testing.assert_array_equal(augment(images, s, KEY, augmentations=ALL, size=24), batch)
    np.testing.assert_allclose(augment(images[::-1], s[::-1], KEY, augmentations=ALL, size=24)[::-1], batch, atol=1e-6)
    np.testing.assert_allclose(augment(images[2:3], s[2:3], KEY, augmentations=ALL, size=24), batch[2:3], atol=1e-6)
    same = augment(jnp.repeat(images[:1], 6, 0), s, KEY, augmentations=ALL, size=24)
    assert len({np.asarray(x).tobytes() for x in same}) == 6
    other = augment(images, s, jax.random.key(8), augmentations=ALL, size=24)
    assert all(float(jnp.abs(x - y).max()) > 0.01 for x, y in zip(batch, other, strict=True))


@pytest.mark.parametrize("a", [OneOf((Rotate(25, p=1), Posterize(p=1), Blur(p=1))), *POLICIES[1:]], ids=lambda a: type(a).__name__)
def test_choices_depend_on_the_seed_alone(a):
    images, s = jnp.asarray(photos(5, 12, 3)), seeds(5)
    batch = augment(images, s, KEY, augmentations=(a, Flip()), size=12)
    np.testing.assert_allclose(augment(images[3:], s[3:], KEY, augmentations=(a, Flip()), size=12), batch[3:], atol=2e-6)


def test_one_of_does_one_thing():
    images, n = photos(1, 12, 3), 300
    choices = Flip(p=1), (Invert(p=1), Flip(p=1)), Posterize(p=1, least=4)
    got = augment(jnp.asarray(np.repeat(images, n, 0)), jnp.arange(n, dtype=jnp.uint32), KEY, augmentations=(OneOf(choices),), size=12)
    plain = images[0] / 255
    want = [plain[:, ::-1], 1 - plain[:, ::-1], images[0] // 16 * 16 / 255]
    counts = [sum(np.abs(x - w).max() < 1e-5 for x in np.asarray(got)) for w in want]
    assert sum(counts) == n and min(counts) > n / 5


def test_augmix_is_a_mean_of_its_branches():
    images = jnp.asarray(photos(6, 12, 3))
    (inverting,) = aug_mix(width=2, depth=1)
    inverting = replace(inverting, choices=(Invert(p=1),))
    got = augment(images, seeds(6), KEY, augmentations=(inverting,), size=12)
    u = [np.asarray(jax.random.uniform(jax.random.fold_in(KEY, 100 + i), (1 + inverting.draws,))) for i in range(6)]
    # Every chain is the negative, so the mixture is (1 - m)·x + m·(1 - x).
    want = np.stack([(1 - v[1]) * x + v[1] * (1 - x) for v, x in zip(u, np.asarray(images) / 255, strict=True)])
    np.testing.assert_allclose(got, want, atol=2e-6)
    weights = inverting.weights(np.linspace(0.1, 0.9, inverting.draws), 1.0)
    assert weights.shape == (3,) and weights.sum() == pytest.approx(1) and weights.min() > 0


def test_policies_hold_what_they_say():
    assert len(rand_augment(3)) == 3 and len(rand_augment()[0].choices) == 14
    assert Rotate(9, 1, 9) in rand_augment(2, 9)[0].choices
    assert len(auto_augment()[0].choices) == 25 and all(len(choice) == 2 for choice in auto_augment()[0].choices)
    assert from_json(to_json((*rand_augment(), *trivial_augment(), *auto_augment(), *aug_mix()))) == (
        *rand_augment(),
        *trivial_augment(),
        *auto_augment(),
        *aug_mix(),
    )
    for make in (lambda: rand_augment(0), lambda: rand_augment(2, 31), lambda: aug_mix(11), lambda: OneOf(())):
        with pytest.raises(InputError):
            make()
    with pytest.raises(InputError, match="not choices themselves"):
        OneOf((OneOf((Flip(),)),))


def test_compiled_eager_and_mapped_agree():
    images, s, keys, several = jnp.asarray(photos(3, 12, 3)), seeds(3), jax.random.split(KEY, 2), (Flip(), Lighting())
    compiled = jnp.stack([augment(images, s, key, augmentations=several, size=16) for key in keys])
    eager = kernel.augment(images, s, keys[0], several, 16)
    mapped = jax.jit(jax.vmap(lambda key: kernel.augment(images, s, key, several, 16)))(keys)
    np.testing.assert_allclose(eager, compiled[0], atol=2e-6)
    np.testing.assert_allclose(mapped, compiled, atol=2e-6)


def test_appending_leaves_earlier_draws():
    images, s = jnp.asarray(photos(8, 12, 1)), seeds(8)
    short = augment(images, s, KEY, augmentations=(Rotate(30), Flip()), size=16)
    longer = augment(images, s, KEY, augmentations=(Rotate(30), Flip(), Lighting(p=0), Erase(p=0)), size=16)
    np.testing.assert_allclose(longer, short, atol=1e-6)


@pytest.mark.parametrize("several", [ALL, (Flip(),), ()], ids=["all", "flip", "plain"])
def test_a_batch_over_devices_stays_there(several):
    split = jax.NamedSharding(jax.sharding.Mesh(np.array(jax.devices()), ("batch",)), jax.P("batch"))
    images, s = jnp.asarray(photos(8, 32, 3)), seeds(8)
    arguments = jax.device_put(images, split), jax.device_put(s, split)

    def local(images: jax.Array, s: jax.Array) -> jax.Array:
        return kernel.augment(images, s, KEY, several, 12)

    compiled = jax.jit(local, out_shardings=split).lower(*arguments).compile()
    text = compiled.as_text() or ""
    assert not [word for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute") if word in text]
    np.testing.assert_allclose(compiled(*arguments), augment(images, s, KEY, augmentations=several, size=12), atol=2e-6)


def test_values_stay_in_range_and_extremes_are_clipped():
    images = jnp.asarray(np.random.default_rng(0).choice(np.uint8([0, 255]), (32, 10, 10, 3)))
    got = augment(images, seeds(32), KEY, augmentations=(*ALL, Lighting(1, 5, p=1)), size=14)
    assert float(got.min()) >= 0
    assert float(got.max()) <= 1
    assert np.isfinite(got).all()


@pytest.mark.parametrize("p", [0, 0.3, 1])
def test_probability_is_the_share_of_examples(p):
    n = 4000
    images = jnp.tile(jnp.asarray([[0, 255], [0, 255]], jnp.uint8)[None, :, :, None], (n, 1, 1, 1))
    got = augment(images, jnp.arange(n, dtype=jnp.uint32), KEY, augmentations=(Flip(p=p),), size=2)
    assert abs(float(got[:, 0, 0, 0].mean()) - p) <= 5 * math.sqrt(p * (1 - p) / n)


# ---- colour and pixels ----


@dataclass(frozen=True)
class Grey(Augmentation):
    """A colour map that mixes channels and shifts them unevenly."""

    p: float = 1.0

    def colour(self, u, s, mean):
        xp = u.__array_namespace__()
        return xp.full((3, 3), 1 / 3, dtype=mean.dtype), -0.1 * mean


def test_channel_mixing_carries_the_mean_along():
    image = photos(1, 16, 3)
    got = augment(image, seeds(1), KEY, augmentations=(Lighting(0.01, 0.1, p=1), Grey(), Lighting(0.02, 0.2, p=1)), size=16)[0]
    u = np.asarray(jax.random.uniform(jax.random.fold_in(KEY, 100), (7,)), np.float64)

    def light(x: np.ndarray, brightness: float, contrast: float, u: np.ndarray) -> np.ndarray:
        b, c = brightness * (2 * u[0] - 1), contrast * (2 * u[1] - 1)
        return (x - x.mean()) * (1 + c if c >= 0 else 1 / (1 - c)) + x.mean() + b

    want = light(image[0] / 255, 0.01, 0.1, u[1:3])
    want = want.mean(-1, keepdims=True) - 0.1 * want.mean((0, 1))
    want = light(want, 0.02, 0.2, u[5:7]).clip(0, 1)
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_erase_covers_the_share_it_was_asked_to():
    images = jnp.full((64, 40, 40, 1), 255, jnp.uint8)
    got = augment(images, seeds(64), KEY, augmentations=(Erase(share=(0.1, 0.1), fill="zero", p=1),), size=40)
    shares = np.asarray((got == 0).mean((1, 2, 3)))
    np.testing.assert_allclose(shares, 0.1, atol=0.03)
    assert float(augment(images, seeds(64), KEY, augmentations=(Erase(p=1),), size=40).min()) == pytest.approx(1, abs=1e-6)


# ---- descriptions ----


@pytest.mark.parametrize(
    "make, field",
    [
        (lambda: Flip(p=1.5), "Flip.p"),
        (lambda: Dihedral(p=-0.1), "Dihedral.p"),
        (lambda: Rotate(degrees=-1), "Rotate.degrees"),
        (lambda: Rotate(degrees=math.nan), "Rotate.degrees"),
        (lambda: Zoom(most=0.9), "Zoom.most"),
        (lambda: Zoom(most=math.inf), "Zoom.most"),
        (lambda: side_on(zoom=0.5), "Zoom.most"),
        (lambda: Crop(area=(0, 1)), "Crop.area"),
        (lambda: Crop(area=(0.5, 0.4)), "Crop.area"),
        (lambda: Crop(aspect=(2, 1)), "Crop.aspect"),
        (lambda: Lighting(brightness=2), "Lighting.brightness"),
        (lambda: Lighting(contrast=-0.1), "Lighting.contrast"),
        (lambda: Erase(share=(0.1,)), "Erase.share"),  # type: ignore[arg-type]
        (lambda: Erase(aspect=(0, 1)), "Erase.aspect"),
        (lambda: Erase(fill="red"), "Erase.fill"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(InputError, match=field.replace(".", r"\.")):
        make()


def test_an_augmentation_does_one_thing():
    @dataclass(frozen=True)
    class Nothing(Augmentation):
        p: float = 1.0

    with pytest.raises(InputError, match="Nothing"):
        kernel.augment(jnp.zeros((1, 4, 4, 1), jnp.uint8), seeds(1), KEY, (Nothing(),), 4)


def test_presets():
    assert side_on(1.2) == (Rotate(10), Zoom(1.2), Flip(), Lighting(0.05, 0.05, p=1))
    assert top_down(1) == (Rotate(10), Dihedral(), Lighting(0.05, 0.05, p=1))
    assert from_json(to_json((*ALL, *EVERY))) == (*ALL, *EVERY)


def test_descriptions_need_no_jax():
    code = "import sys, sgdr_jax.augment; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
