"""Checkpoints: arrays saved by orbax, a digest of every file, folders that appear whole or not at all.

    <folder>/<name>/arrays/         the tree, flattened to named arrays, as orbax writes it
    <folder>/<name>/metadata.json   name, run, types and shapes of the arrays, and the caller's metadata
    <folder>/<name>/manifest.json   SHA-256 and length of each file above; written last

A checkpoint is restored only under the name and by the run that saved it, after the digest of every file has been verified. A save that
is killed leaves nothing under the name of a checkpoint; a save over an existing name keeps the old checkpoint until the new one is
complete.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import logging
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core.errors import InputError
from ..core.files import flush_folder, flush_tree, is_full, require_space

_log = logging.getLogger(__name__)
_STEP = re.compile(r"stage-(\d+)-step-(\d+)")
_MANIFEST = "manifest.json"
_BESIDE = 1 << 20  # bytes of a checkpoint besides its arrays, ample


class DamagedCheckpoint(InputError):
    """A checkpoint whose files are not those that were written, or that was saved under another name or by another run."""


class VerifiedCheckpoint(NamedTuple):
    """A checkpoint whose files have been verified.

    Attributes:
        name: for `restore`.
        metadata: saved with it.
    """

    name: str
    metadata: dict[str, Any]


def step_name(stage: int, step: int) -> str:
    """Return the name of the checkpoint after `step` updates of stage `stage`; `good` and `prune` order by both.

    >>> step_name(2, 140)
    'stage-2-step-000140'
    """
    return f"stage-{stage}-step-{step:06d}"


def cycle_name(stage: int, cycle: int) -> str:
    """Return the name of the network at the end of a cycle of stage `stage`.

    >>> cycle_name(2, 1)
    'stage-2-cycle-0001'
    """
    return f"stage-{stage}-cycle-{cycle:04d}"


def _positions(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Map the step checkpoints of a folder, oldest first, to (stage, updates done), without verifying them."""
    positions = [((int(m[1]), int(m[2])), p.name) for p in Path(folder).glob("stage-*") if (m := _STEP.fullmatch(p.name))]
    return {name: position for position, name in sorted(positions)}


def names(folder: str | Path) -> tuple[str, ...]:
    """List the step checkpoints of a folder, oldest first, without verifying them."""
    return tuple(_positions(folder))


def steps(folder: str | Path, stage: int) -> tuple[int, ...]:
    """List the updates after which a stage has step checkpoints, in order, without verifying them."""
    return tuple(step for at, step in _positions(folder).values() if at == stage)


# ---- trees as named arrays ----


def _flat(tree: Any) -> dict[str, Any]:
    """Map leaf names to leaves. Raises ValueError where two leaves share a name (a dict key with a slash)."""
    leaves = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    flat = dict(leaves)
    if len(flat) < len(leaves):
        raise ValueError("two leaves of the tree have the same name; do not use / in the keys of its dicts")
    return flat


def _spec(leaf: Any) -> list[Any]:
    """Return type and shape of an array, as JSON data."""
    return [np.dtype(leaf.dtype).name, list(leaf.shape)]


def _checkpointer() -> Any:
    import orbax.checkpoint  # Half a second to import, which the first update need not wait for.

    here = {jax.process_index()}  # The arrays lie in this host's memory; other hosts neither contribute nor wait.
    options = orbax.checkpoint.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes=here)
    handler = orbax.checkpoint.StandardCheckpointHandler(multiprocessing_options=options)
    # StandardCheckpointer does the same in a thread, which would only be waited for.
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=options)


# ---- writing ----


def _unless_raised(record: logging.LogRecord) -> bool:
    """Keep a log record unless it tells of what orbax raises as well."""
    return "orbax" not in record.getMessage() if record.name == "asyncio" else record.exc_info is None


