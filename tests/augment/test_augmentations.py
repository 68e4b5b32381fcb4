"""Every augmentation against a reference: torchvision and Pillow (golden/augment.npz), SciPy, scikit-image, or its formula in NumPy."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate, ndimage
from skimage.color import rgb2yiq, yiq2rgb

from sgdr_jax.augment import (
    Autocontrast,
    Blur,
    Border,
    Brightness,
    Contrast,
    Crop,
    Cutout,
    Elastic,
    Equalize,
    Flip,
    Gamma,
    Grey,
    GridMask,
    Hue,
    Invert,
    Noise,
    Posterize,
    Rotate,
    Saturation,
    Sharpen,
    Shear,
    Solarize,
    Stretch,
    Translate,
    Warp,
    Zoom,
)
from sgdr_jax.core.errors import InputError

from .augmentations import COLOURS, CURVES, EVERY, GEOMETRY, augment, photos, resample, resize, symmetry

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "augment.npz"))
IMAGE = GOLDEN["image"]
X = IMAGE / 255
DOWN, UP = np.array([0.0]), np.array([1 - 2.0**-53])
unit = st.floats(0, 1, exclude_max=True, width=32)


def counts(image: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(image[..., k].ravel(), minlength=256) for k in range(image.shape[2])], 1).astype(np.int32)


def apply(a, u, image=IMAGE):
    """One augmentation with these draws on a uint8 image, in float64."""
    x = image / 255
    if a.does("colour"):
        matrix, shift = a.colour(u, 1.0, x.mean((0, 1)))
        return np.clip(x @ matrix.T + shift, 0, 1)
    if a.does("curve"):
        return np.take_along_axis(a.curve(u, 1.0, counts(image)), image.reshape(-1, image.shape[2]).astype(int), 0).reshape(image.shape)
    return a.pixels(u, 1.0, x)


# ---- geometry ----


def inside(matrix: np.ndarray, size: int = 33) -> np.ndarray:
    """Where the output sees no border."""
    white = jnp.full((1, 33, 33, 1), 255, jnp.uint8)
    return np.asarray(resample(white, jnp.asarray(matrix[None], jnp.float32), size=size, border=Border("constant")))[0, ..., 0] > 0.999


@pytest.mark.parametrize(
    "name, a, u",
    [
        ("rotate", Rotate(25, least=25), DOWN),
        ("shear_x", Shear(0.3, least=0.3), UP),
        ("translate_x", Translate(6 / 33, least=6 / 33), DOWN),
        ("perspective", Warp(0.4), None),
    ],
)
def test_geometry_is_torchvisions(name, a, u):
    if name == "perspective":
        # The corners in reading order; torchvision names them around the square.
        quad = np.array([[3, 1], [30, 2], [2, 31], [31, 29]]) - np.array([[0, 0], [32, 0], [0, 32], [32, 32]])
        u = (quad.ravel() * 2 / 32 / 0.4 + 1) / 2
    matrix = a.matrix(u, 1.0)
    if name == "perspective":  # the points 0 and 32 that torchvision was given, in a frame from 0 to 33
        frame = np.array([[32 / 33, 0, -1 / 33], [0, 32 / 33, -1 / 33], [0, 0, 1]])
        matrix = frame @ matrix @ np.linalg.inv(frame)
    got = resample(IMAGE[None], jnp.asarray(matrix[None], jnp.float32), size=33)[0]
    seen = inside(matrix)
    assert seen.mean() > 0.5
    np.testing.assert_allclose(np.asarray(got)[seen], GOLDEN[name][seen], atol=2e-3)


def test_crop_is_torchvisions():
    # Rows 4…24 and columns 7…23 of 33, enlarged; torchvision repeats the window's edge where the whole image has more to show.
    w, h = 16 / 33, 20 / 33
    u = np.array([0.5, 0.5, 7 / 33 / (1 - w), 4 / 33 / (1 - h)])
    a = Crop((w * h, w * h), (w / h, w / h))
    got = np.asarray(resample(IMAGE[None], jnp.asarray(a.matrix(u, 1.0)[None], jnp.float32), size=33, scales=(0.5, 0.5))[0])
    np.testing.assert_allclose(got[1:-1, 2:-2], GOLDEN["crop"][1:-1, 2:-2], atol=2e-3)


def test_shrinking_is_torchvisions_antialiased_one():
    np.testing.assert_allclose(resize(IMAGE[None], size=13)[0], GOLDEN["shrink"], atol=2e-3)


@pytest.mark.parametrize("u", [0.0, 0.3, 0.999])
def test_zooms_and_stretches_show_the_window_that_they_name(u):
    r = 1.5 ** (0.5 * (2 * u - 1))
    np.testing.assert_allclose(Stretch(1.5).matrix(np.array([u]), 1.0), np.diag([r, 1 / r, 1]), atol=1e-12)
    m = Zoom(2).matrix(np.array([u, 0.25, 1.0]), 1.0)
    z = 1 + u
    np.testing.assert_allclose(m, [[1 / z, 0, -0.5 * (1 - 1 / z)], [0, 1 / z, 1 - 1 / z], [0, 0, 1]], atol=1e-12)
    y = Translate(0.25, "y").matrix(np.array([u]), 1.0)
    np.testing.assert_allclose(y, [[1, 0, 0], [0, 1, 0.5 * (2 * u - 1)], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(Shear(0.3, "y").matrix(np.array([u]), 1.0), [[1, 0, 0], [0.3 * (2 * u - 1), 1, 0], [0, 0, 1]], atol=1e-12)


@given(u=st.lists(unit, min_size=8, max_size=8))
def test_warped_corners_fall_where_they_were_drawn(u):
    m = Warp(0.3).matrix(np.asarray(u), 1.0)
    corners = np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    seen = corners @ m.T
    np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], corners[:, :2] + 0.3 * (2 * np.reshape(u, (4, 2)) - 1), atol=1e-9)


def test_composed_geometry_is_one_after_the_other():
    """One resampling against three in float64, on a smooth picture: within 1e-3 in the mean."""
    image = ndimage.zoom(photos(1, 8, 1, noise=0)[0, ..., 0].astype(float), 8, order=3).clip(0, 255).round().astype(np.uint8)
    several = [Rotate(20, least=20), Shear(0.2, least=0.2), Crop((0.3, 0.3), (1, 1))]
    matrices = [several[0].matrix(UP, 1.0), several[1].matrix(UP, 1.0), several[2].matrix(np.full(4, 0.5), 1.0)]
    x, y = np.meshgrid(*2 * [(np.arange(64) + 0.5) / 32 - 1])
    want = image.astype(float)
    for m in matrices:
        columns, rows, _ = np.einsum("ij,jyx->iyx", m, np.stack([x, y, np.ones_like(x)]))
        want = ndimage.map_coordinates(want, [(rows + 1) * 32 - 0.5, (columns + 1) * 32 - 0.5], order=1, mode="reflect")
    total = matrices[0] @ matrices[1] @ matrices[2]
    got = resample(image[None, ..., None], jnp.asarray(total[None], jnp.float32), size=64, scales=(0.6, 0.6))[0, ..., 0]
    assert np.abs(np.asarray(got) - want / 255).mean() < 1e-3


# ---- colour and curves ----


@pytest.mark.parametrize(
    "name, a, u, tolerance",
    [
        ("brightness", Brightness(0.3, least=0.3), UP, 0.6),
        ("contrast", Contrast(0.4, least=0.4), DOWN, 1.1),  # Pillow rounds the mean grey
        ("saturation", Saturation(0.7, least=0.7), UP, 1.1),  # … and the grey of each pixel
        ("grey", Grey(), None, 0.51),
        ("posterize", Posterize(3, least=3), UP, 0.01),
        ("solarize", Solarize(0.5, least=0.5), UP, 0.01),
        ("equalize", Equalize(), None, 0.01),
        ("sharper", Sharpen(0.8, least=0.8), UP, 1.5),  # Pillow rounds the smoothed image, and the edges that it leaves alone
        ("softer", Sharpen(0.8, least=0.8), DOWN, 1.5),
    ],
)
def test_colour_is_pillows(name, a, u, tolerance):
    """The tolerance is in 8-bit levels; Pillow cuts fractions off where this keeps them."""
    got, want = apply(a, np.zeros(0) if u is None else u), GOLDEN[name]
    assert np.abs(got * 255 - want).max() <= tolerance + 0.5
    assert np.abs(X * 255 - want).max() > 5


def test_autocontrast_is_pillows():
    np.testing.assert_allclose(apply(Autocontrast(), np.zeros(0), 40 + IMAGE // 2) * 255, GOLDEN["autocontrast"], atol=1)


def test_gamma_and_invert_are_torchvisions():
    u = np.array([(1 + np.log(0.7) / np.log(2)) / 2])
    np.testing.assert_allclose(apply(Gamma(2), u), GOLDEN["gamma"], atol=1e-3)
    np.testing.assert_allclose(apply(Invert(), np.zeros(0)), GOLDEN["invert"], atol=1e-3)


def test_hue_turns_i_and_q():
    angle = np.deg2rad(50)
    y, i, q = np.moveaxis(rgb2yiq(X), -1, 0)
    turned = np.stack([y, np.cos(angle) * i - np.sin(angle) * q, np.sin(angle) * i + np.cos(angle) * q], -1)
    np.testing.assert_allclose(apply(Hue(50), UP), np.clip(yiq2rgb(turned), 0, 1), atol=2e-3)


@pytest.mark.parametrize("a", [Equalize(), Autocontrast()])
def test_images_of_one_level_stay(a):
    flat = np.full((5, 5, 3), 77, np.uint8)
    np.testing.assert_allclose(apply(a, np.zeros(0), flat), flat / 255)


def test_grey_images_have_no_colours_to_lose():
    grey = IMAGE[..., :1]
    for a in (Saturation(least=0.2), Hue(), Grey()):
        np.testing.assert_allclose(apply(a, UP, grey), grey / 255, atol=1e-12)


def test_posterize_draws_every_number_of_bits_evenly():
    a = Posterize(3, least=1)
    lost = [256 // len(np.unique(a.curve(np.array([v]), 1.0, counts(IMAGE))[:, 0])) for v in np.linspace(0, 1, 300, endpoint=False)]
    assert [lost.count(2**k) for k in range(4)] == [0, 100, 100, 100]


# ---- pixels ----


@pytest.mark.parametrize("u", [0.0, 0.4, 0.999])
def test_blur_is_scipys(u):
    want = ndimage.gaussian_filter(X, (2 * u, 2 * u, 0), mode="reflect", truncate=6)
    np.testing.assert_allclose(Blur(2).pixels(np.array([u]), 1.0, X), want, atol=2e-4)


def test_noise_is_normal_white_and_reproducible():
    grey = np.full((200, 200, 3), 0.5)
    a = Noise(0.1, least=0.1)
    one, two = ((a.pixels(np.array([0.5, u]), 1.0, grey) - 0.5) / 0.1 for u in (0.25, 0.25 + 2**-20))
    for z in (one, two):
        assert abs(z.mean()) < 0.015 and abs(z.std() - 1) < 0.01 and abs((z**3).mean()) < 0.04 and abs((z**4).mean() - 3) < 0.1
        for shifted in (z[1:] * z[:-1], z[:, 1:] * z[:, :-1], z[..., 1:] * z[..., :-1]):
            assert abs(shifted.mean()) < 0.015
    assert abs((one * two).mean()) < 0.015
    np.testing.assert_array_equal(one, (a.pixels(np.array([0.5, 0.25]), 1.0, grey) - 0.5) / 0.1)


def test_cutout_and_grid_cover_what_they_name():
    white = np.ones((80, 80, 1))
    corner = Cutout(0.5, fill="zero").pixels(np.array([0.0, 0.0]), 1.0, white)
    assert corner[:20, :20].max() == 0 and corner.sum() == 80 * 80 - 20 * 20
    grid = GridMask((0.25, 0.25), 0.4).pixels(np.array([0.0, 0.0, 0.0]), 1.0, white)
    assert (grid[:8, :8] == 0).all() and (grid[8:20] == 1).all() and (grid[:, 8:20] == 1).all()
    np.testing.assert_array_equal(grid[20:40], grid[:20])


# ---- descriptions ----


@pytest.mark.parametrize("a", EVERY, ids=repr)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_descriptions_compute_alike_in_numpy_and_jax(a, data):
    u = np.asarray(data.draw(st.lists(unit, min_size=a.draws, max_size=a.draws)), np.float32)
    name = next(name for name in ("matrix", "bend", "colour", "curve", "pixels") if a.does(name))
    small = photos(1, 8, 3)[0]
    more = {"matrix": (), "bend": (), "colour": (np.array([0.2, 0.5, 0.9]),), "curve": (counts(small),), "pixels": (small / 255,)}[name]
    double = getattr(a, name)(u.astype(np.float64), 0.75, *more)
    narrow = [jnp.asarray(x, jnp.int32 if x.dtype == np.int32 else jnp.float32) for x in more]
    single = jax.tree.map(np.asarray, getattr(a, name)(jnp.asarray(u), 0.75, *narrow))
    # A rectangle's edge may fall onto a pixel's centre, a threshold onto a level.
    differ = jax.tree.map(lambda x, y: np.mean(np.abs(x - y) > 2e-5), double, single)
    assert max(jax.tree.leaves(differ)) <= (0.25 if name in ("pixels", "curve") else 0)


@pytest.mark.parametrize("a", [*GEOMETRY, *COLOURS, *CURVES], ids=repr)
def test_results_have_the_precision_of_the_draws(a):
    name = next(name for name in ("matrix", "colour", "curve") if a.does(name))
    more = {"matrix": (), "colour": (jnp.ones(3),), "curve": (jnp.ones((256, 3), jnp.int32),)}[name]
    assert {x.dtype for x in jax.tree.leaves(getattr(a, name)(jnp.full(a.draws, 0.5), jnp.float32(1), *more))} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "make, field",
    [
        (lambda: Shear(3), "Shear.amount"),
        (lambda: Shear(axis="z"), "Shear.axis"),  # type: ignore[arg-type]
        (lambda: Rotate(5, least=6), "Rotate.least"),
        (lambda: Stretch(0.5), "Stretch.most"),
        (lambda: Translate(2), "Translate.share"),
        (lambda: Translate(axis="z"), "Translate.axis"),  # type: ignore[arg-type]
        (lambda: Warp(0.5), "Warp.amount"),
        (lambda: Elastic(0.3), "Elastic.amount"),
        (lambda: Elastic(cells=0), "Elastic.cells"),
        (lambda: Border("wrap"), "Border.mode"),  # type: ignore[arg-type]
        (lambda: Border(value=2), "Border.value"),
        (lambda: Brightness(2), "Brightness.amount"),
        (lambda: Contrast(-1), "Contrast.amount"),
        (lambda: Saturation(p=2), "Saturation.p"),
        (lambda: Hue(200), "Hue.degrees"),
        (lambda: Grey(2), "Grey.p"),
        (lambda: Invert(-1), "Invert.p"),
        (lambda: Gamma(0.5), "Gamma.most"),
        (lambda: Posterize(9), "Posterize.lost"),
        (lambda: Solarize(1.5), "Solarize.share"),
        (lambda: Equalize(2), "Equalize.p"),
        (lambda: Autocontrast(2), "Autocontrast.p"),
        (lambda: Blur(-1), "Blur.sigma"),
        (lambda: Sharpen(2), "Sharpen.amount"),
        (lambda: Noise(2), "Noise.sigma"),
        (lambda: Cutout(3), "Cutout.side"),
        (lambda: Cutout(fill="red"), "Cutout.fill"),  # type: ignore[arg-type]
        (lambda: GridMask((0, 1)), "GridMask.period"),
        (lambda: GridMask(ratio=2), "GridMask.ratio"),
        (lambda: GridMask(fill="red"), "GridMask.fill"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(InputError, match=field.replace(".", r"\.")):
        make()


def test_flip_is_exact_on_odd_sizes():
    np.testing.assert_array_equal(
        symmetry(jnp.asarray(X[None], jnp.float32), jnp.asarray(Flip().matrix(np.zeros(0), 1.0)[None]))[0], np.float32(X[:, ::-1])
    )


@pytest.mark.parametrize("cells", [1, 4])
def test_elastic_is_a_spline_sampled_by_scipy(cells):
    a = Elastic(0.7 / cells, cells, p=1)
    size, canvas, seed = 37, 50, jnp.uint32([5])
    images, key = photos(1, canvas, 3, noise=0), jax.random.key(3)
    u = np.float64(jax.random.uniform(jax.random.fold_in(key, seed[0]), (1 + a.draws,)))[1:]
    points, knots = a.bend(u, 1.0), np.arange(-3, cells + 4) * 2 / cells - 1
    centres = (2 * np.arange(size) + 1) / size - 1
    basis = interpolate.BSpline.design_matrix(centres, knots, 3).toarray()
    dx, dy = np.einsum("yi,xj,ijk->kyx", basis, basis, points)
    assert max(abs(dx).max(), abs(dy).max()) <= a.amount
    assert (np.diff(centres + dx, axis=1) > 0).all() and (np.diff(centres[:, None] + dy, axis=0) > 0).all()  # nothing folds
    at = [(v + 1) * canvas / 2 - 0.5 for v in (centres[:, None] + dy, centres + dx)]
    expected = np.stack([ndimage.map_coordinates(images[0, ..., k] / 255, at, order=1, mode="reflect") for k in range(3)], -1)
    np.testing.assert_allclose(augment(images, seed, key, augmentations=(a,), size=size)[0], expected, atol=2e-5)


def test_elastic_bends_the_view_of_other_geometry():
    images, key, seed = photos(1, 40, 3, noise=0), jax.random.key(3), jnp.uint32([5])
    a = Elastic(p=1)
    bent = augment(images, seed, key, augmentations=(a, Flip(p=1)), size=40)
    plain = augment(images[:, :, ::-1], seed, key, augmentations=(a,), size=40)
    np.testing.assert_allclose(bent, plain, atol=1e-5)
