"""Several updates as one program against one by one, in milliseconds an update of a whole run: loop, rows and progress included.

    python experiments/bench/spans.py                # the cached head of EfficientNet-Lite0 (2,560 → 512 → 10), batches of 64 and 16
    python experiments/bench/spans.py --stage late   # a cached stage that trains convolutions (ResNet-18 from its second half on)

Each way is a run of its own process; its updates are timed by its own rows, the first of them, which compile, left out. On a CPU the
second is why spans are the default for heads alone. Rows go to results/spans.csv.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import harness

HERE = Path(__file__).resolve()
WAYS = {"head": (1, 4, 16), "late": (1, 4)}


def job(stage: str, batch: int, span: int) -> None:
    from sgdr_jax import AdamW, Eval, Experiment, Stage
    from sgdr_jax.core.experiment import Parallel
    from sgdr_jax.datasets import Synthetic
    from sgdr_jax.models import EfficientNetLite0, ResNet18
    from sgdr_jax.runs.run import run
    from sgdr_jax.schedules import Sgdr

    head = stage == "head"
    experiment = Experiment(
        name="spans",
        data=Synthetic(classes=10, train=1024 if head else 256, valid=64, side=64),
        model=EfficientNetLite0(weights=None) if head else ResNet18(weights=None),
        stages=(
            Stage(
                stage, size=64, train="head" if head else 1, lr=1e-3, schedule=Sgdr(1, 60 if head else 4), precompute=True, augment=False
            ),
        ),
        batch_size=batch,
        optimizer=AdamW(),
        evaluate=Eval(batch_size=64, tta_views=0),
        parallel=Parallel(1, steps_per_execution=span),
    )
    with tempfile.TemporaryDirectory() as folder:
        run(experiment, Path(folder) / "run", keep_network=False)
        rows = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows if row["kind"] == "train"]
    from_, to = len(seconds) // 4, len(seconds) - 1  # whole spans lie between: rows come a few spans late, evenly
    figures = {"ms an update": 1e3 * (seconds[to] - seconds[from_]) / (to - from_), "last loss": [r["loss"] for r in rows if "lr" in r][-1]}
    harness.emit(**figures, batch=str(batch), versions=harness.versions("jax", "jaxlib"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stage", choices=sorted(WAYS), default="head")
    parser.add_argument("--job", nargs=2, type=int, metavar=("BATCH", "SPAN"))
    args = parser.parse_args()
    if args.job:
        job(args.stage, *args.job)
        return
    for batch in (64, 16) if args.stage == "head" else (16,):
        ways = {f"{span} at once": (sys.executable, HERE, "--stage", args.stage, "--job", batch, span) for span in WAYS[args.stage]}
        results = harness.rounds(ways, args.rounds)
        print(f"{args.stage}, batches of {batch}")
        harness.table(results)
        print(f"rows: {harness.save('spans', results)}")


if __name__ == "__main__":
    main()
