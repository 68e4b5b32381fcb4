"""The table of recipes.py: recipes against a reference, paired by set and seed, with 95 % intervals; and regret against the grid."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scipy import stats

Row = Mapping[str, str]
GRID = "^grid "
"""Pattern of the names of the cells of recipe_arms.py."""


class Interval(NamedTuple):
    """A mean and the half-width of its 95 % interval (Student's t), NaN for a single value."""

    mean: float
    half: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f}" + ("" if math.isnan(self.half) else f" ± {self.half:.2f}")


def interval(values: Sequence[float]) -> Interval:
    """Return mean and interval of independent values.

    >>> interval([1.0, 3.0])
    Interval(mean=2.0, half=12.706204736432095, n=2)
    """
    n = len(values)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
    return Interval(statistics.mean(values), half, n)


def score(row: Row, plain: bool = False) -> float | None:
    """Return what a run is judged by, in points: accuracy by test-time views, F2 for several labels; None for a run that failed."""
    for name in ("f2", "accuracy"):
        value = row.get(name if plain else f"tta_{name}") or row.get(name)
        if value:
            return 100 * float(value)
    return None


Scores = dict[tuple[str, str], dict[str, dict[int, float]]]
"""(Set, `shape` of its runs) → recipe → seed → points."""


def shape(row: Row) -> str:
    """Return the size of a run's images, and the batch where the rows name it: runs of other shapes are not compared."""
    return f"{row['size']} px" + (f" in batches of {row['batch']}" if row.get("batch") else "")


def scores(rows: Iterable[Row], plain: bool = False) -> Scores:
    """Collect the points of all runs; of a run that was repeated the last counts."""
    found: Scores = {}
    for row in rows:
        points = score(row, plain)
        if points is not None:
            found.setdefault((row["set"], shape(row)), {}).setdefault(row["name"], {})[int(row["seed"])] = points
    return found


def paired(points: Mapping[str, Mapping[int, float]], name: str, reference: str) -> dict[int, float]:
    """Return seed → points of a recipe above the reference, for the seeds that both have."""
    a, b = points.get(name, {}), points.get(reference, {})
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def overall(found: Scores, name: str, reference: str) -> Interval | None:
    """Return the difference over all sets, each counting once: its interval is over the seeds that all sets have.

    The sets are taken as they are, not as a sample of sets; of each seed the differences of all sets are averaged first.
    """
    each = [gaps for points in found.values() if (gaps := paired(points, name, reference))]
    shared = set.intersection(*map(set, each)) if each else set()
    return interval([statistics.mean(gaps[seed] for gaps in each) for seed in sorted(shared)]) if shared else None


def with_fallback(rows: Sequence[Row], head: str) -> list[Row]:
    """Return the rows, and of each run the better of it and the run `head` of its set and seed: "NAME or HEAD".

    The better is the one with the higher accuracy on the held-out images; of equals it is the run itself.
    """
    heads = {(row["set"], shape(row), row["seed"]): row for row in rows if row["name"] == head and row.get("valid_accuracy")}
    others = []
    for row in rows:
        start = heads.get((row["set"], shape(row), row["seed"]))
        if start and row["name"] != head and row.get("valid_accuracy"):
            better = start if float(start["valid_accuracy"]) > float(row["valid_accuracy"]) else row
            others.append({**better, "name": f"{row['name']} or {head}"})
    return [*rows, *others]


class Regret(NamedTuple):
    """What a recipe gives away to the best cell of a grid, in points.

    Attributes:
        best: the cell with the highest mean.
        cells: number of cells that were compared.
        highest: its mean minus the recipe's. It is the highest of many noisy means, so this is too large rather than too small.
        held_out: the same with the cell chosen by the other seeds, for each seed: free of that luck. None for a single seed.
    """

    best: str
    cells: int
    highest: float
    held_out: Interval | None

    def __str__(self) -> str:
        return f"{self.highest:+.2f}" + (f"; held out {self.held_out}" if self.held_out else "")


