"""Recipes against each other, on any sets of sets.py and any seeds: paired, resumable, one row for each run and a table.

    python experiments/bench/sets.py DIR
    python experiments/bench/recipes.py DIR --recipes auto plain logistic --seeds 0 1 2 3 4 [--sets …] [--jobs 4] [--minutes 9]
    python experiments/bench/recipes.py --table [--reference plain]

Every recipe gets the same images, the same size, and for a seed the same held-out fifth of the training images; test images choose
nothing. Rows already in results/recipes.csv are not run again (a run that failed is, with --retry), so a bench that was interrupted goes
on when it is started again. "grid" stands for the 20 cells of a grid of bodies (rate x ratio x batch statistics), against which the table
shows the regret of "auto-norefit". --arms FILE adds recipes of your own (see recipe_arms.py). --list tells what each recipe is.

Several workers (--jobs) each take the next run from the list and keep their compiled programs; on a CPU they share its cores out, on a
GPU its memory. Their seconds are those of a shared machine.
"""

import argparse
import csv
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import harness
import recipe_systems
import recipe_table

NAME = "recipes"
SIZES = {"photos": 128, "stamps": 128, "clipart": 96, "emoji": 96, "grids": 96, "surfaces": 128, "sky": 128, "units": 96}
"""Sizes in pixels at which sets are compared; 64 where nothing is given."""
MEASURES = ("accuracy", "tta_accuracy", "f2", "tta_f2", "loss", "tta_loss", "ece", "tta_ece")
COLUMNS = (
    *("date", "machine", "name", "set", "size", "seed", "versions", *MEASURES, *(f"valid_{name}" for name in MEASURES), "lr", "kept"),
    *("stopped", "seconds", "train_seconds", "compile_seconds", "error"),
)


class Job(NamedTuple):
    """One run: a recipe on a set with a seed."""

    name: str
    set: str
    size: int
    seed: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The columns that tell runs apart."""
        return self.name, self.set, str(self.size), str(self.seed)


# ---- rows ----


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of the CSV file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["seed"]]


def widen(path: Path) -> None:
    """Give a file of an earlier version the columns that it lacks; refuse one with columns that are unknown here."""
    rows = read_rows(path)
    if not rows or tuple(rows[0]) == COLUMNS:
        return
    if unknown := set(rows[0]) - set(COLUMNS):
        sys.exit(f"{path} has the unknown columns {', '.join(sorted(unknown))}; name another file with --results")
    whole = path.with_suffix(".new")
    for row in rows:
        append(whole, row)
    whole.replace(path)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row in one write, so that benches that run at the same time, or are stopped, lose none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in (row.get(column, "") for column in COLUMNS)]
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        writer.writerow(text)


def pending(jobs: Sequence[Job], rows: Sequence[dict[str, str]], retry: bool = False) -> list[Job]:
    """Return the jobs that have no row yet, or with `retry` none without an error."""
    done = {(row["name"], row["set"], row["size"], row["seed"]) for row in rows if not (retry and row["error"])}
    return [job for job in jobs if job.key not in done]


# ---- workers ----


def start_worker(cores: Any) -> None:
    """Keep a worker on its share of the cores, before jax counts them; it ends with the bench, even one that is killed."""
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    if cores is not None:
        os.sched_setaffinity(0, cores.get())


def end_with(parent: Any) -> None:
    """End this process when its parent has ended: a run that nobody waits for would slow whatever is measured next."""
    parent.join()
    os._exit(1)


def attempt(job: Job, folder: Path, fixed: dict[str, Any]) -> dict[str, Any]:
    """Run a job; a failure is a row with an error."""
    began = time.perf_counter()
    try:
        row = recipe_systems.figures(job.name, folder / job.set, job.size, job.seed, **fixed)
    except Exception as error:
        row = {"error": f"{type(error).__name__}: {error}".replace("\n", " ")[:300], "seconds": time.perf_counter() - began}
    return job._asdict() | row


def run_all(jobs: Sequence[Job], folder: Path, workers: int, stop: float, fixed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all jobs as they end; none is begun after the time `stop`."""
    if workers == 1:
        for job in jobs:
            if time.time() >= stop:
                return
            yield attempt(job, folder, fixed)
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / workers:.3f}")
    spawn, cores = multiprocessing.get_context("spawn"), None
    if hasattr(os, "sched_getaffinity") and len(mine := sorted(os.sched_getaffinity(0))) >= workers:
        cores = spawn.Queue()
        for i in range(workers):
            cores.put(set(mine[i::workers]))
    left = list(jobs)[::-1]
    with ProcessPoolExecutor(workers, spawn, start_worker, (cores,)) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while left or running:
            while left and len(running) < workers and time.time() < stop:
                running.add(pool.submit(attempt, left.pop(), folder, fixed))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


