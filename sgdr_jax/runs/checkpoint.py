"""Saved states: arrays through orbax, a digest of every file, and whole folders that appear at once or not at all.

    <folder>/<name>/arrays/         the tree, flattened to named arrays, as orbax writes it
    <folder>/<name>/metadata.json   the caller's facts
    <folder>/<name>/manifest.json   SHA-256 and length of each file above; written last

A checkpoint is used only after every file has been read back and its digest found right. A save that was killed leaves nothing that
has the name of a checkpoint; a save over an existing name keeps the old one until the new one is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core.errors import InputError

_log = logging.getLogger(__name__)
_STEP = re.compile(r"stage-(\d+)-step-(\d+)")
_MANIFEST = "manifest.json"


class Damaged(Exception):
    """A checkpoint whose files are not those that were written: one line that names the file and what is wrong."""


class Found(NamedTuple):
    """A checkpoint whose files have been verified.

    Attributes:
        name: to be passed to `restore`.
        metadata: the facts that were saved with it.
    """

    name: str
    metadata: dict[str, Any]


def step_name(stage: int, step: int) -> str:
    """The name of the checkpoint after `step` updates of the stage with index `stage`; `latest` and `prune` order by both numbers.

    >>> step_name(2, 140)
    'stage-2-step-000140'
    """
    return f"stage-{stage}-step-{step:06d}"


def names(folder: str | Path) -> tuple[str, ...]:
    """Names of the step checkpoints in a folder, oldest first; whether they are whole is for `verify` to say."""
    found = [(int(m[1]), int(m[2]), p.name) for p in Path(folder).glob("stage-*") if (m := _STEP.fullmatch(p.name))]
    return tuple(name for _, _, name in sorted(found))


# ---- trees as named arrays ----


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flat(tree: Any) -> dict[str, Any]:
    """Leaf name to leaf. Raises ValueError when two leaves get one name (a dict key with a slash in it)."""
    leaves = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    flat = dict(leaves)
    if len(flat) < len(leaves):
        raise ValueError("two leaves of the tree have the same name; do not use / in the keys of its dicts")
    return flat


def _array(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _spec(leaf: Any) -> list[Any]:
    """Type and shape as JSON data; of what would be saved, so a random key counts as its numbers."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    elif isinstance(leaf, (bool, int, float)):
        leaf = np.asarray(leaf)
    return [np.dtype(leaf.dtype).name, list(leaf.shape)]


def _like(value: np.ndarray, like: Any) -> Any:
    """A saved array as the kind of thing that `like` is, on the devices that it is on."""
    if _is_key(like):
        return jax.device_put(jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(like)), like.sharding)
    if isinstance(like, (bool, int, float)):
        return type(like)(value.item())
    sharding = getattr(like, "sharding", None)
    return value if sharding is None else jax.device_put(value, sharding)


def _checkpointer() -> Any:
    import orbax.checkpoint  # takes half a second to import, which nobody has to wait for before the first update

    here = {jax.process_index()}  # what is saved lies in this host's memory; other hosts neither help nor wait
    options = orbax.checkpoint.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes=here)
    return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=options)


# ---- writing ----


def _digest(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size]


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / _MANIFEST)


