"""The memory allocator is set up before JAX starts its threads."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgdr_jax.distributed import allocator, backend

HEAPS = """
import ctypes, re, sys
from pathlib import Path
from sgdr_jax.cli.main import main

def heaps(path):
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return len(re.findall("<heap nr", path.read_text()))

folder = Path(sys.argv[1])
main(["train", str(folder / "tiny.py"), "--run", str(folder / "run")])
print("heaps:", heaps(folder / "heaps.xml"))
"""

TINY = """
from sgdr_jax import Experiment, Stage
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from tests.helpers import Tiny

experiment = Experiment("tiny", data=Synthetic(classes=2, train=16, valid=8, test=8, side=8), model=Tiny(), batch_size=8,
    stages=(Stage("head", size=8, train="head", lr=0.01, schedule=Constant(1)),))
"""


@pytest.mark.parametrize("plugins, platform, kept", [([], "cpu", ["before", "after"]), (["cuda"], "cpu", ["after"]), (["cuda"], "gpu", [])])
def test_freed_memory_is_kept_where_the_processor_does_the_steps(monkeypatch, plugins, platform, kept) -> None:
    """Before jax has started its threads, unless a plugin may bring other devices."""
    calls, found = [], [SimpleNamespace(platform=platform)]
    monkeypatch.setattr(backend, "set_up_allocator", allocator.set_up_allocator.__wrapped__)
    monkeypatch.setattr(allocator, "entry_points", lambda group: plugins)
    for module in (allocator, backend):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: calls.append("after" if asked else "before"))
    asked: list[bool] = []
    monkeypatch.setattr(backend.jax, "devices", lambda: asked.append(True) or found)
    assert backend.start_backend() == found and calls == kept


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc_info")
def test_the_threads_of_a_run_share_one_heap(tmp_path) -> None:
    """A run that starts a thread, or asks JAX for anything, before the allocator is set up ends with two heaps, or up to 14."""
    (tmp_path / "tiny.py").write_text(TINY)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    out = subprocess.run([sys.executable, "-c", HEAPS, tmp_path], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert out.returncode == 0 and out.stdout.endswith("heaps: 1\n"), out.stdout + out.stderr
