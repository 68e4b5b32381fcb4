"""Activation cache: inputs of the lowest trained group, computed once and kept on disk under a hash of all that they depend on."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownLambdaType=false
# jax types its functions of trees, gradients and collectives only in part.

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..augment.plain import PlainView
from ..core import sealed
from ..core.files import keep_newest, replacing
from ..core.paths import cache_folder
from ..core.serialization import to_json
from ..core.types import Augmentation, Model
from .code_digest import files_digest, own_code

_log = logging.getLogger(__name__)

SETTINGS = ("jax_threefry_partitionable", "jax_enable_x64", "jax_default_matmul_precision")
"""Settings of jax, by environment variables too, on which random views and activations depend."""


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
        """Return twenty hex digits over the key, the code that computes activations, and jax's version, backend and settings.

        None for an augmentation or a model of the user's own whose code is not known, as in a notebook.
        """
        if (own := own_code([self.model, *self.augmentations])) is None:
            return None
        facts = [self.split, to_json(self.model), self.normalisation, self.plain, self.start, self.size, str(self.dtype)]
        facts += [to_json(self.augmentations), self.views, list(self.draw), _code(), *own, jax.__version__, jax.default_backend()]
        facts += [getattr(jax.config, name) for name in SETTINGS]
        parts = (tree_digest({"images": self.images}), tree_digest(self.body), json.dumps(facts, sort_keys=True))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


@functools.cache
def _code() -> str:
    """Return the SHA-256 over the code that turns images into activations, so that a changed kernel or layer misses the cache."""
    here = Path(__file__).parents[1]
    draws = ("core/types.py", "core/rng.py", "data/sampler.py", "train/image_input.py", "train/steps.py")
    return files_digest(sorted([*here.glob("augment/*.py"), *here.glob("models/*.py"), *(here / name for name in draws)]))


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
