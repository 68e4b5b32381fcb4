"""Loads an experiment file: a Python file that defines `experiment`, an `Experiment`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from .config import Experiment, require
from .types import InputError


def load(path: str | Path) -> Experiment:
    """Runs the file and returns its `experiment`. Raises InputError when the file is missing, fails, or defines none.

    The file is code that the user chose to run; nothing else in the package runs code that it is given.
    """
    path = Path(path)
    require(path.is_file(), "experiment file", str(path), "give the path of a Python file that defines `experiment`")
    name = "experiment_file_" + "".join(c if c.isalnum() else "_" for c in path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    require(spec is not None and spec.loader is not None, "experiment file", str(path), "give a file that ends in .py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses defined in the file look their module up
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:  # it is somebody's program and may fail in any way
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f" at line {lines[-1]}" if lines else ""
        raise InputError(f"{path} cannot be loaded{where}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise InputError(f"{path} has a {type(experiment).__name__} as `experiment`; define `experiment = Experiment(...)`")
    return experiment
