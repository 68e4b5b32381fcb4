"""Code that results depend on, as text that changes when it does: the package's, and the modules that one's own classes run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, cast

from ..core.types import IMPORTED

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of this package."""


def code_only(source: str) -> str:
    """Return what Python source does, as text: equal for sources that differ in comments, docstrings and layout alone.

    Example:
        >>> code_only("def f(x): return 2 * x  # fast") == code_only("def f(x): 'Doubles.'; return (2 * x)")
        True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name, body in ast.iter_fields(node):
            if isinstance(body, list):
                parts = cast(list[Any], body)
                setattr(node, name, [part for part in parts if not _is_text(part)])
    return ast.dump(tree)


def _is_text(node: Any) -> bool:
    """Whether a node is a string that stands alone: the docstring of a module, class, function or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def files_digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the code of Python files, in order."""
    return hashlib.sha256("\0".join(code_only(file.read_text(encoding="utf-8")) for file in files).encode()).hexdigest()


def own_code(values: list[Any]) -> list[str] | None:
    """Return the code behind the values' classes that is not the package's: of the modules that define them, and of all that these import.

    Of an installed library that they import it is the version; a module that is loaded by a name made up at run time is not seen.

    Returns:
        Texts in the order of the modules' names; None where the code is not what runs: there is no file, it may have changed since it was
        read, or a later class has the name now.
    """
    found: dict[str, str] = {}
    try:
        own = {kind for kind in _kinds(values) if not _is_known(kind.__module__)}
        if any(getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is not kind for kind in own):
            return None
        defining = {kind.__module__ for kind in own}
        waiting = sorted(defining)
        while waiting:
            if (name := waiting.pop()) in found:
                continue
            found[name], file = "", _file(name)
            if name in defining if file is None else file.stat().st_mtime >= IMPORTED:
                return None
            if file is None:  # a folder without code of its own, or no module
                continue
            if name not in defining and _is_in(file, _installed()):
                found[name] = str(getattr(sys.modules.get(name.partition(".")[0]), "__version__", ""))
            elif file.suffix not in SOURCE_SUFFIXES:
                found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
            else:
                source = file.read_text(encoding="utf-8")
                found[name] = code_only(source)
                waiting += [other for other in _imports(source, name) if not _is_known(other)]
    except (OSError, ValueError, SyntaxError):
        return None
    return [f"{name} {found[name]}" for name in sorted(found) if found[name]]


def _is_known(module: str) -> bool:
    """Whether a module is the package's, whose code is in every key, or Python's. A user's file may have the name of one of Python's."""
    if module in sys.builtin_module_names:
        return True
    file = _file(module)
    return file is not None and (_is_in(file, (PACKAGE,)) or (_is_in(file, _python()) and not _is_in(file, _installed())))


def _file(module: str) -> Path | None:
    """Return the file of a module, loaded or not; nothing is loaded for it."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        spec = _spec(module)
        file = spec.origin if spec and spec.has_location else None
    return Path(file).resolve() if file else None


def _spec(module: str) -> ModuleSpec | None:
    package = module.rpartition(".")[0]
    with suppress(ImportError, AttributeError, ValueError):  # of a module that is none
        if not package:
            return find_spec(module)
        if package in sys.modules:
            where = getattr(sys.modules[package], "__path__", None)
        else:
            where = (spec := _spec(package)) and spec.submodule_search_locations
        return PathFinder.find_spec(module, where) if where else None
    return None


def _imports(source: str, module: str) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in its source, and the packages that they are in."""
    loaded = sys.modules.get(module)
    package = getattr(loaded, "__package__", None) or (module if hasattr(loaded, "__path__") else module.rpartition(".")[0])
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            with suppress(ImportError):  # beyond the top level, which fails when it runs
                base = resolve_name(base, package) if node.level else base
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]  # which may be modules
        for name in names:
            words = name.split(".")
            yield from (".".join(words[:n]) for n in range(1, len(words) + 1))


def _is_in(file: Path, folders: Iterable[Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of installed libraries."""
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(path).resolve() for path in paths)


@functools.cache
def _python() -> tuple[Path, ...]:
    """Return the folders of Python's own library."""
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def _kinds(value: Any) -> Iterator[type]:
    """Yield the classes, and their bases, of a value and all that it holds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from type(value).__mro__
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for item in cast(list[Any], value) if isinstance(value, list | tuple) else ():
        yield from _kinds(item)
