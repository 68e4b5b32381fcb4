"""How fast images come in: against the same step on one fixed batch, against the decoder alone, and within how much memory.

    python experiments/bench/input.py step      epochs from device and disk against one fixed batch (ResNet-18, 32 px, batch 32)
    python experiments/bench/input.py decode    decoding into the canvas against decoding alone on all cores (500 × 375 JPEGs)
    python experiments/bench/input.py stream    100,000 JPEGs: written, decoded to disk, streamed once; largest memory of the process

Each appends its figures to results/input.csv.
"""

import argparse
import io
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import batched, cycle, islice
from pathlib import Path

import harness
import numpy as np
from PIL import Image


def jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    """A picture as detailed as a photograph: noise of several scales."""
    sides = [(max(height // k, 1), max(width // k, 1), 3) for k in (4, 16, 64)]
    layers = [np.asarray(Image.fromarray(rng.integers(0, 256, side, np.uint8)).resize((width, height))) for side in sides]
    file = io.BytesIO()
    Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def step(seconds: float) -> dict[str, float | str]:
    """Updates per second with one fixed batch, with resident images and with images streamed from disk, in turn, in one process."""
    from sgdr_jax import Experiment, Stage
    from sgdr_jax.augment import side_on
    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.core.state import Hyper
    from sgdr_jax.datasets import ImageFolder
    from sgdr_jax.models import ResNet18
    from sgdr_jax.schedules import Constant
    from sgdr_jax.train.context import prepare
    from sgdr_jax.train.stage import open_stage
    from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

    root, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for i in range(640):
        path = root / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(rng, 100, 90))
    stage = Stage("all", size=32, lr=0.0, schedule=Constant(1000))
    made = Experiment("input", ImageFolder(str(root)), ResNet18(weights=None), (stage,), augment=side_on(), batch_size=32)
    context = prepare(replace(made, images="resident"))
    p = context.plan.stages[0]
    opened = open_stage(context, p, context.network, NullConsole())
    hyper = Hyper(*(rows[:1] for rows in hyper_rows(context, p, (0.0,) * len(p.trained))))
    streamed = prepare(replace(made, images="streamed"))
    assert streamed.data.storage == "disk"
    ways = {"fixed": cycle(list(islice(stage_batches(context, p, 0, 1), 1)))}
    ways |= {name: stage_batches(x, p, 0, p.steps) for name, x in (("resident", context), ("streamed", streamed))}
    state, spent = opened.state, {name: [] for name in ways}
    for fed in [next(batches) for batches in ways.values()]:
        state, sums = opened.update(state, hyper, [fed])
    np.asarray(sums["loss"])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, batches in ways.items():
            start = time.perf_counter()
            for _ in range(4):
                state, sums = opened.update(state, hyper, [next(batches)])
            np.asarray(sums["loss"])
            spent[name].append((time.perf_counter() - start) / 4)
    shutil.rmtree(root)
    figures = {f"{name}_ms": 1000 * statistics.median(times) for name, times in spent.items()}
    shares = {f"{name}_share": figures["fixed_ms"] / figures[f"{name}_ms"] for name in ("resident", "streamed")}
    return {**figures, **shares, "rounds": float(len(spent["fixed"]))}


def decode(seconds: float) -> dict[str, float | str]:
    """Images per second, decoded only and decoded into a canvas file, in turn."""
    from sgdr_jax.core.threads import cores
    from sgdr_jax.data import decode as decoder
    from sgdr_jax.data import image_cache

    rng = np.random.default_rng(0)
    files = [jpeg(rng, 500, 375) for _ in range(40)] * 100
    names = [str(i) for i in range(len(files))]
    alone, kept = [], []
    until = time.perf_counter() + seconds
    decoder.ready()
    while time.perf_counter() < until:
        start = time.perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda chunk: [decoder.attempt(file, 258, 3) for file in chunk] and None, batched(files, 32)))
        alone.append(len(files) / (time.perf_counter() - start))
        ids = [f"{len(kept)} {name}" for name in names]
        start = time.perf_counter()
        image_cache.on_disk(image_cache.EncodedImages(files.__getitem__, names, ids), 258, 3, lambda done, bad: None)
        kept.append(len(files) / (time.perf_counter() - start))
        shutil.rmtree(image_cache.folder())
    shares = [b / a for a, b in zip(alone, kept, strict=True)]
    return {
        "alone_per_s": statistics.median(alone),
        "canvas_per_s": statistics.median(kept),
        "canvas_share": statistics.median(shares),
        "rounds": float(len(alone)),
        "cores": float(cores()),
    }


def stream(count: int) -> dict[str, float | str]:
    """Seconds and memory for a set that is written, decoded to disk and streamed through the feed once."""
    from sgdr_jax.core.experiment import Parallel
    from sgdr_jax.data.load import load
    from sgdr_jax.data.loader import image_loader
    from sgdr_jax.data.pixels import StoredPixels
    from sgdr_jax.data.sampler import Sampler, steps_per_epoch
    from sgdr_jax.datasets import ImageFolder
    from sgdr_jax.distributed.mesh import devices

    root, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
    noise = [jpeg(rng, 128, 112) for _ in range(500)]
    for i in range(count):  # a comment before the end makes each file one of its own
        text = f"{i:08}".encode()
        data = noise[i % 500]
        (root / "ab"[i % 2] / f"{i:06}.jpg").write_bytes(data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:])
    begun = time.perf_counter()
    data = load(ImageFolder(str(root), valid_fraction=0.001).open(), canvas=112)
    decoded = time.perf_counter()
    assert data.storage == "disk"
    feed = image_loader(data.images["train"], devices(Parallel()), resident=False)
    n = len(feed)
    seen = sum(
        int(batch.weight.sum())
        for batch, _ in feed.batches(Sampler(0, 0, data.labels["train"]).batches(batch_size=256, steps=steps_per_epoch(n, 256)))
    )
    ended = time.perf_counter()
    assert seen == n and StoredPixels
    shutil.rmtree(root)
    return {
        "images": float(count),
        "decode_s": decoded - begun,
        "stream_s": ended - decoded,
        "canvas_gib": data.bytes / 2**30,
        "memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "decode", "stream"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            job = {"step": lambda: step(given.seconds), "decode": lambda: decode(given.seconds), "stream": lambda: stream(given.images)}
            harness.emit(**job[given.what](), versions=harness.versions("jax", "pillow"))
        return
    command = [sys.executable, __file__, given.what, "--job", "--seconds", str(given.seconds), "--images", str(given.images)]
    results = harness.rounds({given.what: command}, given.rounds)
    harness.table(results)
    print(f"kept in {harness.save('input', results)}")


if __name__ == "__main__":
    main()
