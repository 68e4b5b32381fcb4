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


def environment(commit: str | None = None, devices: Sequence[str] = (), weights: Mapping[str, Any] | None = None) -> Start:
    """Return time, machine, package versions, command line, git commit and weights file of this start.

    Args:
        commit: see `git_commit`.
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
        "commit": commit,
    }


@functools.cache
def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def git_commit(file: str | Path) -> str | None:
    """Return the commit that the folder of a file is at, with "+changes" where tracked files differ from it; None outside git."""
    words = ("git", "-C", str(Path(file).resolve().parent), "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    facts = dict(line[2:].split(" ", 1) for line in done.stdout.splitlines() if line.startswith("# "))
    changed = any(not line.startswith("# ") for line in done.stdout.splitlines())
    return None if (commit := facts["branch.oid"]) == "(initial)" else commit + "+changes" * changed


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
