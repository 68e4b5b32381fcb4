"""Warm restarts against a constant rate, steps and a single cosine at equal budget, and what three of their states are worth together.

    python experiments/bench/sgdr_vs.py [--seeds 5] [--epochs 16] [--rates 0.03 0.1 0.3]

A small network from random weights on 40 training images for each of scikit-learn's ten handwritten digits (needs scikit-learn). Each
schedule gets the peak rate with the lowest validation loss on a seed of its own. Every quarter of the budget the state is kept: error at a
quarter and at the end, and of the mean of the last three states' predictions, on the 1,197 test images. One row for each run in
results/sgdr_vs.csv; a table with intervals.
"""

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy as np

from sgdr_jax import Eval, Experiment, Sgd, Snapshots, Stage
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.state import NetworkState
from sgdr_jax.core.types import Schedule, Table
from sgdr_jax.datasets import Arrays
from sgdr_jax.evaluation.evaluate import EvalExamples, predict_views
from sgdr_jax.models import WideResNet
from sgdr_jax.runs import checkpoint, snapshots
from sgdr_jax.runs.run import run
from sgdr_jax.schedules import Constant, Cosine, Sgdr, StepDecay
from sgdr_jax.sweeps.analysis.significance import interval
from sgdr_jax.train.context import prepare

RESULTS = Path(__file__).parent / "results" / "sgdr_vs.csv"
FACTS = ("date", "machine", "versions")
SIDE, TRAIN, VALID, TUNED = 16, 40, 20, 1000


