"""Damaged image files are refused by the means of their formats, and sound ones never for what they look like."""

import io
import struct
import time
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sgdr_jax.data import decode

FORMATS = {
    "png": ("PNG", {}),
    "png in palette": ("PNG", {}),
    "jpeg": ("JPEG", {"quality": 90}),
    "jpeg progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "jpeg restarts": ("JPEG", {"quality": 90, "restart_marker_rows": 1}),
    "webp": ("WEBP", {"quality": 80}),
    "webp lossless": ("WEBP", {"lossless": True}),
    "webp alpha": ("WEBP", {"quality": 80}),
    "gif": ("GIF", {"interlace": 0}),
    "gif interlaced": ("GIF", {"interlace": 1}),
}
CODED = list(FORMATS)


@cache
def sound(kind: str, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :160]
    photo = np.stack([x * 255 // 159, y * 2, (x + y) % 256], axis=2).astype(np.uint8) ^ rng.integers(0, 16, (120, 160, 3), np.uint8)
    image = Image.fromarray(photo)
    if "gif" in kind or "palette" in kind:
        image = image.quantize(64)
    if "alpha" in kind:
        image.putalpha(Image.fromarray((x + y).astype(np.uint8)))
    name, options = FORMATS[kind]
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def refused(data: bytes) -> str:
    got = decode.attempt(data, 16, 3)
    assert isinstance(got, str), "accepted"
    assert "\n" not in got
    return got


def accepted(data: bytes) -> np.ndarray:
    got = decode.attempt(data, 16, 3)
    assert not isinstance(got, str), got
    return got


def damages(data: bytes) -> dict[str, bytes]:
    n, half = len(data), len(data) // 2
    return {
        "a zeroed block": data[:half] + bytes(512) + data[half + 512 :],
        "second half zeros": data[:half] + bytes(n - half),
        "last tenth zeros": data[: n * 9 // 10] + bytes(n - n * 9 // 10),
        "cut": data[:half],
        "cut and closed": data[:half] + data[-2:],
        "halves exchanged": data[:1000] + data[half:] + data[1000:half],
        "a part is missing": data[:half] + data[half + 200 :],
    }


@pytest.mark.parametrize("kind", CODED)
def test_sound_files_pass(kind):
    for seed in range(3):
        accepted(sound(kind, seed))


@pytest.mark.parametrize("damage", list(damages(bytes(3000))))
@pytest.mark.parametrize("kind", CODED)
def test_damaged_files_are_refused(kind, damage):
    if (kind, damage) == ("webp lossless", "halves exchanged"):
        return  # as many bits, all of them valid codes: without a checksum the format cannot tell
    refused(damages(sound(kind))[damage])


@given(st.data())
def test_any_changed_byte_of_a_png_is_refused(data):
    png = bytearray(sound(data.draw(st.sampled_from(["png", "png in palette"]))))
    at = data.draw(st.integers(0, len(png) - 1))
    png[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(png))


@given(st.data())
def test_what_pillow_refuses_is_refused(data):
    file = bytearray(sound(data.draw(st.sampled_from(CODED))))
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=4)):
        file[at] = data.draw(st.integers(0, 255))
    file = bytes(file[: data.draw(st.integers(0, len(file)) | st.just(len(file)))])
    try:
        Image.open(io.BytesIO(file), formats=decode.FORMATS).load()
    except Exception:
        refused(file)


def png(rows: list[bytes], *, stream: bytes | None = None, colour: int = 0, interlaced: int = 0, parts: int = 1) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    stream = zlib.compress(b"".join(rows)) if stream is None else stream
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, colour, 0, 0, interlaced))
    step = -(-len(stream) // parts)
    data = [chunk(b"IDAT", stream[i : i + step]) for i in range(0, len(stream), step)]
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(data) + chunk(b"IEND", b"")


def test_a_png_stream_is_complete_though_all_chunks_are_sound():
    rows = [b"\0" + bytes([i] * 20) for i in range(20)]
    stream = zlib.compress(b"".join(rows))
    accepted(png(rows, parts=3))
    assert "truncated" in refused(png(rows[:15]))  # Pillow leaves the rest black
    assert "truncated" in refused(png(rows, stream=stream[:-4]))
    assert "truncated" in refused(png(rows, stream=stream[:-1], parts=4))
    refused(png(rows, stream=stream[:-4] + b"wrong"))
    assert "end chunk" in refused(png(rows)[:-12])
    accepted(png(rows) + b"a tail that other programs left")


@pytest.mark.parametrize("side", [1, 2, 5, 9, 20])
def test_interlaced_pngs_of_any_size_pass(side):
    from skimage.data import chelsea

    photo = Image.fromarray(chelsea()).resize((side, 20))
    sizes = [(-((x - side) // dx), -((y - 20) // dy)) for x, y, dx, dy in ADAM7]
    data = photo.convert("L").tobytes()
    rows = []
    for (x, y, dx, dy), (w, h) in zip(ADAM7, sizes, strict=True):
        rows += [b"\0" + bytes(data[(y + r * dy) * side + x + c * dx] for c in range(w)) for r in range(h) if w > 0]
    file = png(rows, interlaced=1)
    header = struct.pack(">IIBBBBB", side, 20, 8, 0, 0, 0, 1)
    file = file[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + file[33:]
    assert Image.open(io.BytesIO(file)).convert("L").tobytes() == data
    accepted(file)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_truly_ends_in_grey_passes(mode, progressive):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 90, 3), np.uint8))
    ImageDraw.Draw(image).rectangle((0, 40, 90, 96), (128, 128, 128))
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=90, progressive=progressive)
    accepted(file.getvalue())
    accepted(file.getvalue() + b"a tail")


def test_metadata_of_a_jpeg_neither_harm_nor_hide_damage():
    odd = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x09" + b"\xff\xe0\0\x10JFIF\0\x09\x01\0\0\x01\0\x01\0\0" + b"\xff\xff\xff\xfe\0\x04hi"
    data = sound("jpeg")
    accepted(data[:2] + odd + data[2:])
    half = len(data) // 2
    assert "Corrupt JPEG" in refused(data[:2] + odd + data[2:half] + b"\xff\xd9")


def test_bmp_sizes_and_run_lengths():
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "BMP")
    data = file.getvalue()
    accepted(data)
    assert "truncated: 1153 of 1254 bytes" in refused(data[:-101])
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
    codes = b"\4\7\0\0" + b"\0\4\1\2\3\4" + b"\0\1"
    for body, ok in ((codes, True), (codes[:-2], False), (codes[:4] + bytes(8), False)):
        bmp = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body
        assert isinstance(decode.attempt(bmp, 4, 3), str) != ok


