"""Runs that are known only after others: further seeds of `--until`, and those of the best trial."""

import os
import subprocess
import sys

import pytest

from sgdr_jax.cli.launch.local import free_port

from .test_shared_queue import ROOT


def start(folder, kind, *group) -> subprocess.Popen:
    words = [sys.executable, "-W", "ignore", "-m", "tests.jobs.further_runs", str(folder), kind, *group]
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_worker_without_a_store_executes_the_further_seeds(tmp_path):
    output, _ = (process := start(tmp_path / "sweep", "until")).communicate(timeout=120)
    assert process.returncode == 0 and output.splitlines()[-1] == "further 18 finished", output


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "last"), [("until", "further 18 finished"), ("search", "further 1 finished")])
def test_the_processes_of_a_group_execute_them_together(tmp_path, kind, last):
    port = str(free_port())
    group = [start(tmp_path / "sweep", kind, port, str(i)) for i in range(2)]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in group]
    finally:
        for process in group:
            process.kill()
    for process, output in zip(group, outputs, strict=True):
        assert process.returncode == 0 and output.splitlines()[-1] == last, output
