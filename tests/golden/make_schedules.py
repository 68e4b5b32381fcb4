"""Runs the schedulers of other packages and keeps what they gave: schedulers.json, read by tests/test_schedules.py.

    python tests/golden/make_schedules.py        # torch, timm, fastai 2 and keras (with KERAS_BACKEND=torch) installed

Every entry says what was run ("source"), and holds the rates that it used for its updates, in order, as a share of the base rate.
Where a package misses a restart for some setting, only the rates around that restart are kept ("from" is the number of the first one).
"""

# ruff: noqa: E402 (keras reads the environment when it is imported)

import importlib.metadata
import itertools
import json
import os
import warnings
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
warnings.filterwarnings("ignore")

import fastai.callback.schedule  # noqa: F401  (gives Learner its fit_… methods)
import keras
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch.optim import lr_scheduler


def source(package: str, what: str) -> str:
    return f"{package} {importlib.metadata.version(package)}: {what}"


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def torch_rates(kind: Any, steps: int, **options: Any) -> list[float]:
    """Rates of the incremental form, `step()` after every update."""
    sgd = optimizer()
    scheduler, rates = kind(sgd, **options), []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


def torch_by_position(steps: int, **options: Any) -> list[float]:
    """Rates of the form that is told the position, `step(t)`, which finds the cycle with a logarithm."""
    sgd = optimizer()
    scheduler, rates = lr_scheduler.CosineAnnealingWarmRestarts(sgd, **options), []
    for t in range(steps):
        scheduler.step(t)
        rates.append(sgd.param_groups[0]["lr"])
    return rates


def torch_plateau(losses: list[float], **options: Any) -> list[float]:
    """The rate of each epoch, given the validation losses at their ends."""
    sgd = optimizer()
    scheduler, rates = lr_scheduler.ReduceLROnPlateau(sgd, **options), []
    for loss in losses:
        rates.append(sgd.param_groups[0]["lr"])
        scheduler.step(loss)
    return rates


def timm_rates(steps: int, **options: Any) -> list[float]:
    sgd = optimizer()
    scheduler, rates = CosineLRScheduler(sgd, t_in_epochs=True, **options), []
    for t in range(steps):
        scheduler.step(t)
        rates.append(sgd.param_groups[0]["lr"])
    return rates


def keras_rates(schedule: Any, steps: int) -> list[float]:
    return [float(schedule(t)) for t in range(steps)]


def fastai_rates(method: str, batches: int, *args: Any, **options: Any) -> tuple[list[float], list[float]]:
    """Rate and momentum of every update of a fit of a one-weight model on `batches` batches an epoch."""
    data = [(torch.ones(1), torch.ones(1)) for _ in range(batches)]
    loaders = DataLoaders.from_dsets(data, data[:1], bs=1, device="cpu")
    learner = Learner(loaders, torch.nn.Linear(1, 1), loss_func=torch.nn.MSELoss(), opt_func=SGD, train_bn=True)
    with learner.no_bar(), learner.no_logging():
        getattr(learner, method)(*args, **options)
    moms = learner.recorder.hps.get("mom", []) if hasattr(learner.recorder, "hps") else []
    return [float(x) for x in learner.recorder.lrs], [float(x) for x in moms]


