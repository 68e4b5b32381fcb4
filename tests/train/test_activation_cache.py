"""The activation cache: a key that sees everything the activations depend on, and files that can be missing, damaged or too many."""

import inspect
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdr_jax.augment import Flip, Rotate
from sgdr_jax.augment.choice import Slot
from sgdr_jax.augment.plain import WHOLE, PlainView
from sgdr_jax.cli.experiment_file import load_experiment
from sgdr_jax.core import sealed
from sgdr_jax.core.errors import InputError
from sgdr_jax.core.paths import cache_folder, expanded
from sgdr_jax.train import activation_cache
from sgdr_jax.train.activation_cache import ActivationKey, cached, tree_digest

from ..helpers import Tiny, host_state

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
PARAMS, STATS = host_state()
FACTS: dict[str, Any] = {
    "images": IMAGES,
    "split": "train",
    "body": [{"early": PARAMS["early"]}, {"early": STATS["early"]}],
    "model": Tiny(),
    "normalisation": ([0.4, 0.5, 0.6], [0.3, 0.2, 0.25]),
    "plain": WHOLE,
    "start": "late",
    "size": 32,
    "dtype": jnp.float32,
    "augmentations": (Flip(), Rotate(5)),
    "views": 2,
    "draw": (0, 1),
}


def poked(array: np.ndarray, index: int = 0) -> np.ndarray:
    """The array with the lowest bit of one byte changed."""
    raw = bytearray(array.tobytes())
    raw[index] ^= 1
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


def body_with(part: int, *path: str) -> list[Any]:
    """The body with the lowest bit of one of its arrays changed."""
    import copy

    body = copy.deepcopy(FACTS["body"])
    tree = body[part]["early"]
    for name in path[:-1]:
        tree = tree[name]
    tree[path[-1]] = poked(tree[path[-1]])
    return body


CHANGES: dict[str, list[Any]] = {
    "images": [poked(IMAGES), poked(IMAGES, -1), IMAGES[:2], IMAGES[::-1], IMAGES.reshape(3, 2, 8, 3)],
    "split": ["valid"],
    "body": [
        body_with(0, "first", "kernel"),
        body_with(0, "first", "bn", "scale"),
        body_with(1, "first", "bn", "mean"),
        body_with(1, "first", "bn", "var"),
        [{"late": PARAMS["early"]}, {"late": STATS["early"]}],
    ],
    "model": [Tiny(cuts=()), Tiny(hidden=4)],
    "normalisation": [([0.4, 0.5, 0.5], [0.3, 0.2, 0.25]), ([0.4, 0.5, 0.6], [0.3, 0.2, 0.2])],
    "plain": [PlainView("bicubic"), PlainView(crop=0.9)],
    "start": ["head"],
    "size": [33],
    "dtype": [jnp.bfloat16],
    "augmentations": [(), (Flip(),), (Rotate(5), Flip()), (Flip(), Rotate(6)), (Flip(0.4), Rotate(5))],
    "views": [0, 3],
    "draw": [(), (1, 1), (0, 2)],
}


def test_the_changes_cover_every_ingredient() -> None:
    assert set(CHANGES) == set(FACTS) == set(inspect.signature(ActivationKey).parameters)


@pytest.mark.parametrize("name", CHANGES)
def test_changing_an_ingredient_misses_the_cache(name: str, tmp_path: Path) -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.zeros(1)

    assert not cached(ActivationKey(**FACTS).digest(), compute, tmp_path)[1]
    assert cached(ActivationKey(**FACTS).digest(), compute, tmp_path)[1] and len(calls) == 1
    keys = [ActivationKey(**FACTS | {name: value}).digest() for value in CHANGES[name]]
    for key in keys:
        assert not cached(key, compute, tmp_path)[1]
    assert len(calls) == 1 + len(keys) == len(set(keys)) + 1


def test_the_jax_version_and_the_backend_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ActivationKey(**FACTS).digest()
    with monkeypatch.context() as patch:
        patch.setattr(activation_cache.jax, "__version__", "0.0.1")
        assert ActivationKey(**FACTS).digest() != key
    with monkeypatch.context() as patch:
        patch.setattr(activation_cache.jax, "default_backend", lambda: "gpu")
        assert ActivationKey(**FACTS).digest() != key
    assert ActivationKey(**FACTS).digest() == key


