"""What `train_step.py` and `inference.py` share: networks on one fixed batch, ours beside PyTorch's (timm), in alternating fresh processes.

Ours is the package's own update (`steps.TrainStep`: SGD with momentum, a rate per layer group) or forward pass, with the network's own
classifier of 1000 classes. PyTorch runs timm's network of the same name as `networks_torch.py` says: channels last, eager on CPU, compiled
and with automatic mixed precision on GPU. Compilation is timed apart. Each job repeats for some seconds and gives its median. On a GPU both
hand over ten updates or batches before they wait for the card, as a training loop does.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness

MODELS = ("ResNet18", "ResNet50", "MobileNetV2", "EfficientNetLite0")
MODELS += ("ConvNeXtNano", "EfficientNetV2B0", "MobileNetV4Small", "CAFormerS18")  # a ViT needs --size 224


def repeat(work: Callable[[], object], wait: Callable[[], object], seconds: float, burst: int) -> list[float]:
    """Seconds of a repetition in each of at least five bursts, after which it waits for the device; the first burst is left out."""
    times: list[float] = []
    while sum(times) * burst < seconds or len(times) < 6:
        began = time.perf_counter()
        for _ in range(burst):
            work()
        wait()
        times.append((time.perf_counter() - began) / burst)
    return times[1:]


def job(model: str, training: bool, size: int, batch: int, seconds: float) -> None:
    """Times one network of ours."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sgdr_jax import Sgd, models
    from sgdr_jax.core.experiment import Parallel
    from sgdr_jax.core.state import Hyper, TrainState
    from sgdr_jax.distributed.mesh import compute_dtype, devices
    from sgdr_jax.train import optim
    from sgdr_jax.train.steps import TrainStep, forward

    mesh, dtype = devices(Parallel(1)), compute_dtype("auto")
    network = getattr(models, model)(weights=None, head="classifier").build(1000)
    params, stats = mesh.hold(network.init(jax.random.key(0)))
    images, logits = jnp.asarray(np.random.default_rng(0).random((batch, size, size, 3)), jnp.float32), None
    began = time.perf_counter()
    if training:
        groups, sgd = network.groups, Sgd()
        step = mesh.compile_step(TrainStep(network, sgd, groups, groups, dtype))
        state = mesh.hold(TrainState(jnp.int32(0), params, stats, optim.init(sgd, groups, params)))
        hyper = Hyper(jnp.full(len(groups), 1e-3), jnp.float32(0.9), jnp.float32(0), jnp.float32(0))
        rest = mesh.replicate((hyper, images, jnp.arange(batch, dtype=jnp.int32) % 1000, jnp.ones(batch), jax.random.key(1)))

        def work() -> None:
            nonlocal state
            state, _ = step(state, *rest)

        def wait() -> None:
            jax.block_until_ready(state)
    else:
        run = mesh.compile_map(lambda params, stats, x: forward(network, params, stats, x, start=None, stop=None, dtype=dtype))

        def work() -> None:
            nonlocal logits
            logits = run(params, stats, images)

        def wait() -> None:
            jax.block_until_ready(logits)

    work()
    wait()
    compiled = time.perf_counter() - began
    times = repeat(work, wait, seconds, 1 if jax.default_backend() == "cpu" else 10)
    harness.emit(
        versions=harness.versions("jax"),
        images_per_s=batch / statistics.median(times),
        first_s=compiled,
        case=f"{model} {'training' if training else 'inference'}, {size} px, batch {batch}, {jnp.dtype(dtype)}",
    )


def timm_name(model: str) -> str:
    """Timm's name of the architecture."""
    from sgdr_jax import models

    kind = getattr(models, model)
    return kind.timm or kind.imagenet.partition("timm/")[2].partition(".")[0]


def main(doc: str | None, file: str, *, training: bool) -> None:
    """Runs the rounds for each network, prints its table, adds to the CSV."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="names in sgdr_jax.models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4, help="how long each job repeats")
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of the environment that has torch and timm")
    parser.add_argument("--keep-memory", action="store_true", help="also PyTorch with freed memory kept by glibc, as ours has it")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="DIR", help="where the CSV is")
    parser.add_argument("--job", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        return job(options.job, training, options.size, options.batch, options.seconds)
    if "NVIDIA" not in harness.machine():
        print("no GPU here: these are CPU figures; torch.compile, mixed precision and bfloat16 are not measured")
    if not options.torch:
        print("no --torch PYTHON given: PyTorch is not measured")
    numbers = ("--size", options.size, "--batch", options.batch, "--seconds", options.seconds)
    for model in options.models:
        commands = {f"{model} ours": (sys.executable, file, *numbers, "--job", model)}
        if options.torch:
            peer = (options.torch, Path(__file__).with_name("networks_torch.py"), *numbers, *(["--training"] * training), timm_name(model))
            commands[f"{model} torch"] = peer
            if options.keep_memory:
                keep = ("MALLOC_MMAP_THRESHOLD_=1099511627776", "MALLOC_TRIM_THRESHOLD_=1099511627776")
                commands[f"{model} torch, memory kept"] = ("env", *keep, *peer)
        results = harness.rounds(commands, options.rounds)
        harness.table(results)
        print(harness.save(Path(file).stem, results, options.results), flush=True)
