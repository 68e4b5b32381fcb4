"""Environment of a run: what its numbers may depend on besides the experiment, recorded at every start."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import without_password
from .records import Start

_PACKAGES = ("sgdr_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "tensorflow-datasets", "array_record")


def process() -> str:
    """Return what identifies this process to a person: its number and the host's name."""
    return f"process {os.getpid()} on {platform.node()}"


def environment(experiment_file: str | Path | None = None, devices: Sequence[str] = (), weights: Mapping[str, Any] | None = None) -> Start:
    """Return time, machine, package versions, command line, git commit and weights file of this start.

    Args:
        experiment_file: its folder is asked for the git commit; None asks nothing.
        devices: names of the accelerators in use (this module does not import jax).
        weights: from `models.pretrained.load.Loaded.record`.
    """
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "process": process(),
        "command": [without_password(word) for word in sys.argv],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "devices": list(devices),
        "weights": dict(weights or {}),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _git_commit(Path(experiment_file).resolve().parent) if experiment_file is not None else None,
    }


@functools.cache
def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit(folder: Path) -> str | None:
    """Return the commit that `folder` is at, with "+changes" where tracked files differ from it; None outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