def save(folder: str | Path, name: str, tree: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Saves a tree under a name, in place of an older one of that name. Done when it returns.

    Args:
        folder: for all checkpoints of a run; made where missing.
        name: `step_name(…)`, or a name of its own such as "best".
        tree: dicts, tuples, NamedTuples, … of jax or NumPy arrays of any dtype, random keys and Python numbers; replicated arrays
            are saved once.
        metadata: JSON data, such as the position in the data.
    """
    folder = Path(folder).absolute()
    new, old = folder / f".saving-{name}", folder / f".old-{name}"
    _settle(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    arrays = {key: _array(leaf) for key, leaf in _flat(tree).items()}
    facts = {"arrays": {key: _spec(value) for key, value in arrays.items()}, "metadata": dict(metadata or {})}
    (new / "metadata.json").write_text(json.dumps(facts, allow_nan=True), encoding="utf-8")
    with_data = {key: value for key, value in arrays.items() if value.size}  # orbax refuses to save arrays without elements
    if with_data:
        with _checkpointer() as checkpointer:
            checkpointer.save(new / "arrays", with_data)
            checkpointer.wait_until_finished()
    manifest = {str(path.relative_to(new)): _digest(path) for path in _files(new)}
    (new / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    if (folder / name).exists():
        (folder / name).rename(old)
    new.rename(folder / name)
    shutil.rmtree(old, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Ends a replacement that was killed: the old checkpoint comes back where the new one had not yet taken its name."""
    for old in folder.glob(".old-*"):
        target = folder / old.name.removeprefix(".old-")
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)


def prune(folder: str | Path, keep: int, named: Collection[str] = ()) -> None:
    """Deletes all step checkpoints but the newest `keep` ≥ 1 and those in `named`, and what killed saves left. Other names stay."""
    folder = Path(folder)
    for name in names(folder)[: -max(keep, 1)]:
        if name not in named:
            gone = folder / f".saving-{name}"
            shutil.rmtree(gone, ignore_errors=True)
            (folder / name).rename(gone)  # A kill while deleting then leaves no half checkpoint.
    for path in folder.glob(".saving-*"):
        shutil.rmtree(path)


# ---- reading ----


def verify(folder: str | Path, name: str) -> dict[str, Any]:
    """Reads every file of a checkpoint and returns its metadata. Raises Damaged unless all are as they were written."""
    return _facts(folder, name)["metadata"]


def _facts(folder: str | Path, name: str) -> dict[str, Any]:
    path = Path(folder) / name
    if not path.exists():
        _settle(Path(folder))
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        missing = sorted(manifest.keys() ^ {str(p.relative_to(path)) for p in _files(path)})
        wrong = missing or [file for file, digest in manifest.items() if _digest(path / file) != digest]
        if not wrong:
            return json.loads((path / "metadata.json").read_bytes())
    except (OSError, ValueError, AttributeError) as error:
        raise Damaged(f"checkpoint {path} cannot be read: {error}") from error
    raise Damaged(f"checkpoint {path} is damaged: {wrong[0]} is not what was written")


def latest(folder: str | Path) -> Found | None:
    """The newest step checkpoint that is whole, or None. Each damaged one on the way is logged as a warning and passed over."""
    for name in reversed(names(folder)):
        try:
            return Found(name, verify(folder, name))
        except Damaged as error:
            _log.warning("%s; going back to the one before", error)
    return None


def restore(folder: str | Path, name: str, like: Any) -> Any:
    """The saved tree, bit for bit.

    Args:
        folder: as for `save`.
        name: as for `save`.
        like: a tree of the same structure, shapes and dtypes: arrays, or jax.ShapeDtypeStruct. Where its leaf has a sharding, the
            result is a jax array with that sharding, otherwise a NumPy array (or a Python number where `like` has one).

    Raises:
        Damaged: when the checkpoint is not as it was written.
        InputError: when it holds other arrays than `like` does.
    """
    path = Path(folder).absolute() / name
    specs = _facts(folder, name)["arrays"]
    leaves = _flat(like)
    for key in [*leaves, *specs]:
        have, want = specs.get(key), _spec(leaves[key]) if key in leaves else None
        if have != want:
            raise InputError(f"checkpoint {path} has {key} = {have}, but this version of the experiment {want}; use another --run")
    empty = {key: np.empty(shape, dtype) for key, (dtype, shape) in specs.items()}
    targets = {key: value for key, value in empty.items() if value.size}
    if targets:
        with _checkpointer() as checkpointer:
            empty |= checkpointer.restore(path / "arrays", targets)
    return jax.tree.unflatten(jax.tree.structure(like), [_like(empty[key], leaf) for key, leaf in leaves.items()])
