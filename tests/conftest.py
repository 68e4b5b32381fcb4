"""Settings of every test: four simulated CPU devices, strict dtypes, and a home and caches that are thrown away.

Compiled programs are kept for the time of the suite in one folder that all its processes share, so that what one worker or subprocess has
compiled no other compiles again.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The scripts that made the golden files need torch.
collect_ignore = ["golden"]

# A shell starts what it leaves in the background deaf to Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)

# jax reads these when it is imported and when its first device is made, so they are set before any test module is.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["MPLBACKEND"] = "Agg"

if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit what the first process sets
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
    for name in ("HF_HOME", "HF_HUB_CACHE", "TFDS_DATA_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ.pop(name, None)
    _shared = tempfile.TemporaryDirectory(prefix="sgdr_jax-tests-")
    for name, variable in {"home": "HOME", "compiled": "JAX_COMPILATION_CACHE_DIR", "matplotlib": "MPLCONFIGDIR"}.items():
        (folder := Path(_shared.name) / name).mkdir(mode=0o700)
        os.environ[variable] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(1 << 30)  # with a limit jax locks the folder, so no process reads half a file


@pytest.fixture(scope="session", autouse=True)
def _caches() -> Iterator[None]:
    """The package keeps downloads and activations under XDG_CACHE_HOME; tests must neither find nor leave any."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield


def pytest_xdist_auto_num_workers() -> int:
    """Run one worker more than there are cores, since some tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1
