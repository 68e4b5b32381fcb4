"""Learning-rate schedules, each computed once on the host as a table with one row per update."""

# To add one: a subclass of `Schedule` in a new file, and one line here.

from ..core.lengths import Images, Share, Steps
from .combined import Combined
from .constant import Constant
from .cosine import Cosine
from .first_cycles import FirstCycles
from .one_cycle import OneCycle
from .plateau import Plateau
from .polynomial import Polynomial
from .sgdr import Sgdr
from .step_decay import StepDecay

__all__ = [
    "Combined",
    "Constant",
    "Cosine",
    "FirstCycles",
    "Images",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "Sgdr",
    "Share",
    "StepDecay",
    "Steps",
]
