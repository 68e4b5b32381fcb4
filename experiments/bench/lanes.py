"""Sixteen runs of a cached head (4 learning rates × 4 seeds): side by side in one program, one after the other, as 16 commands.

    python experiments/bench/lanes.py            # --rounds 3; --updates 96; --stage all trains the whole network instead

All find the cached activations and the compiled programs of an earlier process where it had the same. The largest difference of any
training loss of a lane from that of its command is printed too. Rows go to results/lanes.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

HERE = Path(__file__).resolve()
LRS, SEEDS = (0.003, 0.01, 0.03, 0.1), (0, 1, 2, 3)


def sweep_file(args: argparse.Namespace, folder: Path) -> Path:
    """A file with both `experiment` and `sweep`."""
    cached = "train='head', precompute=True, augment=False" if args.stage == "cached" else "train='all', augment=False"
    model = {"cached": "EfficientNetLite0()", "all": "MobileNetV3Small(weights=None)"}[args.stage]
    file = folder / "bench_lanes.py"
    file.write_text(f"""
from sgdr_jax import Eval, Experiment, Sgd, Stage, Sweep, grid
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import *
from sgdr_jax.schedules import Sgdr

stage = Stage("head", size={args.size}, lr=0.01, schedule=Sgdr({args.updates // 32}), {cached})
experiment = Experiment("bench_lanes", data=Synthetic(classes=10, train=2048, valid=512, side={args.size}), model={model},
                        stages=(stage,), optimizer=Sgd(), batch_size=64, evaluate=Eval(tta_views=0))
sweep = Sweep("bench_lanes", experiment, (grid({{"stages.0.lr": {LRS}}}),), {SEEDS})
""")
    return file


def command(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "sgdr_jax", *map(str, words)], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"sgdr-jax {' '.join(map(str, words))} failed")


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def job(kind: str, file: Path, folder: Path) -> None:
    """All sixteen runs in the way named."""
    from sgdr_jax.experiment_file import load_sweep
    from sgdr_jax.sweep import expand

    began = time.perf_counter()
    runs = expand(load_sweep(file))
    own = folder / f"{kind}-{time.time_ns()}"
    if kind == "commands":
        for run in runs:
            command("train", file, "--seed", run.seed, "--stages.0.lr", dict(run.values)["stages.0.lr"], "--run", own / "runs" / run.hash)
    else:
        command("sweep", file, "--dir", own, *(("--lanes", 1) if kind == "in turn" else ()))
    figures = {"seconds": time.perf_counter() - began}
    (folder / kind).unlink(missing_ok=True)
    (folder / kind).symlink_to(own)
    if (folder / "commands").exists():
        pairs = [(losses(own / "runs" / run.hash), losses(folder / "commands" / "runs" / run.hash)) for run in runs]
        figures["updates"] = len(pairs[0][0])
        figures["largest difference"] = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
    harness.emit(**figures, system=harness.system("jax", "jaxlib"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=96)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--stage", choices=("cached", "all"), default="cached")
    parser.add_argument("--job", nargs=3)
    args = parser.parse_args()
    if args.job:
        job(args.job[0], Path(args.job[1]), Path(args.job[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        file = sweep_file(args, folder)
        command("train", file, "--run", folder / "first")  # leaves its activations and programs to all
        results = harness.rounds(
            {kind: (sys.executable, HERE, "--job", kind, file, folder) for kind in ("commands", "in turn", "lanes")}, args.rounds
        )
    harness.table(results)
    print(f"rows: {harness.save('lanes', {f'{args.stage}: {kind}': rows for kind, rows in results.items()})}")


if __name__ == "__main__":
    main()
