"""Weight files: what is read, what is refused, and the strict merge. Malicious files are made here, and would leave a trace if run."""

import argparse
import dataclasses
import fractions
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from sgdr_jax.augment.plain import WHOLE, PlainView
from sgdr_jax.core.errors import InputError
from sgdr_jax.models import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2, ResNet18, ResNet34, ResNet50, SwinV2Tiny
from sgdr_jax.models.base import ChainModel
from sgdr_jax.models.pretrained import load as pretrained
from sgdr_jax.models.pretrained import read
from sgdr_jax.models.pretrained.locate import Facts
from sgdr_jax.models.pretrained.torch_pickle import WRAPPERS, Checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = ("torch_zip.pth", "torch_old.pth")
SMALL_SWIN = type("SwinV2Small", (SwinV2Tiny,), {"depths": (1, 2), "width": 32, "features": 64})
MAGIC = 0x1950A86A20F9469CFC6C


def zipped(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def old(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, itemsize: int = 4) -> Path:
    parts = [pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True})]
    parts += [pickled, pickle.dumps(list(storages or {}), 2)]
    parts += [struct.pack("<q", len(data) // itemsize) + data for data in (storages or {}).values()]
    path.write_bytes(b"".join(parts))
    return path


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any] | type, *args: Any):
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


def tensor_pickle(length: int = 6, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1)) -> bytes:
    """The pickle of {"x": tensor}, as torch writes it."""
    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")

    def _rebuild_tensor_v2() -> None: ...

    FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch.FloatStorage, torch._utils = _rebuild_tensor_v2, FloatStorage, utils  # type: ignore[attr-defined]

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", FloatStorage, "0", "cpu", length) if isinstance(obj, Storage) else None

    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        tensor = Call(_rebuild_tensor_v2, Storage(), offset, shape, strides, False, {})
        Pickler(stream, 2).dump({"x": tensor})
    return stream.getvalue()


SIX = np.arange(6, dtype="<f4").tobytes()
FORMATS = pytest.mark.parametrize("write", [zipped, old])

# ---- What is read ----


@pytest.mark.parametrize("name", FILES)
def test_what_torch_saved_is_read_in_both_formats_without_torch(name: str) -> None:
    ours, theirs = read.read_weights(GOLDEN / name), np.load(GOLDEN / "torch_files.npz")
    assert set(ours) == set(theirs.files) and "torch" not in sys.modules
    for key in theirs.files:
        assert ours[key].dtype == theirs[key].dtype and not (ours[key].flags.writeable and key != "bfloat")
        np.testing.assert_array_equal(ours[key], theirs[key])


@FORMATS
def test_files_made_here_are_read_so_that_refusals_below_have_their_stated_reason(write: Any, tmp_path: Path) -> None:
    tensors = read.read_weights(write(tmp_path / "a.pth", tensor_pickle(), {"0": SIX}))
    np.testing.assert_array_equal(tensors["x"], np.arange(6, dtype=np.float32).reshape(2, 3))
    tensors = read.read_weights(write(tmp_path / "b.pth", tensor_pickle(6, 1, (2, 2), (1, 2)), {"0": SIX}))
    np.testing.assert_array_equal(tensors["x"], [[1, 3], [2, 4]])


def test_safetensors_are_read_and_bfloat16_widened(tmp_path: Path) -> None:
    import ml_dtypes

    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16), "c": np.arange(3).astype(ml_dtypes.bfloat16)}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read.read_weights(tmp_path / "x.safetensors")
    assert set(found) == set(tensors) and found["c"].dtype == np.float32 and found["b"].dtype == np.float16
    for key, value in tensors.items():
        np.testing.assert_array_equal(found[key], value.astype(found[key].dtype))


# ---- What is refused ----


