"""Where the states of a population's members came from, read from the rows that they kept at each restart. No jax."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from . import sweep
from .logbook import read
from .population import order


class Restart(NamedTuple):
    """What a member went on with from a restart.

    Attributes:
        stage: its name.
        cycle: that had just ended, from 0.
        rank: of the member then, 1 is the strongest.
        source: number of the member whose state and values it took over; its own where it went on as it was.
        lr: peak rate of each trained group.
        weight_decay: from then on.
    """

    stage: str
    cycle: int
    rank: int
    source: int
    lr: dict[str, float]
    weight_decay: float


class Kin(NamedTuple):
    """A member, and how it came to be what it is.

    Attributes:
        number, arm, seed: see `sweep.SweepRun`.
        restarts: in the order of time.
        summary: of the finished run, else empty.
    """

    number: int
    arm: str
    seed: int
    restarts: tuple[Restart, ...]
    summary: dict[str, Any]


def lineage(folder: str | Path) -> list[Kin]:
    """All members of the population in a sweep's folder, in their order. Raises InputError where there is no sweep."""
    rows = sweep.read(folder)["runs"]
    numbers, found = {row["hash"]: row["number"] for row in rows}, []
    for row in rows:
        own = sweep.run_folder(folder, row["hash"])
        run = read(own) if (own / "config.json").exists() else None
        met = tuple(
            Restart(r["stage"], r["cycle"], r["rank"], numbers[r["from"]], r["lr"], r["weight_decay"])
            for r in (run.rows if run else ())
            if r["kind"] == "population"
        )
        found.append(Kin(row["number"], row["arm"], row["seed"], met, run.summary if run else {}))
    return found


def table(kin: list[Kin]) -> tuple[list[str], list[list[str]]]:
    """The lineage as text: titles, and a row for each member, the strongest on the validation images first. A restart's column says whose
    state a member took over, and at which rates it went on."""
    longest = max((k.restarts for k in kin), key=len, default=())
    titles = ["member", "arm", "seed", *(f"{r.stage}, cycle {r.cycle + 1}" for r in longest), "validation %", "test %"]
    valid = {i: k.summary.get("valid") or {} for i, k in enumerate(kin)}
    ranked = order({i: (v.get("accuracy") or 0.0, v.get("loss") or float("nan")) for i, v in valid.items()})
    return titles, [_row(kin[i], len(longest)) for i in ranked]


def _row(kin: Kin, width: int) -> list[str]:
    told = [("" if r.source == kin.number else f"of {r.source}, ") + _values(r) for r in kin.restarts]
    figures = [(kin.summary.get(split) or {}).get("accuracy") for split in ("valid", "test")]
    return [
        str(kin.number),
        kin.arm,
        str(kin.seed),
        *told,
        *[""] * (width - len(told)),
        *("" if x is None else f"{100 * x:.2f}" for x in figures),
    ]


def _values(restart: Restart) -> str:
    """The rate of the last group, that of the head, and the decay where there is one."""
    rate = f"lr {list(restart.lr.values())[-1]:.2g}"
    return rate + (f", decay {restart.weight_decay:.2g}" if restart.weight_decay else "")
