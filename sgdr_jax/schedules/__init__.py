"""Learning-rate schedules: each is worked out once, on the host, into an exact integer-clocked table. To add one, add a file."""

from .constant import Constant
from .cosine import Cosine
from .one_cycle import OneCycle
from .sgdr import Sgdr
from .step_decay import StepDecay

__all__ = ["Constant", "Cosine", "OneCycle", "Sgdr", "StepDecay"]
