"""Tables of a sweep for the terminal: its runs, its search space and its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table

from ...core.plan import Plan
from ...report.run_tables import number_text
from .. import trial_records
from ..run_status import Entry
from ..search_space import Search, described, text
from ..trial_records import Trial


def sweep_table(entries: Sequence[Entry], plans: Sequence[Plan] = ()) -> Table:
    """The runs of a sweep as a table to print.

    Args:
        entries: how the runs stand.
        plans: of the same runs; then the table says what each would cost, from the finished ones where there are any.
    """
    table = Table("run", "arm", "seed", "hash", "state", box=box.SIMPLE_HEAD)
    table.columns[3].no_wrap = True
    columns = ("updates", "images", "seconds") if plans else ("loss", "accuracy", "seconds")
    for name in columns:
        table.add_column(name, justify="right")
    images = [sum(stage.images for stage in p.stages) for p in plans]
    took = [(e.summary["seconds"], n) for e, n in zip(entries, images, strict=False) if e.summary]
    pace = sum(s for s, _ in took) / sum(n for _, n in took) if took else None
    for i, entry in enumerate(entries):
        run, valid, seconds = entry.run, entry.summary.get("valid") or {}, entry.summary.get("seconds")
        if plans:
            about = "" if pace is None else f"about {pace * images[i]:.0f}"
            figures = [
                f"{sum(stage.steps for stage in plans[i].stages):,}",
                f"{images[i]:,}",
                about if seconds is None else f"{seconds:.0f}",
            ]
        else:
            figures = [number_text(valid.get("loss"), ".4f"), number_text(valid.get("accuracy"), ".4f"), number_text(seconds, ".0f")]
        table.add_row(str(run.number), run.arm, str(run.seed), run.hash, entry.state, *figures)
    if plans:
        table.add_section()
        rest = "" if pace is None else f"about {pace * sum(n for e, n in zip(entries, images, strict=True) if not e.summary):.0f}"
        table.add_row("in all", "", "", "", "", f"{sum(s.steps for p in plans for s in p.stages):,}", f"{sum(images):,}", rest)
    return table


def space_table(search: Search) -> Table:
    """What a search looks among, as a table to print."""
    table = Table("field", "what it may be", title=described(search), box=box.SIMPLE_HEAD, title_justify="left", title_style="")
    for field, domain in search.space.items():
        table.add_row(field, text(domain))
    return table


def trials_table(found: Sequence[Trial], objective: str, most: int = 20) -> Table:
    """The trials of a search as a table to print, the best first; of more than `most` only so many."""
    titles, rows = trial_records.table(found, objective)
    states = ", ".join(f"{n} {state or 'not begun'}" for state, n in Counter(trial.state for trial in found).items())
    table = Table(box=box.SIMPLE_HEAD, title=f"{len(found)} trials: {states}", title_justify="left", title_style="")
    for name in titles:
        table.add_column(name, justify="left" if not name else "right")
    for row in rows[:most]:
        table.add_row(*row)
    return table
