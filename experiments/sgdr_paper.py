"""Do warm restarts reach the same error in fewer epochs, and do snapshots of one run beat its last network?

sgdr-jax prepare cifar10
sgdr-jax sweep experiments/sgdr_paper.py                                                  # WRN-28-10 on CIFAR-10
sgdr-jax sweep experiments/sgdr_paper.py --data.name cifar100 --model.widen 2 --dir DIR   # WRN-28-2 on CIFAR-100
sgdr-jax compare runs/sgdr_paper --networks                                               # snapshots and their ensembles

Wide ResNets as in Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", table 1: Nesterov momentum of 0.9,
weight decay of 5e-4, batches of 128, flips and shifts of up to 4 pixels, no dropout. The default schedule divides the rate by 5 after
60, 120 and 160 of 200 epochs, from 0.1 as Zagoruyko & Komodakis 2016 and from 0.05; all others anneal from 0.05. T0 is the length of the
first cycle in epochs, Tmult the factor from cycle to cycle; T0 = 1 ends after 255 epochs, T0 = 10 after 150. The last cycle ends of
every run are kept as snapshots, as for section 4.2.

Otherwise than there, shifts are by fractions of pixels, and 2 % of the training images are held out to choose members of ensembles.
"""

from sgdr_jax import Eval, Experiment, Sgd, Sgdr, Snapshots, Stage
from sgdr_jax.augment import Flip, Translate
from sgdr_jax.core.types import Schedule
from sgdr_jax.datasets import Tfds
from sgdr_jax.models import WideResNet
from sgdr_jax.schedules import StepDecay
from sgdr_jax.sweeps import Sweep, arms

SHIFT = 4 / 32


def schedules(epochs: float = 200) -> dict[str, tuple[float, Schedule]]:
    """Return peak rate and schedule of each arm; `epochs` other than 200 shorten all alike."""
    unit = epochs / 200
    steps = StepDecay(epochs, (60 * unit, 120 * unit, 160 * unit), factor=0.2)
    return {
        "default, 0.1": (0.1, steps),
        "default, 0.05": (0.05, steps),
        "T0 = 50, Tmult = 1": (0.05, Sgdr(4, 50 * unit)),
        "T0 = 100, Tmult = 1": (0.05, Sgdr(2, 100 * unit)),
        "T0 = 200, Tmult = 1": (0.05, Sgdr(1, 200 * unit)),
        "T0 = 1, Tmult = 2": (0.05, Sgdr(8, unit, cycle_mult=2)),
        "T0 = 10, Tmult = 2": (0.05, Sgdr(4, 10 * unit, cycle_mult=2)),
    }


def paper(base: Experiment, epochs: float = 200, seeds: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Sweep:
    """Return the paper's arms over an experiment with one stage."""
    named = {name: {"stages.0.lr": rate, "stages.0.schedule": schedule} for name, (rate, schedule) in schedules(epochs).items()}
    return Sweep("sgdr_paper", base, (arms(named),), seeds, question=__doc__ or "")


experiment = Experiment(
    "sgdr_paper",
    Tfds("cifar10", valid_fraction=0.02),
    WideResNet(depth=28, widen=10),
    (Stage("all", size=32, lr=0.1, schedule=schedules()["default, 0.1"][1]),),
    batch_size=128,
    augment=(Translate(SHIFT, "x", p=1), Translate(SHIFT, "y", p=1), Flip()),
    optimizer=Sgd(0.9, nesterov=True, weight_decay=5e-4),
    snapshots=Snapshots(last=3),
    evaluate=Eval(tta_views=0),
    keep_best=False,
)
sweep = paper(experiment)
