"""How to train the body once the head is solved: rates, ratios, batch statistics, lengths and batches, on any sets and seeds.

    python experiments/bench/sets.py DIR
    python experiments/bench/bodies.py DIR [--sets …] [--seeds 0 1 2] [--size 128] [--batch 32] [--shard 0/8]
    python experiments/bench/recipes.py --table --results experiments/bench/results/bodies.csv --reference "solved"

A training of seven epochs takes a second on a GPU here, since all sets share one compiled program for each kind of batch statistics:
their images lie in arrays of one length, and classes that a set does not have are masked in the loss. Ten updates are one program there.
Several processes on one card (--shard) share it best under NVIDIA's MPS. The head is solved (logistic regression on cached augmented
copies, penalty by the held-out images) or trained as the recipe of old did (30 epochs); test images choose nothing. Rows are kept as
they come: an interrupted bench goes on with what is missing. "CELLS" is what is compared; its names are the recipes of the table.
"""

import argparse
import csv
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgdr_jax.augment import Crop, Erase, Flip, Lighting, Rotate, Warp, Zoom, kernel, side_on, trivial_augment
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Experiment, Stage
from sgdr_jax.core.optimizers import AdamW
from sgdr_jax.core.rng import key_for
from sgdr_jax.core.state import Hyper, TrainState
from sgdr_jax.data.load import load_for
from sgdr_jax.data.sampler import Sampler
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.distributed.backend import start_backend
from sgdr_jax.distributed.mesh import compute_dtype
from sgdr_jax.evaluation import tta
from sgdr_jax.models import EfficientNetLite0
from sgdr_jax.models.chain import Modes, Network
from sgdr_jax.models.pretrained import load
from sgdr_jax.schedules import Sgdr
from sgdr_jax.train import optim

CLASSES, IMAGES, COPIES, CHUNK, EVAL, VIEWS = 64, 5120, 18432, 10, 250, 3
"""Shapes that sets share: classes, training images, cached copies (on a CPU less where fewer do); updates of a program, images of an
evaluation step, TTA views."""
SETS = (
    "clipart",
    "emoji",
    "fashion10",
    "fashion50",
    "fashion500:1000",
    "fashion500:2000",
    "icons",
    "letters",
    "digits",
    "photos",
    "stamps",
)
PENALTIES = np.array([1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1], np.float32)
AUGMENT, OPTIMIZER = side_on(zoom=1.1), AdamW(clip=1.0)
AUGMENTS = {
    "": AUGMENT,
    "none": (),
    "crops": (Crop((0.35, 1.0)), Flip(), Lighting(p=1.0)),
    "fastai": (Flip(), Rotate(10.0), Zoom(1.1), Warp(0.2), Lighting(0.1, 0.25)),
    "erased": (*AUGMENT, Erase()),
    "TrivialAugment": (*trivial_augment(), Flip()),
}
"""What the images of the body's updates go through; the head's cached copies and the test-time views keep `AUGMENT`."""
STATISTICS = {"frozen": ("head",), "late": ("late", "head"), "trained": ("early", "late", "head")}
TABLE = Path(__file__).parent / "results" / "bodies.csv"
COLUMNS = (
    "date",
    "machine",
    "versions",
    "name",
    "set",
    "size",
    "batch",
    "seed",
    "valid_accuracy",
    "valid_loss",
    "accuracy",
    "tta_accuracy",
)


class Cell(NamedTuple):
    """A way to train the body.

    Attributes:
        rate: peak rate of the head; None trains no body.
        ratio: rate of each layer group over that of the one before.
        statistics: of `STATISTICS`.
        cycles: arguments of Sgdr.
        warmup: share of the first cycle.
        head: "solved" or "trained".
        smoothing: of the labels.
        opened: the first layer group that is trained; those before it stay as they are.
        cut: block at which the group "late" begins; "" for the network's own.
        augment: of `AUGMENTS`.
    """

    rate: float | None = None
    ratio: float = 1
    statistics: str = "frozen"
    cycles: tuple[float, ...] = (1, 7)
    warmup: float = 0.1
    head: str = "solved"
    smoothing: float = 0.0
    opened: str = "early"
    cut: str = ""
    augment: str = ""

    @property
    def kind(self) -> str:
        """The network that it trains, as in `network`."""
        return f"{self.head}@{self.cut}" if self.cut else self.head

    @property
    def name(self) -> str:
        """Name in the table."""
        if self.rate is None:
            return self.head
        extra = f", smoothing {self.smoothing:g}" if self.smoothing else ""
        extra += f", from {self.cut or self.opened}" if self.opened != "early" else ""
        extra += f", {self.augment}" if self.augment else ""
        lengths = "+".join(f"{self.cycles[1] * (self.cycles[2] if len(self.cycles) > 2 else 1) ** i:g}" for i in range(int(self.cycles[0])))
        return f"{self.head}, {self.rate:g}, ratio {self.ratio:g}, {self.statistics}, {lengths} epochs, warm-up {self.warmup:g}{extra}"