def test_a_setting_that_decides_random_views_is_part_of_the_key() -> None:
    def draws() -> tuple[str | None, list[float]]:
        return ActivationKey(**FACTS).digest(), jax.random.uniform(jax.random.key(0), (5,)).tolist()

    key, numbers = draws()
    jax.config.update("jax_threefry_partitionable", False)
    try:
        other, others = draws()
    finally:
        jax.config.update("jax_threefry_partitionable", True)
    assert numbers != others and key != other and draws() == (key, numbers)


OWN = """
from dataclasses import dataclass
import sgdr_jax
from sgdr_jax.augment import Rotate
from tests.helpers import Tiny, experiment

TURN = 1

class Base:
    def turned(self):
        return TURN

@dataclass(frozen=True)
class Turn(Base, Rotate):
    def matrix(self, u, s):
        return self.turned() * super().matrix(u, s)

@dataclass(frozen=True)
class Own(Tiny):
    def modules(self, channels):
        return dict(reversed(super().modules(channels).items()))

experiment = experiment(augment=(Turn(5),), model=Own())
"""
OF: dict[str, Any] = {
    "an augmentation": lambda own: {"augmentations": (Rotate(5), own.augment[0])},
    "one within another": lambda own: {"augmentations": (Slot((None, own.augment[0]), 0, 1),)},
    "a model": lambda own: {"model": own.model},
}


def loaded(file: Path, text: str) -> Any:
    """The experiment of a file that was written before this process began."""
    file.write_text(text)
    os.utime(file, (1000, 1000))
    return load_experiment(file)


@pytest.mark.parametrize("name", OF)
def test_code_of_the_users_own_is_part_of_the_key(name: str, tmp_path: Path) -> None:
    """After an edit the activations of the code before it were trained on; tag and fields are the same."""
    file, keys = tmp_path / "own.py", []
    for text in (OWN, OWN.replace("TURN = 1", "TURN = 2"), OWN.replace("reversed", "sorted"), "# the same\n" + OWN):
        keys.append(ActivationKey(**FACTS | OF[name](loaded(file, text))).digest())
    assert None not in keys and len(set(keys)) == 3 and keys[0] == keys[3]


