"""Decoding of every kind of image file to a square, or rejection with a reason."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sgdr_jax.core.errors import InputError
from sgdr_jax.data import decode as decoder
from sgdr_jax.data.load import decode_files


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one(data: bytes, side: int = 16, channels: int | None = None) -> np.ndarray:
    images, index, _, bad = decode_files([data], side, channels)
    assert (bad, index.tolist()) == ((), [0])
    assert images.dtype == np.uint8
    return images[0]


def reason(data: bytes | str | Path) -> str:
    images, index, _, bad = decode_files([data], 16)
    assert (len(images), len(index), len(bad)) == (0, 0, 1)
    assert "\n" not in bad[0][1]
    return bad[0][1]


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_dimensions_are_those_of_the_upright_image(tmp_path, kind, orientation):
    """Pillow turns the size of a TIFF file by itself, and of no other."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{kind.lower()}"
    gradient(48, 32).save(path, kind, exif=exif)
    assert decoder.dimensions(str(path)) == ImageOps.exif_transpose(Image.open(path)).size == ((32, 48) if orientation > 4 else (48, 32))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_in_memory_of_32_bits_are_refused(mode):
    """They were taken for 16 bits, so that 0…1 or 0…255 became black."""
    with pytest.raises(InputError, match=f"mode {mode} of Pillow, 32 bits'; convert it to 8 or 16 bits"):
        decoder.to_array(gradient(9, 8).convert("L").convert(mode))
    deep = Image.fromarray(np.full((8, 9), 65535, np.uint16))
    assert decoder.to_array(deep).min() == 255


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


def png(depth: int, colour: int, samples: list[int], clear: list[int], side: int = 16) -> bytes:
    """A PNG file whose pixels all have these samples; those of `clear` are transparent."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = int("".join(f"{sample:0{depth}b}" for sample in samples) * side, 2).to_bytes(side * len(samples) * depth // 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    transparent = chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    return b"\x89PNG\r\n\x1a\n" + header + transparent + chunk(b"IDAT", zlib.compress((b"\0" + row) * side)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_level_is_compared_at_its_depth(depth):
    """Levels of 2, 4 and 16 bits stayed opaque."""
    most = 2**depth - 1
    for level in {0, 1, most // 3, most}:
        for clear in {0, 1, most // 3, most}:
            wanted = 255 if level == clear else 255 * level / most
            data = png(depth, 0, [level], [clear])
            np.testing.assert_allclose(one(data), wanted, atol=0.5)
            np.testing.assert_allclose(decoder.to_array(Image.open(io.BytesIO(data))), wanted, atol=0.5)


def test_a_transparent_colour_is_compared_at_its_depth_or_refused():
    """Of 16 bits the low ones were compared with the high ones of the pixels: black became white."""
    assert one(png(8, 2, [1, 2, 3], [1, 2, 3]))[0, 0].tolist() == [255, 255, 255]
    assert one(png(8, 2, [1, 2, 3], [1, 2, 4]))[0, 0].tolist() == [1, 2, 3]
    for clear in ([0x0100, 0, 0], [0x8000, 0x8000, 0x8000]):
        assert reason(png(16, 2, [0, 0, 0], clear)) == "a transparent colour of 16 bits; save 8 bits, or an alpha channel"


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(one(data)[8, 8].astype(int), (255, 0, 0), atol=3)


def test_channels_follow_the_images_or_the_caller():
    grey, colour = (encoded(Image.new(mode, (20, 20), value), "PNG") for mode, value in (("L", 7), ("RGB", (10, 20, 30))))
    assert decode_files([grey, grey], 8).images.shape == (2, 8, 8, 1)
    mixed = decode_files([grey, grey, colour, grey], 8).images
    assert mixed[:, 0, 0].tolist() == [[7, 7, 7], [7, 7, 7], [10, 20, 30], [7, 7, 7]]
    assert decode_files([grey], 8, 3).images[0, 0, 0].tolist() == [7, 7, 7]
    assert decode_files([colour], 8, 1).images[0, 0, 0].tolist() == [18]  # ITU-R 601: 0.299 · 10 + 0.587 · 20 + 0.114 · 30 = 18.15
    assert decode_files([], 8).images.shape == (0, 8, 8, 1)


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
def test_decompression_bombs_are_rejected_before_decoding(side):
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
    monkeypatch.setattr(decoder, "MAX_BYTES", 50)
    assert "above the limit of 50" in reason(encoded(gradient(20, 20), "PNG"))


def test_broken_metadata_lose_no_image():
    data = encoded(gradient(20, 20), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one(data).shape == (16, 16, 3)


TURNS = {3: "ROTATE_180", 6: "ROTATE_270", 8: "ROTATE_90"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize(("width", "height"), [(64, 20), (20, 64), (33, 33), (9, 5), (50, 1)])
def test_squish_and_pad_show_the_whole_image(width, height, turn, channels):
    """Against Pillow's own steps, for upright files and for those that their EXIF tag turns."""
    picture = gradient(width, height).convert("L" if channels == 1 else "RGB")
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(picture, "PNG", exif=exif)
    for way in ("squish", "pad"):
        (square,), _, _, bad = decode_files([data], 16, channels, resize=way)
        assert not bad and square.shape == (16, 16, channels)
        if way == "squish":
            filters = [Image.Resampling.BOX if side > 16 else Image.Resampling.BICUBIC for side in picture.size]
            small = picture.resize((16, height), filters[0]).resize((16, 16), filters[1])
        else:
            long = max(picture.size)
            size = [max(round(side * 16 / long), 1) for side in picture.size]
            small = picture.resize(size, Image.Resampling.BOX if long > 16 else Image.Resampling.BICUBIC)
        turned = small.transpose(Image.Transpose[TURNS[turn]]) if turn > 1 else small
        wanted = Image.new(picture.mode, (16, 16))
        wanted.paste(turned, tuple(round((16 - side) / 2) for side in turned.size))
        np.testing.assert_array_equal(square, np.asarray(wanted).reshape(square.shape))