def entries() -> dict[str, list[dict[str, Any]]]:
    restarts, late, others, plateaus = [], [], [], []
    for mult, cycles in ((1, 4), (2, 4), (3, 4), (4, 3), (5, 3), (7, 3)):
        n = sum(4 * mult**i for i in range(cycles))
        sgdr = {"cycles": cycles, "cycle_len": 1, "cycle_mult": mult, "floor": 0.05}
        text = f"CosineAnnealingWarmRestarts(T_0=4, T_mult={mult}, eta_min=0.05)"
        scale = torch_rates(lr_scheduler.CosineAnnealingWarmRestarts, n, T_0=4, T_mult=mult, eta_min=0.05)
        restarts.append({"source": source("torch", text), "steps_per_epoch": 4, "sgdr": sgdr, "scale": scale})
    for mult in (1, 2, 4):
        n = sum(6 * mult**i for i in range(3))
        sgdr = {"cycles": 3, "cycle_len": 1, "cycle_mult": mult, "peak_decay": 0.7, "floor": 0.1}
        scale = timm_rates(n, t_initial=6, cycle_mul=mult, cycle_decay=0.7, cycle_limit=3, lr_min=0.1)
        text = f"CosineLRScheduler(t_initial=6, cycle_mul={mult}, cycle_decay=0.7, cycle_limit=3, lr_min=0.1)"
        restarts.append({"source": source("timm", text), "steps_per_epoch": 6, "sgdr": sgdr, "scale": scale})
        schedule = keras.optimizers.schedules.CosineDecayRestarts(1.0, 6, t_mul=float(mult), m_mul=1.0, alpha=0.1)
        restarts.append(
            {
                "source": source("keras", f"CosineDecayRestarts(1, 6, t_mul={mult}, alpha=0.1)"),
                "steps_per_epoch": 6,
                "sgdr": {"cycles": 3, "cycle_len": 1, "cycle_mult": mult, "floor": 0.1},
                "scale": keras_rates(schedule, n),
            }
        )

    def missed(text: str, per_epoch: int, mult: float, cycles: int, scale: list[float]) -> None:
        """Keeps the rates around every restart that does not begin at its peak."""
        starts = list(itertools.accumulate(per_epoch * mult**i for i in range(cycles - 1)))
        for start in map(int, starts):
            if start < len(scale) and scale[start] < 0.9:
                kept = {"cycles": cycles, "cycle_len": 1, "cycle_mult": mult}
                late.append(
                    {"source": text, "steps_per_epoch": per_epoch, "sgdr": kept, "from": start - 1, "scale": scale[start - 1 : start + 2]}
                )

    missed(
        source("timm", "CosineLRScheduler(t_initial=1, cycle_mul=3, cycle_limit=7)"),
        1,
        3,
        7,
        timm_rates(400, t_initial=1, cycle_mul=3, cycle_limit=7),
    )
    for per_epoch, mult, cycles in ((1, 3, 7), (4, 3, 6), (1, 10, 5)):
        text = source("torch", f"CosineAnnealingWarmRestarts(T_0={per_epoch}, T_mult={mult}).step(t)")
        n = sum(per_epoch * mult**i for i in range(cycles - 1)) + 2
        missed(text, per_epoch, mult, cycles, torch_by_position(n, T_0=per_epoch, T_mult=mult))
    for per_epoch, mult, cycles in ((1, 7, 6), (10, 7, 5), (3, 7, 5), (1, 3, 7)):
        schedule = keras.optimizers.schedules.CosineDecayRestarts(1.0, per_epoch, t_mul=float(mult))
        n = sum(per_epoch * mult**i for i in range(cycles - 1)) + 2
        missed(source("keras", f"CosineDecayRestarts(1, {per_epoch}, t_mul={mult})"), per_epoch, mult, cycles, keras_rates(schedule, n))
    for batches, mult, cycles in itertools.product((1, 4, 7), (2, 3), (3, 4)):
        scale, _ = fastai_rates("fit_sgdr", batches, cycles, 1, lr_max=1.0, cycle_mult=mult)
        text = source("fastai", f"fit_sgdr({cycles}, 1, cycle_mult={mult}) of {batches} batches")
        before = len(late)
        missed(text, batches, mult, cycles, scale)
        if len(late) == before:
            sgdr = {"cycles": cycles, "cycle_len": 1, "cycle_mult": mult}
            restarts.append({"source": text, "steps_per_epoch": batches, "sgdr": sgdr, "scale": scale})

    def other(text: str, kind: str, per_epoch: int, scale: list[float], momentum: list[float] | None = None, **fields: Any) -> None:
        others.append(
            {"source": text, "kind": kind, "steps_per_epoch": per_epoch, "fields": fields, "scale": scale}
            | ({"momentum": momentum} if momentum else {})
        )

    for power in (0.5, 1.0, 2.0):
        rates = torch_rates(lr_scheduler.PolynomialLR, 12, total_iters=12, power=power)
        other(source("torch", f"PolynomialLR(total_iters=12, power={power})"), "Polynomial", 4, rates, epochs=3, power=power)
        schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 12, end_learning_rate=0.2, power=power)
        other(
            source("keras", f"PolynomialDecay(1, 12, 0.2, {power})"),
            "Polynomial",
            4,
            keras_rates(schedule, 12),
            epochs=3,
            power=power,
            floor=0.2,
        )
    rates = torch_rates(lr_scheduler.MultiStepLR, 12, milestones=[4, 10], gamma=0.3)
    other(source("torch", "MultiStepLR(milestones=[4, 10], gamma=0.3)"), "StepDecay", 4, rates, epochs=3, at=(1.0, 2.5), factor=0.3)
    rates = torch_rates(lr_scheduler.CosineAnnealingLR, 12, T_max=12, eta_min=0.1)
    other(source("torch", "CosineAnnealingLR(T_max=12, eta_min=0.1)"), "Cosine", 4, rates, epochs=3, floor=0.1)
    for batches in (4, 5, 8):
        scale, momentum = fastai_rates("fit_one_cycle", batches, 2, lr_max=1.0)
        other(source("fastai", f"fit_one_cycle(2, 1) of {batches} batches"), "OneCycle", batches, scale, momentum, epochs=2)
    sequences = [
        [1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8],
        [1.0, 0.99995, 0.9999, 0.99985, 0.9998, 0.99975, 0.5, 0.6, 0.7, float("nan"), 0.7, 0.7, 0.4, 0.4],
        [3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ]
    for losses, (factor, patience, cooldown, floor) in itertools.product(
        sequences, ((0.1, 2, 0, 0.0), (0.5, 0, 2, 0.2), (0.3, 1, 1, 0.0), (0.9, 0, 0, 0.0))
    ):
        rates = torch_plateau(losses, factor=factor, patience=patience, cooldown=cooldown, min_lr=floor)
        fields = {"factor": factor, "patience": patience, "cooldown": cooldown, "floor": floor}
        text = source("torch", f"ReduceLROnPlateau(factor={factor}, patience={patience}, cooldown={cooldown}, min_lr={floor})")
        plateaus.append({"source": text, "fields": fields, "losses": [None if x != x else x for x in losses], "scale": rates})
    return {"restarts": restarts, "late": late, "others": others, "plateaus": plateaus}


if __name__ == "__main__":
    found = entries()
    lines = ",\n".join(f'"{name}": [\n' + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]" for name, rows in found.items())
    Path(__file__).with_name("schedulers.json").write_text("{\n" + lines + "\n}\n")
    print({name: len(rows) for name, rows in found.items()})