@FORMATS
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda trace: Call(os.system, f"touch {trace}"), "system"),
        (lambda trace: Call(eval, f"open({str(trace)!r}, 'w')"), "eval"),
        (lambda trace: {"a": [({"b": Call(exec, f"open({str(trace)!r}, 'w')")},)]}, "exec"),
        (lambda trace: {"state_dict": {"w": Call(getattr, "x", "y")}}, "getattr"),
        (lambda trace: types.SimpleNamespace(epoch=3), "types.SimpleNamespace"),
        (lambda trace: fractions.Fraction(1, 3), "fractions.Fraction"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_for_anything_but_tensors_is_refused_by_name(
    write: Any, make: Any, named: str, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    path = write(tmp_path / "evil.pth", pickle.dumps(make(trace), protocol))
    with pytest.raises(InputError, match=f"evil.pth is refused: it asks for .*{named}"):
        read.read_weights(path)
    assert not trace.exists()


@FORMATS
@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (
            b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93.",
            "__globals__",
        ),  # a dotted name into an allowed function
        (b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x01\x00\x00\x00aK\x01ub.", "sets the state of a function"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NtR.", "unknown way|missing"),
        (b"ccollections\nOrderedDict\n}(X\x01\x00\x00\x00aK\x01ub.", "sets the state"),  # alters an allowed class
        (b"ctorch\nFloatStorage\n)R.", "calls what is no function"),
        (b"}r\xff\xff\xff\x7f.", "something else than named tensors"),  # a memo of 2^31 places, of which one is used
        (b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s.", "DUP"),  # a key whose hash takes 2^60 steps
        (b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s.", "key of type tuple"),  # the same by way of the memo
        (b"\x80\x02}(K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01u.", "key of type tuple"),
        (b"(K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01d.", "key of type tuple"),
        (b"\x80\x04\x8f(K\x01" + b"\x94h\x00\x86" * 60 + b"\x90.", "EMPTY_SET"),
        (b"(" * 100_000 + b".", "Error"),
        (b"]" * 100_000 + b"a" * 99_999 + b".", "something else than named tensors"),
        (b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b".", "too large"),  # a number of eight million bits
        (b"N\x85" * 1_100_000 + b".", "more than 2000000 instructions"),
        (b"I" + b"9" * 5000 + b"\n.", "ValueError"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.", "ValueError"),  # a string of 2^56 bytes
        (b"X\x01\x00\x00\x00aQ.", "described in an unknown way"),  # a storage that is no tuple
        (b"K\x03.", "something else than named tensors"),
        (b"}.", "something else than named tensors"),
        (b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.", "something else than named tensors"),  # a mapping within itself
        (pickle.dumps(np.float64(3)), "something else than named tensors"),
        (pickle.dumps(argparse.Namespace(lr=1), 2), "something else than named tensors"),
        (b"}X\x01\x00\x00\x00aK\x01s.", "something else than named tensors"),
        (b"", "Error"),
    ],
)
def test_odd_pickles_are_refused(write: Any, pickled: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        read.read_weights(write(tmp_path / "odd.pth", pickled))


@FORMATS
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"offset": 1}, "beyond its storage"),
        ({"shape": (3, 3)}, "beyond its storage"),
        ({"strides": (4, 1)}, "beyond its storage"),
        ({"shape": (1 << 40,), "strides": (0,)}, "beyond its storage"),  # a terabyte out of one number
        ({"offset": -1}, "negative"),
        ({"strides": (-3, 1)}, "negative"),
        ({"shape": (2, 3.0)}, "negative"),
        ({"shape": (2,)}, "unknown way"),
        ({"length": -6}, "unknown way"),
        ({"length": 1 << 40}, "storage 0 should have"),
        ({"length": 5, "shape": (5,), "strides": (1,)}, "storage 0 should have"),
    ],
)
def test_tensors_that_do_not_fit_their_bytes_are_refused(write: Any, made: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        read.read_weights(write(tmp_path / "odd.pth", tensor_pickle(**made), {"0": SIX}))


def test_odd_archives_are_refused(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.pth", tensor_pickle(1 << 20, 0, (1 << 20,), (1,)), {"0": bytes(4 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(InputError, match="compressed"):
        read.read_weights(bomb)
    with pytest.raises(InputError, match="should have 24 bytes and has none"):
        read.read_weights(zipped(tmp_path / "a.pth", tensor_pickle(), {"1": SIX}))
    other = tmp_path / "b.pth"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(InputError, match=r"not one that torch\.save makes"):
        read.read_weights(other)
    honest = zipped(tmp_path / "c.pth", tensor_pickle(), {"0": SIX}).read_bytes()
    liar = honest.replace(struct.pack("<II", 24, 24), struct.pack("<II", 1 << 30, 1 << 30))
    (tmp_path / "d.pth").write_bytes(liar)
    with pytest.raises(InputError, match="more bytes than there are"):
        read.read_weights(tmp_path / "d.pth")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_wherever_it_ends(name: str, tmp_path: Path) -> None:
    whole, path = (GOLDEN / name).read_bytes(), tmp_path / "short.pth"
    for end in range(0, len(whole), 53):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"short\.pth"):
            read.read_weights(path)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused_but_nothing_else_happens(name: str, tmp_path: Path) -> None:
    whole, path, rng = (GOLDEN / name).read_bytes(), tmp_path / "damaged.pth", np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read.read_weights(path)
        except InputError:
            refused += 1
    assert refused > 20


def test_missing_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read.read_weights(tmp_path / "none.pth")
    save_file({"a": np.zeros(100, np.float32)}, tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:200])
    (tmp_path / "z.pth").write_bytes(b"hello")
    for name in ("y.safetensors", "z.pth"):
        with pytest.raises(InputError, match="it is cut off, damaged, or of another format; fetch it again"):
            read.read_weights(tmp_path / name)


def test_what_safetensors_hold_beyond_numpy_is_refused_by_name(tmp_path: Path) -> None:
    def write(*tensors: tuple[str, str, list[int], int]) -> Path:
        end, header = 0, {}
        for name, kind, shape, size in tensors:
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
        return path

    read.read_weights(write(("a", "F32", [2, 3], 24)))
    for kind in ("F8_E4M3", "F8_E5M2", "U64", "C64"):
        with pytest.raises(
            InputError,
            match=rf"x\.safetensors: tensor b is of type {kind}; convert it|it is cut off, damaged, or of another format; fetch it again",
        ):
            read.read_weights(write(("a", "F32", [2, 3], 24), ("b", kind, [8], 64 if "64" in kind else 8)))
    for shape in ([0, 2**63 - 1], [2**63 - 1, 0, 7], [2**62, 2**62], [2**64], [-1]):
        with pytest.raises(InputError, match="it is cut off, damaged, or of another format; fetch it again"):
            read.read_weights(write(("w", "F32", shape, 0)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer instead of the weights; run git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page instead of the weights"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_often_downloaded_instead_is_named(content: bytes, reason: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read.read_weights(tmp_path / name)


# ---- Into the network ----


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("_blocks.3._bn1.weight", np.nan, "not finite"),
        ("_conv_stem.weight", np.inf, "not finite"),
        ("_bn0.running_var", -1, "negative variances"),
        ("_bn0.running_mean", 1e300, "not finite"),
        ("_bn0.bias", 1j, "complex"),
    ],
)
def test_values_that_no_training_leaves_are_refused_by_name(
    name: str, value: complex, reason: str, lite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, params, stats, tensors = lite
    array = tensors[name].astype(np.complex64 if isinstance(value, complex) else np.float64)
    array.flat[-1] = value
    path = tmp_path / "x.safetensors"
    path.touch()
    monkeypatch.setattr(pretrained, "read_checkpoint", lambda path: Checkpoint(tensors | {name: array}))
    with pytest.raises(InputError, match=rf"x\.safetensors: tensor {name} .*{reason}"):
        pretrained.load_into(EfficientNetLite0(weights=str(path)), network, params, stats)


@pytest.fixture(scope="module")
def lite() -> tuple[Any, Any, Any, dict[str, np.ndarray]]:
    model = EfficientNetLite0()
    network = model.build(7)
    return network, *network.init(jax.random.key(0)), read.read_weights(pretrained.find(model).path)


def test_imagenet_weights_fill_the_body_and_leave_the_head(lite: Any) -> None:
    network, params, stats, tensors = lite
    new, new_stats, loaded = pretrained.load_into(EfficientNetLite0(), network, params, stats)
    assert loaded.left_over == ("_fc.bias", "_fc.weight") and loaded.tensors == 245  # of 296, less 49 counters
    assert str(loaded) == (
        "245 tensors of efficientnet-lite0-57934424.pth, without _fc.bias, _fc.weight; "
        "images of mean 0.498 0.498 0.498 and sd 0.502 0.502 0.502 (EfficientNetLite0's)"
    )
    assert loaded.sha256 == hashlib.sha256(loaded.source.read_bytes()).hexdigest()
    assert jax.tree.map(np.shape, new) == jax.tree.map(np.shape, params)
    assert {leaf.dtype for leaf in jax.tree.leaves((new, new_stats))} == {np.dtype(np.float32)}
    assert all(map(np.array_equal, jax.tree.leaves(new["head"]), jax.tree.leaves(params["head"])))
    kernel = new["late"]["block15"]["depthwise"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 0, 5], tensors["_blocks.15._depthwise_conv.weight"][5, 0, 1, 2])
    np.testing.assert_array_equal(new_stats["late"]["top"]["bn"]["var"], tensors["_bn1.running_var"])
    unchanged = [
        a is b or np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params["early"]), jax.tree.leaves(new["early"]), strict=True)
    ]
    assert not any(unchanged)


