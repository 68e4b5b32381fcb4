"""Loads experiment files: Python files that define `experiment`, an `Experiment`, or `sweep`, a `Sweep`."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import traceback
from dataclasses import is_dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.experiment import Experiment
from ..core.validation import require

if TYPE_CHECKING:
    from ..sweeps import Sweep


def load_experiment(path: str | Path) -> Experiment:
    """Run the file and return its `experiment`. Raises InputError when the file is missing, fails, or defines none."""
    return _load(path, "experiment", Experiment)


def load_parts(path: str | Path | None) -> tuple[type, ...]:
    """Run the experiment file of a run, if there is one, and return the classes in it that do not come from the package."""
    if path is None:
        return ()
    load_experiment(path)
    kinds = [kind for kind in vars(sys.modules[_module_name(Path(path))]).values() if isinstance(kind, type) and is_dataclass(kind)]
    return tuple(kind for kind in kinds if kind.__module__.partition(".")[0] != __name__.partition(".")[0])


def check_new_file(path: Path, name: str) -> None:
    """Raise InputError, which names the option or argument, where a new experiment file could not be written to this path."""
    require(path.suffix == ".py", name, str(path), "use a name that ends in .py")
    require(not path.exists(), name, str(path), "it is there already; give another name")
    require(path.absolute().parent.is_dir(), name, str(path), "name a file in a folder that exists")


def load_sweep(path: str | Path) -> Sweep:
    """Run the file and return its `sweep`. Raises InputError when the file is missing, fails, or defines none."""
    from ..sweeps import Sweep

    return _load(path, "sweep", Sweep)


class _Uncached(SourceFileLoader):
    """Compiles a file each time: Python would take the bytecode it kept for that of any source of the same size and second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _module_name(path: Path) -> str:
    return "experiment_file_" + "".join(c if c.isalnum() else "_" for c in path.stem)


def _load[T](path: str | Path, name: str, kind: type[T]) -> T:
    """Run the file and return its variable `name`, which must be of a type.

    The file is code that the user chose to run; nothing else in the package runs code that it is given.
    """
    path = Path(path)
    if path.is_dir():
        run = (path / "config.json").is_file() or (path / "sweep.json").is_file()
        fix = "give the Python file that it was made from" if run else f"`sgdr-jax new {shlex.quote(str(path))}` writes one for its images"
        require(False, f"{name} file", str(path), f"it is a folder{' of results' * run}; {fix}")
    require(path.is_file(), f"{name} file", str(path), f"there is no such file; give the path of a Python file that defines `{name}`")
    module_name = _module_name(path)
    require(path.suffix == ".py", f"{name} file", str(path), "give a file that ends in .py")
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_Uncached(module_name, str(path.absolute())))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses defined in the file look their module up
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:  # the file may fail in any way
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.absolute())]
        where = f" at line {lines[-1]}" if lines else ""
        reason = traceback.TracebackException.from_exception(error).format_exception_only()  # with Python's "Did you mean"
        raise InputError(f"{path} cannot be loaded{where}: {' '.join(list(reason)[-1].split())}") from error
    value = getattr(module, name, None)
    if not isinstance(value, kind):
        instead = f"a {type(value).__name__} as `{name}`" if hasattr(module, name) else f"no `{name}`"
        raise InputError(f"{path} has {instead}; define `{name} = {kind.__name__}(...)`")
    return value
