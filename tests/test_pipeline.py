"""Decoding of every kind of image file, orders with and without oversampling, and batches that can be entered anywhere."""

import io
import math
import struct
import warnings
import zlib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sgdr_jax import pipeline
from sgdr_jax.datasets import Arrays, ImageFolder
from sgdr_jax.pipeline import decode, eval_batches, expected_counts, load, order, steps_per_epoch, train_batches
from sgdr_jax.types import InputError


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one(data: bytes, side: int = 16, channels: int | None = None) -> np.ndarray:
    images, index, bad = decode([data], side, channels)
    assert (bad, index.tolist()) == ((), [0])
    assert images.dtype == np.uint8
    return images[0]


def reason(data: bytes | str | Path) -> str:
    images, index, bad = decode([data], 16)
    assert (len(images), len(index), len(bad)) == (0, 0, 1)
    assert "\n" not in bad[0][1]
    return bad[0][1]


# ---- decoding ----


def gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=2).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 16), (16, 33), (64, 48), (8, 5)])
def test_shorter_side_is_fitted_and_the_middle_kept(width, height):
    square = one(encoded(gradient(width, height), "PNG")).astype(float)
    short = min(width, height)
    centres = (np.arange(16) + 0.5) * short / 16
    for axis, side in ((0, width), (1, height)):
        got = square[..., axis].mean(axis=axis)
        wanted = 255 * ((side - short) / 2 + centres - 0.5) / side
        np.testing.assert_allclose(got[2:-2], wanted[2:-2].clip(0), atol=4 if short >= 8 else 30)


def test_a_line_of_pixels_is_an_image_too():
    line = Image.fromarray(np.arange(31, dtype=np.uint8)[:, None] * 8)
    assert (np.abs(one(encoded(line, "PNG")).astype(int) - 120) <= 8).all()  # the middle pixel and its neighbours


