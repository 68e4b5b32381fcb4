"""sgdr_jax: the classic fine-tuning recipe for image classifiers, compiled with JAX.

The names here are what experiment files need; none of them imports jax.
"""

from .core.experiment import AdamW, Decay, Eval, Experiment, Find, Lamb, Muon, Parallel, Sgd, Snapshots, Spread, Stage
from .core.plan import plan
from .core.types import InputError
from .recipes.lesson2 import fine_tune, lesson2
from .sweeps.search_space import Halving, Integer, LogUniform, Median, OneOf, Search, Uniform
from .sweeps.spec import Sweep, arms, chain, grid, zipped

__all__ = [
    "AdamW",
    "Decay",
    "Eval",
    "Experiment",
    "Find",
    "Halving",
    "InputError",
    "Integer",
    "Lamb",
    "LogUniform",
    "Median",
    "Muon",
    "OneOf",
    "Parallel",
    "Search",
    "Sgd",
    "Snapshots",
    "Spread",
    "Stage",
    "Sweep",
    "Uniform",
    "arms",
    "chain",
    "fine_tune",
    "grid",
    "lesson2",
    "plan",
    "zipped",
]
__version__ = "0.1.0"
