"""What test-time views cost: evaluation with k views, the plain one included, against k times the plain evaluation.

    python experiments/bench/views.py [--rounds 5]

ResNet-18 with random weights, 512 of 640 images, 128 px in batches of 64, side-on augmentation. Random views and, as the cheapest, flips.
Each round is a fresh process in which plain evaluation and evaluation with views take turns. Adds a row per round to results/views.csv.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

import harness

IMAGES, SIZE, VIEWS = 640, 128, 4


def measure(kind: str, turns: int) -> dict[str, float | str]:
    """Seconds of the plain evaluation and of the one with all views, decoding and compilation not counted."""
    from dataclasses import replace

    import numpy as np

    from sgdr_jax import Eval, Experiment, Stage
    from sgdr_jax.augment import side_on
    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.datasets import Arrays
    from sgdr_jax.evaluation.evaluate import EvalExamples, predict_views
    from sgdr_jax.models import ResNet18
    from sgdr_jax.schedules import Constant
    from sgdr_jax.train.context import prepare

    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        path = f"{folder}/images.npz"
        images = rng.integers(0, 256, (IMAGES, 148, 148, 3), np.uint8)
        np.savez(path, x_train=images, y_train=np.arange(IMAGES) % 2)
        views = 1 if kind == "flip" else VIEWS - 1
        how = Eval(tta_views=views, tta_kind=kind, batch_size=64)
        stage = Stage("all", size=SIZE, lr=0.0, schedule=Constant(1))
        made = Experiment("views", Arrays(path), ResNet18(weights=None), (stage,), augment=side_on(), evaluate=how)
        context = prepare(made)
    network = context.network._replace(size=SIZE)
    examples = EvalExamples(context.images["train"], 2, context.data.digests["train"], context.data.labels["train"])
    seconds: dict[str, list[float]] = {"plain": [], "views": []}
    plain = replace(made, evaluate=replace(how, tta_views=0, tta_kind="random"))
    for turn in range(turns + 1):
        for name, experiment in (("plain", plain), ("views", made)):
            began = time.perf_counter()
            found = predict_views(context.programs, experiment, network, examples, NullConsole(), "")
            assert found.views == (1 if name == "plain" else views + 1)
            if turn:  # the first one compiles
                seconds[name].append(time.perf_counter() - began)
    ratio = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["views"], strict=True)) / (views + 1)
    return {
        "plain_s": statistics.median(seconds["plain"]),
        "views_s": statistics.median(seconds["views"]),
        "views": float(views + 1),
        "ratio": ratio,
        "versions": harness.versions("jax"),
    }


def main() -> None:
    """Runs the rounds, prints the table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5, help="evaluations of each sort in a round")
    parser.add_argument("--job", choices=("random", "flip"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            harness.emit(**measure(given.job, given.turns))
        return
    commands = {kind: [sys.executable, __file__, "--job", kind, "--turns", str(given.turns)] for kind in ("random", "flip")}
    results = harness.rounds(commands, given.rounds)
    harness.table(results)
    print(f"kept in {harness.save('views', results)}")


if __name__ == "__main__":
    main()
