"""A sweep of 1,000 tiny runs (100 arms × 10 seeds) through a store: what the scheduling costs, and whether `compare` keeps up.

    python experiments/bench/workers.py          # --rounds 3; --runs 1000; --postgres URL for one more kind of store

The body of a run is not training but a stand-in that writes what a run leaves (configuration, rows, summary, answers to 200 examples):
`work`, the store, the grouping of runs and the folders are real. "overhead" is the time of `work` without that of the stand-ins, per run;
"alone" has no store. Rows go to results/workers.csv.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import harness
import numpy as np

HERE = Path(__file__).resolve()


def sweep(runs: int):
    from sgdr_jax import Experiment, Stage
    from sgdr_jax.datasets import Synthetic
    from sgdr_jax.models import MobileNetV3Small
    from sgdr_jax.schedules import Sgdr
    from sgdr_jax.sweeps import Sweep, grid

    stage = Stage("head", size=32, train="head", lr=0.01, schedule=Sgdr(1), precompute=True, augment=False)
    data = Synthetic(classes=10, train=100, valid=100, test=200, side=32)
    base = Experiment("tiny", data=data, model=MobileNetV3Small(weights=None), stages=(stage,), batch_size=20)
    rates = tuple(float(x) for x in np.geomspace(1e-4, 1, runs // 10))
    return Sweep(f"bench_workers {time.time_ns()}", base, (grid({"stages.0.lr": rates}),), tuple(range(10)))


class Stand:
    """In place of `recipe.run`; keeps the time that it took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, experiment, folder, **_):
        from sgdr_jax.core.serialization import config_hash, to_json
        from sgdr_jax.evaluation import predictions
        from sgdr_jax.runs.folder import open_run

        began = time.perf_counter()
        rng = np.random.default_rng([experiment.seed, int(1e6 * experiment.stages[0].lr)])
        labels = np.arange(200) % 10
        predicted = np.where(rng.random(200) < 0.8, labels, rng.integers(0, 10, 200))
        with open_run(folder, to_json(experiment), config_hash(experiment), resume=True) as book:
            for step in range(5):
                book.append({"kind": "train", "stage": "head", "step": step, "epoch": step / 5, "loss": 1.0, "seconds": 0.1 * step})
            book.append({"kind": "eval", "stage": "head", "step": 5, "epoch": 1.0, "loss": 1.0, "accuracy": 0.8, "seconds": 0.5})
            measures = {"accuracy": float((predicted == labels).mean()), "loss": 1.0}
            for split in ("valid", "test"):
                names = [f"{split}/{i}" for i in range(200)]
                predictions.save(book.path, split, names, labels, [predictions.ExamplePredictions(predicted, np.ones(200, np.float32))])
            stage = {"name": "head", "seconds": 0.5, "epochs": 1, "steps": 5}
            summary = {"stages": [stage], "valid": measures, "test": measures, "seconds": 0.6}
            book.write_summary(summary)
        self.seconds += time.perf_counter() - began
        return summary


def job(kind: str, runs: int, postgres: str) -> None:
    """The whole sweep, and its comparison."""
    from sgdr_jax.runs import run
    from sgdr_jax.sweeps import runner
    from sgdr_jax.sweeps.analysis import render
    from sgdr_jax.sweeps.analysis.compare import compare_arms
    from sgdr_jax.sweeps.options import WorkerOptions

    made, stand = sweep(runs), Stand()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sweep"
        stores = {"alone": None, "postgresql": postgres, "sqlite": f"{name}/store.db", "journal": f"{name}/store.journal"}
        began = time.perf_counter()
        with mock.patch.object(run, "run", stand):
            done = runner.work(made, folder, WorkerOptions(store=stores[kind]))
        seconds = time.perf_counter() - began
        assert len(done) == runs and all(entry.summary for entry in done), done[0].error
        size = sum(path.stat().st_size for path in Path(name).glob("store*"))
        began = time.perf_counter()
        found = compare_arms(folder)
        read = time.perf_counter() - began
        render.publish(found, folder / "answer", None)
        both = time.perf_counter() - began
        folders = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    harness.emit(
        **{"overhead ms": 1e3 * (seconds - stand.seconds) / runs, "in all s": seconds, "store MB": size / 1e6},
        **{"folder MB": folders / 1e6, "compare s": read, "compare and publish s": both},
        versions=harness.versions("jax", *(("optuna", "sqlalchemy") if kind != "alone" else ())),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--postgres", default="")
    parser.add_argument("--job")
    args = parser.parse_args()
    if args.job:
        job(args.job, args.runs, args.postgres)
        return
    kinds = ("alone", "sqlite", "journal", *(("postgresql",) if args.postgres else ()))
    words = (sys.executable, HERE, "--runs", args.runs, "--postgres", args.postgres, "--job")
    results = harness.rounds({kind: (*words, kind) for kind in kinds}, args.rounds)
    harness.table(results)
    print(f"rows: {harness.save('workers', results)}")


if __name__ == "__main__":
    main()
