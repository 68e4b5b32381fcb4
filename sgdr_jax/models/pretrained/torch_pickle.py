"""Reads tensors from torch's .pth files without torch, and without running code from the file.

A .pth file is a pickle that calls functions to rebuild tensors; an ordinary unpickler would call any function that it names. Here only the
names that tensors need are known, with inert stand-ins for them. Sizes that the file declares are checked against its actual bytes before
anything is allocated, and tensors are read-only views of these bytes. Checkpoints of training often hold more than tensors: options,
numbers, dates. What is listed as harmless is passed over unread.
Format: torch/serialization.py (`_legacy_save` writes the older format, `_save` the zip format).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ...core.errors import InputError
from .pickle_values import Inert, PickleReader, StateDict

_OLD = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the pickled magic number at the start of the older format
_ZIP = b"PK\x03\x04"
_SHARED = 16  # bound on how often each number is part of a tensor, on average; tied weights are part of two
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # without a NumPy type: widened at the end
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    """Numbers of one type; their position is known only after the pickle has been read."""

    kind: str
    key: str
    length: int

    @property
    def bytes(self) -> int:
        return self.length * np.dtype(_DTYPES[self.kind]).itemsize


class _Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Kind(NamedTuple):
    """Stand-in for a class such as torch.FloatStorage, which a pickle only names."""

    name: str


def _whole(*values: object) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _rebuild_tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> _Tensor:
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 32):
        raise InputError("a tensor is described in an unknown way")
    if not (isinstance(offset, int) and _whole(offset, *shape, *strides)):
        raise InputError("a tensor has negative sizes")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    size = math.prod(shape)
    if size > storage.length or (size and last >= storage.length):
        raise InputError(f"a tensor of shape {shape} reaches beyond its storage of {storage.length} numbers")
    return _Tensor(storage, offset, shape, strides)


def _state_dict(*args: object) -> StateDict:
    if args:
        raise InputError("an ordered dict is described in an unknown way")
    return StateDict()


_HARMLESS: Mapping[str, str] = {
    "argparse": "Namespace",
    "collections": "defaultdict Counter",
    "datetime": "datetime date time timedelta timezone",
    "pathlib": "Path PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "_codecs": "encode",
    "builtins": "set frozenset slice range complex bytearray object list dict tuple int float str bool",
    "copyreg": "_reconstructor",
    "torch": "device Size dtype float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool strided contiguous_format",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.nodes": "AnyNode StringNode IntegerNode FloatNode BooleanNode",
    "typing": "Any",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
}
"""Names of other values in checkpoints, by module. They become `Inert`, whatever they would do elsewhere."""
_NAMES: Mapping[str, object] = {
    f"{module} {name}": Inert()
    for known, names in _HARMLESS.items()
    for module in (known, {"builtins": "__builtin__", "copyreg": "copy_reg"}.get(known, known))  # as protocol 2 spells them
    for name in names.split()
} | {
    "collections OrderedDict": _state_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": lambda data, *_: data,
    **{f"torch {name}": _Kind(name) for name in _DTYPES},
}


def _unpickle(stream: IO[bytes]) -> tuple[object, dict[str, _Storage]]:
    """Read exactly one pickle and return the value and the storages that it refers to."""
    storages: dict[str, _Storage] = {}

    def storage(pid: object) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[1], _Kind)):
            raise InputError("a storage is described in an unknown way")
        _, kind, key, _, length, *view = pid
        if not (isinstance(key, str) and _whole(length) and view in ([], [None])):
            raise InputError("a storage is described in an unknown way")
        new = _Storage(kind.name, key, length)
        if storages.setdefault(key, new) != new:
            raise InputError(f"storage {key} is described in two ways")
        return new

    return PickleReader(_NAMES, storage).read(stream), storages


def is_torch(path: Path) -> bool:
    """Whether the file begins like a .pth file of either format."""
    with path.open("rb") as file:
        begin = file.read(len(_OLD))
    return begin == _OLD or begin.startswith(_ZIP)


class Checkpoint(NamedTuple):
    """Tensors of a weights file.

    Attributes:
        tensors: name to array.
        inside: keys under which they lie in the file, from the outside in.
    """

    tensors: dict[str, np.ndarray]
    inside: tuple[str, ...] = ()


WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "module")
"""Keys under which checkpoints hold the tensors of a network; averages of the weights first, as timm's `load_checkpoint` takes them."""
_DEEPEST = 4  # a mapping may hold itself


