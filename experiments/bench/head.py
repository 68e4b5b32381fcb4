"""Heads on cached activations: one update for sixteen heads, a head solved instead of trained.

    python experiments/bench/head.py             # --rounds 3; --adamw
    python experiments/bench/head.py --solve     # a linear head by logistic regression: 500 images × 4 views, 5,000 × 2

The update is that of a head 2,560 → 512 → 10 on batches of 64, in milliseconds per head: what vectorising can gain. "turns" is one
compiled update after the other, "vectorised" all heads as one program, "scan" many updates of one head in one dispatch, "products" the
three matrix products of an update and nothing else: no way of doing the updates is faster than that. GF/s are those of the products.
A solution is timed with its whole cross-validation, with and without compiling ("first"). "core s" is processor time, which other load
does not lengthen. Rows go to results/head.csv; on a machine with an accelerator they are its own.
"""

import argparse
import sys
import time
from pathlib import Path

import harness
import numpy as np

HERE = Path(__file__).resolve()
HEADS, UPDATES, BATCH, FEATURES, HIDDEN = 16, 16, 64, 2560, 512


def job(adamw: bool) -> None:
    import jax
    import jax.numpy as jnp

    from sgdr_jax import AdamW, Sgd
    from sgdr_jax.core.state import Hyper, TrainState
    from sgdr_jax.distributed.backend import start_backend
    from sgdr_jax.models import EfficientNetLite0
    from sgdr_jax.train import optim
    from sgdr_jax.train.steps import TrainStep

    start_backend()
    optimizer, network = AdamW() if adamw else Sgd(), EfficientNetLite0(weights=None).build(10)
    params, stats = network.init(jax.random.key(0), ("head",))
    step = TrainStep(network, optim.without_hyper(optimizer), ("head",), ("head",))
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.random((UPDATES, BATCH, FEATURES), np.float32)), rng.integers(0, 10, (UPDATES, BATCH)).astype(np.int32)
    weight, key = np.ones(BATCH, np.float32), jax.random.key(1)
    hyper = Hyper(np.full(1, 0.01, np.float32), np.float32(0.9), np.float32(1e-4), np.float32(0))

    def fresh() -> TrainState:
        own = jax.tree.map(jnp.array, params)
        return TrainState(jnp.int32(0), own, jax.tree.map(jnp.array, stats), optim.init(optimizer, ("head",), own))

    def stack(tree):
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * HEADS), tree)

    alone = jax.jit(step, donate_argnums=0)
    together = jax.jit(jax.vmap(step, in_axes=(0, 0, None, None, None, 0)), donate_argnums=0)
    scanned = jax.jit(
        lambda state, x, labels: jax.lax.scan(lambda s, batch: step(s, hyper, *batch, weight, key), state, (x, labels))[0], donate_argnums=0
    )
    products = jax.jit(lambda a, w, g: (a @ w, a.T @ g, g @ w.T))
    a, w, g = (jnp.ones(shape, jnp.float32) for shape in ((BATCH, FEATURES), (FEATURES, HIDDEN), (BATCH, HIDDEN)))
    states: dict[str, list] = {"turns": [fresh() for _ in range(HEADS)], "scan": [fresh() for _ in range(HEADS)]}
    states["vectorised"] = [stack(fresh())]
    hypers, keys = stack(hyper), jnp.stack([key] * HEADS)

    def turns():
        for i in range(UPDATES):
            states["turns"] = [alone(state, hyper, x[i], labels[i], weight, key)[0] for state in states["turns"]]
        return states["turns"]

    def scan():
        states["scan"] = [scanned(state, x, labels) for state in states["scan"]]
        return states["scan"]

    def vectorised():
        for i in range(UPDATES):
            states["vectorised"] = [together(states["vectorised"][0], hypers, x[i], labels[i], weight, keys)[0]]
        return states["vectorised"]

    def floor():
        return [products(a, w, g) for _ in range(HEADS * UPDATES)][-1]

    figures = {}
    for name, way in (("turns", turns), ("vectorised", vectorised), ("scan", scan), ("products", floor)):
        jax.block_until_ready(way())
        times = []
        for _ in range(3):
            began = time.perf_counter()
            jax.block_until_ready(way())
            times.append(time.perf_counter() - began)
        figures[f"{name} ms"] = 1e3 * min(times) / HEADS / UPDATES
    flops = 3 * 2 * BATCH * FEATURES * HIDDEN
    harness.emit(**figures, **{"GF/s": flops / figures["products ms"] / 1e6}, versions=harness.versions("jax", "jaxlib"))


def solve() -> None:
    """Logistic regression with its cross-validation on features like pooled activations: a few strong common directions, many weak ones."""
    import jax
    import jax.numpy as jnp

    from sgdr_jax.core.solve import Solve
    from sgdr_jax.models.head import EPS
    from sgdr_jax.train.logistic_regression import minimise, problem, standardise
    from sgdr_jax.train.solve_head import FINAL, MOST_FINAL, choose, split_folds

    figures, classes = {}, 12
    for images, views in ((500, 4), (5000, 2)):
        rng = np.random.default_rng(0)
        labels = np.arange(images) % classes
        mixing = rng.normal(size=(300, FEATURES)) * np.geomspace(1, 0.05, 300)[:, None]
        own = 0.35 * rng.normal(size=(classes, 300))[labels] + rng.normal(size=(images, 300))
        x = np.concatenate([(own + 0.5 * rng.normal(size=own.shape)) @ mixing + rng.normal(size=(images, FEATURES)) for _ in range(views)])
        x, rows = jnp.asarray(x, jnp.float32), jnp.asarray(np.tile(labels, views), jnp.int32)
        folds = split_folds(labels, Solve().folds, rng.permutation(images))
        even = jnp.full(len(x), 1 / len(x), jnp.float32)
        fits = np.tile(folds.fits, views) / (folds.fits.sum(1, keepdims=True) * views)
        shares = [jnp.asarray(a, jnp.float32) for a in (fits, np.tile(folds.judges, views) / (images * views))]

        def whole(x=x, rows=rows, even=even, shares=shares):
            features, *_ = standardise(x, even, EPS)
            p = problem(features, rows, 0.0, even, classes)
            chosen = choose(p, Solve().weight_decay, *shares, classes)
            return minimise(p, even[None], chosen.weight_decay, chosen.start, FINAL, MOST_FINAL)

        for kind in (" first", ""):
            began, spent = time.perf_counter(), time.process_time()
            found = jax.block_until_ready(whole())
            now = f"{images} × {views}{kind}"
            figures |= {f"{now} s": time.perf_counter() - began, f"{now} core s": time.process_time() - spent}
        figures[f"{images} × {views} gradient"] = float(found.gradient[0])
    harness.emit(**figures, versions=harness.versions("jax", "jaxlib"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--adamw", action="store_true")
    parser.add_argument("--solve", action="store_true")
    parser.add_argument("--job", action="store_true")
    args = parser.parse_args()
    if args.job:
        return solve() if args.solve else job(args.adamw)
    name = "solved" if args.solve else "AdamW" if args.adamw else "SGD"
    given = [option for option in ("--adamw", "--solve") if getattr(args, option[2:])]
    results = harness.rounds({name: (sys.executable, HERE, "--job", *given)}, args.rounds)
    harness.table(results)
    print(f"rows: {harness.save('head', results)}")


if __name__ == "__main__":
    main()
