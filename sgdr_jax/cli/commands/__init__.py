"""The commands, a module each with one `Command` that is named for it: `find_lr.py` is `sgdr-jax find-lr`."""

from __future__ import annotations

import importlib
import pkgutil

from ..options import Command


def names() -> tuple[str, ...]:
    """Return the names of all commands, sorted."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def find_command(name: str) -> type[Command]:
    """Import the module of a command and return its class."""
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Command)]
    (command,) = (kind for kind in kinds if kind.__module__ == module.__name__)
    return command