def read_torch(path: Path) -> Checkpoint:
    """Read the tensors of a network from a .pth file by name, as read-only arrays, also where it lies under `WRAPPERS`.

    Raises:
        InputError: for a damaged file, or one that contains anything but tensors and harmless values.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            tree, fetch = (_read_zip if zipped else _read_old)(file)
            inside, named = _network(tree)
            used = {tensor.storage.key: tensor.storage.length for tensor in named.values()}
            if sum(math.prod(tensor.shape) for tensor in named.values()) > _SHARED * sum(used.values()):
                raise InputError("its tensors share their numbers in an unknown way")
            data = fetch(used)
        return Checkpoint({name: _array(tensor, data[tensor.storage.key]) for name, tensor in named.items()}, inside)
    except InputError as error:
        raise InputError(f"{path} is refused: {error}") from error
    except Exception as error:  # damaged pickles and archives raise errors of all kinds
        raise InputError(f"{path} is not a readable weights file ({type(error).__name__}: {error}); fetch it again") from error


def _network(tree: object) -> tuple[tuple[str, ...], dict[str, _Tensor]]:
    """Return the keys of the mapping that holds the tensors of a network, and these by name; other values beside them are left out."""
    inside: list[str] = []
    while isinstance(tree, dict) and len(inside) < _DEEPEST:
        key = next((key for key in WRAPPERS if isinstance(tree.get(key), dict) and tree[key]), None)
        if key is None:
            break
        inside.append(key)
        tree = tree[key]
    named = {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, _Tensor)} if isinstance(tree, dict) else {}
    if not named:
        raise InputError("it holds something else than named tensors; save the model's state_dict()")
    return tuple(inside), named


type _Fetch = Callable[[Collection[str]], dict[str, bytes]]


def _array(tensor: _Tensor, data: bytes) -> np.ndarray:
    dtype = np.dtype(_DTYPES[tensor.storage.kind])
    flat = np.frombuffer(data, dtype, tensor.storage.length)
    steps = tuple(step * dtype.itemsize for step in tensor.strides)
    array = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps, writeable=False)
    if tensor.storage.kind == "BFloat16Storage":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _read_zip(file: IO[bytes]) -> tuple[object, _Fetch]:
    """Return the value of the pickle, and a function that reads storages by key while the file is open."""
    archive = zipfile.ZipFile(file)
    members = {member.filename: member for member in archive.infolist()}
    # torch never compresses, so the contents cannot be larger than the file.
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise InputError("its archive is compressed, which torch never does")
    if sum(member.file_size for member in archive.infolist()) > file.seek(0, io.SEEK_END):
        raise InputError("its archive declares more bytes than there are")
    roots = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise InputError("its archive is not one that torch.save makes")
    if f"{roots[0]}/byteorder" in members and archive.read(f"{roots[0]}/byteorder") != b"little":
        raise InputError("it was saved on a big-endian machine")
    tree, storages = _unpickle(io.BytesIO(archive.read(f"{roots[0]}/data.pkl")))
    for key, storage in storages.items():
        member = members.get(f"{roots[0]}/data/{key}")
        if member is None or member.file_size != storage.bytes:
            raise InputError(f"its storage {key} should have {storage.bytes} bytes and has {member.file_size if member else 'none'}")
    return tree, lambda keys: {key: archive.read(members[f"{roots[0]}/data/{key}"]) for key in keys}


def _read_old(file: IO[bytes]) -> tuple[object, _Fetch]:
    """Read as `_read_zip` does, from the older format, in which storages follow one another."""
    file = io.BytesIO(file.read())  # in memory, reading beyond the end allocates nothing
    _unpickle(file)  # the magic number
    protocol, _ = _unpickle(file)
    system, _ = _unpickle(file)
    if protocol != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError("it is of an unknown version, or was saved on a big-endian machine")
    tree, storages = _unpickle(file)
    keys, _ = _unpickle(file)
    if not (isinstance(keys, list) and sorted(keys) == sorted(storages)):
        raise InputError("its list of storages is wrong")
    data = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if length != storages[key].length:
            raise InputError(f"its storage {key} should have {storages[key].length} numbers and declares {length}")
        data[key] = file.read(storages[key].bytes)
        if len(data[key]) != storages[key].bytes:
            raise InputError("it ends too early; fetch it again")
    return tree, lambda keys: {key: data[key] for key in keys}
