"""Pixels under maps of coordinates: the resampling, the plain resize and the symmetries, against SciPy and jax.image."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sgdr_jax.augment import Border, Brightness, Crop, Dihedral, Flip, Rotate, Shear, Translate, Zoom, gather_free, kernel, resampling

from .augmentations import GEOMETRY, KEY, augment, photos, resample, resize, seeds, symmetry

# ---- the one resampling ----


@settings(max_examples=25, deadline=None)
@given(
    entries=st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4),
    offset=st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=2),
)
def test_any_affine_map_is_mirrored_at_the_borders(entries, offset):
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = np.reshape(entries, (2, 2)), offset
    image = photos(1, 8, 1)
    got = resample(image, jnp.asarray(matrix[None], jnp.float32), size=8)
    grid = (np.arange(8) + 0.5) / 4 - 1
    x, y = np.meshgrid(grid, grid)
    columns, rows, _ = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
    want = (
        ndimage.map_coordinates(image[0, ..., 0].astype(float), [(rows + 1) * 4 - 0.5, (columns + 1) * 4 - 0.5], order=1, mode="reflect")
        / 255
    )
    np.testing.assert_allclose(got[0, ..., 0], want, atol=1e-4)


def test_projective_maps_divide():
    matrix = np.array([[1, 0.1, 0.05], [0, 0.9, 0], [0.2, -0.1, 1.1]])
    image = photos(1, 16, 1)
    got = resample(image, jnp.asarray(matrix[None], jnp.float32), size=16)
    x, y = np.meshgrid(*2 * [(np.arange(16) + 0.5) / 8 - 1])
    a, b, c = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
    want = (
        ndimage.map_coordinates(image[0, ..., 0].astype(float), [(b / c + 1) * 8 - 0.5, (a / c + 1) * 8 - 0.5], order=1, mode="reflect")
        / 255
    )
    np.testing.assert_allclose(got[0, ..., 0], want, atol=1e-5)


def test_degenerate_maps_read_nothing_outside():
    matrices = jnp.stack([jnp.zeros((3, 3)), jnp.full((3, 3), jnp.inf), jnp.full((3, 3), 1e30), jnp.full((3, 3), jnp.nan)])
    for scales in (1.0, 1.0), (0.5, 4.0):
        got = np.asarray(resample(photos(4, 8, 3), matrices, size=8, scales=scales))
        assert np.all(np.isnan(got) | ((got >= 0) & (got <= 1)))


def test_flip_and_dihedral_move_pixels_exactly():
    images = jnp.asarray(photos(8, 24, 3))
    plain = np.asarray(resize(images, size=16))
    np.testing.assert_allclose(augment(images, seeds(8), KEY, augmentations=(Flip(p=1),), size=16), plain[:, :, ::-1], atol=2e-7)
    np.testing.assert_allclose(augment(images, seeds(8), KEY, augmentations=(Flip(p=1), Flip(p=1)), size=16), plain, atol=2e-7)
    matrices = jnp.stack([Dihedral().matrix(jnp.asarray([(k + 0.5) / 8]), 1.0) for k in range(8)])
    got = np.asarray(symmetry(plain, matrices))
    for k in range(8):
        want = plain[k]
        want = want[:, ::-1] if k & 1 else want
        want = want[::-1] if k & 2 else want
        # With the axes swapped, the output's (x, y) is read at the mirrored (y, x).
        want = want.swapaxes(0, 1) if k & 4 else want
        np.testing.assert_array_equal(got[k], want)
    np.testing.assert_allclose(resample(images, matrices, size=24), symmetry(resize(images, size=24), matrices), atol=1e-6)


def test_dihedral_is_a_group_that_composes_as_images_do():
    group = [Dihedral().matrix(np.array([(k + 0.5) / 8]), 1.0) for k in range(8)]
    assert len({m.tobytes() for m in group}) == 8
    image = jnp.asarray(photos(1, 6, 1) / 255, jnp.float32)

    def seen(x: jax.Array, m: np.ndarray) -> np.ndarray:
        return np.asarray(symmetry(x, jnp.asarray(m[None], jnp.float32)))

    for first in group:
        for second in group:
            product = first @ second + 0.0
            assert any(np.array_equal(product, m) for m in group)
            np.testing.assert_array_equal(seen(jnp.asarray(seen(image, first)), second), seen(image, product))


@pytest.mark.parametrize("canvas", [64, 61])
def test_shrinking_does_not_alias(canvas):
    board = np.indices((canvas, canvas)).sum(0) % 2 * 255
    images = jnp.asarray(np.repeat(board[None, ..., None], 8, 0).astype(np.uint8))
    got = augment(images, seeds(8), KEY, augmentations=(Rotate(45, p=1), Zoom(1.2, p=1)), size=16)
    np.testing.assert_allclose(got[:, 1:-1, 1:-1], 0.5, atol=0.05)


@pytest.mark.parametrize("canvas", [64, 61])
def test_levels_of_the_pyramid_stay_in_place(canvas):
    ramp = np.linspace(20, 235, canvas).round().astype(np.uint8)
    images = jnp.asarray(np.broadcast_to(ramp[None, None, :, None], (3, canvas, canvas, 1)))
    matrices = jnp.stack([jnp.diag(jnp.asarray([s, s, 1.0])) for s in (0.2, 0.5, 1.0)])
    got = resample(images, matrices, size=16, scales=(0.2, 1.0))
    for out, s in zip(got, (0.2, 0.5, 1.0), strict=True):
        x = ((np.arange(16) + 0.5) / 8 - 1) * s
        want = np.interp((x + 1) * canvas / 2 - 0.5, np.arange(canvas), ramp) / 255
        np.testing.assert_allclose(out[8, 1:-1, 0], want[1:-1], atol=1.5 / 255)


# ---- borders ----


@pytest.mark.parametrize("mode, scipys", [("reflect", "reflect"), ("edge", "nearest"), ("constant", "constant")])
def test_borders_go_on_as_scipys_do(mode, scipys):
    matrix = np.array([[1.7, 0.4, 0.6], [-0.3, 1.5, -1.1], [0, 0, 1]])
    image = photos(1, 9, 1)
    got = resample(image, jnp.asarray(matrix[None], jnp.float32), size=9, scales=(1.0, 1.0), border=Border(mode, 0.25))
    x, y = np.meshgrid(*2 * [(np.arange(9) + 0.5) / 4.5 - 1])
    columns, rows, _ = np.einsum("ij,jyx->iyx", matrix, np.stack([x, y, np.ones_like(x)]))
    where = [(v + 1) * 4.5 - 0.5 for v in (rows, columns)]
    plane = np.pad(image[0, ..., 0].astype(float), 1, constant_values=255 * 0.25)  # SciPy's constant does not blend into the border
    offset = 1 if mode == "constant" else 0
    plane = plane if offset else image[0, ..., 0].astype(float)
    want = ndimage.map_coordinates(plane, [v + offset for v in where], order=1, mode=scipys, cval=255 * 0.25) / 255
    np.testing.assert_allclose(got[0, ..., 0], want, atol=2e-5)


# ---- without gathers ----

SETS = {
    "crop": (Crop((0.2, 1)), Flip()),
    "turn": (Rotate(30, p=1), Zoom(1.3, p=1)),
    "any turn": (Rotate(180, p=1),),
    "shears": (Shear(p=1), Shear(0.3, "y", p=1), Translate(0.3, p=1), Dihedral()),
    "edge": (Border("edge"), Rotate(25, p=1)),
    "constant": (Border("constant", 0.3), Rotate(25, p=1)),
}


@pytest.mark.parametrize("name", SETS)
def test_matrix_products_and_shifts_do_what_gathers_do(name):
    """On smooth pictures within 0.004 in the mean (0.006 beside the step of a constant): shears interpolate twice, borders are filtered."""
    augmentations, images = SETS[name], jnp.asarray(photos(6, 41, 3, noise=0))
    steps = kernel._draw(seeds(6), KEY, augmentations, 1.0)
    moving = [step for step in steps if step.augmentation.does("matrix")]
    border = next((a for a in augmentations if isinstance(a, Border)), resampling.MIRRORED)
    reach = kernel._reach(moving)
    assert reach is not None
    got = jax.jit(lambda x: gather_free.resample(x, kernel._compose(moving), 33, reach, border))(images)
    want = augment(images, seeds(6), KEY, augmentations=augmentations, size=33)
    assert got.shape == want.shape
    assert float(jnp.abs(got - want).mean()) < (0.006 if name == "constant" else 0.004)
    # The wrong way round nothing fits.
    assert float(jnp.abs(got[:, ::-1] - want).mean()) > 0.02


def test_without_gathers_perspective_is_refused():
    from sgdr_jax.augment import Warp

    assert kernel._reach(kernel._draw(seeds(1), KEY, (Warp(p=1),), 1.0)) is None


# ---- the plain view ----


@pytest.mark.parametrize("canvas, size, channels", [(1, 5, 1), (7, 1, 3), (28, 96, 1), (23, 16, 3), (40, 9, 3)])
@pytest.mark.parametrize("resize", [resize, jax.jit(gather_free.resize, static_argnames="size")], ids=["gathers", "products"])
def test_resize_is_the_antialiased_triangle_filter(resize, canvas, size, channels):
    images = photos(2, canvas, channels)
    got = resize(images, size=size)
    assert got.shape == (2, size, size, channels)
    assert got.dtype == jnp.float32
    want = jax.image.resize(jnp.asarray(images, jnp.float32) / 255, got.shape, "linear", antialias=True)
    np.testing.assert_allclose(got, want, atol=2e-5)


RESIZES = [("bilinear", 0.875), ("bicubic", 1.0), ("bicubic", 0.95), ("bicubic", 0.5)]


@pytest.mark.parametrize("interpolation, crop", RESIZES)
@pytest.mark.parametrize("canvas, size", [(57, 32), (32, 32), (20, 48), (258, 224)])
@pytest.mark.parametrize("made", [resampling.resize, gather_free.resize], ids=["gathers", "products"])
def test_a_cropped_resize_is_pillows(made, canvas, size, interpolation, crop):
    from PIL import Image

    images = photos(2, canvas, 1)
    got = made(jnp.asarray(images), size, resampling.PlainView(interpolation, crop))
    left, filter = canvas * (1 - crop) / 2, Image.Resampling[interpolation.upper()]
    box = (left, left, canvas - left, canvas - left)
    want = [np.asarray(Image.fromarray(image[..., 0].astype(np.float32)).resize((size, size), filter, box)) for image in images]
    np.testing.assert_allclose(got[..., 0], np.clip(np.stack(want), 0, 255) / 255, atol=2e-5)


def test_geometry_is_relative_to_the_crop():
    images, plain = jnp.asarray(photos(4, 40, 3)), resampling.PlainView(crop=0.75)
    whole = kernel.augment(images, seeds(4), KEY, (Rotate(20, p=1),), 24, plain=plain)
    (step,) = kernel._draw(seeds(4), KEY, (Rotate(20, p=1),), 1.0)
    inner = np.diag([0.75, 0.75, 1]) @ np.asarray(step.call("matrix"), np.float64)
    want = kernel.resample(images, jnp.asarray(inner, jnp.float32), 24, (0.75, 0.75))
    np.testing.assert_allclose(whole, want, atol=1e-4)
    for still in ((), (Flip(p=0),), (Brightness(p=0),)):
        np.testing.assert_allclose(
            kernel.augment(images, seeds(4), KEY, still, 24, plain=plain), kernel.resize(images, 24, plain), atol=1e-6
        )


@given(canvas=st.integers(1, 300), size=st.integers(1, 300))
def test_filter_reads_inside_and_keeps_brightness_and_place(canvas, size):
    taps, weights = resampling._filter(canvas, size)
    assert taps.min() >= 0
    assert taps.max() < canvas
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-6)
    # Away from the borders the centre of mass is the pixel's own place, to within the skew of a sampled triangle.
    ratio = max(canvas / size, 1)
    centres = (np.arange(size) + 0.5) * canvas / size - 0.5
    inner = (centres >= ratio) & (centres <= canvas - 1 - ratio)
    np.testing.assert_allclose((taps * weights).sum(0)[inner], centres[inner], atol=0.1)


def test_resize_of_the_canvas_itself_changes_nothing_and_white_stays_white():
    images = photos(2, 9, 3)
    np.testing.assert_allclose(resize(images, size=9), images / 255, atol=1e-7)
    white = jnp.full((1, 13, 13, 1), 255, jnp.uint8)
    for size in (5, 29):
        np.testing.assert_allclose(resize(white, size=size), 1, atol=2e-7)


@pytest.mark.parametrize("a", [*GEOMETRY, Crop((0.5, 1), (0.25, 4)), Crop((0.9, 1), (0.4, 2))], ids=str)
def test_the_bounds_of_the_enlargement_hold_for_all_draws(a):
    """A crop is largest as a square, between its extreme aspects: with too small a bound images alias as they shrink."""
    low, high = kernel._scales(kernel._draw(seeds(1), KEY, (a,), 1.0))
    for u in np.random.default_rng(0).random((500, a.draws)):
        matrix = a.matrix(u, 1.0)
        scale = math.sqrt(abs(np.linalg.det((matrix / matrix[2, 2])[:2, :2])))
        assert low * 0.999 <= scale <= high * 1.001
