"""Checkpoints: bit for bit there and back, and never a damaged or half-written one."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sgdr_jax.core.errors import InputError
from sgdr_jax.runs import checkpoint
from sgdr_jax.runs.checkpoint import DamagedCheckpoint


class State(NamedTuple):
    step: Any
    params: Any
    slots: Any = None


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


def example(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    every_bit = rng.integers(0, 2**16, 500, dtype=np.uint16)
    return State(
        step=jnp.int32(7),
        params={
            "head": {"w": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32), "b.x": jnp.asarray(every_bit).view(jnp.bfloat16)},
            "early": {"nan": jnp.asarray([np.nan, -0.0, np.inf, 1e-45], jnp.float32), "empty": jnp.zeros((0, 3))},
        },
        slots=(np.arange(4, dtype=np.uint32), {}, (jax.random.key_data(jax.random.key(3)), np.array(True), np.float64(0.1))),
    )


def test_round_trip_is_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    tree = example()
    checkpoint.save(tmp_path, "best", tree, {"epoch": 1.5, "lowest": float("inf"), "names": ["a"]})
    back = checkpoint.restore(tmp_path, "best", example(1))
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert bits(back) == bits(tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(back))
    assert checkpoint.verify(tmp_path, "best") == {"epoch": 1.5, "lowest": float("inf"), "names": ["a"]}
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert "".join(capfd.readouterr()) == ""


def test_shapes_and_nothing_are_trees_too(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "a", {"w": np.ones(2, np.float32)})
    assert checkpoint.restore(tmp_path, "a", {"w": jax.ShapeDtypeStruct((2,), np.float32)})["w"].tolist() == [1, 1]
    checkpoint.save(tmp_path, "nothing", {})
    assert checkpoint.restore(tmp_path, "nothing", {}) == {}


def test_arrays_on_several_devices_are_saved_whole(tmp_path: Path) -> None:
    mesh = Mesh(np.array(jax.devices()), ("data",))
    for spec in (PartitionSpec(), PartitionSpec("data")):
        tree = {"w": jax.device_put(np.arange(8.0, dtype=np.float32), NamedSharding(mesh, spec))}
        checkpoint.save(tmp_path, "a", tree)
        assert bits(checkpoint.restore(tmp_path, "a", tree)) == bits(tree)


def test_another_structure_is_refused_with_the_name_of_the_array(tmp_path: Path) -> None:
    w = np.ones((2, 3), np.float32)
    checkpoint.save(tmp_path, "a", {"head": {"w": w}})
    for like in ({"head": {"w": w.T}}, {"head": {"w": w.astype(np.float64)}}, {"head": {}}):
        with pytest.raises(InputError, match=r"has head/w = .*float32.*2, 3\]"):
            checkpoint.restore(tmp_path, "a", like)
    with pytest.raises(InputError, match="has head/b = None"):
        checkpoint.restore(tmp_path, "a", {"head": {"w": w, "b": w}})
    with pytest.raises(ValueError, match="same name"):
        checkpoint.save(tmp_path, "b", {"a/b": w, "a": {"b": w}})


def files_of(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for step in (90, 100):
        checkpoint.save(folder, checkpoint.step_name(0, step), {"w": np.full(300, step, np.float32)}, {"step": step})
    return folder


def test_any_damage_falls_back_to_the_one_before(two: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest = checkpoint.step_name(0, 100)
    assert next(checkpoint.good(two), None) == (newest, {"step": 100})

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    damages = {
        "flip": flip,
        "truncate": lambda path: os.truncate(path, path.stat().st_size - 1),
        "empty": lambda path: os.truncate(path, 0),
        "delete": lambda path: path.unlink(),
    }
    files = [file for file in files_of(two / newest) if (two / newest / file).stat().st_size]
    assert len(files) > 5
    for file in files:
        for kind, damage in damages.items():
            folder = tmp_path / kind / str(file).replace("/", "-")
            shutil.copytree(two, folder)
            damage(folder / newest / file)
            caplog.clear()
            found = next(checkpoint.good(folder), None)
            assert found == (checkpoint.step_name(0, 90), {"step": 90}), f"{kind} of {file}"
            assert newest in caplog.text and "falling back" in caplog.text
            with pytest.raises(DamagedCheckpoint, match=newest):
                checkpoint.restore(folder, newest, {"w": np.zeros(300, np.float32)})
            assert checkpoint.restore(folder, found.name, {"w": np.zeros(300, np.float32)})["w"][0] == 90


def test_files_manifest_and_folders_reach_the_disk_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real, rename = os.fsync, Path.rename

    def fsync(file: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    def renamed(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    checkpoint.save(tmp_path / "all", "best", {"w": np.ones(3)})
    at = done.index("rename")
    new = next(Path(path) for path in done if Path(path).name.startswith(".saving-best"))
    saved = [new / path.relative_to(tmp_path / "all" / "best") for path in (tmp_path / "all" / "best").rglob("*")]
    assert len(saved) > 8 and {*map(str, saved), str(new)} <= set(done[:at])
    assert {str(tmp_path / "all"), str(tmp_path)} <= set(done[at:])


def test_a_checkpoint_is_known_by_its_name_and_its_run(tmp_path: Path) -> None:
    like = {"w": np.zeros(3)}
    for run, name in (("ours", "stage-0-step-000001"), ("theirs", "stage-0-step-000002")):
        checkpoint.save(tmp_path, name, {"w": np.ones(3)}, {}, run)
    assert [found.name for found in checkpoint.good(tmp_path, "ours")] == ["stage-0-step-000001"]
    assert [found.name for found in checkpoint.good(tmp_path)] == ["stage-0-step-000002", "stage-0-step-000001"]
    with pytest.raises(DamagedCheckpoint, match="was saved by another run, of config theirs; this is ours"):
        checkpoint.restore(tmp_path, "stage-0-step-000002", like, "ours")
    (tmp_path / "stage-0-step-000001").rename(tmp_path / "stage-0-step-000003")
    with pytest.raises(InputError, match="stage-0-step-000003 was saved as stage-0-step-000001"):
        checkpoint.restore(tmp_path, "stage-0-step-000003", like)
    assert next(checkpoint.good(tmp_path, "ours"), None) is None


def test_nothing_to_restore(tmp_path: Path) -> None:
    assert next(checkpoint.good(tmp_path / "none"), None) is None
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        checkpoint.restore(tmp_path, "best", {})


def test_newest_is_by_number_and_pruning_keeps_what_is_named(tmp_path: Path) -> None:
    tree = {"w": np.ones(1, np.float32)}
    for stage, step in ((10, 1), (2, 1_000_000), (2, 999_999), (9, 5)):
        checkpoint.save(tmp_path, checkpoint.step_name(stage, step), tree)
    checkpoint.save(tmp_path, "best", tree)
    (tmp_path / ".saving-stage-3-step-000001").mkdir()
    (tmp_path / "stage-notes.txt").write_text("mine")
    assert checkpoint.names(tmp_path) == ("stage-2-step-999999", "stage-2-step-1000000", "stage-9-step-000005", "stage-10-step-000001")
    checkpoint.prune(tmp_path, keep=2, named=("stage-2-step-999999",))
    kept = ["best", "stage-10-step-000001", "stage-2-step-999999", "stage-9-step-000005", "stage-notes.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == kept
    assert next(checkpoint.good(tmp_path), None) == ("stage-10-step-000001", {})


@pytest.mark.parametrize("moment", ["orbax", "manifest", "rename old", "rename new"])
def test_a_kill_while_saving_leaves_the_previous_one(tmp_path: Path, moment: str) -> None:
    """The process dies at each stage of a save over "best"; whatever it leaves, "best" can be restored."""
    code = f"""
