"""Fine-tuning recipe for image classifiers (layer groups, learning-rate finder, SGDR, TTA), compiled with JAX.

The names below are what experiment files need. Each is imported at its first use, and jax only by what computes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import augment, datasets, models, schedules, sweeps
    from .cli.experiment_file import load_experiment
    from .core.errors import InputError
    from .core.experiment import Eval, Experiment, Parallel, Stage
    from .core.learning_rates import Decay, Find, Spread
    from .core.optimizers import AdamW, Lamb, Muon, Sgd
    from .core.plan import plan
    from .core.snapshots import Snapshots
    from .core.solve import Solve
    from .recipes.fine_tune import fine_tune
    from .recipes.lesson2 import Lesson2, lesson2
    from .runs.run import run
    from .schedules import Sgdr
    from .session import Session, load
    from .train.layer_groups import group_labels, trained_mask

__all__ = [
    "AdamW",
    "Decay",
    "Eval",
    "Experiment",
    "Find",
    "InputError",
    "Lamb",
    "Lesson2",
    "Muon",
    "Parallel",
    "Session",
    "Sgd",
    "Sgdr",
    "Snapshots",
    "Solve",
    "Spread",
    "Stage",
    "augment",
    "datasets",
    "fine_tune",
    "group_labels",
    "lesson2",
    "load",
    "load_experiment",
    "models",
    "plan",
    "run",
    "schedules",
    "sweeps",
    "trained_mask",
]
__version__ = "0.1.0"

_MODULES = {
    "core.errors": "InputError",
    "core.experiment": "Eval Experiment Parallel Stage",
    "core.learning_rates": "Decay Find Spread",
    "core.optimizers": "AdamW Lamb Muon Sgd",
    "core.plan": "plan",
    "core.snapshots": "Snapshots",
    "core.solve": "Solve",
    "schedules": "Sgdr",
    "recipes.lesson2": "Lesson2 lesson2",
    "recipes.fine_tune": "fine_tune",
    "runs.run": "run",
    "cli.experiment_file": "load_experiment",
    "session": "Session load",
    "train.layer_groups": "group_labels trained_mask",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name or a room at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME.get(name)
    value = getattr(import_module(f".{home}", __name__), name) if home else import_module(f".{name}", __name__)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