def further(tmp_path: Path, name: str, image: Image.Image, **options) -> np.ndarray | str:
    path = tmp_path / name
    image.save(path, **options)
    images, _, _, bad = decode_files([str(path)], 16)
    return bad[0][1] if bad else images[0]


@pytest.mark.parametrize(("name", "most"), [("a.tif", 0), ("a.TIFF", 0), ("a.avif", 16), ("a.heic", 16)])
def test_further_formats_are_read_by_their_name(tmp_path, name, most):
    import pillow_heif

    pillow_heif.register_heif_opener()  # to write
    image = gradient(16, 16)
    kind = {"tif": "TIFF", "tiff": "TIFF", "avif": "AVIF", "heic": "HEIF"}[name.split(".")[1].lower()]
    found = further(tmp_path, name, image, format=kind, **({"quality": 95} if most else {}))
    np.testing.assert_allclose(found.astype(int), np.asarray(image).astype(int), atol=most)
    data = (tmp_path / name).read_bytes()
    assert "not an image in one of the formats" in reason(data)  # from bytes, or under another name, they stay unread
    (tmp_path / "b.png").write_bytes(data)
    assert "not an image in one of the formats" in reason(tmp_path / "b.png")
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    assert decode_files([str(tmp_path / name)], 16).bad
    (tmp_path / name).write_bytes(encoded(image, "PNG"))
    assert not decode_files([str(tmp_path / name)], 16).bad  # the content decides, as for all others


def test_tiff_files_that_are_more_than_an_image(tmp_path):
    image = gradient(16, 16)
    assert "2 pages in one file" in further(tmp_path, "a.tif", image, save_all=True, append_images=[image])
    assert "32 bits a pixel" in further(tmp_path, "b.tif", Image.fromarray(np.ones((4, 4), np.float32)))
    deep = further(tmp_path, "c.tif", Image.fromarray(np.full((16, 16), 65535 // 3, np.uint16)))
    assert (deep == 85).all()
    assert further(tmp_path, "d.tif", image.convert("CMYK")).shape == (16, 16, 3)


def tiff(bits: int, white_is_zero: bool, level: int, order: str = "<", side: int = 16) -> bytes:
    """A TIFF file of one grey level."""
    row = int(f"{level:0{bits}b}" * side, 2).to_bytes(side * bits // 8)
    data = (row if bits != 16 else struct.pack(f"{order}{side}H", *[level] * side)) * side
    tags = {256: side, 257: side, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: side, 279: len(data)}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "white_is_zero", "order"),
    [(8, False, "<"), (8, True, "<"), (12, False, "<"), (16, False, "<"), (16, True, "<"), (16, False, ">")],
)
def test_tiff_levels_are_those_of_the_file(tmp_path, bits, white_is_zero, order):
    """12 bits were taken for 16, nearly black; 16 bits of which 0 is white were a negative."""
    most = 2**bits - 1
    for level in (0, most // 3, most):
        (tmp_path / "a.tif").write_bytes(tiff(bits, white_is_zero, level, order))
        images, _, _, bad = decode_files([str(tmp_path / "a.tif")], 16)
        assert not bad
        np.testing.assert_allclose(images, 255 * (most - level if white_is_zero else level) / most, atol=0.5)
        with Image.open(tmp_path / "a.tif") as image:
            np.testing.assert_array_equal(decoder.to_array(image), images[0, :, :, 0])
