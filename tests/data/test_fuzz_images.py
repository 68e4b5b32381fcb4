"""Five hundred damaged image files: no crash, each one named with its reason, the same list again."""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

from sgdr_jax.data.decode import FORMATS
from sgdr_jax.data.load import decode_files


def encoded(kind: str, mode: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (24, 31, 3), np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


SEEDS = [encoded(kind, mode, 0) for kind in FORMATS for mode in ("RGB", "L")] + [encoded("JPEG", "CMYK", 1), encoded("PNG", "RGBA", 2)]


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))


def damaged(seed: int) -> bytes:
    """A sound file, cut, overwritten, shortened, joined or inflated."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(SEEDS))
    how = seed % 8
    if how == 0:
        return bytes(data[: rng.randrange(len(data))])
    if how == 1:
        return bytes(data[: rng.randrange(len(data) // 2)]) + b"\xff\xd9"
    if how == 2:
        for _ in range(rng.randrange(1, 60)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if how == 3:
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 200)]
    if how == 4:
        start = rng.randrange(len(data))
        data[start : start + 200] = bytes(200)
    if how == 5:
        other = rng.choice(SEEDS)
        return bytes(data[: rng.randrange(60)]) + other[rng.randrange(60) :]
    if how == 6:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(300)))
    if how == 7:
        return bomb(rng.choice([0, 1, 2**15, 2**31 - 1]), rng.choice([0, 1, 2**15, 2**31 - 1]))
    return bytes(data)


def test_five_hundred_damaged_files(tmp_path):
    paths = []
    for seed in range(500):
        paths.append(str(tmp_path / f"{seed:03}.jpg"))
        with open(paths[-1], "wb") as file:
            file.write(damaged(seed))
    first, again = decode_files(paths, 16), decode_files(paths, 16)
    assert first.bad == again.bad
    np.testing.assert_array_equal(first.images, again.images)
    assert sorted([paths[i] for i in first.index.tolist()] + [name for name, _ in first.bad]) == paths
    assert all(reason and "\n" not in reason and len(reason) <= 160 for _, reason in first.bad)
    assert 300 < len(first.bad) < 500  # some changes, such as of single pixels, leave a sound file