import os, signal, sys
from pathlib import Path
import numpy as np
from sgdr_jax.runs import checkpoint

folder, moment = Path({str(tmp_path)!r}), {moment!r}
checkpoint.save(folder, "best", {{"w": np.full(9, 1.0)}})

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "orbax":
    import orbax.checkpoint
    orbax.checkpoint.StandardCheckpointHandler.finalize = die  # what it calls before the last rename
elif moment == "manifest":
    checkpoint._digest = die
else:
    real, calls = Path.rename, []
    def rename(self, target):
        own = self.name == "best" or self.name.startswith(".saving-best")
        calls.extend([1] * own)
        if own and len(calls) == (1 if moment == "rename old" else 2):
            die()
        return real(self, target)
    Path.rename = rename
checkpoint.save(folder, "best", {{"w": np.full(9, 2.0)}})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoint.restore(tmp_path, "best", {"w": np.zeros(9)})["w"][0] == 1
    checkpoint.save(tmp_path, "best", {"w": np.full(9, 3.0)})
    assert checkpoint.restore(tmp_path, "best", {"w": np.zeros(9)})["w"][0] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_a_kill_before_the_old_one_is_deleted_keeps_the_new_one(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        checkpoint.save(tmp_path, "best", {"w": np.full(3, value)})
        if value == 1.0:
            shutil.copytree(tmp_path / "best", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / ".old-best")
    assert checkpoint.restore(tmp_path, "best", {"w": np.zeros(3)})["w"][0] == 2
    checkpoint.save(tmp_path, "best", {"w": np.zeros(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_metadata_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path, "a", {}, {"x": object()})
    assert json.loads(json.dumps(next(checkpoint.good(tmp_path), None))) is None


def test_saving_twenty_megabytes_is_quick(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tree = {f"layer{i}": rng.normal(size=(100, 500)).astype(np.float32) for i in range(100)}
    seconds = []
    for i in range(3):
        start = time.perf_counter()
        checkpoint.save(tmp_path, f"c{i}", tree)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2, seconds  # About 0.25 s on an idle machine; the bound allows for a busy one.