def test_timms_names_mean_the_same(lite: Any, tmp_path: Path) -> None:
    network, params, stats, tensors = lite
    model = EfficientNetLite0()
    names = model.names()
    timm = {path: name for name, path in names.items() if not name.startswith("_")}
    renamed = {timm[names[name]]: array.astype(np.float32) for name, array in tensors.items() if name in names}
    assert {"conv_stem.weight", "bn2.bias", "blocks.0.0.conv_pw.weight", "blocks.5.3.bn3.running_mean", "classifier.bias"} <= set(renamed)
    save_file({name: np.ascontiguousarray(array) for name, array in renamed.items()}, tmp_path / "timm.safetensors")
    other = pretrained.load_into(dataclasses.replace(model, weights=str(tmp_path / "timm.safetensors")), network, params, stats)
    first = pretrained.load_into(model, network, params, stats)
    assert all(map(np.array_equal, jax.tree.leaves(first[:2]), jax.tree.leaves(other[:2])))


def test_all_problems_of_a_file_are_listed(lite: Any, tmp_path: Path) -> None:
    network, params, stats, tensors = lite
    changed = dict(tensors) | {"_blocks.3._bn1.weight": np.zeros(7, np.float32), "extra.weight": np.zeros(1, np.float32)}
    del changed["_bn0.running_mean"], changed["_fc.bias"]
    save_file({name: np.ascontiguousarray(array) for name, array in changed.items()}, tmp_path / "x.safetensors")
    with pytest.raises(InputError) as error:
        pretrained.load_into(EfficientNetLite0(weights=str(tmp_path / "x.safetensors")), network, params, stats)
    message = str(error.value)
    assert message.endswith(
        "does not fit EfficientNetLite0: 1 missing: stem/bn/mean; 1 left over: extra.weight; "
        "1 of the wrong shape: _blocks.3._bn1.weight (7,) where (144,) is needed; give weights of EfficientNetLite0"
    )


