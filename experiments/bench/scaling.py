"""Scaling over devices and hosts: what an update costs and says when the batch is split, and what that lets one expect of clusters.

    python experiments/bench/scaling.py [--rounds 3] [--model ResNet18] [--size 64] [--batch 32] [--per-device 8]
    python experiments/bench/scaling.py --page docs/explanation/scaling.md      # the page, from the kept rows

Pretended devices share the processor's cores, so they show what splitting costs (strong: the same batch over more devices; weak: more
devices, each with as many images), not a gain in speed. Processes are real: one core each, talking over gloo on this machine's loopback;
there the gain is real too. Bytes and operations are read from the compiled program. Every job is a fresh process; rounds alternate.
Adds one row per job to results/scaling.csv.
"""

import argparse
import csv
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import harness

UPDATES = 6
QUIET = 1.5
"""Load for each core up to which times count; the jobs' own is about 1."""


class Link(NamedTuple):
    """A network between devices: bytes per second that a device sends (and as many that it gets), seconds of one small message, source."""

    name: str
    speed: float
    latency: float
    source: str


NVLINK = Link("NVLink 4", 450e9, 5e-6, "900 GB/s per H100 in both directions together (NVIDIA, H100 data sheet)")
INFINIBAND = Link("InfiniBand NDR", 50e9, 5e-6, "one 400 Gb/s ConnectX-7 for each GPU (NVIDIA, DGX H100 user guide)")
ICI = Link("TPU v5e interconnect", 200e9, 1e-6, "1,600 Gb/s per chip (Google, Cloud TPU v5e, system architecture)")
FAST = Link("Ethernet, 100 Gb/s", 12.5e9, 20e-6, "line rate")
SLOW = Link("Ethernet, 10 Gb/s", 1.25e9, 50e-6, "line rate")
COUNTS = (8, 64, 512)


def seconds(reduced: float, operations: float, count: int, link: Link, *, inside: Link | None = None, group: int = 8) -> float:
    """Time that an update spends talking when none of it is hidden behind arithmetic: a ring for the bytes, a tree for each operation.

    2 · (n - 1) / n · bytes / speed + operations · 2 · log2(n) · latency. With a link `inside` groups of devices, these reduce among
    themselves first, and each device then a share of 1 / group with its likes in the other groups. Source: Thakur et al. 2005,
    "Optimization of collective communication operations in MPICH"; Patarasuk & Yuan 2009 for the ring.
    """
    if inside is not None and count > group:
        return seconds(reduced, operations, group, inside) + seconds(reduced / group, operations, count // group, link)
    used = inside or link
    return 2 * (count - 1) / count * reduced / used.speed + operations * 2 * math.log2(count) * used.latency


# ---- jobs ----


def job(model: str, count: int, batch: int, size: int, index: int | None = None, address: str = "") -> None:
    """Times updates of everything in a network; as one of `count` processes where there is an index, else on as many pretended devices."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    load = os.getloadavg()[0]
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count if index is None else 1}"
    if index is not None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    import jax
    import numpy as np
    from communication import collectives

    from sgdr_jax import Eval, Experiment, Sgd, Stage, models
    from sgdr_jax.core.console import NullConsole
    from sgdr_jax.core.state import Hyper
    from sgdr_jax.datasets import Synthetic
    from sgdr_jax.distributed import hosts
    from sgdr_jax.schedules import Constant
    from sgdr_jax.train.context import prepare
    from sgdr_jax.train.stage import open_stage
    from sgdr_jax.train.stage_inputs import hyper_rows, stage_batches

    if index is not None:
        hosts.initialize(address, count, index, wait=120)
    context = prepare(
        Experiment(
            name="scaling",
            data=Synthetic(classes=10, train=batch * (UPDATES + 2), valid=count, side=size),
            model=getattr(models, model)(weights=None),
            stages=(Stage("only", size=size, lr=1e-3, schedule=Constant(1), augment=False),),
            optimizer=Sgd(),
            batch_size=batch,
            evaluate=Eval(batch_size=count, tta_views=0),
        )
    )
    run, p = context.programs, context.plan.stages[0]
    stage = open_stage(context, p, context.network, NullConsole())
    rows, state, took, losses = hyper_rows(context, p, (1e-3,) * len(p.trained)), stage.state, [], []
    for step, images in enumerate(stage_batches(context, p, 0, UPDATES + 2)):
        began = time.perf_counter()
        state, sums = stage.update(state, Hyper(*(r[step : step + 1] for r in rows)), [images])
        losses.append(np.ravel(sums["loss"])[0] / np.ravel(sums["weight"])[0])
        took.append(time.perf_counter() - began)
    split = run.devices.split
    x = jax.ShapeDtypeStruct((batch, size, size, 3), np.float32, sharding=split)
    target, weight = (jax.ShapeDtypeStruct((batch,), kind, sharding=split) for kind in (np.int32, np.float32))
    program = run.step(p).lower(state, Hyper(*(r[0] for r in rows)), x, target, weight, jax.random.key(0))
    said = collectives(program.compile().as_text())
    if hosts.is_leader():
        harness.emit(
            versions=harness.versions("jax", "flax"),
            load=load,
            model=model,
            images=batch,
            update=statistics.median(took[2:]),
            images_per_second=batch / statistics.median(took[2:]),
            reduced_mb=sum(size for _, size in said) / 1e6,
            trained_mb=sum(x.nbytes for x in jax.tree.leaves(context.network.params)) / 1e6,
            operations=len(said),
            loss=float(losses[0]),  # later ones tell of rounding: a network that nothing has trained is chaotic
        )


def processes(words: Sequence[str], count: int) -> None:
    """Runs a job as so many processes of one core each; prints what the first prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    commands = [[*words, "--index", str(i), "--address", address] for i in range(count)]
    began = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[0] for process in began]
    if any(process.returncode for process in began):
        sys.exit("a process failed")
    print(said[0])


