"""Folder of caches that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError


def cache_folder() -> Path:
    """Return the folder of caches: `$XDG_CACHE_HOME/sgdr_jax`, by default `~/.cache/sgdr_jax`. Raises InputError without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sgdr_jax"
    except RuntimeError as error:
        raise InputError("HOME is not set, and this user has no home; set it, or XDG_CACHE_HOME to a folder for caches") from error