def drawn(model: ChainModel, classes: int = 1000, channels: int = 3) -> dict[str, np.ndarray]:
    """A weights file's tensors for a network: random, in torch's layout, under the first name that the model knows for each."""
    network = dataclasses.replace(model, head="classifier").build(classes, channels)
    names = {place: name for name, place in reversed(model.names().items())}
    rng = np.random.default_rng(0)
    return {
        names[place]: rng.uniform(0.5, 1.5, pretrained._torch(shape)).astype(np.float32)
        for place, shape in pretrained._shapes(network, True).items()
    }


def load(model: ChainModel, tensors: dict[str, np.ndarray], path: Path, classes: int = 7, channels: int = 3) -> Any:
    save_file(tensors, path)
    return pretrained.start(dataclasses.replace(model, weights=str(path)), classes, channels, jax.random.key(0))


@pytest.mark.parametrize(
    ("of", "into", "message"),
    [
        (
            ResNet18(),
            ResNet34(),
            r"80 missing: layer1.block2/conv1/bn/bias, .* and 77 more; it looks like ResNet18: use that model, or weights of ResNet34$",
        ),
        (
            ResNet50(),
            ResNet34(),
            r"layer1.0.conv1.weight \(64, 64, 1, 1\) where \(64, 64, 3, 3\) is needed, .* it looks like ResNet50",
        ),
        (ResNet34(), EfficientNetLite1(), r"178 left over: .* it looks like ResNet34"),
        (EfficientNetLite0(), EfficientNetLite1(), r"it looks like EfficientNetLite0: use that model, or weights of EfficientNetLite1$"),
        (EfficientNetLite1(), EfficientNetLite2(), r"it looks like EfficientNetLite1"),
    ],
)
def test_weights_of_another_network_are_recognised(of: ChainModel, into: ChainModel, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        load(into, drawn(of), tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


def test_a_nearly_fitting_file_is_recognised_and_a_foreign_one_is_not() -> None:
    shapes = {name: array.shape for name, array in drawn(ResNet18()).items()}
    assert pretrained.looks_like(shapes) == "ResNet18"
    few = dict(list(shapes.items())[5:]) | {"extra.weight": (3,)}
    assert pretrained.looks_like(few) == "ResNet18"
    assert pretrained.looks_like({name: (*shape, 1) for name, shape in shapes.items()}) == ""
    assert pretrained.looks_like(dict(list(shapes.items())[:50])) == "" == pretrained.looks_like({})


# ---- Buffers ----


def test_buffers_that_timm_leaves_out_are_no_weights_and_like_names_are_refused(tmp_path: Path) -> None:
    """Published files of SwinV2 that older versions of timm wrote hold masks and tables of positions for one size of images."""
    tensors = drawn(small := SMALL_SWIN(weights=None, cuts=("down1",)))
    block = "layers.0.blocks.1"
    kept = {
        f"{block}.attn_mask": np.zeros((4, 64, 64), np.float32),
        f"{block}.attn.relative_position_index": np.zeros((64, 64), np.int64),
        f"{block}.attn.relative_coords_table": np.zeros((1, 15, 15, 2), np.float32),
    }
    *trees, loaded = load(small, tensors, tmp_path / "without.safetensors")[1:]
    *same, found = load(small, tensors | kept, tmp_path / "with.safetensors")[1:]
    assert jax.tree.all(jax.tree.map(np.array_equal, trees, same))
    assert (found.tensors, found.left_over) == (loaded.tensors, loaded.left_over) and not any(name in kept for name in found.left_over)
    assert pretrained.looks_like({name: array.shape for name, array in (drawn(SwinV2Tiny()) | kept).items()}) == "SwinV2Tiny"
    for name in (f"{block}.attn_masks", f"{block}.attn_mask.weight", f"{block}.attn.index"):
        with pytest.raises(InputError, match=f"1 left over: {name};"):
            load(small, tensors | {name: np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"1 left over: layer1\.0\.attn_mask;"):
        load(ResNet18(), drawn(ResNet18()) | {"layer1.0.attn_mask": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")


# ---- The first convolution ----


@pytest.mark.parametrize("channels", [2, 4, 6, 7])
def test_more_channels_repeat_the_kernels_as_timm_does(channels: int, tmp_path: Path) -> None:
    tensors = drawn(ResNet18())
    network, params, _, _ = load(ResNet18(), tensors, tmp_path / "x.safetensors", channels=channels)
    rgb = tensors["conv1.weight"]
    timm = np.tile(rgb, (1, -(-channels // 3), 1, 1))[:, :channels] * (3 / channels)  # timm.models.adapt_input_conv
    np.testing.assert_allclose(params["early"]["stem"]["conv1"]["kernel"], timm.transpose(2, 3, 1, 0), rtol=1e-6)
    np.testing.assert_array_equal(network.mean, np.resize(np.float32(ResNet18.mean), channels))


def test_an_image_given_twice_and_a_grey_one_see_what_the_image_itself_sees(tmp_path: Path) -> None:
    image = jax.numpy.asarray(np.random.default_rng(0).uniform(size=(1, 32, 32, 3)), np.float32)
    tensors, model = drawn(ResNet18()), ResNet18(cuts=("layer1",))
    seen = {}
    for channels, given in ((3, image), (6, jax.numpy.tile(image, 2))):
        network, params, stats, _ = load(model, tensors, tmp_path / "x.safetensors", channels=channels)
        seen[channels] = network.apply(params, stats, given, stop="late")[0]
    np.testing.assert_allclose(seen[3], seen[6], rtol=1e-4, atol=1e-4)
    # Weights of grey images see in a grey image what they did in training, though ours are repeated over three channels.
    grey = tensors | {"conv1.weight": tensors["conv1.weight"].sum(1, keepdims=True)}
    for weights in (tensors, grey):
        network, params, stats, _ = load(model, weights, tmp_path / "x.safetensors", channels=1)
        network = network.normalised([0.5], [0.25])
        seen[len(weights["conv1.weight"][0])] = network.apply(params, stats, image[..., :1], stop="late")[0]
    np.testing.assert_allclose(seen[1], seen[3], rtol=1e-4, atol=1e-4)


def test_only_the_first_convolution_is_adapted(tmp_path: Path) -> None:
    tensors = drawn(ResNet18())
    for name, shape in (("layer1.0.conv1.weight", (64, 3, 3, 3)), ("conv1.weight", (64, 5, 7, 7)), ("conv1.weight", (64, 3, 5, 5))):
        with pytest.raises(InputError, match=f"1 of the wrong shape: {name} .{str(shape)[1:-1]}"):
            load(ResNet18(), tensors | {name: np.zeros(shape, np.float32)}, tmp_path / "x.safetensors", channels=4)


# ---- Checkpoints of training ----


@pytest.mark.parametrize("kind", ["zip", "old"])
def test_a_checkpoint_with_options_optimizer_and_average_gives_the_tensors_of_the_average(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was built")

    for owner, name in ((argparse.Namespace, "__init__"), (argparse.Namespace, "__setattr__"), (pickle, "loads")):
        monkeypatch.setattr(owner, name, refuse)
    found = read.read_checkpoint(GOLDEN / f"checkpoint_{kind}.pth")
    assert found.inside == ("model_ema",)
    layers = [
        f"module.{i}.{part}" for i, parts in ((0, "weight bias"), (1, "weight bias running_mean running_var")) for part in parts.split()
    ]
    assert set(found.tensors) == {"n_averaged", "module.1.num_batches_tracked", *layers}
    assert found.tensors["module.0.weight"].shape == (2, 3) and (found.tensors["module.1.running_var"] == 1).all()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_is_looked_through(wrapper: str, tmp_path: Path) -> None:
    bare = tensor_pickle()  # {"x": tensor}
    nested = b"\x80\x02}X" + struct.pack("<I", len(wrapper)) + wrapper.encode() + bare[2:-1] + b"s."
    found = read.read_checkpoint(zipped(tmp_path / "a.pth", nested, {"0": SIX}))
    assert found.inside == (wrapper,) and set(found.tensors) == {"x"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.", "model.backbone."])
def test_prefixes_of_wrappers_are_removed_and_named(prefix: str, tmp_path: Path) -> None:
    tensors = drawn(ResNet18())
    body = {f"{prefix}{name}": array for name, array in tensors.items() if not name.startswith("fc.")}
    beside = {"n_averaged": np.zeros(1, np.float32), "criterion.weight": np.ones(3, np.float32), "head.fc.bias": np.ones(3, np.float32)}
    _, params, _, loaded = load(ResNet18(), body | beside, tmp_path / "x.safetensors")
    _, wanted, _, bare = load(ResNet18(), tensors, tmp_path / "y.safetensors")
    assert all((a == b).all() for a, b in zip(*(jax.tree.leaves(tree["early"]) for tree in (params, wanted)), strict=True))
    assert set(loaded.left_over) == set(beside) and loaded.tensors == bare.tensors
    assert f"x.safetensors (names without {prefix}), without" in str(loaded) and loaded.record()["inside"] == f"names without {prefix}"
    assert bare.inside == "" and "inside" not in bare.record()


def test_a_file_with_two_networks_is_refused(tmp_path: Path) -> None:
    tensors = drawn(ResNet18())
    twice = {f"{prefix}{name}": array for name, array in tensors.items() for prefix in ("model.", "module.")}
    with pytest.raises(InputError, match=r"holds the network more than once, under model\. and module\.; save one of them"):
        load(ResNet18(), twice, tmp_path / "x.safetensors")
    part = {f"model.{name}": array for name, array in tensors.items() if name.startswith("layer1")}
    with pytest.raises(InputError, match=r"missing: .*; give weights of ResNet18"):
        load(ResNet18(), part, tmp_path / "x.safetensors")


# ---- The classifier ----


def test_the_classifier_is_kept_on_request(tmp_path: Path) -> None:
    tensors = drawn(ResNet18(), classes=7)
    model = ResNet18(head="classifier")
    network, params, _, loaded = load(model, tensors, tmp_path / "x.safetensors")
    np.testing.assert_array_equal(params["head"]["linear"]["kernel"], tensors["fc.weight"].T)
    np.testing.assert_array_equal(params["head"]["linear"]["bias"], tensors["fc.bias"])
    assert loaded.left_over == () and loaded.tensors == len(tensors) and network.groups == ("early", "late", "head")
    with pytest.raises(
        InputError, match=r'model.head is "classifier"; that of .*x.safetensors has 7 classes, 9 are wanted: use head="new"'
    ):
        load(model, tensors, tmp_path / "x.safetensors", classes=9)
    without = {name: array for name, array in tensors.items() if not name.startswith("fc.")}
    with pytest.raises(InputError, match=r'x.safetensors has none \(fc.bias\), use head="new"'):
        load(model, without, tmp_path / "x.safetensors")
    _, params, _, loaded = pretrained.start(ResNet18(head="classifier", weights=None), 5, 3, jax.random.key(0))
    assert params["head"]["linear"]["kernel"].shape == (512, 5) and loaded.source is None
    with pytest.raises(InputError, match=r"model.head is 'fastai'; use new or classifier"):
        ResNet18(head="fastai")  # type: ignore[arg-type]


# ---- The normalisation ----


def test_mean_and_std_of_the_config_are_the_networks_and_the_logs(tmp_path: Path) -> None:
    said = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "input_size": [3, 288, 288], "crop_pct": 0.9}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": said}))
    network, _, _, loaded = load(ResNet18(), drawn(ResNet18()), tmp_path / "x.safetensors", channels=4)
    np.testing.assert_array_equal(network.mean, np.float32([0.5, 0.4, 0.3, 0.5]))
    np.testing.assert_array_equal(network.std, np.float32([0.2, 0.25, 0.3, 0.2]))
    assert str(loaded).endswith(
        "x.safetensors, without fc.bias, fc.weight; images of mean 0.5 0.4 0.3 and sd 0.2 0.25 0.3 (its config.json), "
        "in training resized to 288 px by bicubic, here the middle 0.9 of the side by area, then bicubic"
    )
    assert network.plain == loaded.plain == PlainView("bicubic", 0.9)
    record = json.loads(json.dumps(loaded.record()))
    assert (
        record["mean"] == [0.5, 0.4, 0.3] and record["plain"] == {"interpolation": "bicubic", "crop": 0.9} and len(record["sha256"]) == 64
    )
    (tmp_path / "config.json").unlink()
    network, _, _, loaded = load(ResNet18(), drawn(ResNet18()), tmp_path / "x.safetensors")
    np.testing.assert_array_equal(network.mean, np.float32(ResNet18.mean))
    assert loaded.record()["std"] == ResNet18.std and "(ResNet18's)" in str(loaded)
    assert network.plain == WHOLE and "plain" not in loaded.record()


def test_plain_images_are_those_of_the_weights_evaluation_but_for_imagenet() -> None:
    said = Facts("its config.json", crop=0.95, interpolation="bicubic")
    assert pretrained.plain_view(ResNet18(), said) == WHOLE  # figures of the default weights do not depend on what can be fetched
    assert pretrained.plain_view(ResNet18("hf-hub:me/birds"), said) == PlainView("bicubic", 0.95)
    assert pretrained.plain_view(ResNet18("hf-hub:me/birds", crop=0.5), said) == PlainView("bicubic", 0.5)
    assert pretrained.plain_view(ResNet18("hf-hub:me/birds"), said._replace(crop=1.15, interpolation="lanczos")) == WHOLE
    assert pretrained.plain_view(ResNet18(None, crop=0.5), None) == PlainView(crop=0.5) == ResNet18(None, crop=0.5).build(2).plain
    assert pretrained.plain_view(ResNet18("a2_in1k")) == PlainView("bicubic", 0.95)  # as recorded, without looking for a file
    with pytest.raises(InputError, match=r"model.crop is 1.5; use a share"):
        ResNet18(crop=1.5)


def test_without_weights_the_trees_come_back(lite: Any) -> None:
    network, params, stats, _ = lite
    new, new_stats, loaded = pretrained.load_into(EfficientNetLite0(weights=None), network, params, stats)
    assert loaded == pretrained.Loaded() and loaded.record() == {} and str(loaded) == "random weights"
    assert all(a is b for a, b in zip(jax.tree.leaves((new, new_stats)), jax.tree.leaves((params, stats)), strict=True))