# ---- the page ----


def page(rows: list[dict[str, str]]) -> str:
    """The rows of the last day as a page, where some were measured on a quiet machine these alone; and what they let one expect."""
    last, cores = max(row["date"] for row in rows), int(rows[-1]["machine"].split()[0])
    rows = [row for row in rows if row["date"] == last]
    rows = [row for row in rows if float(row["load"]) <= QUIET * cores] or rows
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        kinds.setdefault(row["name"], []).append(row)
    first = rows[0]

    def median(name: str, figure: str) -> float:
        return statistics.median(float(row[figure]) for row in kinds[name])

    def lines(kind: str) -> list[str]:
        names = [name for name in kinds if f" {kind} " in name]
        base = names[0]
        found = []
        for name in names:
            values = [float(row["update"]) for row in kinds[name]]
            rate = median(name, "images_per_second") / median(base, "images_per_second")
            drift = abs(median(name, "loss") / median(base, "loss") - 1)
            same = (f"{drift:.0e}" if drift else "equal") if kinds[name][0]["images"] == kinds[base][0]["images"] else ""
            figures = [name.rpartition(" ")[2], kinds[name][0]["images"], f"{median(name, 'update') * 1e3:.0f}"]
            figures += [f"{min(values) * 1e3:.0f}…{max(values) * 1e3:.0f}", f"{rate:.2f}", same]
            figures = figures if quiet else [*figures[:2], "", "", "", same]
            found.append(f"| {' | '.join(figures)} |")
        return found

    head = "| {} | images in a batch | update, ms | range | images/s beside one | loss beside one |\n| --- | --- | --- | --- | --- | --- |"
    many = next(name for name in kinds if name.endswith("pretended strong 8"))
    reduced, trained, operations = (median(many, figure) for figure in ("reduced_mb", "trained_mb", "operations"))
    load = max(float(row["load"]) for row in rows)
    quiet = load <= QUIET * cores
    busy = f"\n**The machine was busy** (load up to {load:.1f} on {cores} cores), so the times are left out; the CSV has them.\n"
    return f"""# Scaling

Made by `python experiments/bench/scaling.py --page docs/explanation/scaling.md` from `experiments/bench/results/scaling.csv` ({last}).
{first["model"]}, everything trains, batch statistics of the whole batch; {first["machine"]}; {first["versions"]}; medians of fresh
processes, {len(kinds[many])} for each row.

## Measured
{"" if quiet else busy}
Simulated devices share the same cores: 1.00 means that splitting costs nothing. The loss of the first update is compared, to six digits,
if the batch is the same; `tests/distributed/test_mesh.py` compares parameters, statistics and losses after twenty updates in float64
(2e-14 apart).

{head.format("devices, same batch (strong)")}
{chr(10).join(lines("pretended strong"))}

{head.format("devices, as many images each (weak)")}
{chr(10).join(lines("pretended weak"))}

Processes have one core each and communicate over gloo; 2.00 is the most that two can reach.

{head.format("processes, same batch (strong)")}
{chr(10).join(lines("processes strong"))}

{head.format("processes, as many images each (weak)")}
{chr(10).join(lines("processes weak"))}

An update all-reduces {reduced:.1f} MB in {operations:.0f} operations, {reduced / trained:.3f} times its {trained:.1f} MB of trained
parameters: gradients once, and the batch statistics of every normalisation, forward and backward. Frozen groups communicate nothing.

## Expected

An update takes T + t, with T its arithmetic and t its communication, if no part of t overlaps with T (XLA overlaps some of it on
accelerators, so this is the pessimistic case). The efficiency is T / (T + t), with

t = 2 · (n - 1) / n · bytes / speed + operations · 2 · log2 n · latency

(ring for the bytes, tree for each operation; Thakur et al. 2005, Patarasuk & Yuan 2009). Groups of eight GPUs reduce
among themselves first. Speeds are from data sheets, latencies are assumptions.

{_expected(reduced * 1e6, operations, *_step(first["model"]))}

The first term hardly grows with n: each device sends twice the gradients, however many devices there are. The second does, because of
normalisation: {operations:.0f} operations a step, most of which cannot overlap since the next layer waits for them. If t is too large,
larger batches per device help (T grows, t does not), and so do `bn="frozen"`, which leaves only the gradients to be reduced, and training
fewer layer groups.
"""