def regret(points: Mapping[str, Mapping[int, float]], name: str, grid: str) -> Regret | None:
    """Return the regret of a recipe against the cells whose names the pattern `grid` matches; None where there is nothing to compare.

    The seeds are those that the recipe shares with the cell that has most of them, the cells those that have all of these: a cell that was
    given up after its first seeds is no candidate.
    """
    own = points.get(name, {})
    cells = {cell: of for cell, of in points.items() if re.search(grid, cell)}
    seeds = max((sorted(own.keys() & of.keys()) for of in cells.values()), key=len, default=[])
    cells = {cell: of for cell, of in cells.items() if of.keys() >= set(seeds)}
    if not seeds:
        return None

    def best(among: Sequence[int]) -> str:
        return max(cells, key=lambda cell: statistics.mean(cells[cell][seed] for seed in among))

    gaps = [cells[best([other for other in seeds if other != seed])][seed] - own[seed] for seed in seeds] if len(seeds) > 1 else []
    highest = statistics.mean(cells[best(seeds)][seed] - own[seed] for seed in seeds)
    return Regret(best(seeds), len(cells), highest, interval(gaps) if gaps else None)


def markdown(rows: Sequence[Row], reference: str, names: Sequence[str], plain: bool = False, grid: str = GRID) -> str:
    """Return the tables in Markdown: for each set, and over all sets.

    Over all sets the first interval is of these sets, over the seeds that all of them have (`overall`); the one between sets takes the mean
    of each set over all of its seeds, and the sets as a sample of sets.

    Args:
        rows: of the CSV file.
        reference: recipe that the others are compared with.
        names: recipes to show, in this order.
        plain: whether to judge by the plain view.
        grid: pattern of the names of the cells that regret is measured against.
    """
    found = scores(rows, plain)
    lines = []
    for (name, of), points in sorted(found.items()):
        regrets = {recipe: regret(points, recipe, grid) for recipe in names}
        shown = any(regrets.values())
        header = ["recipe", "points", "seeds", f"ahead of {reference}", "failed", "seconds", "kept", *["regret", "best cell"] * shown]
        lines += [f"\n### {name}, {of}\n", "| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
        for recipe in (recipe for recipe in names if recipe in points):
            own = [row for row in rows if (row["set"], shape(row), row["name"]) == (name, of, recipe)]
            gaps = list(paired(points, recipe, reference).values())
            values = points[recipe].values()
            cells = [recipe, f"{statistics.mean(values):.2f}", str(len(values))]
            cells += [str(interval(gaps)) if gaps and recipe != reference else "", _failed(own), _seconds(own), _kept(own)]
            if shown:
                own_regret = regrets[recipe]
                cells += [str(own_regret), f"{own_regret.best} (of {own_regret.cells})"] if own_regret else ["", ""]
            lines.append("| " + " | ".join(cells) + " |")
    header = ["recipe", f"ahead of {reference}, mean over sets", "between sets", "sets", "sets ahead", "sets behind"]
    lines += ["\n### all sets\n", "| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    for recipe in names:
        each = [statistics.mean(gaps.values()) for points in found.values() if (gaps := paired(points, recipe, reference))]
        if recipe != reference and each:
            whole = overall(found, recipe, reference)
            text = str(whole) if whole else f"{statistics.mean(each):+.2f}"
            lines.append(
                f"| {recipe} | {text} | {interval(each)} | {len(each)} | {sum(gap > 0 for gap in each)} | {sum(gap < 0 for gap in each)} |"
            )
    return "\n".join(lines).strip() + "\n"


def _failed(rows: Sequence[Row]) -> str:
    good = {row["seed"] for row in rows if score(row) is not None}
    return str(len({row["seed"] for row in rows} - good) or "")


def _seconds(rows: Sequence[Row]) -> str:
    """Median seconds of a run, compilation aside."""
    times = [float(row["seconds"]) - float(row.get("compile_seconds") or 0) for row in rows if row.get("seconds")]
    return f"{statistics.median(times):.0f}" if times else ""


def _kept(rows: Sequence[Row]) -> str:
    """What the runs kept, the most frequent first."""
    texts = [row.get("kept") or "" for row in rows]
    return "; ".join(f"{text} ×{texts.count(text)}" for text in sorted(set(texts), key=texts.count, reverse=True)[:3] if text)
