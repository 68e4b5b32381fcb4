"""Any number of devices, by jit or pmap, is one device: the same losses, parameters and statistics, and no byte more than needed said."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from filelock import FileLock

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.optimizers import AdamW
from sgdr_jax.core.state import TrainState
from sgdr_jax.data.loader import row_gather
from sgdr_jax.distributed import mesh
from sgdr_jax.distributed.mesh import SHARD_FROM, devices
from sgdr_jax.train.steps import TrainStep

from ..helpers import GROUPS, SGD, batch, fresh, hyper, network, on, same_bits

KEY = jax.random.key(7)
STAGES = ("cached head", "head", "all", "larger", "AdamW")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of stage trained on eight pretended devices in float32 and float64; this process has four."""
    shared = tmp_path_factory.getbasetemp()
    out = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "devices"
    with FileLock(f"{out}.lock"):  # one of several workers does it for all
        if not (out / "communication.json").exists():
            out.mkdir(exist_ok=True)
            command = [sys.executable, "-W", "error", "-m", "tests.jobs.devices", str(out), "8"]
            done = subprocess.run(
                command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=os.environ | {"XLA_FLAGS": ""}
            )
            assert done.returncode == 0, done.stderr[-2000:]
    return out


def trained(job: Path, spread: str, stage: str) -> dict[str, np.ndarray]:
    """Losses, validation, parameters and statistics of twenty updates."""
    with np.load(job / f"{spread}-{stage}.npz") as found:
        return dict(found)