def test_shrinking_averages_instead_of_skipping():
    checks = Image.fromarray((np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8))
    square = one(encoded(checks, "PNG"))
    assert square.shape == (16, 16, 1)
    np.testing.assert_allclose(square.astype(float), 127.5, atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = gradient(48, 32)
    data = encoded(image, "PNG", exif=exif)
    upright = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG")
    np.testing.assert_allclose(one(data).astype(int), one(upright).astype(int), atol=1)
    if orientation > 1:
        assert np.abs(one(data).astype(int) - one(encoded(image, "PNG"))).max() > 50


def test_large_jpeg_is_decoded_small_without_harm():
    image = gradient(800, 600)
    np.testing.assert_allclose(one(encoded(image, "JPEG", quality=95)).astype(int), one(encoded(image, "PNG")).astype(int), atol=4)


def test_inks_palettes_depths_and_transparency():
    flat = Image.new("RGB", (20, 20), (200, 40, 90))
    cmyk = one(encoded(flat.convert("CMYK"), "JPEG", quality=100))
    np.testing.assert_allclose(cmyk[8, 8].astype(int), (200, 40, 90), atol=6)

    palette = flat.quantize(4)
    for kind in ("PNG", "GIF", "BMP"):
        assert one(encoded(palette, kind))[8, 8].tolist() == [200, 40, 90]

    deep = Image.fromarray(np.full((20, 20), 0x8081, np.uint16))
    assert one(encoded(deep, "PNG")).tolist() == np.full((16, 16, 1), 128).tolist()  # 0x8081 / 257 = 128.005
    assert one(encoded(Image.new("1", (20, 20), 1), "PNG"))[0, 0].tolist() == [255]

    half = Image.new("RGBA", (20, 20), (200, 0, 100, 51))  # a fifth of the colour over white
    for kind in ("PNG", "WEBP"):
        np.testing.assert_allclose(
            one(encoded(half, kind, **({"lossless": True} if kind == "WEBP" else {})))[8, 8].astype(int), (244, 204, 224), atol=1
        )
    assert one(encoded(Image.new("LA", (20, 20), (0, 51)), "PNG"))[8, 8].tolist() == [204]
    assert one(encoded(palette, "PNG", transparency=0))[8, 8].tolist() in ([255, 255, 255], [200, 40, 90])
    clear = Image.new("P", (20, 20), 0)
    clear.putpalette([200, 40, 90, 1, 2, 3])
    assert one(encoded(clear, "PNG", transparency=0))[8, 8].tolist() == [255, 255, 255]
    assert one(encoded(clear, "GIF", transparency=0))[8, 8].tolist() == [255, 255, 255]
    assert one(encoded(flat, "PNG", transparency=(200, 40, 90)))[8, 8].tolist() == [255, 255, 255]


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(one(data)[8, 8].astype(int), (255, 0, 0), atol=3)


def test_channels_follow_the_images_or_the_caller():
    grey, colour = (encoded(Image.new(mode, (20, 20), value), "PNG") for mode, value in (("L", 7), ("RGB", (10, 20, 30))))
    assert decode([grey, grey], 8).images.shape == (2, 8, 8, 1)
    mixed = decode([grey, grey, colour, grey], 8).images
    assert mixed[:, 0, 0].tolist() == [[7, 7, 7], [7, 7, 7], [10, 20, 30], [7, 7, 7]]
    assert decode([grey], 8, 3).images[0, 0, 0].tolist() == [7, 7, 7]
    assert decode([colour], 8, 1).images[0, 0, 0].tolist() == [18]  # ITU-R 601: 0.299 · 10 + 0.587 · 20 + 0.114 · 30 = 18.15
    assert decode([], 8).images.shape == (0, 8, 8, 1)


def test_bad_files_say_why(tmp_path):
    photo = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    assert "truncated" in reason(photo[: len(photo) // 2])
    assert "truncated" in reason(encoded(Image.effect_noise((64, 64), 50), "PNG")[:900])
    assert "formats BMP, GIF, JPEG, PNG, WEBP" in reason(b"<svg></svg>")
    assert "formats" in reason(encoded(gradient(8, 8), "TIFF"))
    assert "formats" in reason(b"")
    assert reason(tmp_path / "none.jpg") == "no such file"
    assert reason(tmp_path) == "no such file"


@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
def test_bombs_are_refused_before_they_unfold(side):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
    )
    said = reason(bomb)
    assert "pixels" in said, said


def test_bytes_are_limited(monkeypatch):
    monkeypatch.setattr(pipeline, "MAX_BYTES", 50)
    assert "more than 50 are refused" in reason(encoded(gradient(20, 20), "PNG"))


def test_broken_metadata_lose_no_image():
    data = encoded(gradient(20, 20), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one(data).shape == (16, 16, 3)


# ---- datasets ----


def folder(root: Path, n: int = 24, broken: tuple[int, ...] = ()) -> ImageFolder:
    for i in range(n):
        path = root / ("train" if i % 4 else "valid") / ("ab"[i // 2 % 2]) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken" if i in broken else encoded(Image.new("L", (9, 12), i), "PNG"))
    return ImageFolder(str(root))


def test_load_keeps_images_labels_and_names_together(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(pipeline, "_BLOCK", 5)
    source = folder(tmp_path).open()
    data = load(source, canvas=8, progress=lambda done, total: calls.append((done, total)))
    assert data.sizes == source.sizes == {"train": 18, "valid": 6}
    assert (data.classes, data.channels, data.bad, data.multi_label) == (("a", "b"), 1, (), False)
    for split in ("train", "valid"):
        assert data.images[split].shape == (len(source.labels[split]), 8, 8, 1)
        assert data.images[split][:, 0, 0, 0].tolist() == [int(Path(name).stem) for name in data.names[split]]
        np.testing.assert_array_equal(data.labels[split], source.labels[split])
    assert calls == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]


def test_load_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    source = folder(tmp_path).open()
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 1)
    alone = load(source, canvas=8)
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 7)
    together = load(source, canvas=8)
    for split in ("train", "valid"):
        np.testing.assert_array_equal(alone.images[split], together.images[split])
    assert alone.fingerprint == together.fingerprint


def test_unreadable_images_are_left_out_by_name(tmp_path):
    source = folder(tmp_path, broken=(0, 5)).open()
    data = load(source, canvas=8, max_bad_share=0.1)
    assert [name for name, _ in data.bad] == ["train/a/05.png", "valid/a/00.png"]
    assert data.sizes == {"train": 17, "valid": 5}
    for split in ("train", "valid"):
        assert data.images[split][:, 0, 0, 0].tolist() == [int(Path(name).stem) for name in data.names[split]]
        assert data.labels[split].tolist() == ["ab".index(name.split("/")[1]) for name in data.names[split]]
    with pytest.raises(InputError, match=r"of 24 images cannot be read, max_bad_share is 0.01.*train/a/05.png: not an image") as error:
        load(source, canvas=8)
    assert "\n" not in str(error.value)


def test_one_bad_image_of_twenty_is_too_many_by_default_and_none_left_is_an_error(tmp_path):
    with pytest.raises(InputError, match="1 of 20 images"):
        load(folder(tmp_path / "one", 20, broken=(3,)).open(), canvas=8)
    with pytest.raises(InputError, match="no readable image is left of split 'valid'"):
        load(folder(tmp_path / "valid", 24, broken=tuple(range(0, 24, 4))).open(), canvas=8, max_bad_share=1)
    with pytest.raises(InputError, match="no readable image is left of class 'b'"):
        load(folder(tmp_path / "class", 24, broken=(2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23)).open(), canvas=8, max_bad_share=1)


def test_load_changes_the_fingerprint_with_what_it_makes(tmp_path):
    source = folder(tmp_path).open()
    assert len({load(source, canvas=canvas, channels=channels).fingerprint for canvas in (8, 9) for channels in (1, 3)}) == 4


@pytest.mark.parametrize(
    ("shape", "canvas", "channels", "result"),
    [
        ((6, 28, 28), 64, None, (6, 28, 28, 1)),
        ((6, 28, 28, 1), 64, 3, (6, 28, 28, 3)),
        ((6, 28, 28, 3), 64, 1, (6, 28, 28, 1)),
        ((6, 28, 40, 3), 64, None, (6, 28, 28, 3)),
        ((6, 28, 40, 3), 20, None, (6, 20, 20, 3)),
        ((6, 28, 28), 28, None, (6, 28, 28, 1)),
    ],
)
def test_arrays_keep_their_size_up_to_the_canvas(shape, canvas, channels, result):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = load(Arrays.of((images, np.arange(6) % 2), (images, np.arange(6) % 2)).open(), canvas=canvas, channels=channels)
    assert data.images["train"].shape == data.images["valid"].shape == result
    if result[1] == 28 and channels != 1:
        middle = images.reshape(6, 28, images.shape[2], -1)[:, :, (images.shape[2] - 28) // 2 :][:, :, :28]
        np.testing.assert_array_equal(data.images["train"], np.broadcast_to(middle, result))


def test_arrays_that_fit_are_not_copied_and_splits_get_one_side():
    images = np.zeros((4, 10, 10, 3), np.uint8)
    source = Arrays.of((images, [0, 1, 0, 1]), (np.full((2, 6, 8), 9, np.uint8), [0, 1])).open()
    data = load(source, largest_size=30)
    assert np.shares_memory(data.images["train"], images)
    assert data.images["valid"].shape == (2, 10, 10, 3)
    assert (data.images["valid"] == 9).all()
    assert load(source, largest_size=8).images["train"].shape == (4, 10, 10, 3)  # 1.15 · 8 = 9.2, rounded up


# ---- orders ----

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
balances = st.floats(0.01, 1)


@given(labels_of, st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 99))
def test_order_is_a_permutation(labels, seed, stage, epoch):
    got = order(seed, stage, epoch, labels)
    assert sorted(got.tolist()) == list(range(len(labels)))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, order(seed, stage, epoch, labels))


def test_order_is_the_same_for_ever_and_changes_with_each_argument():
    labels = np.arange(8) % 2
    assert order(0, 0, 0, labels).tolist() == [7, 1, 2, 0, 4, 5, 6, 3]
    assert len({tuple(order(*key, labels).tolist()) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))}) == 5


