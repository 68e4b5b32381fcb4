"""Runs in child processes of their own, forked from this one after its imports, so that a run takes a second or two.

The parent must never use a device of jax: threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SMALL = Path(__file__).parents[1] / "golden" / "runs" / "small.py"

EXPERIMENT = """
from small import Small
from sgdr_jax import AdamW, Eval, Experiment, Find, Sgd, Sgdr, Snapshots, Stage
from sgdr_jax.augment import side_on
from sgdr_jax.core.solve import Solve
from sgdr_jax.datasets import ImageFolder

SOLVED = Stage("solved", size=16, train="head", augment=False, precompute=True, solve=Solve())
CACHED = Stage("cached", size=16, train="head", lr=0.02, schedule=Sgdr(2), precompute=True, views=1)
FOUND = Stage("all", size=16, lr=Find(steps=8, start=1e-4, stop=1, lowest=0.02, epochs=3), schedule=Sgdr(1, 1, 2), recalibrate=True)
STAGES = {
    "solved": (SOLVED, Stage("late", size=16, train=1, lr=0.01, schedule=Sgdr(1))),
    "cached": (CACHED, Stage("head", size=16, train="head", lr=None, schedule=Sgdr(1))),
    "found": (FOUND,),
    "refit": (CACHED, Stage("all", size=16, lr=0.01, schedule=Sgdr(1))),
}
OPTIONS = {"solved": {"optimizer": Sgd(clip=1.0)}, "found": {"optimizer": AdamW(ema=0.9), "snapshots": Snapshots(last=2)}}
OPTIONS["refit"] = {"refit": True}

def chaos(name):
    common = {"optimizer": AdamW(), "evaluate": Eval(batch_size=8, tta_views=1), "checkpoint_steps": 1}
    return Experiment(
        name, ImageFolder("photos", valid_fraction=0.25), Small(), batch_size=8, augment=side_on(zoom=1.1),
        stages=STAGES[name], **common | OPTIONS.get(name, {}),
    )
"""
"""Between them all kinds of stages: solved, cached, head, part, all, with a finder, statistics, snapshots, averages, a refit, TTA."""

HANGS = 600.0
"""Seconds after which a child counts as hanging, ample for a busy machine."""

NAMES = ("solved", "cached", "found", "refit")

SWEEP = """
from chaos import chaos
from dataclasses import replace
from sgdr_jax import Stage, Sgdr
from sgdr_jax.sweeps import Sweep, grid

base = replace(chaos("cached"), name="base", stages=(Stage("head", size=16, train="head", lr=0.02, schedule=Sgdr(1)),))
sweep = Sweep("rates", base, axes=(grid({"stages.0.lr": (0.02, 0.05)}),), seeds=(0, 1))
"""


class Ended(NamedTuple):
    """How a child ended.

    Attributes:
        code: exit code; negative: number of the signal that ended it; None if it had to be ended.
        output: what it printed.
        seconds: it ran.
    """

    code: int | None
    output: str
    seconds: float


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Make photos and experiment files in a folder, import what a run imports, and stay in the folder while the block runs."""
    environment, place = dict(os.environ), Path.cwd()
    _prepare(folder)
    try:
        yield
    finally:
        os.chdir(place)
        sys.path.remove(str(folder))
        os.environ.clear()
        os.environ.update(environment)


def _prepare(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(0 if (folder / "photos").exists() else 40):
        place = folder / "photos" / ("test" if i % 5 == 4 else "train") / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 200 + 55 * (i % 2), (16, 16, 3), np.uint8)).save(place / f"{i}.png")
    shutil.copy(SMALL, folder)
    (folder / "chaos.py").write_text(EXPERIMENT)
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"from chaos import chaos\nexperiment = chaos({name!r})\n")
    (folder / "sweep.py").write_text(SWEEP)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["XLA_FLAGS"] = ""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    modules = ("jax", "flax.nnx", "optax", "orbax.checkpoint", "scipy.optimize", "scipy.special", "matplotlib.figure", "rich.progress")
    for name in (*modules, *(f"sgdr_jax.{name}" for name in ("runs.run", "cli.commands.train", "report.run_plots", "runs.finalize"))):
        importlib.import_module(name)
    importlib.import_module("sgdr_jax.train.activation_cache")._code()  # kept for the life of a process; a fifth of a child's time


def start(work: Callable[[], None], output: Path, environment: dict[str, str] | None = None) -> int:
    """Start a child that does the work; return its process number."""
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        descriptor = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        os.environ |= environment or {}
        # The parent has imported jax, which reads its variables then.
        sys.modules["jax"].config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR"))
        try:
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(number: int, output: Path, seconds: float) -> Ended:
    """Wait for a child; end it by force after so many seconds."""
    return wait_for_all({number: output}, seconds)[0]


def wait_for_all(outputs: dict[int, Path], seconds: float) -> list[Ended]:
    """Wait for children, by their numbers; end them by force after so many seconds, or where another was killed."""
    began, ends = time.monotonic(), dict[int, Ended]()
    while len(ends) < len(outputs):
        force = time.monotonic() - began > seconds
        for number in outputs.keys() - ends.keys():
            if force:
                os.kill(number, signal.SIGKILL)
            done, status = os.waitpid(number, 0 if force else os.WNOHANG)
            if done:
                code = None if force else os.waitstatus_to_exitcode(status)
                ends[number] = Ended(code, outputs[number].read_text(errors="replace"), time.monotonic() - began)
                seconds = 0 if code == -signal.SIGKILL else seconds
        time.sleep(0.005)
    return [ends[number] for number in outputs]