@contextlib.contextmanager
def _raised_only() -> Iterator[None]:
    """Raise what fails in the block, without what orbax's threads and tasks tell of it: hundreds of lines where a disk is full."""
    loggers, hook = [logging.getLogger(name) for name in ("absl", "asyncio")], sys.unraisablehook

    def unless_late(error: Any) -> None:
        if str(error.exc_value) != "Event loop is closed":  # of writes that were under way when another had failed
            hook(error)

    for logger in loggers:
        logger.addFilter(_unless_raised)
    sys.unraisablehook = unless_late
    yield
    for logger in loggers:  # not where one write has failed: the others end, and their tasks are collected, after it
        logger.removeFilter(_unless_raised)
    sys.unraisablehook = hook


def _digest(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size]


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / _MANIFEST)


def save(folder: str | Path, name: str, tree: Any, metadata: Mapping[str, Any] | None = None, run: str = "") -> None:
    """Save a tree under a name, replacing an older checkpoint of that name. Returns when it is complete on disk.

    Args:
        folder: folder of all checkpoints of a run; created where missing.
        name: `step_name(…)`, or another name such as "best".
        tree: dicts, tuples, NamedTuples, … of jax or NumPy arrays of any dtype; replicated arrays are saved once.
        metadata: JSON data saved with the arrays.
        run: identifies the run: `core.serialization.config_hash`.

    Raises:
        InputError: where the disk has no room, also after older step checkpoints but the newest are removed.
    """
    folder = Path(folder).absolute()
    arrays = {key: np.asarray(leaf) for key, leaf in _flat(tree).items()}
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(value.nbytes for value in arrays.values()) + _BESIDE
    if shutil.disk_usage(folder).free < needed:
        prune(folder, keep=1)
    # Before it writes: orbax reports a full disk as hundreds of lines from several threads.
    require_space(folder, needed, f"checkpoint {name}")
    try:
        _save(folder, name, arrays, metadata, run)
    except Exception as error:
        _remove_unfinished(folder, name)
        require_space(folder, needed, f"checkpoint {name}")  # Another process has filled the disk meanwhile.
        if is_full(error):
            fix = f"it filled up while checkpoint {name} of {needed:,} bytes was saved; free some, then repeat the command with --resume"
            raise InputError(f"free space of {folder} is {shutil.disk_usage(folder).free:,} bytes; {fix}") from error
        raise


_SAVES = itertools.count()
"""Numbers the saves of this process: threads of one that failed may still write into its folder while the next one saves."""


