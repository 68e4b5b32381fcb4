"""From process start to the first finished training step: ResNet-34 at 64 px, batches of 16; cold, warm, and PyTorch's.

    python experiments/bench/startup.py [--rounds 5] [--torch PYTHON]

Each job is a fresh process that trains by `sgdr-jax train` on this file, an experiment of two updates. "cold" has no compiled program on
disk, "warm" follows it and finds what it compiled. "torch" imports torch and timm, builds timm's resnet34, and trains one batch of the
same shape without a compiler; its environment (any that has torch, torchvision and timm) is named with --torch. Rounds alternate.
Adds one row per job to results/startup.csv: seconds until the first update is done, seconds of the second one, programs compiled or
loaded, and the seconds that took.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import harness

from sgdr_jax import Eval, Experiment, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.datasets import Synthetic
from sgdr_jax.models import ResNet34
from sgdr_jax.schedules import Constant

experiment = Experiment(
    name="startup",
    data=Synthetic(classes=10, train=32, valid=16, side=64),
    model=ResNet34(weights=None),
    augment=side_on(),
    stages=(Stage("all", size=64, lr=0.01, schedule=Constant(1)),),
    batch_size=16,
    evaluate=Eval(batch_size=16, tta_views=0),
    parallel=Parallel(1, steps_per_execution=1),  # else both updates are one program
)


def job(folder: str) -> None:
    """The command line's own run, stopped after its second update."""
    from sgdr_jax.cli import main as cli
    from sgdr_jax.runs import run

    fit, at = run.fit, []

    def timed_fit(state, progress, plan, callbacks, *rest):
        import jax

        def update(*words):
            result = jax.block_until_ready(callbacks.update(*words))
            at.append(harness.since_start())
            if len(at) == 2:
                raise KeyboardInterrupt
            return result

        return fit(state, progress, plan, callbacks._replace(update=update), *rest)

    run.fit = timed_fit
    try:
        cli.main(["train", __file__, "--run", folder])
    except SystemExit:
        from sgdr_jax.distributed.compilation_cache import compiled

        made = compiled()
        harness.emit(
            versions=harness.versions("jax"),
            first_step=at[0],
            second_step=at[1] - at[0],
            programs=made.programs,
            loaded=made.loaded,
            compiling=made.seconds,
        )


def main() -> None:
    """Runs the rounds, prints the table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of the environment that has torch and timm")
    parser.add_argument("--job", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return job(options.job)
    with tempfile.TemporaryDirectory() as temporary:
        ours = ("env", f"XDG_CACHE_HOME={temporary}/{{round}}", sys.executable, __file__, "--job")
        commands = {name: (*ours, f"{temporary}/{{round}}/{name}") for name in ("cold", "warm")}
        if options.torch:
            commands["torch"] = (options.torch, str(Path(__file__).with_name("startup_torch.py")))
        results = harness.rounds(commands, options.rounds)
    harness.table(results)
    print(harness.save("startup", results))


if __name__ == "__main__":
    main()
