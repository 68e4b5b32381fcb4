"""Damage to one file of each kind that a run or a cache keeps, read alone: what was written, or told, never something else in silence."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from sgdr_jax.core import sealed
from sgdr_jax.data.load import load
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.distributed.compilation_cache import SealedCache
from sgdr_jax.evaluation import predictions
from sgdr_jax.runs import checkpoint, data_index
from sgdr_jax.runs.rows import RowFile, read_rows

from . import mutations
from .campaign import Outcome, Silent, Try, outcome_of

TREE = {"state": {"params": np.arange(600, dtype=np.float32).reshape(20, 30), "step": np.int32(7)}, "best": {"a": np.ones(5)}}
RUN = "0123456789ab"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Try]:
    """Open the campaign: one sound file of each kind, and what it holds."""
    sound = folder / "sound"
    shutil.rmtree(sound, ignore_errors=True)
    sound.mkdir()
    with contextlib.ExitStack() as stack:
        kinds = {
            "checkpoints": _checkpoints(sound),
            "rows": _rows(sound),
            "cached activations": _activations(sound),
            "cached pixels": _pixels(sound, stack),
            "compiled programs": _programs(sound),
            "list of images": _index(sound),
            "predictions": _predictions(sound),
        }
        logging.disable(logging.WARNING)  # what is told; whether it is right is compared below
        stack.callback(logging.disable, logging.NOTSET)

        def attempt(seed: int) -> Outcome:
            random, part = Random(f"files {seed}"), list(kinds)[seed % len(kinds)]
            place = folder / "case"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(sound / part, place)
            _damage(place, random)
            return outcome_of(part, lambda: kinds[part](place))

        yield attempt


def _damage(place: Path, random: Random) -> None:
    """Damage one file in a folder; sometimes exchange two of them, remove or rename one."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    one, other = random.choice(files), random.choice(files)
    how = random.randrange(12)
    if how == 0:
        one.unlink()
    elif how == 1 and one != other:
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif how == 2:
        one.write_bytes(other.read_bytes())
    elif how == 3 and one.suffix in (".json", ".jsonl"):
        one.write_bytes(mutations.json_text(one.read_bytes().splitlines()[0], random))
    elif how == 4:
        steps = sorted(path for path in place.glob("stage-*"))
        if len(steps) == 2:
            steps[0].rename(place / "aside")
            steps[1].rename(steps[0])
            (place / "aside").rename(steps[1])
    else:
        one.write_bytes(mutations.damaged(one.read_bytes(), random))


def _same(found: Any, wanted: Any) -> str:
    """Return "same", or "told" for None: nothing usable was found and it is made again. Raises Silent for anything else."""
    if found is None:
        return "told"
    if isinstance(wanted, np.ndarray):
        equal = isinstance(found, np.ndarray) and found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()
    else:
        equal = found == wanted
    if not equal:
        raise Silent(f"{str(found)[:80]} instead of {str(wanted)[:80]}")
    return "same"


def _checkpoints(sound: Path) -> Callable[[Path], str]:
    steps = {checkpoint.step_name(0, step): step for step in (7, 8)}
    for name, step in steps.items():
        tree = {**TREE, "state": {**TREE["state"], "step": np.int32(step)}}
        checkpoint.save(sound / "checkpoints", name, tree, {"stage": 0, "step": step, "seconds": 1.5}, RUN)

    def read(place: Path) -> str:
        found = next(checkpoint.good(place, RUN), None)
        if found is None:
            return "told"
        restored = checkpoint.restore(place, found.name, TREE, RUN)
        step = found.metadata["step"]
        assert steps[found.name] == step
        _same(int(restored["state"]["step"]), step)
        _same(restored["best"]["a"], TREE["best"]["a"])
        return _same(restored["state"]["params"], TREE["state"]["params"])

    return read


def _rows(sound: Path) -> Callable[[Path], str]:
    (sound / "rows").mkdir()
    file = RowFile(sound / "rows" / "metrics.jsonl")
    for step in range(12):
        row = {"kind": "train", "stage": "all", "stage_index": 0, "step": step, "epoch": step / 4, "loss": 1 / (step + 1)}
        file.append(row | {"lr": {"head": 0.1}, "momentum": 0.9, "seconds": 0.5})  # type: ignore[arg-type]
    count, digest = file.mark()
    file.close()
    wanted = read_rows(sound / "rows" / "metrics.jsonl")

    def read(place: Path) -> str:
        found = RowFile(place / "metrics.jsonl")
        try:
            if not found.holds(count, digest):
                return "told"
            found.truncate(count)
            return _same(found.rows(), wanted)
        finally:
            found.close()

    return read


def _activations(sound: Path) -> Callable[[Path], str]:
    arrays = {"a": np.arange(5000, dtype=np.float32), "b": np.ones((7, 3), np.float16)}
    (sound / "cached activations").mkdir()
    for name, array in arrays.items():
        with (sound / "cached activations" / f"{name}.npy").open("wb") as file:
            sealed.write(file, name, array)

    def read(place: Path) -> str:
        outcome = "same"
        for name, array in arrays.items():
            try:
                _same(sealed.read(place / f"{name}.npy", name), array)
            except (sealed.DamagedFile, OSError):  # as `activation_cache.cached`, which computes them anew
                outcome = "told"
        return outcome

    return read


def _pixels(sound: Path, stack: contextlib.ExitStack) -> Callable[[Path], str]:
    import os
    from unittest import mock

    rng, photos, cache = np.random.default_rng(0), sound.parent / "photos", sound / "cached pixels"
    shutil.rmtree(photos, ignore_errors=True)
    for i in range(12):
        path = photos / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    source = ImageFolder(str(photos), valid_fraction=0.25).open()
    environment = stack.enter_context(mock.patch.dict(os.environ, XDG_CACHE_HOME=str(cache)))

    def images() -> np.ndarray:
        data = load(source, canvas=16)
        return np.concatenate([data.images[split][np.arange(len(data.images[split]))] for split in ("train", "valid")])

    wanted = images()

    def read(place: Path) -> str:
        environment["XDG_CACHE_HOME"] = os.environ["XDG_CACHE_HOME"] = str(place)
        return _same(images(), wanted)

    return read


def _programs(sound: Path) -> Callable[[Path], str]:
    programs = {name: Random(name).randbytes(3000) for name in ("jit_a-1", "jit_b-2")}
    cache = SealedCache(str(sound / "compiled programs"), max_size=1 << 30)
    for name, program in programs.items():
        cache.put(name, program)

    def read(place: Path) -> str:
        cache = SealedCache(str(place), max_size=1 << 30)
        return "told" if "told" in [_same(cache.get(name), program) for name, program in programs.items()] else "same"

    return read


def _index(sound: Path) -> Callable[[Path], str]:
    index: Any = {"names": {"train": ["a.png", "b.png"]}, "classes": ["x", "y"], "digests": {"train": [1, 2]}}
    (sound / "list of images").mkdir()
    data_index.write_index(sound / "list of images", index)
    return lambda place: _same(data_index.read_index(place), index)


def _predictions(sound: Path) -> Callable[[Path], str]:
    (sound / "predictions").mkdir()
    kind = predictions.ExamplePredictions(np.array([0, 1, 2, 1]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.8, 0.7, 0.6]))
    predictions.save(sound / "predictions", "test", ["a", "b", "c", "d"], np.array([0, 1, 1, 1]), (kind, kind))
    wanted = str(predictions.load(sound / "predictions", "test"))

    def read(place: Path) -> str:
        found = predictions.load(place, "test")
        return _same(found if found is None else str(found), wanted)

    return read
