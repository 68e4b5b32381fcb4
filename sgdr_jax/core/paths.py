"""Folder of caches that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of caches: `$XDG_CACHE_HOME/sgdr_jax`, by default `~/.cache/sgdr_jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgdr_jax"
