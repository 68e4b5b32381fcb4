"""sgdr_jax: the classic fine-tuning recipe for image classifiers, compiled with JAX.

The names here are what experiment files need; none of them imports jax.
"""

from .core.errors import InputError
from .core.experiment import Eval, Experiment, Parallel, Snapshots, Stage
from .core.learning_rates import Decay, Find, Spread
from .core.optimizers import AdamW, Lamb, Muon, Sgd
from .core.plan import plan
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