def apart(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference in each array, relative to its largest entry."""
    assert some.keys() == others.keys() and len(others["losses"]) == 20 and len(others) > 12
    assert others["losses"].std() > 1e-3
    return {name: float(np.abs(some[name] - value).max() / np.abs(value).max()) for name, value in others.items() if value.any()}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("spread", ["jit-2", "jit-4", "jit-8", "pmap-2", "pmap-4", "pmap-8", "jit-sharded-4"])
def test_twenty_updates_of_any_stage_are_those_of_one_device(job: Path, stage: str, spread: str) -> None:
    """In float64, where a fault is still a fault and rounding is none: measured 2e-14."""
    many, one = trained(job, f"float64-{spread}", stage), trained(job, "float64-jit-1", stage)
    assert all(value.dtype == np.float64 for value in one.values())
    found = apart(many, one)
    assert max(found.values()) <= 1e-11, found


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [2, 4, 8])
def test_rounding_is_that_of_one_device(job: Path, stage: str, count: int) -> None:
    """In float32: within 1e-5 of one device (measured 3e-6), and no farther from the float64 run than four times one device (1.4)."""
    many, one, truth = (trained(job, name, stage) for name in (f"float32-jit-{count}", "float32-jit-1", "float64-jit-1"))
    found = apart(many, one)
    assert max(found.values()) <= 1e-5, found
    own, theirs = (np.sqrt(np.mean(np.square(list(apart(run, truth).values())))) for run in (one, many))
    assert own > 1e-8 and theirs <= 4 * own, (own, theirs)


@pytest.mark.slow
def test_an_update_communicates_its_trained_parameters_and_hardly_more(job: Path) -> None:
    found = json.loads((job / "communication.json").read_text())
    assert found.pop("rows") == {"augmented": [], "forward": []}
    for name, traffic in found.items():
        assert traffic["other"] == 0 and traffic["parameters"] <= traffic["reduced"] <= 1.05 * traffic["parameters"], name
    assert found["jit head"]["parameters"] < found["jit 1"]["parameters"] < found["jit all"]["parameters"]
    assert found["pmap all"] == found["jit all"]


def test_pmap_is_jit_to_the_last_bit() -> None:
    """The same step over the same parts with the same collectives, in two ways."""
    images, labels, weight = batch()
    weight[-1] = 0
    states: list[Any] = []
    for backend in ("jit", "pmap"):
        mesh = devices(Parallel(4, backend))
        step, state = mesh.compile_step(TrainStep(network(), SGD, GROUPS, GROUPS)), fresh(GROUPS, 4)
        for _ in range(2):
            before = state
            state, sums = step(state, hyper(0.01, 0.03, 0.1), *mesh.scatter((images, labels, weight)), KEY)
        assert jax.tree.leaves(before.params)[0].is_deleted()
        assert all(leaf.sharding == mesh.whole for leaf in jax.tree.leaves(state))
        states.append((state, sums))
    assert same_bits(*states)


def test_a_sharded_network_lies_in_parts_and_stays_so() -> None:
    mesh = devices(Parallel(4, sharded=True))
    assert mesh.home((3, SHARD_FROM)).shard_shape((3, SHARD_FROM)) == (3, SHARD_FROM // 4)
    assert mesh.home((SHARD_FROM + 1, 1)).is_fully_replicated and mesh.home((4, 4)).is_fully_replicated

    def step(state: TrainState) -> tuple[TrainState, Any]:
        return jax.tree.map(lambda x: x + 1, state), {"loss": state.params["head"].sum()}

    big = np.ones((8, SHARD_FROM), np.float32)
    state = mesh.hold(TrainState(np.float32(0), {"head": big}, {}, {"momentum": big}))
    for _ in range(2):
        state, sums = mesh.compile_step(step)(state)
        for leaf in (state.params["head"], state.opt_state["momentum"]):
            assert leaf.addressable_shards[0].data.shape == (8, SHARD_FROM // 4)
    assert sums["loss"].is_fully_replicated and float(sums["loss"]) == 2 * big.size and float(state.params["head"][0, 0]) == 3


def test_pmap_refuses_a_sharded_network() -> None:
    with pytest.raises(InputError, match=r"parallel\.sharded is True; pmap copies the network"):
        Parallel(backend="pmap", sharded=True)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int32, jax.numpy.bfloat16])
def test_rows_that_are_shared_out_come_back_to_the_bit(kind: Any) -> None:
    """Ten rows on four devices; any device may ask for any, several times."""
    whole = np.random.default_rng(0).uniform(0, 255, (10, 3, 2)).astype(kind)
    if kind == np.float32:
        whole[9, 0], whole[3, 0] = -0.0, np.nan
    spread = on(4).spread(whole)
    assert spread.shape == (12, 3, 2) and spread.addressable_shards[0].data.shape == (3, 3, 2)
    for index in ([9, 0, 3, 3, 8, 1, 2, 9], [0] * 8):
        for integer in (np.int32, np.uint32):
            index = np.array(index, integer)
            taken = row_gather(on(4))(spread, on(4).scatter(index))
            assert same_bits(taken, whole[index]) and taken.addressable_shards[0].data.shape == (2, 3, 2)


def test_devices_read_the_rows_that_they_hold_and_no_others() -> None:
    asked = []

    class Spy:
        shape = (10, 2)

        def __getitem__(self, index: slice) -> np.ndarray:
            asked.append((index.start, index.stop))
            return np.zeros((index.stop - index.start, 2), np.uint8)

    on(4).spread(Spy())
    assert sorted(asked) == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_adam_with_clipping_is_the_same_over_parts() -> None:
    """The norm of the gradients is that of the whole batch's."""
    images, labels, weight = batch()
    results = []
    for count in (1, 4):
        mesh, optimizer = on(count), AdamW(clip=0.01)
        step = mesh.compile_step(TrainStep(network(), optimizer, ("head",), ("head",)))
        pooled = np.asarray(network().apply(*(jax.device_get(t) for t in fresh(GROUPS)[1:3]), images, stop="head")[0])
        state, _ = step(fresh(("head",), count, optimizer), hyper(0.1), *mesh.scatter((pooled, labels, weight)), KEY)
        results.append(jax.device_get(state.params["head"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


def test_compiler_options_are_for_a_gpu_that_knows_them_and_give_way_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    options, option = mesh.FAST_COMPILATION, "xla_gpu_experimental_enable_fusion_autotuner"
    monkeypatch.setattr(mesh, "_compiler_options", mesh._compiler_options.__wrapped__)
    monkeypatch.delenv("XLA_FLAGS")
    assert mesh._compiler_options("cpu") is None and on(1).compiler_options is None
    assert mesh._compiler_options("gpu") == options  # they are known to every build of XLA, not only to those with a GPU
    monkeypatch.setenv("XLA_FLAGS", f"--{option}=true")
    assert mesh._compiler_options("gpu") == {name: value for name, value in options.items() if name != option}
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    real = jax.jit
    unknown = {"xla_gpu_no_such_option": False}
    monkeypatch.setattr(jax, "jit", lambda function, compiler_options: real(function, compiler_options=unknown))
    assert mesh._compiler_options("gpu") is None