def test_permutations_are_uniform():
    first = Counter(int(order(0, 0, epoch, np.zeros(4, int))[0]) for epoch in range(2000))
    assert all(abs(first[i] - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for i in range(4))


@given(labels_of, balances, st.integers(0, 9))
def test_balanced_counts_are_within_one_of_their_mean(labels, balance, epoch):
    got = order(0, 0, epoch, labels, balance)
    assert len(got) == len(labels)
    mean = expected_counts(labels, balance)
    assert (np.abs(np.bincount(labels[got], minlength=len(mean)) - mean) < 1 + 1e-9).all()
    times = np.bincount(got, minlength=len(labels))
    for label in set(labels.tolist()):  # nobody twice before everybody once
        assert np.ptp(times[labels == label]) <= 1


@given(labels_of, st.fractions(0, 1, max_denominator=20))
def test_expected_counts_follow_the_formula(labels, balance):
    n, present = len(labels), Counter(labels.tolist())
    got = expected_counts(labels, float(balance))
    for label, mean in enumerate(got.tolist()):
        share = (1 - balance) * Fraction(present[label], n) + balance * Fraction(1, len(present)) if present[label] else Fraction(0)
        assert mean == pytest.approx(float(n * share), abs=1e-9)
    np.testing.assert_allclose(expected_counts(labels, 0.0), np.bincount(labels))


def test_balanced_rounding_is_unbiased():
    labels = np.array([0] * 7 + [1] * 3 + [2])
    drawn = np.mean([np.bincount(labels[order(0, 0, epoch, labels, 0.5)], minlength=3) for epoch in range(3000)], axis=0)
    np.testing.assert_allclose(drawn, expected_counts(labels, 0.5), atol=0.05)


@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=40).map(lambda rows: np.array(rows, np.float32)), balances)
def test_balanced_multi_label_draws_by_the_rarest_label(labels, balance):
    frequency = labels.sum(axis=0)
    rarest = [min(np.flatnonzero(row), key=lambda c: (frequency[c], c)) if row.any() else 4 for row in labels]
    sizes = Counter(rarest)
    weight = np.array([(1 - balance) + balance * len(labels) / len(sizes) / sizes[label] for label in rarest])
    np.testing.assert_allclose(expected_counts(labels, balance), weight @ labels, rtol=1e-6)
    times = np.bincount(order(1, 2, 3, labels, balance), minlength=len(labels))
    assert times.sum() == len(labels)
    for label, size in sizes.items():
        mine = np.array([label == other for other in rarest])
        assert abs(times[mine].sum() - weight[mine].sum()) < 1 + 1e-6
        assert size == 1 or np.ptp(times[mine]) <= 1