def test_every_frame_layout_of_webp_and_gif_passes():
    rng = np.random.default_rng(1)
    frames = [Image.fromarray(rng.integers(0, 256, (30, 41, 4), np.uint8)) for _ in range(3)]
    for kind, options in (("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {"disposal": 2})):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
        accepted(file.getvalue())
        refused(file.getvalue()[:-30])
    for colour in ("black", "white", (7, 8, 9)):
        for size in ((1, 1), (3, 500), (900, 900)):
            for kind, options in (
                ("WEBP", {}),
                ("WEBP", {"lossless": True}),
                ("WEBP", {"quality": 1}),
                ("GIF", {}),
                ("PNG", {}),
                ("JPEG", {}),
            ):
                file = io.BytesIO()
                Image.new("RGB", size, colour).save(file, kind, **options)
                accepted(file.getvalue())


def test_a_header_is_read_without_the_pixels():
    rng = np.random.default_rng(0)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (1200, 1600, 3), np.uint8)).save(file, "PNG", exif=exif)
    decode.dimensions(file.getvalue())
    start = time.process_time()
    for _ in range(20):
        assert decode.dimensions(file.getvalue()) == (1200, 1600)
    assert (time.process_time() - start) / 20 < 0.003  # decoding takes ten times as long
    broken = bytearray(file.getvalue())
    broken[len(broken) // 2] ^= 1
    assert decode.dimensions(bytes(broken)) == (1200, 1600)
    refused(bytes(broken))