@pytest.mark.parametrize("name", OF)
def test_what_is_computed_by_code_that_is_not_known_is_not_kept(name: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    own = loaded(file, OWN)
    key = ActivationKey(**FACTS | OF[name](own))
    assert key.digest()
    os.utime(file)  # edited while the run goes on
    assert key.digest() is None
    loaded(file, OWN)  # into other classes
    assert key.digest() is None
    cell = dict[str, Any](__name__="__main__")
    exec(OWN, cell)
    assert ActivationKey(**FACTS | OF[name](cell["experiment"])).digest() is None
    asked = list[bool]()
    for value in (1, 2):
        array, found = cached(None, lambda value=value: np.full(1, value), tmp_path / "cache", all_hosts=lambda x: asked.append(x) or x)
        assert array == value and not found and not (tmp_path / "cache").exists()
    assert asked == [False, False]  # as on the other hosts


def test_a_digest_sees_names_shapes_types_and_values_but_not_the_order_of_names() -> None:
    tree = {"a": np.zeros(4, np.float32), "b": {"c": np.ones(2, np.int32)}}
    digest = tree_digest(tree)
    assert tree_digest({"b": {"c": jnp.ones(2, jnp.int32)}, "a": jnp.zeros(4)}) == digest
    others = [
        {"x": tree["a"], "b": tree["b"]},
        {"a": tree["a"], "b": {"d": tree["b"]["c"]}},
        {"a": tree["a"], "b": tree["b"]["c"]},
        tree | {"a": np.zeros((2, 2), np.float32)},
        tree | {"a": np.zeros(4, np.int32)},
        tree | {"a": -tree["a"]},  # -0.0
        tree | {"a": tree["a"].astype(jnp.bfloat16)},
        {"a": tree["a"]},
        {},
    ]
    assert len({tree_digest(other) for other in others} | {digest}) == len(others) + 1
    image = np.arange(12).reshape(3, 4)
    assert tree_digest({"a": image.T}) == tree_digest({"a": image.T.copy()}) != tree_digest({"a": image.reshape(4, 3)})


def never() -> np.ndarray:
    raise AssertionError("computed although it was there")


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, jnp.bfloat16])
def test_what_is_kept_comes_back_bit_for_bit(dtype: Any, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(dtype)
    first, found = cached("key", lambda: array, tmp_path / "new" / "folder")
    assert first is array and not found
    again, found = cached("key", never, tmp_path / "new" / "folder")
    assert found and again.dtype == array.dtype and again.shape == array.shape and again.tobytes() == array.tobytes()
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["key.npy"]


def test_a_damaged_file_is_computed_anew_and_told_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = np.arange(6.0).reshape(2, 3)
    cached("key", lambda: array, tmp_path)
    path = tmp_path / "key.npy"
    whole = path.read_bytes()
    cut = [whole[:n] for n in (0, 1, 5, 7, 9, 40, 100, len(whole) - 1)]
    flipped = [whole[:i] + bytes([byte ^ 1 << i % 8]) + whole[i + 1 :] for i, byte in enumerate(whole)]
    for damaged in [*cut, *flipped, b"x" * len(whole), b"\0" * 10, b"PK\x03\x04" + whole[4:], whole + b"more"]:
        path.write_bytes(damaged)
        caplog.clear()
        again, found = cached("key", lambda: array.copy(), tmp_path)
        assert not found and again.tobytes() == array.tobytes() and again.dtype == array.dtype
        (record,) = caplog.records
        assert f"cached activations {path}: " in record.message and record.message.endswith("; computed anew")
        assert path.read_bytes() == whole and cached("key", never, tmp_path)[1]


def test_the_file_of_another_key_is_not_used(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("two", 2.0)):
        cached(name, lambda value=value: np.full(3, value), tmp_path)
    (tmp_path / "two.npy").replace(tmp_path / "one.npy")
    again, found = cached("one", lambda: np.full(3, 1.0), tmp_path)
    assert not found and again.tolist() == [1, 1, 1]


def test_a_file_that_could_run_code_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "key.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    again, found = cached("key", lambda: np.zeros(1), tmp_path)
    assert not found and again.dtype == np.float64


def test_the_files_unused_for_longest_make_room(tmp_path: Path) -> None:
    array = np.zeros(1000, np.uint8)
    cached("one", lambda: array, tmp_path / "one")
    size = (tmp_path / "one" / "one.npy").stat().st_size
    (tmp_path / "one" / "one.npy").unlink()
    (tmp_path / "one").rmdir()

    def files() -> set[str]:
        return {file.stem for file in tmp_path.iterdir()}

    for age, name in enumerate("abc"):
        cached(name, lambda: array, tmp_path, limit=3 * size + 9)
        os.utime(tmp_path / f"{name}.npy", (1000 + age, 1000 + age))
    assert files() == {"a", "b", "c"}
    cached("a", never, tmp_path, limit=3 * size)  # Now b has gone unused for longest.
    cached("d", lambda: array, tmp_path, limit=3 * size)
    assert files() == {"a", "c", "d"}
    assert cached("e", lambda: np.zeros(9000, np.uint8), tmp_path, limit=3 * size)[0].size == 9000
    assert len(list(tmp_path.iterdir())) <= 3  # What is over the limit alone is used, but not kept.


def test_a_disk_that_cannot_be_written_costs_no_result_and_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cached("key", lambda: np.ones(1), tmp_path / "file" / "folder")[0] == 1

    def full(file: Any, name: str, array: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed, "write", full)
    folder = tmp_path / "folder"
    assert cached("key", lambda: np.ones(1), folder)[0] == 1
    assert list(folder.iterdir()) == []


def test_the_cache_is_under_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sgdr_jax"
    cached("key", lambda: np.ones(1))
    assert (tmp_path / "sgdr_jax" / "activations" / "key.npy").exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/sgdr_jax")


def test_without_a_home_the_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", none)
    with pytest.raises(InputError, match=r"'~/\.cache' has no home; set HOME, and XDG_CACHE_HOME for caches elsewhere"):
        cache_folder()
    with pytest.raises(InputError, match="'~nobody-here/x' has no home; there is no such user"):
        expanded("~nobody-here/x")