def run(work: Callable[[], None], output: Path, seconds: float = HANGS, environment: dict[str, str] | None = None) -> Ended:
    """Do work in a child, and wait for it."""
    return wait(start(work, output, environment), output, seconds)


def command(*words: str) -> Callable[[], None]:
    """Return the work of one command line."""

    def work() -> None:
        from sgdr_jax.cli.main import main

        main(words)

    return work


def train(name: str, run: str, *words: str) -> Callable[[], None]:
    """Return the work of `sgdr-jax train` of one of the experiments; the suite's eight devices would only take longer."""
    return command("train", f"{name}.py", "--run", run, *words)


def pair(run: str, arm: Callable[[int], Callable[[], None] | None] = lambda i: None, name: str = "found") -> list[Ended]:
    """Run two processes as one run; of one that is killed, the other is, too, since it would wait for half a minute.

    Args:
        run: the run folder, with which the run goes on if it holds one.
        arm: what a process does before it trains, by its number.
        name: of the experiment.
    """
    from sgdr_jax.cli.launch.local import free_port

    address, outputs = f"127.0.0.1:{free_port()}", dict[int, Path]()
    for i in range(2):
        words = ("--hosts.coordinator", address, "--hosts.count", "2", "--hosts.index", str(i), "--resume")
        armed, work, output = arm(i) or (lambda: None), train(name, run, *words), Path(f"output{i}")
        outputs[start(partial(in_turn, armed, work), output, {"XDG_CACHE_HOME": "cache"})] = output
    return wait_for_all(outputs, HANGS)


def in_turn(*works: Callable[[], None]) -> None:
    """Do several works, one after the other."""
    for work in works:
        work()


def faults(ended: Ended, codes: Sequence[int] = (0, 2, 75)) -> str:
    """Return what is wrong with the way a child ended: "hangs", "traceback", or ""."""
    if ended.code is None:
        return "hangs"
    if ended.code not in codes or "Traceback (most recent call last)" in ended.output:
        return "traceback"
    return ""


def results(folder: Path) -> dict[str, Any]:
    """Return all that a finished run has computed, without its times: rows, summary, digests of its networks and predictions."""
    from sgdr_jax.runs import checkpoint

    found: dict[str, Any] = {}
    for part, label in ((folder, "run"), (folder / "refit", "refit")):
        with contextlib.suppress(FileNotFoundError):
            rows = [json.loads(line) for line in (part / "metrics.jsonl").read_text().splitlines()]
            found[f"{label} rows"] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
            found[f"{label} summary"] = _timeless(json.loads((part / "summary.json").read_text()))
            finders = {file.name: json.loads(file.read_text()) for file in sorted(part.glob("finder-*.json"))}
            found[f"{label} finders"] = finders
        for file in sorted(part.rglob("metadata.json")):
            if "checkpoints" in file.parts:
                continue
            specs = json.loads(file.read_text())["arrays"]
            like = {key: np.empty(shape, dtype) for key, (dtype, shape) in specs.items()}
            arrays = checkpoint.restore(file.parent.parent, file.parent.name, like)
            found[str(file.parent.relative_to(folder))] = digest(arrays)
        for file in sorted(part.glob("examples-*.npz")):
            found[f"{label} {file.name}"] = digest(dict(np.load(file)))
    return found


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 over names, shapes and bytes of arrays."""
    value = hashlib.sha256()
    for key in sorted(arrays):
        value.update(key.encode() + str(arrays[key].shape).encode() + arrays[key].tobytes())
    return value.hexdigest()


def _timeless(value: Any) -> Any:
    gone = ("seconds", "resumed", "times", "compiled", "device_memory")
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in gone}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def reference(name: str) -> dict[str, Any]:
    """Return the results of one of the experiments, run undisturbed; kept in a file, as campaigns go on in several processes."""
    kept = Path(f"reference-{name}.json")
    if not kept.exists():
        shutil.rmtree("reference", ignore_errors=True)
        ended = run(train(name, "reference"), Path("output"), HANGS, {"XDG_CACHE_HOME": "reference-cache"})
        assert ended.code == 0, ended.output
        assert run(saved_results("reference", "new.json"), Path("output")).code == 0, Path("output").read_text()
        shutil.rmtree("reference-cache")
        Path("new.json").rename(kept)
    return json.loads(kept.read_text())


def results_of(folder: str) -> dict[str, Any]:
    """Return `results`, which restores arrays and so uses a device, by a child."""
    ended = run(saved_results(folder, "results.json"), Path("output"))
    assert ended.code == 0, ended.output
    return json.loads(Path("results.json").read_text())


def difference(folder: str, name: str) -> str:
    """Return where the results of a run differ from those of an undisturbed one; "" if they are the same."""
    ended = run(saved_results(folder, "results.json"), Path("output"))
    if ended.code:
        return f"results cannot be read: {ended.output[-300:]}"
    found, wanted = json.loads(Path("results.json").read_text()), reference(name)
    return ", ".join(sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)))


def saved_results(folder: str, file: str) -> Callable[[], None]:
    """Return the work of writing `results` of a run folder to a file; restoring arrays uses a device, so a child does it."""

    def work() -> None:
        Path(file).write_text(json.dumps(results(Path(folder)), sort_keys=True))

    return work