def test_balance_one_makes_rare_classes_as_frequent():
    labels = np.array([0] * 90 + [1] * 10)
    got = order(3, 0, 0, labels, 1.0)
    assert np.bincount(labels[got]).tolist() == [50, 50]
    assert np.bincount(got, minlength=100)[90:].tolist() == [5] * 10
    assert 10 < labels[got][:50].sum() < 40  # mixed, not class by class
    assert (order(3, 0, 1, labels, 1.0) != got).any()


# ---- batches ----


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 3), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 0.5]), st.data())
def test_batches_can_be_entered_at_any_step(n, batch_size, epochs, views, balance, data):
    labels = np.arange(n) % 3
    steps = epochs * steps_per_epoch(n, batch_size)
    whole = list(train_batches(0, 1, labels, batch_size=batch_size, steps=steps, views=views, balance=balance))
    assert len(whole) == steps
    first = data.draw(st.integers(0, steps))
    rest = list(train_batches(0, 1, labels, batch_size=batch_size, steps=steps, first_step=first, views=views, balance=balance))
    for batch, again in zip(whole[first:], rest, strict=True):
        for part, same in zip(batch, again, strict=True):
            np.testing.assert_array_equal(part, same)
            assert part.shape == (batch_size,)
            assert part.dtype == same.dtype
    assert sum(batch.weight.sum() for batch in whole) == epochs * n
    for epoch in range(epochs):
        part = whole[epoch * steps // epochs : (epoch + 1) * steps // epochs]
        index, weight = (np.concatenate(column) for column in list(zip(*part, strict=True))[::2])
        np.testing.assert_array_equal(index[weight > 0], order(0, 1, epoch, labels, balance))
        if views:
            np.testing.assert_array_equal(np.concatenate([batch.draw for batch in part]), epoch % views * n + index)
    if not views:
        assert np.concatenate([batch.draw for batch in whole]).tolist() == list(range(steps * batch_size))


def test_batch_types_and_padding_with_different_images():
    last = list(train_batches(0, 0, np.arange(10) % 2, batch_size=8, steps=2))[-1]
    assert (last.index.dtype, last.draw.dtype, last.weight.dtype) == (np.int32, np.uint32, np.float32)
    assert last.weight.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert len(set(last.index.tolist())) == 8


def test_draws_wrap_and_too_many_views_are_refused():
    step = 2**31
    batch = next(train_batches(0, 0, np.zeros(4, int), batch_size=4, steps=step + 1, first_step=step))
    assert batch.draw.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="views is 2147483648; with 4 images use at most 1073741824"):
        next(train_batches(0, 0, np.zeros(4, int), batch_size=4, steps=1, views=2**31))


@given(st.integers(0, 40), st.integers(1, 12))
def test_eval_batches_count_everything_once(n, batch_size):
    got = list(eval_batches(n, batch_size))
    assert len(got) == steps_per_epoch(n, batch_size)
    index = [i for batch in got for i, weight in zip(batch.index.tolist(), batch.weight.tolist(), strict=True) if weight == 1]
    assert index == list(range(n))
    for batch in got:
        assert (batch.index.shape, batch.index.dtype, batch.draw.dtype, batch.weight.dtype) == (
            (batch_size,),
            np.int32,
            np.uint32,
            np.float32,
        )
        np.testing.assert_array_equal(batch.index, batch.draw)
        assert (batch.index < n).all()