def _step(model: str) -> tuple[float, str]:
    """Seconds of an update on one host with nothing else running, from the rows of train_step.py, and which one that was."""
    with (harness.RESULTS / "train_step.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == f"{model} ours"]
    images = statistics.median(float(row["images_per_s"]) for row in rows)
    batch = int(rows[0]["case"].partition("batch ")[2].partition(",")[0])
    return batch / images, f"{rows[0]['case']}, {rows[0]['machine']}: {images:.0f} images/s"


def _expected(reduced: float, operations: float, own: float, case: str) -> str:
    networks = [
        ("H100, eight a host", INFINIBAND, NVLINK),
        ("TPU v5e", ICI, None),
        ("hosts, 100 Gb/s", FAST, None),
        ("hosts, 10 Gb/s", SLOW, None),
    ]
    text = ["| network | " + " | ".join(f"t, {n} devices" for n in COUNTS) + " | T for 90 % on 512 |", "| --- " * (len(COUNTS) + 2) + "|"]
    for name, link, inside in networks:
        times = [seconds(reduced, operations, n, link, inside=inside) for n in COUNTS]
        text.append(f"| {name} | {' | '.join(f'{t * 1e3:.2f} ms' for t in times)} | {9 * times[-1] * 1e3:.0f} ms |")
    text += [
        "",
        f"Efficiency with the update that `train_step.py` measured on one host (T = {own * 1e3:.0f} ms; {case}) and such hosts:",
        "",
    ]
    text += ["| network | " + " | ".join(f"{n} hosts" for n in COUNTS) + " |", "| --- " * (len(COUNTS) + 1) + "|"]
    for name, link, inside in networks[2:]:
        shares = [own / (own + seconds(reduced, operations, n, link, inside=inside)) for n in COUNTS]
        text.append(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    text += ["", "Speeds, for each direction of one device, and latencies:", ""]
    for link in (NVLINK, INFINIBAND, ICI, FAST, SLOW):
        text.append(f"* {link.name}: {link.speed / 1e9:g} GB/s ({link.source}), {link.latency * 1e6:g} µs")
    return "\n".join(text)


def main() -> None:
    """Runs the rounds, prints the table, adds to the CSV; or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="ResNet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32, help="images in a batch, strong scaling")
    parser.add_argument("--per-device", type=int, default=8, help="images on each device, weak scaling")
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 2, 4, 8], help="numbers of pretended devices")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2], help="numbers of processes")
    parser.add_argument("--page", type=Path, help="write the page from the kept rows, measure nothing")
    parser.add_argument("--job", nargs=3, metavar=("KIND", "COUNT", "BATCH"), help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page:
        with (harness.RESULTS / "scaling.csv").open(newline="", encoding="utf-8") as file:
            options.page.write_text(page(list(csv.DictReader(file))), encoding="utf-8")
        return
    words = [sys.executable, __file__, "--model", options.model, "--size", str(options.size), "--job"]
    if options.job:
        kind, count, batch = options.job[0], int(options.job[1]), int(options.job[2])
        if kind == "processes" and options.index is None:
            return processes([*words, *options.job], count)
        return job(options.model, count, batch, options.size, options.index, options.address)
    commands = {}
    for kind, counts in (("pretended", options.counts), ("processes", options.processes)):
        for count in counts:
            commands[f"{options.model} {kind} strong {count}"] = [*words, kind, str(count), str(options.batch)]
            commands[f"{options.model} {kind} weak {count}"] = [*words, kind, str(count), str(options.per_device * count)]
    results = harness.rounds(commands, options.rounds)
    for name, rows in results.items():
        figures = [f"{figure} {harness.median(rows, figure):.4g}" for figure in ("update", "images_per_second", "loss")]
        print(f"{name:<34} " + "  ".join(figures))
    print(harness.save("scaling", results))


if __name__ == "__main__":
    main()
