"""Reads the tensors of a network from weight files, and finds them under the prefixes of wrappers. Nothing in a file is run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...core.errors import InputError
from .torch_pickle import Checkpoint, is_torch, read_torch


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a weights file by name, see `read_checkpoint`."""
    return read_checkpoint(path).tensors


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the tensors of a network from a weights file: safetensors, or torch's .pth in its zip and its older format.

    The file cannot run code: the pickle in a .pth may only rebuild tensors, other values beside them are not built. The arrays are
    read-only; bfloat16 becomes float32.

    Raises:
        InputError: for a file that is missing, damaged, of another format, or contains what no checkpoint needs.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; give the path of a .safetensors or .pth file")
    _check_beginning(path)
    if is_torch(path):
        return read_torch(path)
    import ml_dtypes
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dict)
            odd = next((name for name in kinds if kinds[name] not in _KINDS), None)
            if odd is not None:
                raise InputError(f"{path}: tensor {odd} is of type {kinds[odd]}; convert it to F32, or give one of {', '.join(_KINDS)}")
            arrays = {name: file.get_tensor(name) for name in kinds}
    except InputError:
        raise
    except Exception as error:  # shapes that NumPy cannot hold raise errors of many kinds
        raise InputError(f"{path} cannot be read ({error}): it is cut off, damaged, or of another format; fetch it again") from error
    wide = {name: array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array for name, array in arrays.items()}
    return Checkpoint(wide)


_PREFIX = re.compile(r"(?:(?:module|_orig_mod|model|backbone)\.)*")
"""What wrappers put in front of the names of a network: torch's DataParallel, `torch.compile`, Lightning, OpenMMLab."""


class Named(NamedTuple):
    """The tensors of a network without the prefix of their wrapper.

    Attributes:
        tensors: name to array.
        prefix: that was removed.
        beside: names of the file's other tensors.
    """

    tensors: dict[str, np.ndarray]
    prefix: str = ""
    beside: tuple[str, ...] = ()


def without_prefix(path: Path, tensors: Mapping[str, np.ndarray], known: Iterable[str]) -> Named:
    """Find the prefix (module., _orig_mod., model., backbone., or several of them) under which most of the known names lie.

    Args:
        path: of the file, for messages.
        tensors: of the file.
        known: names of the network's tensors, without prefix.

    Raises:
        InputError: two networks lie under two prefixes.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        match = _PREFIX.match(name)
        prefix = match[0] if match else ""
        groups.setdefault(prefix, {})[name[len(prefix) :]] = array
    wanted = set(known)
    counts = {prefix: len(wanted & set(group)) for prefix, group in groups.items()}
    best = max(counts, key=lambda prefix: (counts[prefix], prefix == ""), default="")
    if not (counts and counts[best] and best):
        return Named(dict(tensors))
    equal = [prefix for prefix in counts if counts[prefix] == counts[best]]
    if len(equal) > 1:
        both = " and ".join(prefix or "no prefix" for prefix in equal)
        raise InputError(f"{path} holds the network more than once, under {both}; save one of them")
    beside = tuple(name for name in tensors if name[: len(best)] != best or name[len(best) :] not in groups[best])
    return Named(groups[best], best, beside)


_KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
"""Types of tensors in safetensors files that are read."""


def _check_beginning(path: Path) -> None:
    """Raise InputError for what is often downloaded instead of weights: a pointer of Git LFS, a web page, nothing."""
    with path.open("rb") as file:
        begin = file.read(256)
    if begin.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer instead of the weights; run git lfs pull, or download the file itself")
    if begin.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise InputError(f"{path} is a web page instead of the weights; download the file itself")
    if not begin:
        raise InputError(f"{path} is empty; fetch it again")