@dataclass(frozen=True)
class Quarters(Schedule):
    """Another schedule's rates, with a "cycle" end at every quarter, so that all schedules are looked at and kept alike."""

    schedule: Schedule

    def table(self, steps_per_epoch: int) -> Table:
        table = self.schedule.table(steps_per_epoch)
        steps = len(table.scale)
        return table._replace(cycle=(4 * np.arange(steps) // steps).astype(np.int32))


def schedules(epochs: int) -> dict[str, Schedule]:
    """What is compared."""
    return {
        "constant": Constant(epochs),
        "step": StepDecay(epochs, (epochs / 2, 3 * epochs / 4), 0.1),
        "cosine": Cosine(epochs),
        "sgdr": Sgdr(4, epochs / 4, 1),
        "sgdr x2": Sgdr(4, epochs / 15, 2),
    }


def data(seed: int) -> Arrays:
    """40 training and 20 validation images of each class, drawn by the seed; the others are the test images."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = np.round(found.images * (255 / 16)).astype(np.uint8), found.target
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.zeros(len(labels), int)
    for c in range(10):
        own = order[labels[order] == c]
        rank[own] = np.arange(len(own))
    parts = rank < TRAIN, (rank >= TRAIN) & (rank < TRAIN + VALID), rank >= TRAIN + VALID
    train, valid, test = ((images[part], labels[part]) for part in parts)
    return Arrays.of(train, valid, test)


def experiment(schedule: Schedule, rate: float, seed: int, keep: int) -> Experiment:
    """One run, with the last `keep` of its quarters kept."""
    stage = Stage("all", size=SIDE, lr=rate, schedule=Quarters(schedule))
    return Experiment(
        "sgdr_vs",
        data(seed),
        WideResNet(depth=10, widen=1, weights=None),
        (stage,),
        optimizer=Sgd(momentum=0.9, nesterov=True, weight_decay=5e-4),
        batch_size=40,
        evaluate=Eval(batch_size=400, tta_views=0),
        keep_best=False,
        snapshots=Snapshots(last=keep),
        seed=seed,
    )


def losses(made: Experiment) -> list[float]:
    """Validation loss at each quarter, without anything kept."""
    with tempfile.TemporaryDirectory() as folder:
        return [stage["valid_loss"] for stage in run(made, Path(folder) / "run")["stages"]]


def errors(made: Experiment) -> dict[str, float]:
    """Test errors in per cent: at each quarter, of the last three quarters' mean, and what `ensemble.compare` found in the run."""
    with tempfile.TemporaryDirectory() as folder:
        summary = run(made, Path(folder) / "run")
        context, place = prepare(made), snapshots.snapshot_folder(Path(folder) / "run")
        like = {"params": context.network.params, "stats": context.network.stats}
        seen = []
        for name in snapshots.cycle_ends(Path(folder) / "run"):
            net = context.programs.devices.replicate(checkpoint.restore(place, name, like))
            examples = EvalExamples(context.images["test"], len(context.data.classes), context.data.digests["test"])
            views = predict_views(context.programs, made, NetworkState(net["params"], net["stats"], SIDE), examples, NullConsole(), "")
            seen.append(views.plain)
    labels = context.data.labels["test"]

    def error(probabilities: np.ndarray) -> float:
        return 100 * float((probabilities.argmax(1) != labels).mean())

    rows = {row["name"]: 100 * (1 - row["test"]["accuracy"]) for row in summary["snapshots"]}
    return {f"quarter {i + 1}": error(p) for i, p in enumerate(seen)} | {
        "ensemble of 3": error(np.mean(seen[1:], 0)),
        "average of 4": rows["average of all weights"],
        "seconds": summary["stages"][0]["seconds"],
    }


def main() -> None:
    """Run what has no row of so many epochs yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03, 0.1, 0.3])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = kept(args.out)
    rates = {row["schedule"]: row["peak"] for row in rows if row["epochs"] == args.epochs}
    for seed in range(args.seeds):
        for name, schedule in schedules(args.epochs).items():
            if any((row["schedule"], row["seed"], row["epochs"]) == (name, seed, args.epochs) for row in rows):
                continue
            rates[name] = rates.get(name) or tuned(name, schedule, args.rates)
            figures = errors(experiment(schedule, rates[name], seed, 4))
            rows.append({"schedule": name, "seed": seed, "peak": rates[name], "epochs": args.epochs} | figures)
            harness.add_rows(args.out, [harness.facts() | {"versions": harness.versions("sgdr_jax", "jax")} | rows[-1]])
            print(f"seed {seed}, {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in figures.items()), flush=True)
    table([row for row in rows if row["epochs"] == args.epochs and row["seed"] < args.seeds])


def kept(path: Path) -> list[dict]:
    """Return the rows of runs that are done already; delete the file to begin anew."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {k: v if k == "schedule" else int(v) if k in ("seed", "epochs") else float(v) for k, v in row.items() if k not in FACTS}
            for row in csv.DictReader(file)
        ]


def tuned(name: str, schedule: Schedule, rates: list[float]) -> float:
    """Return the peak rate with the lowest validation loss on a seed of its own."""
    found = {rate: losses(experiment(schedule, rate, TUNED, 0))[-1] for rate in rates}
    print(f"{name}: validation loss at the peak " + ", ".join(f"{r:g}: {x:.3f}" for r, x in found.items()), flush=True)
    return min(found, key=lambda rate: found[rate])


def table(rows: list[dict]) -> None:
    """Print means over seeds, then differences by seed with 95 % intervals of their mean."""

    def column(schedule: str, figure: str) -> np.ndarray:
        return np.array([row[figure] for row in rows if row["schedule"] == schedule])

    names = list(dict.fromkeys(row["schedule"] for row in rows))
    figures = ("quarter 1", "quarter 4", "ensemble of 3", "average of 4")
    print(f"{'test error, %':<14}" + "".join(f"{figure:>16}" for figure in figures))
    for name in names:
        print(f"{name:<14}" + "".join(f"{column(name, f).mean():>9.2f} ± {column(name, f).std(ddof=1):<4.2f}" for f in figures))
    pairs = [
        (f"{a} - step, {f}", column(a, f) - column("step", f)) for a in ("sgdr", "sgdr x2", "cosine") for f in ("quarter 1", "quarter 4")
    ]
    pairs += [(f"{a}: ensemble of 3 - last state", column(a, "ensemble of 3") - column(a, "quarter 4")) for a in names]
    for title, differences in pairs:
        low, high = interval(differences[:, None])[:, 0]
        print(f"{title:<44} {differences.mean():+.2f}  [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
