"""Folders: of caches that are kept between runs, and of runs."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError


def cache_folder() -> Path:
    """Return the folder of caches: `$XDG_CACHE_HOME/sgdr_jax`, by default `~/.cache/sgdr_jax`. Raises InputError without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache")) / "sgdr_jax"


def run_folder(folder: object) -> Path:
    """Return a run folder as an absolute path, since a notebook may change its folder. Raises InputError for what is no path."""
    if isinstance(folder, str | Path):
        return Path(folder).absolute()
    raise InputError(f"folder is {folder!r}; give the path of a run folder")


def expanded(path: str | Path) -> Path:
    """Return a path with the user's home in place of "~". Raises InputError without a home.

    >>> expanded("photos").name
    'photos'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        fix = "there is no such user" if str(path)[1:2] not in ("", "/") else "set HOME, and XDG_CACHE_HOME for caches elsewhere"
        raise InputError(f"{str(path)!r} has no home; {fix}") from error
