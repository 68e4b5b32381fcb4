"""Sweeps: many runs of one question, as arms along axes or as the trials of a search.

The names here are what a sweep file needs; none of them imports jax.

    from sgdr_jax.sweeps import Sweep, arms, grid
"""

from .search_space import Categorical, Halving, Integer, LogUniform, Median, Search, Uniform
from .spec import Sweep, arms, chain, grid, with_values, zipped

__all__ = [
    "Categorical",
    "Halving",
    "Integer",
    "LogUniform",
    "Median",
    "Search",
    "Sweep",
    "Uniform",
    "arms",
    "chain",
    "grid",
    "with_values",
    "zipped",
]
