"""What the held-out images are worth once they have chosen: training anew with them, going on with them, or leaving them out.

    python experiments/bench/sets.py DIR
    python experiments/bench/refits.py DIR [--sets …] [--seeds 0 1 2 3 4] [--rate 3e-4] [--shares 1 0.33] [--shard 0/2]
    python experiments/bench/recipes.py --table --results experiments/bench/results/refits.csv --reference "held out"

All start from one network: the head solved and the body trained as `bodies.py` does it, seven epochs at one rate with stored batch
statistics, a fifth of the images held out. "anew" solves and trains the same from the start on all images; "cycle of N" goes on with all
images for one cycle of N epochs, and "mean" halves the way of its weights. Other rates than 3e-4 are part of the names. Rows are kept as
they come, and what has one is not run again.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import bodies
import harness
import jax
import numpy as np
from bodies import Cell, Task

from sgdr_jax.distributed.backend import start_backend

SETS = ("photos", "stamps", "emoji", "icons", "clipart", "fashion10", "digits")
RATE, EPOCHS = 3e-4, 7
"""Of the training that holds images out."""
TABLE = Path(__file__).parent / "results" / "refits.csv"
COLUMNS = ("date", "machine", "versions", "name", "set", "size", "batch", "seed", "accuracy", "tta_accuracy")


class Way(NamedTuple):
    """A use of the held-out images.

    Attributes:
        epochs: of a cycle on all images, or of the training anew; 0: the held-out images are left out.
        share: its peak rate over that of the training before.
        mean: whether the network is halfway between those before and after.
        anew: whether all is trained anew.
    """

    epochs: float = 0
    share: float = 1
    mean: bool = False
    anew: bool = False

    def name(self, rate: float) -> str:
        """Return the name in the table."""
        if self.anew:
            way = "anew" if self.epochs == EPOCHS else f"anew for {self.epochs:g} epochs"
        else:
            way = f"cycle of {self.epochs:g}" if self.epochs else "held out"
        way += f", {self.share:g} of the rate" if self.share != 1 else ""
        return way + ", mean" * self.mean + (f", {rate:g}" if rate != RATE else "")


def networks(task: Task, rate: float, ways: list[Way]) -> Iterator[tuple[Way, tuple[Any, Any]]]:
    """Yield the network of each way."""
    cell = Cell(rate, cycles=(1, EPOCHS))
    head = task.head("solved")  # its penalty is the one that the held-out images choose
    before = head if all(way.anew for way in ways) else task.fit("solved", head, cell, "early", task.train[0])
    if Way() in ways:
        yield Way(), before
    task.join()
    for (epochs, share), group in groupby(sorted(way for way in ways if way.epochs and not way.anew), lambda way: way[:2]):
        after = task.fit("solved", before, cell._replace(cycles=(1, epochs), rate=rate * share), "early", task.train[0], 2)
        for way in group:
            yield way, jax.tree.map(lambda x, y: (x + y) / 2, before, after) if way.mean else after
    for way in ways:
        if way.anew:
            yield way, task.fit("solved", task.head("solved"), cell._replace(cycles=(1, way.epochs)), "early", task.train[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by sets.py")
    parser.add_argument("--sets", nargs="+", default=SETS, help="NAME, or NAME:N for N of its training images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of an update")
    parser.add_argument("--rate", type=float, default=RATE, help="peak, of all groups")
    parser.add_argument("--epochs", type=float, nargs="*", default=[2], help="of the cycles on all images")
    parser.add_argument("--anew", type=float, nargs="*", default=[EPOCHS], metavar="EPOCHS", help="of trainings anew")
    parser.add_argument("--shares", type=float, nargs="+", default=[1], help="peak rates of these cycles over --rate")
    parser.add_argument("--test", type=int, default=600, help="test images at most")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="run every N-th job, from the I-th")
    parser.add_argument("--results", type=Path, default=TABLE, metavar="CSV")
    options = parser.parse_args()
    start_backend()
    bodies.EVAL = 64  # small sets fill no more
    part, parts = map(int, options.shard.split("/"))
    facts = (*harness.facts().values(), harness.versions("sgdr_jax", "jax"))
    anew = [Way(epochs, anew=True) for epochs in options.anew]
    cycles = [Way(epochs, share, mean) for epochs in options.epochs for share in options.shares for mean in (False, True)]
    for name, seed in [(name, seed) for seed in options.seeds for name in options.sets][part::parts]:
        known = list(csv.reader(options.results.open(encoding="utf-8"))) if options.results.exists() else []
        key = [name, str(options.size), str(options.batch), str(seed)]
        done = {row[3] for row in known if row[4:8] == key}
        ways = [way for way in (Way(), *cycles, *anew) if way.name(options.rate) not in done]
        if not ways:
            continue
        task = Task(options.folder, name, seed, options.size, options.batch)
        if len(task.labels["test"]) > options.test:
            task.keep("test", np.random.default_rng(0).permutation(len(task.labels["test"]))[: options.test])
        began = time.perf_counter()
        for way, net in networks(task, options.rate, ways):
            found = task.figures("solved", net)
            with options.results.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([] if file.tell() else [COLUMNS])
                writer.writerow([*facts, way.name(options.rate), *key, *(f"{found[column]:.5f}" for column in COLUMNS[8:])])
            seconds = time.perf_counter() - began
            print(f"{name}, seed {seed}, {way.name(options.rate)}: {found['tta_accuracy']:.4f} after {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
