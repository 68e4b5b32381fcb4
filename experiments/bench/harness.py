"""What the benchmarks share: fresh processes in alternating rounds, medians with ranges, and rows in a CSV. Standard library only.

A benchmark names one command for each thing that it compares. Each command is a fresh process that prints, as its last line, one JSON
object of figures (`emit`); so a job may run in another system's own Python environment, and may import this file there.
"""

import csv
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
STARTED = "BENCH_STARTED"

Row = dict[str, float | str]
"""Figures of one process; texts, such as versions, are kept in the CSV and left out of the table."""


# ---- inside a job ----


def since_start() -> float:
    """Seconds since `rounds` started this process."""
    return time.time() - float(os.environ[STARTED])


def versions(*packages: str) -> str:
    """Names and versions of installed packages: "jax 0.12.0.1, flax 0.12.12"."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def emit(**figures: float | str) -> None:
    """Prints a job's figures for `rounds`."""
    print(json.dumps(figures), flush=True)


# ---- around the jobs ----


def rounds(commands: Mapping[str, Sequence[str]], n: int) -> dict[str, list[Row]]:
    """Runs every command n times, each time as a fresh process, in turn, so that a change of the machine's load meets all alike.

    Args:
        commands: name to command line; "{round}" in a word becomes the number of the round, 0…n-1.

    Returns:
        Name to the figures of its n processes, with "wall", seconds from the process's start to its end, added.
    """
    results: dict[str, list[Row]] = {name: [] for name in commands}
    for i in range(n):
        for name, command in commands.items():
            words = [str(word).replace("{round}", str(i)) for word in command]
            began = time.time()
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=os.environ | {STARTED: repr(began)})
            wall = time.time() - began
            if done.returncode:
                sys.exit(f"{name} failed with exit status {done.returncode}: {' '.join(words)}")
            results[name].append(json.loads(done.stdout.strip().splitlines()[-1]) | {"wall": wall})
            print(f"round {i + 1} of {n}: {name} {wall:.1f} s", file=sys.stderr)
    return results


def median(rows: Sequence[Row], figure: str) -> float:
    """The median of a figure over processes."""
    return statistics.median(float(row[figure]) for row in rows)


def table(results: Mapping[str, Sequence[Row]]) -> None:
    """Prints the median of each figure for each command, its range, and its ratio to the first command (the median over rounds)."""
    names = list(results)
    figures = list(dict.fromkeys(f for rows in results.values() for f, value in rows[0].items() if not isinstance(value, str)))
    cells = [["", *names]] + [[figure, *(_cell(results[names[0]], results[name], figure) for name in names)] for figure in figures]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names) + 1)]
    for row in cells:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]))


def _cell(first: Sequence[Row], rows: Sequence[Row], figure: str) -> str:
    if figure not in rows[0]:
        return ""
    values = [float(row[figure]) for row in rows]
    text = f"{statistics.median(values):.4g}" + (f" ({min(values):.4g}…{max(values):.4g})" if len(values) > 1 else "")
    if rows is first or not all(row.get(figure) for row in first):
        return text
    return text + f"  ×{statistics.median(b / float(a[figure]) for a, b in zip(first, values, strict=True)):.2f}"


def machine() -> str:
    """Processor and number of its cores that this process may use, and NVIDIA accelerators where there are any."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{cores} core{'s' * (cores != 1)} of {model}"]
    try:
        query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        parts += subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        pass
    return ", ".join(part for part in parts if part)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def facts() -> dict[str, str]:
    """Date and machine of a measurement, as the CSVs have them."""
    return {"date": datetime.date.today().isoformat(), "machine": machine()}


def save(name: str, results: Mapping[str, Sequence[Row]], folder: Path = RESULTS) -> Path:
    """Adds one row for each process to NAME.csv in the folder, with date and machine; returns the path."""
    path, known = folder / f"{name}.csv", facts()
    add_rows(path, [known | {"name": label} | row for label, processes in results.items() for row in processes])
    return path


def add_rows(path: Path, rows: Sequence[Mapping[str, float | str]]) -> None:
    """Adds rows to a CSV; columns that only some rows have are empty in the others."""
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file), *rows]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
