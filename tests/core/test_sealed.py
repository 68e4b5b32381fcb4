"""Arrays that come back bit for bit or not at all."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sgdr_jax.core import sealed

from ..helpers import seeded

KINDS = st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.bool_, np.complex64])


def written(path: Path, array: np.ndarray, name: str = "name") -> bytes:
    with path.open("wb") as file:
        sealed.write(file, name, array)
    return path.read_bytes()


@seeded
@given(arrays.arrays(KINDS, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)))
def test_an_array_comes_back_bit_for_bit_and_numpy_reads_it_too(array):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        written(path, array)
        for found in (sealed.read(path, "name"), np.load(path)):
            assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()
        with pytest.raises(sealed.DamagedFile, match="holds name"):
            sealed.read(path, "other")


@seeded
@given(st.integers(0, 4000), st.integers(1, 255), st.booleans())
def test_no_changed_byte_is_missed(at, change, in_block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "_BLOCK", 64 if in_block else 1 << 22)
        path = Path(folder) / "a.npy"
        content = bytearray(written(path, np.arange(120.0)))
        content[at % len(content)] ^= change
        path.write_bytes(content)
        with pytest.raises(sealed.DamagedFile):
            sealed.read(path, "name")


def test_damaged_blocks_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(sealed, "_BLOCK", 64)
    path = tmp_path / "a.npy"
    content = bytearray(written(path, np.arange(120.0)))
    for at in (128, 128 + 65, 128 + 127, 128 + 640):
        content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(sealed.DamagedFile, match="3 of its 15 blocks are damaged"):
        sealed.read(path, "name")


def test_a_huge_shape_is_not_believed(tmp_path):
    path = tmp_path / "a.npy"
    content = written(path, np.arange(16.0)).replace(b"(16,), ", b"(2**9,)")
    path.write_bytes(content)
    with pytest.raises(sealed.DamagedFile, match="its header is damaged"):
        sealed.read(path, "name")
