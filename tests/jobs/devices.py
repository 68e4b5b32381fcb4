"""Trains every kind of stage for twenty updates on so many pretended devices; test_mesh.py runs it in a process of its own.

python -m tests.jobs.devices OUT DEVICES    writes OUT/DTYPE-BACKEND-COUNT-STAGE.npz, and OUT/communication.json
"""

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before jax is imported; the test runner reads this file too
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "standard"  # what is float32 by its nature, as the weight of an example, meets float64
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[2]}"

import jax
import numpy as np

from sgdr_jax import AdamW, Eval, Experiment, Sgd, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Parallel
from sgdr_jax.core.state import Hyper
from sgdr_jax.datasets import Synthetic
from sgdr_jax.schedules import Constant
from sgdr_jax.train.context import prepare
from sgdr_jax.train.stage import open_stage
from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches
from sgdr_jax.train.steps import forward as forward_part

from ..helpers import Tiny, single_update

BATCH = 16
RATES = (1e-3, 3e-3, 1e-2)
STAGES = (
    Stage("cached head", size=16, train="head", lr=0.03, schedule=Constant(5), views=2, precompute=True),
    Stage("head", size=16, train="head", lr=0.03, schedule=Constant(5)),
    Stage("all", size=16, train="all", lr=RATES, schedule=Constant(5)),
    Stage("larger", size=24, train="all", lr=RATES, schedule=Constant(5), bn=("late",), optimizer=Sgd(clip=1.0)),
    Stage("AdamW", size=24, train="all", lr=RATES, schedule=Constant(5), bn=("late",), optimizer=AdamW(clip=1.0)),
)
FLOAT64 = [Parallel(1), *(Parallel(n, kind) for n in (2, 4, 8) for kind in ("jit", "pmap")), Parallel(4, sharded=True)]
FLOAT32 = [Parallel(n) for n in (1, 2, 4, 8)]


@dataclass(frozen=True)
class Smooth(Tiny):
    """The tiny network with smooth activations: where a value crosses the kink of a ReLU by one rounding, 1e-7 becomes 1e-2. And with one
    at the end: the head's normalisation undoes a shift, so without it a bias that training does not determine would wander by rounding."""

    def modules(self, channels: int) -> dict[str, Any]:
        from sgdr_jax.models.blocks import ConvBN

        first = ConvBN(3, channels, 4, eps=1e-5, stride=2, padding=1, activation=jax.nn.silu)
        return {"first": first, "second": ConvBN(3, 4, 5, eps=1e-5, padding=1, activation=jax.nn.silu)}


def experiment(parallel: Parallel) -> Experiment:
    data = Synthetic(classes=3, train=61, valid=21, test=19, side=16)
    fields: dict[str, Any] = {"batch_size": BATCH, "evaluate": Eval(batch_size=16), "augment": side_on(), "label_smoothing": 0.1}
    fields["compute"] = "float64" if jax.config.jax_enable_x64 else "float32"  # pyright: ignore[reportAttributeAccessIssue]
    return Experiment("devices", data, Smooth(dropout=(0.1, 0.5), hidden=8), STAGES, parallel=parallel, **fields)


def biased(params: Any) -> Any:
    """Parameters with biases of their own size, as a trained network has them. From 0 they come no further than 0.002 in twenty updates, of
    which the rounding of activations near 1 (6e-8) is a share that says nothing."""
    rng = np.random.default_rng(0)

    def drawn(path: Any, x: Any) -> Any:
        return x + rng.normal(0, 0.1, x.shape).astype(x.dtype) if path[-1].key == "bias" else x

    return jax.tree_util.tree_map_with_path(drawn, params)


def train(out: Path, parallel: Parallel) -> None:
    context = prepare(experiment(parallel))
    params = context.programs.devices.replicate(biased(jax.device_get(context.network.params)))
    context = context._replace(network=context.network._replace(params=params))
    for p in context.plan.stages:
        stage = open_stage(context, p, context.network, NullConsole())
        rows, state, losses = hyper_rows(context, p, p.lr), stage.state, []
        for step, fed in enumerate(stage_batches(context, p, 0, p.steps)):
            state, sums = single_update(stage, state, Hyper(*(r[step] for r in rows)), fed)
            losses.append(float(sums["loss"]) / float(sums["weight"]))
        assert len(losses) == 20
        arrays = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path((state.params, state.stats))}
        measures = stage.validate(state)
        spread = f"{parallel.backend}{'-sharded' * parallel.sharded}-{parallel.devices}"
        np.savez(out / f"{context.programs.dtype}-{spread}-{p.stage.name}.npz", losses=losses, validation=[measures["loss"]], **arrays)


def communication(count: int) -> dict[str, dict[str, float]]:
    """What an update of a real network communicates, for every kind of stage; and what predictions do."""
    from sgdr_jax.models import MobileNetV2

    sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "bench"))
    from communication import collectives, traffic  # pyright: ignore[reportMissingImports]

    found: dict[str, Any] = {
        # A linear head has few weights beside the statistics of its batch, which are communicated too.
        f"{backend} {train}": traffic(MobileNetV2(hidden=512), train, Parallel(count, backend), batch=2 * count)._asdict()
        for backend, train in (("jit", "all"), ("jit", "head"), ("jit", 1), ("pmap", "all"))
    }
    run = prepare(experiment(Parallel(count))).programs
    images = jax.ShapeDtypeStruct((BATCH, 16, 16, 3), np.uint8, sharding=run.devices.split)
    draw = jax.ShapeDtypeStruct((BATCH,), np.uint32, sharding=run.devices.split)
    pixels = run.augmented.lower(images, draw, jax.random.key(0), None, augmentations=side_on(), size=16)
    network = MobileNetV2(weights=None).build(10)
    forward = run.devices.compile_map(partial(forward_part, network, start=None, stop=None, dtype=np.float32))
    logits = forward.lower(*({g: network.shapes[g][i] for g in network.groups} for i in (0, 1)), pixels.out_info)
    found["rows"] = {name: collectives(program.compile().as_text()) for name, program in (("augmented", pixels), ("forward", logits))}
    return found


if __name__ == "__main__":
    out, devices = Path(sys.argv[1]), int(sys.argv[2])
    for kind, precision in ((FLOAT32, False), (FLOAT64, True)):
        jax.config.update("jax_enable_x64", precision)
        for parallel in kind:
            train(out, parallel)
    jax.config.update("jax_enable_x64", False)
    (out / "communication.json").write_text(json.dumps(communication(devices)))
