"""What freezing saves: an update with everything trained against one with the body frozen but for its last group.

    python experiments/bench/backward_cut.py [--rounds 5] [--size 96] [--batch 16] [--models ResNet18 ResNet50 EfficientNetLite0]

Below the lowest trained group there is no backward pass. A convolution's gradients by its inputs and by its weights cost as many
multiply-adds each as the convolution itself (the first convolution has none by its input), so the "share" of an update's arithmetic that
freezing skips can be told from the forward pass alone. "saved" is the part of the time that it saves; it should be 0.9 of the share at
least. Each job is a fresh process. Memory: the compiler's figure for the larger program's temporary buffers, and the most that the
process held while it trained. Rounds alternate; adds one row per job to results/backward_cut.csv.
"""

import argparse
import re
import statistics
import sys
import time
from pathlib import Path

import harness

UPDATES = 8


def skipped_share(network, params, stats, batch: int, size: int, start: str) -> float:
    """The part of an update's multiply-adds that is the backward pass below the group `start`."""
    import jax

    from sgdr_jax.models.layers import portable
    from sgdr_jax.models.summary import multiply_adds

    x = jax.ShapeDtypeStruct((batch, size, size, 3), "float32")
    with portable():
        traced = [jax.make_jaxpr(lambda x, stop=stop: network.apply(params, stats, x, stop=stop)[0])(x) for stop in (start, None)]
    below, whole = (list(multiply_adds(function.jaxpr)) for function in traced)
    return (2 * sum(below) - below[0]) / (3 * sum(whole) - whole[0])


def most_memory(*, reset: bool = False) -> float:
    """The largest resident size of this process since the last reset, in MB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1000


def job(model: str, frozen: bool, size: int, batch: int) -> None:
    """Times the updates of one stage after their programs have been compiled."""
    import jax
    import numpy as np

    from sgdr_jax import AdamW, Eval, Experiment, Stage, models
    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.core.state import Hyper
    from sgdr_jax.datasets import Synthetic
    from sgdr_jax.schedules import Constant
    from sgdr_jax.train.context import prepare
    from sgdr_jax.train.stage import open_stage
    from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

    experiment = Experiment(
        name="backward_cut",
        data=Synthetic(classes=10, train=batch * (UPDATES + 2), valid=batch, side=size),
        model=getattr(models, model)(weights=None),
        stages=(Stage("only", size=size, train=1 if frozen else "all", lr=1e-3, schedule=Constant(1), augment=False),),
        optimizer=AdamW(),
        batch_size=batch,
        evaluate=Eval(batch_size=batch, tta_views=0),
    )
    context = prepare(experiment)
    run, p = context.programs, context.plan.stages[0]
    start = run.network.groups[1]
    share = skipped_share(run.network, context.network.params, context.network.stats, batch, size, start)
    stage = open_stage(context, p, context.network, NullConsole())
    rows, state, seconds = hyper_rows(context, p, (1e-3,) * len(p.trained)), stage.state, []
    for step, images in enumerate(stage_batches(context, p, 0, UPDATES + 2)):
        if step == 2:
            most_memory(reset=True)
        began = time.perf_counter()
        state, _ = jax.block_until_ready(stage.update(state, Hyper(*(r[step : step + 1] for r in rows)), [images]))
        seconds.append(time.perf_counter() - began)

    # The programs again, for what the compiler says of them; none is compiled anew.
    x = jax.ShapeDtypeStruct((batch, size, size, 3), np.float32, sharding=run.devices.split)
    programs = []
    if p.frozen:
        body = [{g: tree[g] for g in p.frozen} for tree in (context.network.params, context.network.stats)]
        programs.append(run.forward.lower(*body, x, start=None, stop=p.start))
        x = programs[0].out_info
    target, weight = (jax.ShapeDtypeStruct((batch,), kind, sharding=run.devices.split) for kind in (np.int32, np.float32))
    programs.append(run.step(p).lower(state, Hyper(*(r[0] for r in rows)), x, target, weight, jax.random.key(0)))
    harness.emit(
        versions=harness.versions("jax", "flax"),
        update=statistics.median(seconds[2:]),
        share=share,
        temporary_mb=max(program.compile().memory_analysis().temp_size_in_bytes for program in programs) / 1e6,
        resident_mb=most_memory(),
        size=f"{size} px, batch {batch}",
    )


def main() -> None:
    """Runs the rounds, prints the table and what each net saves, adds to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--models", nargs="+", default=["ResNet18", "ResNet50", "EfficientNetLite0"])
    parser.add_argument("--job", nargs=2, metavar=("MODEL", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return job(options.job[0], options.job[1] == "frozen", options.size, options.batch)
    command = (sys.executable, __file__, "--size", options.size, "--batch", options.batch, "--job")
    for model in options.models:
        results = harness.rounds({f"{model} {what}": (*command, model, what) for what in ("all", "frozen")}, options.rounds)
        harness.table(results)
        everything, cut = results.values()
        saved = statistics.median(1 - float(b["update"]) / float(a["update"]) for a, b in zip(everything, cut, strict=True))
        share = float(cut[0]["share"])
        print(f"saved {saved:.1%} of the time; share of the arithmetic {share:.1%}: {'enough' if saved >= 0.9 * share else 'TOO LITTLE'}")
        print(harness.save("backward_cut", results))


if __name__ == "__main__":
    main()
