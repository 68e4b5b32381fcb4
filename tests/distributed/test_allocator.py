"""Memory that the steps of a run free is kept for its next ones."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgdr_jax.distributed import backend

FAULTS = """
import resource, sys
from pathlib import Path
from sgdr_jax.cli.main import main

folder = Path(sys.argv[1])
main(["train", str(folder / "tiny.py"), "--run", str(folder / "run")])

import jax, jax.numpy as jnp

@jax.jit
def step(x):  # neither of the two sorted arrays can share memory with the other, or with the sum
    return jnp.sum(jnp.sort(x) * jnp.sort(-x))

x = jnp.ones((1 << 16, 512))
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print("faults:", *(faults() for _ in range(4)))
"""

TINY = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment("tiny", data=Synthetic(classes=2, train=16, valid=8, test=8, side=8), model=Tiny(), batch_size=8,
    stages=(Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)),))
"""


@pytest.mark.parametrize("platform, kept", [("cpu", True), ("gpu", False)])
def test_freed_memory_is_kept_where_the_processor_does_the_steps(monkeypatch, platform, kept) -> None:
    """The thread that is to keep it must be chosen before JAX starts, and then JAX can tell what does the steps."""
    calls: list[str] = []
    monkeypatch.setattr(backend, "compute_in_calling_thread", lambda: calls.append("thread"))
    monkeypatch.setattr(backend, "keep_freed_memory", lambda: calls.append("keep"))
    monkeypatch.setattr(backend.jax, "devices", lambda: calls.append("start") or [SimpleNamespace(platform=platform)])
    backend.start_backend()
    assert calls == ["thread", "start", *["keep"] * kept]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc")
def test_a_step_of_a_run_takes_no_new_pages(tmp_path) -> None:
    """A run that asks JAX for anything before its backend is set up, or that gives memory back, takes 65,536 at each step."""
    (tmp_path / "tiny.py").write_text(TINY)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "PYTHONPATH": str(Path(__file__).parents[2])}
    out = subprocess.run(
        [sys.executable, "-c", FAULTS, tmp_path], env=os.environ | flags, capture_output=True, text=True, timeout=300, check=False
    )
    assert out.returncode == 0, out.stderr
    *_, last = out.stdout.splitlines()
    assert last.startswith("faults: ") and max(map(int, last.split()[2:])) < 1000, last