def _remove_unfinished(folder: Path, name: str) -> None:
    for left in folder.glob(f".saving-{glob.escape(name)}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _save(folder: Path, name: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None, run: str) -> None:
    new, old = folder / f".saving-{name}-{next(_SAVES)}", folder / f".old-{name}"
    _settle(folder)
    _remove_unfinished(folder, name)
    new.mkdir(parents=True)
    facts = {"name": name, "run": run, "arrays": {key: _spec(value) for key, value in arrays.items()}, "metadata": dict(metadata or {})}
    (new / "metadata.json").write_text(json.dumps(facts, allow_nan=True), encoding="utf-8")
    with_data = {key: value for key, value in arrays.items() if value.size}  # orbax refuses arrays without elements
    if with_data:
        with _raised_only(), _checkpointer() as checkpointer:
            checkpointer.save(new / "arrays", with_data)
    manifest = {str(path.relative_to(new)): _digest(path) for path in _files(new)}
    (new / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    flush_tree(new)
    if (folder / name).exists():
        (folder / name).rename(old)
    new.rename(folder / name)
    flush_folder(folder)
    flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Finish a replacement that was killed: restore the old checkpoint unless the new one already has its name."""
    for old in folder.glob(".old-*"):
        target = folder / old.name.removeprefix(".old-")
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)


KEEP = 2
"""Step checkpoints that a run keeps: one to resume from, and one in case that is damaged."""


def prune(folder: str | Path, keep: int = KEEP, named: Collection[str] = ()) -> None:
    """Delete all step checkpoints but the newest `keep` ≥ 1 and those in `named`, and the remains of killed saves."""
    _delete(Path(folder), [name for name in names(folder)[: -max(keep, 1)] if name not in named])


def drop_later(folder: str | Path, stage: int, step: int) -> None:
    """Delete the step checkpoints of what came after `step` updates of a stage."""
    _delete(Path(folder), [name for name, position in _positions(folder).items() if position > (stage, step)])


def _delete(folder: Path, gone: Sequence[str]) -> None:
    """Delete checkpoints, and the remains of killed saves."""
    for name in gone:
        aside = folder / f".saving-{name}"
        shutil.rmtree(aside, ignore_errors=True)
        (folder / name).rename(aside)  # A kill while deleting then leaves no half checkpoint.
    for path in folder.glob(".saving-*"):
        shutil.rmtree(path, ignore_errors=True)


# ---- reading ----


def verify(folder: str | Path, name: str, run: str = "") -> dict[str, Any]:
    """Verify the digests of all files of a checkpoint, its name and its run; return its metadata. Raises DamagedCheckpoint."""
    return _facts(folder, name, run)["metadata"]


def _facts(folder: str | Path, name: str, run: str) -> dict[str, Any]:
    path = Path(folder) / name
    if not path.exists():
        _settle(Path(folder))
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        missing = sorted(manifest.keys() ^ {str(p.relative_to(path)) for p in _files(path)})
        wrong = missing or [file for file, digest in manifest.items() if _digest(path / file) != digest]
        facts = {} if wrong else json.loads((path / "metadata.json").read_bytes())
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read: {error}") from error
    if wrong:
        raise DamagedCheckpoint(f"checkpoint {path} is damaged: {wrong[0]} is not what was written")
    saved_as, saved_by = facts.get("name") or _position(facts["metadata"]) or name, facts.get("run") or run
    if saved_as != name:
        raise DamagedCheckpoint(f"checkpoint {path} was saved as {saved_as}")
    if run and saved_by != run:
        raise DamagedCheckpoint(f"checkpoint {path} was saved by another run, of config {saved_by}; this is {run}")
    return facts


def _position(metadata: Mapping[str, Any]) -> str:
    """Return the name by which an early version, which did not record it, saved a step checkpoint or a cycle end; "" for others."""
    if "cycle" in metadata:
        return cycle_name(metadata["stage"], metadata["cycle"])
    return step_name(metadata["stage"], metadata["step"]) if "step" in metadata and "stage" in metadata else ""


def good(folder: str | Path, run: str = "") -> Iterator[VerifiedCheckpoint]:
    """Yield the step checkpoints of a run, newest first; damaged ones and those of other runs are skipped with a logged warning."""
    for name in reversed(names(folder)):
        try:
            verified = VerifiedCheckpoint(name, verify(folder, name, run))
        except DamagedCheckpoint as error:
            _log.warning("%s; falling back to the one before", error)
        else:
            yield verified


def restore(folder: str | Path, name: str, like: Any, run: str = "") -> Any:
    """Restore a saved tree of NumPy arrays, bit for bit.

    Args:
        folder: as for `save`.
        name: as for `save`.
        like: a tree of the same structure, shapes and dtypes: arrays, or jax.ShapeDtypeStruct.
        run: as for `save`; "" to restore the checkpoint of any run.

    Raises:
        DamagedCheckpoint: where a file, the name or the run differs from what was written.
        InputError: where the checkpoint holds other arrays than `like`.
    """
    path = Path(folder).absolute() / name
    specs = _facts(folder, name, run)["arrays"]
    leaves = _flat(like)
    for key in [*leaves, *specs]:
        have, want = specs.get(key), _spec(leaves[key]) if key in leaves else None
        if have != want:
            raise InputError(f"checkpoint {path} has {key} = {have}, but this version of the experiment {want}; use another run folder")
    empty = {key: np.empty(shape, dtype) for key, (dtype, shape) in specs.items()}
    targets = {key: value for key, value in empty.items() if value.size}
    if targets:
        with _checkpointer() as checkpointer:
            empty |= checkpointer.restore(path / "arrays", targets)
    return jax.tree.unflatten(jax.tree.structure(like), [empty[key] for key in leaves])
