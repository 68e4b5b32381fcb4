"""Is the rate that the finder suggests as good as the best of a grid, and is it the same whatever the seed?

    python experiments/bench/finder.py FOLDER…          # folders with train/CLASS/* and test/CLASS/*, as experiments/bench/sets.py makes
    python experiments/bench/finder.py FOLDER --body    # the unfrozen stage, after a trained head, instead of the cached head

For every set: the finder's suggestion with ten seeds, then the stage trained at each of 20 rates and at the suggestions, with the same
seeds each, judged on the test images, which are too many (icons has 145, the others over a thousand) for the luck of a few to pick the
grid's best. "behind" is the mean over seeds of what a suggestion loses against the rate that is best in the mean of the same seeds:
the grid chooses by what it is judged by. "behind_unseen": against the rate that is best with the other seeds. One row for each set in
results/finder.csv.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np

from sgdr_jax import AdamW, Eval, Experiment, Find, Sgd, Sgdr, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.recipes.lesson2 import HEAD
from sgdr_jax.train.context import RunContext, prepare
from sgdr_jax.train.find_lr import find_lr
from sgdr_jax.train.stage import StageRun, open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

SEEDS = 10
HERE = Path(__file__).parent
CACHED = Sgdr(4, 2, 2)
"""Thirty epochs of the head."""


def experiment(root: Path, args: argparse.Namespace, seed: int) -> Experiment:
    """A head trained on cached activations, then everything: the two kinds of stage for which lesson2 can look for a rate, as it does."""
    head, *_ = lesson2(args.size, cached=CACHED, views=4)
    *_, body = lesson2(args.size, lr=Find(), ratio=3, bn="frozen")
    return Experiment(
        name="finder",
        data=ImageFolder(str(root)),
        model=EfficientNetLite0(),
        augment=side_on(zoom=1.1),
        stages=(head, body),
        optimizer={"adamw": AdamW(clip=0.3), "sgd": Sgd(clip=0.3)}[args.optimizer],
        batch_size=args.batch_size,
        epoch_steps=20,
        evaluate=Eval(batch_size=64),
        seed=seed,
    )


def trained(context: RunContext, index: int, stage: StageRun, lr: float) -> TrainState:
    """A stage's last state at a peak rate of the head."""
    p = context.plan.stages[index]
    find = p.stage.lr
    assert isinstance(find, Find) and isinstance(find.ratio, float | int)
    peaks = tuple(lr * float(find.ratio) ** -i for i in reversed(range(len(p.trained))))
    hyper, state = hyper_rows(context, p, peaks), context.programs.devices.replicate(stage.state)
    for step, fed in enumerate(stage_batches(context, p, 0, p.steps)):
        state, _ = stage.update(state, Hyper(*(rows[step : step + 1] for rows in hyper)), [fed])
    return state


def accuracy(context: RunContext, index: int, stage: StageRun, lr: float) -> float:
    """On the held-out images, after training at a rate; 0 where it diverges."""
    row = stage.validate(trained(context, index, stage, lr))
    return row["accuracy"] if np.isfinite(row["loss"]) else 0.0


def opened(base: RunContext, args: argparse.Namespace, root: Path, seed: int) -> tuple[RunContext, int, StageRun]:
    """The stage in question with a seed: another head, other orders, other dropout."""
    made = prepare(experiment(root, args, seed)) if seed else base
    made = made._replace(programs=base.programs, images=base.images)  # programs are compiled once
    first = open_stage(made, made.plan.stages[0], made.network, NullConsole())
    if not args.body:
        return made, 0, first
    state = trained(made, 0, first, find_lr(made, made.plan.stages[0], first, HEAD, NullConsole()).chosen)
    return made, 1, open_stage(made, made.plan.stages[1], state.network(made.experiment.largest_size), NullConsole())


def judged_by_test(root: Path, folder: Path) -> Path:
    """The set with its test images in the place of held-out ones: none of them trains, and no choice is made by them."""
    folder.mkdir()
    for name, of in (("train", "train"), ("valid", "test")):
        (folder / name).symlink_to((root / of).resolve(), target_is_directory=True)
    return folder


def unseen(table: np.ndarray) -> float:
    """What the last column loses, in the mean over rows (seeds), against the other column that is best in the mean of the other rows.

    >>> unseen(np.array([[0.5, 0.9, 0.8], [0.5, 0.7, 0.8], [0.5, 0.8, 0.8]])).round(3).item()
    0.0
    """
    rest = (table.sum(0) - table)[:, :-1]
    return float(np.mean(table[np.arange(len(table)), rest.argmax(1)] - table[:, -1]))


def measure(root: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One set: spread of the suggestions, and what they lose against the grid."""
    base, suggestions, verdicts, seconds, scores = prepare(experiment(root, args, 0)), [], [], [], []
    grid = np.geomspace(1e-5, 1.0, args.points)
    for seed in range(SEEDS):
        context, index, stage = opened(base, args, root, seed)
        p = context.plan.stages[index]
        assert isinstance(p.stage.lr, Find)
        began = time.perf_counter()
        curve = find_lr(context, p, stage, dataclasses.replace(p.stage.lr, rule=args.rule or p.stage.lr.rule), NullConsole())
        seconds.append(time.perf_counter() - began)
        suggestions.append(curve.chosen)
        verdicts.append(curve.verdict.partition(":")[0])
        if seed < args.seeds:
            scores.append([accuracy(context, index, stage, lr) for lr in (*grid, curve.chosen)])
        print(f"  {root.name} seed {seed}: {curve.chosen:.2e} ({curve.confidence:.0%}, {curve.verdict}) {seconds[-1]:.1f} s", flush=True)
    table = np.array(scores)
    mean, best = table.mean(0), int(np.argmax(table.mean(0)[:-1]))
    lost = table[:, best] - table[:, -1]
    return {
        "set": root.name,
        "stage": "all" if args.body else "head",
        "optimizer": args.optimizer,
        "rule": args.rule or base.plan.stages[int(args.body)].stage.lr.rule,  # pyright: ignore[reportAttributeAccessIssue]
        "images": base.data.sizes["train"],
        "judged_by": base.data.sizes["valid"],
        "suggested": f"{np.median(suggestions):.2e}",
        "spread": f"{max(suggestions) / min(suggestions):.2f}",
        "clear": f"{sum(v.startswith('clear') for v in verdicts)}/{SEEDS}",
        "grid_best_lr": f"{grid[best]:.1e}",
        "grid_best": f"{mean[best]:.4f}",
        "at_suggested": f"{mean[-1]:.4f}",
        "behind": f"{lost.mean():.4f}",
        "behind_unseen": f"{unseen(table):.4f}" if len(table) > 1 else "",
        "standard_error": f"{np.std(lost, ddof=min(1, len(lost) - 1)) / len(lost) ** 0.5:.4f}",
        "seeds": len(scores),
        "finder_s": f"{np.median(seconds):.1f}",
        "first_finder_s": f"{seconds[0]:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--body", action="store_true", help="the unfrozen stage, after the head")
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--rule", default="", help="by default as lesson2 has it")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--points", type=int, default=20, help="rates of the grid, from 1e-5 to 1")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the grid")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "finder.csv")
    args = parser.parse_args()
    for root in args.folders:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(judged_by_test(root, Path(folder) / root.name), args)
        print(row, flush=True)
        harness.add_rows(args.out, [harness.facts() | {"versions": harness.versions("sgdr_jax", "jax")} | row])


if __name__ == "__main__":
    main()