# ---- command line ----


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="made by sets.py")
    parser.add_argument("--recipes", nargs="+", default=["auto", "plain", "automm", "logistic"], metavar="RECIPE", help='names, or "grid"')
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all in the folder; of the table, all that there are")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 to 4; of the table, all that there are")
    parser.add_argument("--size", type=int, help="pixels, for all sets; of the table, all that there are")
    parser.add_argument("--batch", type=int, help="of the table: only runs with batches of so many images")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after this time")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument("--arms", metavar="FILE", help="Python file with recipes of your own")
    parser.add_argument("--fastai", metavar="PYTHON", help="interpreter of the environment that has fastai")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="keep the run folders here")
    parser.add_argument("--results", type=Path, default=harness.RESULTS / f"{NAME}.csv", metavar="CSV")
    parser.add_argument("--table", action="store_true", help="only show the table of the rows that there are")
    parser.add_argument("--reference", default="plain", metavar="RECIPE", help="recipe that the table compares with")
    parser.add_argument("--fallback", metavar="RECIPE", help="show besides the better of each run and this one, by the held-out images")
    parser.add_argument("--plain-view", action="store_true", help="judge by the plain view, not by test-time augmentation")
    parser.add_argument("--grid", default=recipe_table.GRID, metavar="REGEX", help="the rows whose best the table's regret is against")
    parser.add_argument("--list", action="store_true", help="list the recipes")
    options = parser.parse_args()
    if not (options.folder or options.table or options.list):
        parser.error("name the folder of the sets, or --table, or --list")
    return options


def main() -> None:
    options = parse()
    known = recipe_systems.arms(options.arms)
    if options.list:
        print("\n".join(f"{name}: {recipe.about}" for name, recipe in known.items()))
        return
    wanted = [name for given in options.recipes for name in ([n for n in known if n.startswith("grid ")] if given == "grid" else [given])]
    if options.folder:
        sets = options.sets or sorted(
            path.name for path in options.folder.iterdir() if (path / "train").is_dir() or (path / "labels.csv").is_file()
        )
        missing = [name for name in sets if not (options.folder / name).is_dir()] + [name for name in wanted if name not in known]
        if missing:
            sys.exit(f"no such set or recipe: {', '.join(missing)}; --list shows the recipes")
        widen(options.results)
        jobs = [
            Job(name, of, options.size or SIZES.get(of, 64), seed) for of in sets for seed in options.seeds or range(5) for name in wanted
        ]  # one set after the other, since its programs are shared
        todo = pending(jobs, read_rows(options.results), options.retry)
        print(f"{len(todo)} of {len(jobs)} runs to do", flush=True)
        fixed = {"file": options.arms, "python": options.fastai, "runs": options.runs}
        facts = harness.facts()
        for i, row in enumerate(run_all(todo, options.folder.resolve(), options.jobs, time.time() + 60 * options.minutes, fixed), 1):
            append(options.results, facts | row)
            points = recipe_table.score({k: str(v) for k, v in row.items()})
            said = f"{points:.2f}" if points is not None else row.get("error", "")
            print(
                f"{i}/{len(todo)} {row['set']} {row['size']} px, seed {row['seed']}, {row['name']}: {said} in {row['seconds']:.0f} s",
                flush=True,
            )
    rows = [row for row in read_rows(options.results) if not options.seeds or int(row["seed"]) in options.seeds]
    rows = [row for row in rows if not options.sets or row["set"] in options.sets]
    rows = [row for row in rows if options.size in (None, int(row["size"])) and options.batch in (None, int(row.get("batch") or 0))]
    rows = recipe_table.with_fallback(rows, options.fallback) if options.fallback else rows
    names = list(dict.fromkeys([options.reference, *(row["name"] for row in rows)]))
    print(recipe_table.markdown(rows, options.reference, names, options.plain_view, options.grid))


if __name__ == "__main__":
    main()
