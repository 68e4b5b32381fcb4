"""Settings of every test: four pretended CPU devices, strict dtypes, and caches that are thrown away."""

import os
import tempfile
from collections.abc import Iterator

import pytest

# The scripts that made the golden files need torch.
collect_ignore = ["golden"]

# jax reads these when it is imported and when its first device is made, so they are set before any test module is.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ["MPLBACKEND"] = "Agg"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)


@pytest.fixture(scope="session", autouse=True)
def _caches() -> Iterator[None]:
    """The package keeps downloads and activations under XDG_CACHE_HOME; tests must neither find nor leave any."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        yield