CELLS = (
    *(Cell(), Cell(head="trained")),
    *(Cell(rate, ratio) for ratio in (1, 3) for rate in (2e-4, 3e-4, 5e-4, 1e-3)),
    *(Cell(rate, statistics=of) for of in ("late", "trained") for rate in (3e-4, 1e-3, 3e-3)),
    *(Cell(rate, cycles=(3, 1, 2), warmup=0.5) for rate in (3e-4, 1e-3)),
    *(Cell(rate, cycles=(1, 15)) for rate in (3e-4, 5e-4)),
    Cell(5e-4, smoothing=0.1),
    *(Cell(rate, opened="late") for rate in (3e-4, 5e-4, 1e-3, 2e-3)),
    Cell(3e-3, statistics="trained", cycles=(3, 1, 2), warmup=0, head="trained"),  # the plain recipe
    Cell(1e-4, 1.85, "trained", (1, 20), head="trained"),  # AutoMM's rates, by layer groups
    *(Cell(rate, opened="late", cut="block2") for rate in (3e-4, 1e-3)),
    *(Cell(3e-4, augment=augment) for augment in AUGMENTS if augment),
)
GRID = tuple(Cell(rate, ratio, of) for of in STATISTICS for ratio in (1, 3, 10) for rate in (3e-4, 1e-3, 3e-3, 1e-2))
"""Cells that regret is measured against, rates ascending."""
HOPELESS = 0.05
"""Share of test images right, below that of the solved head, from which a cell of the grid is hopeless: higher rates are not tried."""


# ---- programs ----


@functools.cache
def network(kind: str) -> tuple[Network, Any, Any]:
    """The network with a head of `CLASSES` classes, linear to be "solved" or with a hidden layer to be "trained"; "@" and where to cut."""
    head, _, cut = kind.partition("@")
    model = EfficientNetLite0(hidden=0 if head == "solved" else 512, cuts=(cut,) if cut else EfficientNetLite0.cuts)
    chain, params, stats, _ = load.start(model, CLASSES, 3, key_for(0, "init"))
    return chain, params, stats


def losses(logits: jax.Array, labels: jax.Array, smoothing: jax.Array | float, classes: jax.Array) -> jax.Array:
    """Cross-entropy over the first `classes` classes."""
    real = jnp.arange(CLASSES) < classes
    logp = jax.nn.log_softmax(jnp.where(real, logits, -1e9))
    uniform = -jnp.sum(jnp.where(real, logp, 0), -1) / classes
    return (1 - smoothing) * -jnp.take_along_axis(logp, labels[:, None], 1)[:, 0] + smoothing * uniform


@functools.cache
def updates(kind: str, statistics: str, start: str, size: int, augment: str) -> Any:
    """Compiled updates in a row of the groups from `start` on: of the head from cached copies, of others from images."""
    chain = network(kind)[0]
    trained = chain.groups[chain.groups.index(start) :]
    collects = tuple(group for group in STATISTICS[statistics] if group in trained)

    def one(fixed: tuple[Any, ...], state: TrainState, given: Any) -> tuple[TrainState, jax.Array]:
        (frozen, stored), source, labels, key, draws, classes = fixed
        hyper, index, draw, weight = given
        x = source[draw] if start == "head" else kernel.augment(source[index], draw, draws, AUGMENTS[augment], size)
        modes = Modes(train=trained, collect=collects, key=jax.random.fold_in(key, state.step))

        def loss(part: Any) -> tuple[jax.Array, Any]:
            tree, stats = frozen | part, stored | state.stats
            logits, stats = chain.apply(tree, stats, x, start=start if start == "head" else None, modes=modes, dtype=compute_dtype("auto"))
            each = losses(logits, labels[index % len(labels)], hyper.label_smoothing, classes)
            return jnp.sum(each * weight) / jnp.maximum(weight.sum(), 1), {group: stats[group] for group in state.stats}

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        params, slots = optim.update(OPTIMIZER, trained, hyper, grads, state.opt_state, state.params)
        return TrainState(state.step + 1, params, stats, slots), value

    return jax.jit(lambda state, rows, *fixed: jax.lax.scan(functools.partial(one, fixed), state, rows))


