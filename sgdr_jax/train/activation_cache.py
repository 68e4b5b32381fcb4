"""Activation cache: inputs of the lowest trained group, computed once and kept on disk under a hash of all that they depend on."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from ..augment.plain import PlainView
from ..core import sealed
from ..core.files import keep_newest, replacing
from ..core.paths import cache_folder
from ..core.serialization import to_json
from ..core.types import IMPORTED, Augmentation, Model

_log = logging.getLogger(__name__)


def tree_digest(tree: Any) -> str:
    """Return the SHA-256 over names, shapes, dtypes and bytes of all arrays of a tree.

    Example:
        >>> tree_digest({"a": np.zeros(2)}) == tree_digest({"a": np.zeros(3)})
        False
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ActivationKey:
    """Everything that the activations of a split depend on; a change in any of it misses the cache."""

    images: np.ndarray
    """Pixels of the split, or digests of them."""
    split: str
    """Name of the split."""
    body: Any
    """Parameters and statistics of the frozen groups."""
    model: Model
    """Configuration of the model, for what the parameters do not show."""
    normalisation: tuple[list[float], list[float]]
    """Mean and standard deviation of the images, which come with the weights."""
    plain: PlainView
    """How plain images are made, and of which part of an image views are."""
    start: str
    """Layer group that the activations enter."""
    size: int
    """Side in pixels that the network sees."""
    dtype: Any
    """Dtype of the network's arithmetic."""
    augmentations: tuple[Augmentation, ...]
    """Augmentations of the cached views, () for plain images."""
    views: int
    """Number of augmented copies, 0 for plain images."""
    draw: tuple[Any, ...]
    """Seed, stage and strength, which decide the views' randomness; () for plain images."""

    def digest(self) -> str | None:
        """Return twenty hex digits over the key, the code that computes activations, and jax's version and backend.

        None for an augmentation or a model of the user's own whose code is not known, as in a notebook.
        """
        if (own := _own_code([self.model, *self.augmentations])) is None:
            return None
        facts = [self.split, to_json(self.model), self.normalisation, self.plain, self.start, self.size, str(self.dtype)]
        facts += [to_json(self.augmentations), self.views, list(self.draw), _code(), *own, jax.__version__, jax.default_backend()]
        parts = (tree_digest({"images": self.images}), tree_digest(self.body), json.dumps(facts, sort_keys=True))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


@functools.cache
def _code() -> str:
    """Return the SHA-256 over the code that turns images into activations, so that a changed kernel or layer misses the cache."""
    here = Path(__file__).parents[1]
    draws = ("core/types.py", "core/rng.py", "data/sampler.py", "train/image_input.py", "train/steps.py")
    files = sorted([*here.glob("augment/*.py"), *here.glob("models/*.py"), *(here / name for name in draws)])
    return hashlib.sha256("\0".join(code_only(file.read_text(encoding="utf-8")) for file in files).encode()).hexdigest()


def _own_code(values: list[Any]) -> list[str] | None:
    """Return the code of the modules that define the values' classes outside the package, which tag and fields do not show.

    None where that is not what runs: there is no file, it may have changed since it was read, or a later class has the name now.
    """
    package, code = __name__.partition(".")[0], dict[str, str]()
    for kind in _kinds(values):
        name = kind.__module__
        if name.partition(".")[0] in (package, *sys.stdlib_module_names):
            continue
        module = sys.modules.get(name)
        try:
            file = Path(getattr(module, "__file__", None) or "")
            if file.stat().st_mtime >= IMPORTED or getattr(module, kind.__qualname__, None) is not kind:
                return None
            code[name] = code_only(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            return None
    return [code[name] for name in sorted(code)]


def _kinds(value: Any) -> Iterator[type]:
    """Yield the classes, and their bases, of a value and all that it holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from type(value).__mro__
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for item in cast(list[Any], value) if isinstance(value, list | tuple) else ():
        yield from _kinds(item)


def code_only(source: str) -> str:
    """Return what Python source does, as text: equal for sources that differ in comments, docstrings and layout alone.

    Example:
        >>> code_only("def f(x): return 2 * x  # fast") == code_only("def f(x): 'Doubles.'; return (2 * x)")
        True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name, body in ast.iter_fields(node):
            if isinstance(body, list):
                parts = cast(list[Any], body)
                setattr(node, name, [part for part in parts if not _is_text(part)])
    return ast.dump(tree)


def _is_text(node: Any) -> bool:
    """Whether a node is a string that stands alone: the docstring of a module, class, function or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def cached(
    key: str | None,
    compute: Callable[[], np.ndarray],
    folder: Path | None = None,
    limit: int = 8 << 30,
    all_hosts: Callable[[bool], bool] = bool,
) -> tuple[np.ndarray, bool]:
    """Return the array stored under `key`; compute and store it if the file is missing or, which is logged, damaged.

    Args:
        key: from `ActivationKey.digest`; None computes the array and stores nothing.
        compute: computes the array.
        folder: folder of the cache; None for `cache_folder()/activations`.
        limit: largest size of the folder in bytes; the least recently used files are removed.
        all_hosts: whether a condition holds on every host that computes with this one.

    Returns:
        (array, whether it was in the cache).
    """
    folder = folder or cache_folder() / "activations"
    path = folder / f"{key}.npy"
    try:
        if key is None:  # on this host; the others are asked below all the same
            raise FileNotFoundError
        array = sealed.read(path, key)
        with suppress(OSError):  # owned by another user
            os.utime(path)
        activations = array.view(jax.dtypes.bfloat16) if array.dtype.kind == "V" else array  # .npy knows bfloat16 only as two bytes
    except OSError:
        activations = None
    except sealed.DamagedFile as error:
        _log.warning("cached activations %s: %s; computed anew", path, error)
        activations = None
    if all_hosts(activations is not None) and activations is not None:
        return activations, True
    array = compute()
    if key is None:
        return array, False
    with suppress(OSError):  # a full or read-only disk costs the next run some time, not this run its result
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            sealed.write(file, key, array)
        keep_newest(folder, limit)
    return array, False
