"""Compilation cache: stores compiled programs on disk between processes, and counts compilations.

jax identifies a program by a hash of the program itself, the versions, the compiler's options, and the type of device down to the features
of the processor, so an entry never serves a different machine. Entries are machine code: whoever can write one runs code in this process,
hence the folder belongs to one user. Each entry of this folder carries a digest of its key and contents, which jax itself does not check:
one that is damaged, or lies under another's name, is compiled again. jax's own variables move the folder (JAX_COMPILATION_CACHE_DIR; its
safety, contents and size are then the user's responsibility) and switch it off (JAX_ENABLE_COMPILATION_CACHE=false).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax._src import compilation_cache as jax_cache  # jax has no public name for what keeps the entries
from jax._src.lru_cache import LRUCache

from ..core.paths import cache_folder
from ..core.validation import require

_log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
"""Maximum size of the folder in bytes; jax evicts the least recently used. The training step of a ResNet-34 takes 0.4 MB on CPU."""

MIN_SECONDS = 0.05
"""Minimum seconds of compilation for a program to be stored: faster ones are hardly faster to read, and every file slows down a new one."""


class Compiled(NamedTuple):
    """Programs compiled or loaded since the process began, or between two points in time: `later - earlier`.

    Attributes:
        programs: their number.
        loaded: number of those that were found on disk.
        seconds: spent compiling them or reading them from disk, summed over threads.
        names: name to (number, seconds) of the programs of that name.
        longest: seconds of the longest compilation since the process began, in which nothing else is noticed.
    """

    programs: int = 0
    loaded: int = 0
    seconds: float = 0.0
    names: Mapping[str, tuple[int, float]] = MappingProxyType({})
    longest: float = 0.0

    def record(self) -> dict[str, Any]:
        """Return the fields as they are read back from JSON."""
        return self._asdict() | {"names": {name: list(made) for name, made in self.names.items()}}

    def __sub__(self, earlier: Compiled) -> Compiled:  # pyright: ignore[reportIncompatibleMethodOverride]
        apart = {
            name: (n - earlier.names.get(name, (0, 0.0))[0], s - earlier.names.get(name, (0, 0.0))[1])
            for name, (n, s) in self.names.items()
        }
        names = {name: made for name, made in apart.items() if made[0]}
        counts = (self.programs - earlier.programs, self.loaded - earlier.loaded, self.seconds - earlier.seconds)
        return Compiled(*counts, names, self.longest)


_total = Compiled()
_lock = threading.Lock()
_listening = False


def _add(programs: int, loaded: int, seconds: float, name: str = "") -> None:
    global _total
    with _lock:
        count, before = _total.names.get(name, (0, 0.0))
        names = {**_total.names, name: (count + programs, before + seconds)} if programs else _total.names
        counts = (_total.programs + programs, _total.loaded + loaded, _total.seconds + seconds)
        _total = Compiled(*counts, names, max(_total.longest, seconds))


def _on_duration(event: str, duration_secs: float, **facts: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":  # also recorded, with the time of reading, for a program found on disk
        name = str(facts.get("fun_name", ""))
        wrapped = re.fullmatch(r"\w+\((.*)\)", name)  # jit(name)
        _add(1, 0, duration_secs, wrapped[1] if wrapped else name)


def _on_event(event: str, **_: object) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _add(0, 1, 0.0)


def compiled() -> Compiled:
    """Return what has been compiled since the first call of this function."""
    global _listening
    with _lock:
        first, _listening = not _listening, True
    if first:
        jax.monitoring.register_event_duration_secs_listener(_on_duration)
        jax.monitoring.register_event_listener(_on_event)
    return _total


def _replaceable(folder: Path) -> bool:
    """Return whether others can rename what lies in a folder, and put something of theirs in its place."""
    facts = folder.stat()
    if facts.st_uid not in (os.getuid(), 0):
        return True
    if facts.st_mode & stat.S_ISVTX:  # as in /tmp: only its owner can rename an entry
        return False
    # A group of one's own is the default of many systems, where folders are writable by it.
    return bool(facts.st_mode & stat.S_IWOTH or (facts.st_mode & stat.S_IWGRP and facts.st_gid != os.getgid()))


class SealedCache(LRUCache):
    """jax's cache with a SHA-256 over key and contents before the contents of every entry.

    Entries have names of their own, so that jax itself, which writes them without, can use the same folder.
    """

    def get(self, key: str) -> bytes | None:
        """Return an entry; None, and remove it, if it is not what was put under this key."""
        entry = super().get(_sealed(key))
        if entry is None or _seal(key, entry[_SEAL:]) == entry[:_SEAL]:
            return entry and entry[_SEAL:]
        _log.warning("the compiled program %s is damaged, or another's; it is compiled again", self.path / key)
        with suppress(OSError):
            os.unlink(self.path / f"{_sealed(key)}-cache")
        return None

    def put(self, key: str, value: bytes) -> None:
        """Put an entry."""
        super().put(_sealed(key), _seal(key, value) + value)


def _sealed(key: str) -> str:
    return f"{key}-sealed"


_SEAL = hashlib.sha256().digest_size


def _seal(key: str, value: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + value).digest()


def _seal_entries_of(folder: str) -> None:
    """Make jax use a `SealedCache` for a folder."""
    plain = jax_cache.get_file_cache

    def opened(path: str) -> Any:
        return (SealedCache(path, max_size=MAX_BYTES), path) if path == folder else plain(path)

    jax_cache.get_file_cache = opened


def enable_compilation_cache(folder: Path | None = None) -> None:
    """Enable jax's compilation cache in `folder`, by default `cache_folder()/compiled`, unless the user has configured or disabled it.

    Raises:
        InputError: when others can write to the folder, or replace it or one of its parents.
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:
        return
    folder = folder or cache_folder() / "compiled"
    try:
        for parent in reversed(folder.absolute().parents):
            with suppress(FileExistsError):
                parent.mkdir(mode=0o755)  # one by one: mkdir(parents=True) would leave it to the umask
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        facts = folder.lstat()
    except OSError:  # no home or a full or read-only disk: the next run compiles again
        return
    safe = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    fix = "others can put programs there, which would run as you"
    require(safe, "compilation cache", str(folder), f"{fix}; remove it, or choose a folder with JAX_COMPILATION_CACHE_DIR")
    parent = next((parent for parent in folder.absolute().parents if _replaceable(parent)), None)
    mend = f"chmod go-w {parent}, or " if parent and parent.stat().st_uid == os.getuid() else ""
    own = f"{fix}, by way of {parent}; {mend}choose a folder with JAX_COMPILATION_CACHE_DIR"
    require(parent is None, "compilation cache", str(folder), own)
    _seal_entries_of(str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    jax.config.update("jax_compilation_cache_dir", str(folder))