@functools.cache
def forward(kind: str, what: str, size: int) -> Any:
    """Compiled forward pass: "logits" or "features" of plain images, "copies" (features of augmented ones), or "view" of a TTA view."""
    chain = network(kind)[0]

    def run(params: Any, stats: Any, images: jax.Array, ids: jax.Array, key: jax.Array, v: int) -> jax.Array:
        if what == "view":
            x = tta.view(images, ids, key, v, augmentations=AUGMENT, size=size, kind="random")
        else:
            x = kernel.augment(images, ids, key, AUGMENT, size) if what == "copies" else kernel.resize(images, size)
        stop = "head" if what in ("copies", "features") else None
        return chain.apply(params, stats, x, stop=stop, dtype=compute_dtype("auto"))[0].astype(jnp.float32)

    return jax.jit(run)


@jax.jit
def solutions(x: jax.Array, y: jax.Array, weight: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Kernels and biases of logistic regression on standardised features [n, d], for each of `PENALTIES`: sixty steps of L-BFGS."""

    def one(penalty: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(p: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jnp.sum(losses(x @ p[0] + p[1], y, 0.0, classes) * weight) / weight.sum() + penalty / 2 * jnp.sum(p[0] ** 2)

        rule = optax.lbfgs(memory_size=8)
        start = (jnp.zeros((x.shape[1], CLASSES)), jnp.zeros(CLASSES))

        def step(carry: Any, _: None) -> tuple[Any, None]:
            p, slots = carry
            value, grad = optax.value_and_grad_from_state(loss)(p, state=slots)
            change, slots = rule.update(grad, slots, p, value=value, grad=grad, value_fn=loss)
            return (optax.apply_updates(p, change), slots), None

        return jax.lax.scan(step, (start, rule.init(start)), None, length=60)[0][0]

    return jax.lax.map(one, jnp.asarray(PENALTIES))


# ---- a set ----


def padded(a: np.ndarray, n: int) -> np.ndarray:
    """The array with zeros up to n rows."""
    return np.concatenate([a, np.zeros((n - len(a), *a.shape[1:]), a.dtype)])


def score(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and log-loss of probabilities."""
    return float((logits.argmax(1) == labels).mean()), float(-np.log(np.maximum(logits[np.arange(len(labels)), labels], 1e-12)).mean())


class Task:
    """A set with a seed: its images on the device, and the heads that were made for it."""

    def __init__(self, folder: Path, name: str, seed: int, size: int, batch: int) -> None:
        base, _, cut = name.partition(":")
        data = ImageFolder(str(folder / base), valid_fraction=0.1 if base == "fashion500" else 0.2, seed=seed)
        stage = Stage("x", size, schedule=Sgdr())
        loaded = load_for(Experiment("x", data, EfficientNetLite0(), (stage,)), data.open(), NullConsole())
        images = {split: np.asarray(loaded.images[split][:]) for split in ("train", "valid", "test")}
        self.images = {split: a if a.shape[-1] == 3 else np.repeat(a, 3, -1) for split, a in images.items()}
        self.labels = {split: np.asarray(loaded.labels[split]).astype(np.int32) for split in images}
        self.classes, self.seed, self.size, self.batch = len(loaded.classes), seed, size, batch
        random = np.random.default_rng(seed)
        for split, n in (("train", int(cut)), ("valid", int(cut) // 4)) if cut else ():
            self.keep(split, np.concatenate([random.permutation(at)[: n // self.classes] for at in self._by_class(split)]))
        if len(self.labels["test"]) > 2000:
            self.keep("test", np.random.default_rng(0).permutation(len(self.labels["test"]))[:2000])
        self.penalty: int | None = None
        self._count()

    def _count(self) -> None:
        self.n = len(self.labels["train"])
        self.copies = int(np.clip(10_000 // self.n, 1, 4))
        self.epoch = max(round(max(20, self.n / self.batch) / CHUNK), 1) * CHUNK
        self.train = jax.device_put(padded(self.images["train"], IMAGES)), jax.device_put(padded(self.labels["train"], IMAGES))
        self.heads: dict[str, tuple[Any, Any]] = {}

    def join(self) -> None:
        """Add the held-out images to the training images; the penalty that they have chosen for the head stays."""
        for arrays in (self.images, self.labels):
            arrays["train"] = np.concatenate([arrays["train"], arrays["valid"]])
        self._count()

    def _by_class(self, split: str) -> Iterator[np.ndarray]:
        return (np.flatnonzero(self.labels[split] == label) for label in range(self.classes))

    def keep(self, split: str, index: np.ndarray) -> None:
        """Keep these images of a split."""
        self.images[split], self.labels[split] = self.images[split][index], self.labels[split][index]

    def over(self, split: str, kind: str, what: str, net: tuple[Any, Any], first: int = 0, v: int = 0) -> np.ndarray:
        """Apply a forward pass to a split; image i has the id first + i."""
        images, n, out = self.images[split], len(self.labels[split]), []
        key = key_for(self.seed, "augment" if what == "copies" else "tta")
        for i in range(0, n, EVAL):
            at = np.minimum(np.arange(i, i + EVAL), n - 1)
            out.append(forward(kind, what, self.size)(*net, images[at], (first + at).astype(np.uint32), key, jnp.int32(v)))
        return np.concatenate([np.asarray(rows) for rows in out])[:n]

    def probabilities(self, split: str, kind: str, net: tuple[Any, Any], v: int | None = None) -> np.ndarray:
        """Probabilities of the plain images, or of TTA view v."""
        logits = self.over(split, kind, "logits" if v is None else "view", net, v=v or 0)[:, : self.classes].astype(np.float64)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def figures(self, kind: str, net: tuple[Any, Any]) -> dict[str, float]:
        """Held-out and test accuracy, plain and by TTA."""
        accuracy, loss = score(self.probabilities("valid", kind, net), self.labels["valid"])
        plain = self.probabilities("test", kind, net)
        views = np.mean([self.probabilities("test", kind, net, v) for v in range(1, VIEWS + 1)], axis=0)
        test = {"accuracy": score(plain, self.labels["test"])[0], "tta_accuracy": score(plain / 4 + views * 3 / 4, self.labels["test"])[0]}
        return {"valid_accuracy": accuracy, "valid_loss": loss} | test

    def fit(self, kind: str, net: tuple[Any, Any], cell: Cell, start: str, source: jax.Array, at: int | None = None) -> tuple[Any, Any]:
        """Train from a network by a cell as stage `at` of the seed, which is 0 for the head and 1 for the body unless given."""
        params, stats = net
        schedule = Sgdr(*cell.cycles, warmup=cell.warmup).table(self.epoch)  # pyright: ignore[reportArgumentType]
        groups = network(kind)[0].groups
        before, groups = groups[: groups.index(start)], groups[groups.index(start) :]
        assert cell.rate is not None
        rates = schedule.scale[:, None] * cell.rate / cell.ratio ** np.arange(len(groups))[::-1]
        at = (0 if start == "head" else 1) if at is None else at
        order = Sampler(self.seed, at, self.labels["train"]).batches(self.batch, len(rates), 0, self.copies if start == "head" else 0)
        kept = {group: params[group] for group in groups}
        state = TrainState(jnp.int32(0), kept, {group: stats[group] for group in groups}, optim.init(OPTIMIZER, groups, params))
        frozen = {group: params[group] for group in before}, {group: stats[group] for group in before}
        keys = key_for(self.seed, "dropout", at), key_for(self.seed, "augment", at), jnp.int32(self.classes)
        rows, batches = rates.astype(np.float32), list(order)
        chunk = 1 if jax.default_backend() == "cpu" and start != "head" else CHUNK  # convolutions take many times longer in a loop there
        for i in range(0, len(rows) - len(rows) % CHUNK, chunk):
            index, draw, weight = (np.stack(x) for x in zip(*batches[i : i + chunk], strict=True))
            numbers = (np.full(chunk, value, np.float32) for value in (0.9, 0.01, cell.smoothing))
            given = (Hyper(rows[i : i + chunk], *numbers), index, draw.astype(np.int32 if start == "head" else np.uint32), weight)
            state, _ = updates(kind, cell.statistics, start, self.size, cell.augment)(state, given, frozen, source, self.train[1], *keys)
        return params | state.params, stats | state.stats

    def head(self, kind: str) -> tuple[Any, Any]:
        """The network with its head solved, or trained for thirty epochs, on cached copies."""
        if kind in self.heads:
            return self.heads[kind]
        chain, params, stats = network(kind)
        fresh = chain.init(key_for(self.seed, "init"), ["head"])
        net = jax.device_put((params | fresh[0], stats | fresh[1]))
        copies = np.concatenate([self.over("train", kind, "copies", net, v * self.n) for v in range(self.copies)])
        most = COPIES if jax.default_backend() != "cpu" else 1 << (len(copies) - 1).bit_length()
        if kind.startswith("trained"):
            cell = Cell(5e-3, statistics="trained", cycles=(4, 2, 2), warmup=0)
            self.heads[kind] = self.fit(kind, net, cell, "head", jax.device_put(padded(copies, most)))
            return self.heads[kind]
        mean, var = copies.mean(0), copies.var(0) + 1e-5
        x, held_out = ((a - mean) / np.sqrt(var) for a in (copies, self.over("valid", kind, "features", net)))
        y, weight = padded(np.tile(self.labels["train"], self.copies), most), padded(np.ones(len(x), np.float32), most)
        kernels, biases = map(np.asarray, solutions(padded(x, most), y, weight, jnp.int32(self.classes)))
        logits = [(held_out @ k + b)[:, : self.classes] for k, b in zip(kernels, biases, strict=True)]
        if self.penalty is None:
            padded_logits = (jnp.asarray(padded(z.T, CLASSES).T) for z in logits)
            self.penalty = int(np.argmin([np.mean(losses(z, self.labels["valid"], 0.0, self.classes)) for z in padded_logits]))
        best = self.penalty
        head = net[0]["head"] | {"linear2": {"kernel": jnp.asarray(kernels[best]), "bias": jnp.asarray(biases[best])}}
        norm = net[1]["head"] | {"bn2": {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}}
        self.heads[kind] = net[0] | {"head": head}, net[1] | {"head": norm}
        return self.heads[kind]

    def run(self, cell: Cell) -> dict[str, float]:
        """Figures of a cell."""
        kind, net = cell.kind, self.head(cell.kind)
        return self.figures(kind, self.fit(kind, net, cell, cell.opened, self.train[0]) if cell.rate else net)


# ---- command line ----


def lower_rates(cell: Cell) -> list[Cell]:
    """Return the cells of the grid that differ from this one in a lower rate alone."""
    return [other for other in GRID if cell.rate and other.rate and other.rate < cell.rate and other == cell._replace(rate=other.rate)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by sets.py")
    parser.add_argument("--sets", nargs="+", default=SETS, help="NAME, or NAME:N for N of its training images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of an update")
    parser.add_argument("--grid", action="store_true", help="run the grid of 36 rates, ratios and batch statistics, without hopeless rates")
    parser.add_argument("--cells", type=int, nargs="+", help="numbers of the cells to run, from 0")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="run every N-th job, from the I-th")
    parser.add_argument("--results", type=Path, default=TABLE, metavar="CSV")
    options = parser.parse_args()
    start_backend()
    part, parts = map(int, options.shard.split("/"))
    cells = GRID if options.grid else CELLS
    cells = [cells[i] for i in options.cells] if options.cells else cells
    facts = (*harness.facts().values(), harness.versions("sgdr_jax", "jax"))
    for name, seed in [(name, seed) for seed in options.seeds for name in options.sets][part::parts]:
        task = Task(options.folder, name, seed, options.size, options.batch)
        right: dict[Cell, float] = {}
        for cell in (Cell(), *cells) if options.grid else cells:
            if options.grid and any(right[other] < right[Cell()] - HOPELESS for other in lower_rates(cell) if other in right):
                continue
            key = [cell.name, name, str(options.size), str(options.batch), str(seed)]
            known = options.results.exists() and list(csv.reader(options.results.open(encoding="utf-8")))
            if of := [row for row in known or () if row[3:8] == key]:
                right[cell] = float(of[-1][-1])
                continue
            began = time.perf_counter()
            found = task.run(cell)
            right[cell] = found["tta_accuracy"]
            with options.results.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([] if file.tell() else [COLUMNS])
                writer.writerow([*facts, *key, *(f"{found[column]:.5f}" for column in COLUMNS[8:])])
            print(f"{name}, seed {seed}, {cell.name}: {found['tta_accuracy']:.4f} in {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
