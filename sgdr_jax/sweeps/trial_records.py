"""How the trials of a search stand, read from its sweep's folder.

trials/HASH.json    number and values of a trial, kept when it is drawn; its run folder is runs/HASH
chosen.json         the best trial with the other seeds of the sweep: its runs, as in sweep.json
pruned/HASH.json    after which cycle's end, and with which value, it was ended early
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.files import write_atomically
from ..core.serialization import from_json
from .run_status import standing
from .search_space import Search, shortest, text
from .spec import Sweep, SweepRun, chosen_runs, row


class Trial(NamedTuple):
    """A trial of a search, as far as it has come.

    Attributes:
        number: in the order in which they were drawn, from 0.
        values: the fields that it sets, JSON data.
        shown: the same in words, by as much of each field's name as tells it from the others.
        hash: of its run.
        state: "finished", "pruned", "failed", "begun", or "" before that.
        value: of the objective: of the finished run, or where it was ended; None where there is none.
        cycle_ends: after which it was pruned, else 0.
        seconds: of the finished run, or None.
        error: why it failed, or "".
    """

    number: int
    values: dict[str, Any]
    shown: dict[str, str]
    hash: str
    state: str
    value: float | None
    cycle_ends: int
    seconds: float | None
    error: str

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do in it."""
        return self.state in ("finished", "pruned", "failed")


def keep_trial(folder: Path, run: SweepRun) -> None:
    """Keeps what was drawn; of equal draws the first."""
    names = [name for name, _ in run.values]
    shown = {shortest(name, names): _short(value) for name, value in run.values}
    _write(folder / "trials" / f"{run.hash}.json", row(run) | {"shown": shown}, again=False)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else text(value)


def keep_pruned(folder: Path, run: SweepRun, cycle_ends: int, value: float) -> None:
    """Keeps that a trial was ended early."""
    _write(folder / "pruned" / f"{run.hash}.json", {"trial": run.number, "cycle_ends": cycle_ends, "value": value})


def _write(file: Path, facts: dict[str, Any], again: bool = True) -> None:
    if again or not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(facts, ensure_ascii=False) + "\n")


def trials(folder: Path, objective: str) -> list[Trial]:
    """All trials of the folder, in the order in which they were drawn.

    Args:
        folder: of the sweep.
        objective: "accuracy" or "loss", see `search.Search`.
    """
    return sorted((_trial(folder, _read(file), objective) for file in (folder / "trials").glob("*.json")), key=lambda t: t.number)


def _trial(folder: Path, facts: dict[str, Any], objective: str) -> Trial:
    stands, pruned = standing(folder, facts["hash"]), _read(folder / "pruned" / f"{facts['hash']}.json")
    value, seconds = pruned.get("value"), None
    if stands.summary:
        value, seconds, pruned = stands.summary["valid"][objective], stands.summary.get("seconds"), {}
    state = "pruned" if pruned else stands.state
    kept = {name: facts[name] for name in ("number", "values", "shown", "hash")}
    ends, error = pruned.get("cycle_ends", 0), "" if pruned else stands.error
    return Trial(**kept, state=state, value=value, cycle_ends=ends, seconds=seconds, error=error)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def best(search: Search, found: Sequence[Trial]) -> Trial | None:
    """The finished trial with the best value, of equal ones the first; None where none has finished."""
    chosen = None
    for trial in found:
        if trial.state == "finished" and (chosen is None or search.better(_number(trial), _number(chosen))):
            chosen = trial
    return chosen


def _number(trial: Trial) -> float:
    assert trial.value is not None
    return trial.value


def table(found: Sequence[Trial], objective: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the trials in words: the finished ones first, the best on top, then the others, which came furthest first."""
    fields = list(dict.fromkeys(field for trial in found for field in trial.shown))
    sign = 1 if objective == "loss" else -1

    def rank(trial: Trial) -> tuple[Any, ...]:
        return trial.state != "finished", -trial.cycle_ends, trial.value is None, sign * (trial.value or 0.0), trial.number

    titles = ["trial", *fields, f"validation {objective}", "", "seconds"]
    rows = [
        [
            str(trial.number),
            *(trial.shown.get(field, "") for field in fields),
            "" if trial.value is None else f"{trial.value:.4f}",
            f"pruned, end {trial.cycle_ends}" if trial.state == "pruned" else trial.state,
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
        ]
        for trial in sorted(found, key=rank)
    ]
    return titles, rows


def chosen(sweep: Sweep, folder: Path) -> tuple[SweepRun, ...]:
    """The best trial with the other seeds of its sweep, kept as an arm beside the others once all trials have ended; () before, and where
    there is no other seed. Raises InputError for values of types that no file has defined."""
    assert sweep.search
    found = trials(folder, sweep.search.objective)
    if not all(trial.ended for trial in found) or not (trial := best(sweep.search, found)):
        return ()
    runs = chosen_runs(sweep, tuple((name, from_json(value)) for name, value in trial.values.items()))
    _write(folder / "chosen.json", {"trial": trial.number, "runs": [row(run) for run in runs]})
    return runs


def chosen_rows(folder: Path) -> list[dict[str, Any]]:
    """The runs of the best trial with the other seeds, as sweep.json has runs; none before it is known."""
    return _read(folder / "chosen.json").get("runs", [])
