"""Chaos campaigns: seeded cases of one kind of trouble; each outcome is a row of a CSV file, so that a campaign goes on where it ended.

    python -m tests.chaos.campaign words --seconds 280      # the next part of a campaign
    python -m tests.chaos.campaign words --seed 4711        # one case
    python -m tests.chaos.campaign words --faults           # the cases again that were faults
    python -m tests.chaos.campaign table                    # tried / survived / silent, as Markdown

A case is decided by its campaign and seed alone. Its outcome is one of GOOD, or one of FAULTS.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import faulthandler
import importlib
import io
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.text import one_line

CAMPAIGNS = {
    "words": ("configurations and command lines", 10_000),
    "images": ("images of nine formats", 6_000),
    "weights": ("weight files", 6_000),
    "files": ("damage to a file, read alone", 2_000),
    "damage": ("damage to files of runs and caches", 400),
    "kill": ("SIGKILL", 250),
    "resume": ("going on after each update", 8),
    "stop": ("SIGTERM", 300),
    "full": ("full disks", 200),
}
"""Name, which is also the module `tests.chaos.NAME_cases`, to what is tried and the number of cases of a full campaign."""

GOOD = ("accepted", "refused", "same", "told", "resumed", "tolerated")
"""accepted: and right; refused: in one line; same: the results of an undisturbed run; told: other results or made anew, and told;
tolerated: a JPEG that breaks a rule of the format which libjpeg does not check."""

FAULTS = ("silent", "traceback", "late", "hangs", "code")
"""silent: wrong without a word; late: above the limit of time; hangs: deaf to signals; code: a file had code run."""


class Outcome(NamedTuple):
    """What became of a case.

    Attributes:
        part: which part of the campaign the case belongs to, for the table.
        outcome: one of GOOD or FAULTS.
        detail: in one line.
    """

    part: str
    outcome: str
    detail: str = ""


type Try = Callable[[int], Outcome]


def open_campaign(name: str, folder: Path) -> AbstractContextManager[Try]:
    """Open a campaign with a scratch folder; the value tries the case of a seed."""
    return importlib.import_module(f"tests.chaos.{name}_cases").opened(folder)


class Silent(Exception):
    """Something is wrong, and nothing was said."""


class Late(BaseException):
    """The limit of time of a case; no Exception, so that nothing catches it on the way."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Late in the block after so many seconds. A block deaf to signals ends the process after ten times as many, or a minute."""

    def ring(*_: object) -> None:
        raise Late

    faulthandler.dump_traceback_later(max(10 * seconds, 60), exit=True, file=sys.__stderr__)  # sys.stderr may have been replaced
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def cli(*words: str) -> str:
    """Run one command line in this process; return what it prints. Raises InputError for a refusal in one line, as the command has it."""
    from sgdr_jax.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(words)
        except SystemExit as end:
            errors = [line for line in out.getvalue().splitlines() if line.startswith("error: ")]
            if end.code == 0:
                return out.getvalue()
            assert end.code == 2 and len(errors) == 1 and out.getvalue().rstrip().endswith(errors[0]), out.getvalue()[-2000:]
            raise InputError(errors[0]) from None
    return out.getvalue()


def outcome_of(part: str, work: Callable[[], str], seconds: float = 10.0) -> Outcome:
    """Run a case that returns one of GOOD or "silent", or raises InputError; all other ends are faults."""
    try:
        with limited(seconds):
            return Outcome(part, work())
    except InputError as error:
        text = str(error)
        return Outcome(part, "traceback" if "\n" in text else "refused", text)
    except Silent as error:
        return Outcome(part, "silent", str(error))
    except Late:
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        return Outcome(part, "late", f"{where.filename}:{where.lineno}")
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/sgdr_jax/" in f.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} " if frames else ""
        return Outcome(part, "traceback", f"{where}{type(error).__name__}: {error}")


def run_part(name: str, cases: int, seconds: float, results: Path) -> int:
    """Try the next cases of a campaign for so many seconds; return the number of faults among all so far."""
    hung = results.with_suffix(f".{name}.running")
    results.parent.mkdir(parents=True, exist_ok=True)
    if hung.exists():  # the process of an earlier part has ended within this case
        _append(results, name, int(hung.read_text()), Outcome("", "hangs", "the process ended or had to be ended"), 0.0)
        hung.unlink()
    done = {row["seed"] for row in rows(results) if row["campaign"] == name}
    seeds = [seed for seed in range(cases) if str(seed) not in done]
    until = time.monotonic() + seconds
    with _scratch(results, name) as scratch, open_campaign(name, scratch) as attempt:
        print(f"{name}: {len(done)} of {cases} done, goes on with seed {seeds[0] if seeds else None}", flush=True)
        for seed in seeds:
            if time.monotonic() > until:
                break
            hung.write_text(str(seed))
            began = time.monotonic()
            try:
                outcome = attempt(seed)
            except SystemExit:  # the part was stopped, which says nothing about the case
                hung.unlink()
                raise
            _append(results, name, seed, outcome, time.monotonic() - began)
            hung.unlink()
            if outcome.outcome in FAULTS:
                print(f"{name} --seed {seed}: {outcome.part}: {outcome.outcome}: {outcome.detail[:300]}", flush=True)
    counts = Counter(row["outcome"] for row in rows(results) if row["campaign"] == name)
    print(f"{name}: {counts.total()} of {cases} tried: {dict(counts)}")
    return sum(counts[fault] for fault in FAULTS)


@contextlib.contextmanager
def _scratch(results: Path, name: str) -> Iterator[Path]:
    """Return a folder for what a campaign keeps between its parts: results of undisturbed runs, compiled programs."""
    folder = results.absolute().with_suffix("") / name
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def retry_faults(name: str, results: Path) -> int:
    """Try the cases again that were faults, as after a repair, and replace their rows; return how many still are."""
    found, left = rows(results), 0
    with _scratch(results, name) as scratch, open_campaign(name, scratch) as attempt:
        for row in found:
            if row["campaign"] == name and row["outcome"] in FAULTS:
                outcome = attempt(int(row["seed"]))
                row |= {"part": outcome.part, "outcome": outcome.outcome, "detail": _one_line(outcome.detail)}
                left += outcome.outcome in FAULTS
                print(f"{name} --seed {row['seed']}: {row['outcome']}: {row['detail']}", flush=True)
    with results.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)
    return left


COLUMNS = ("campaign", "seed", "part", "outcome", "seconds", "detail")


def _one_line(text: str) -> str:
    return one_line(" ".join(text.split()))[:300].encode(errors="replace").decode()


def _append(results: Path, name: str, seed: int, outcome: Outcome, seconds: float) -> None:
    first = not results.exists()
    with results.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if first:
            writer.writerow(COLUMNS)
        writer.writerow((name, seed, outcome.part, outcome.outcome, f"{seconds:.2f}", _one_line(outcome.detail)))


def rows(results: Path) -> list[dict[str, str]]:
    """Return the rows of a file of results."""
    if not results.exists():
        return []
    with results.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(results: Path) -> str:
    """Return the outcomes of all campaigns as a Markdown table."""
    lines = ["| tried | cases | survived | silent | traceback, late, hangs |", "| --- | ---: | --- | ---: | ---: |"]
    found = rows(results)
    for name, (title, _) in CAMPAIGNS.items():
        for part in dict.fromkeys(row["part"] for row in found if row["campaign"] == name):
            counts = Counter(row["outcome"] for row in found if row["campaign"] == name and row["part"] == part)
            good = ", ".join(f"{counts[word]:,} {word}" for word in GOOD if counts[word])
            other = sum(counts[word] for word in FAULTS if word != "silent")
            lines.append(f"| {title}: {part or '(unknown)'} | {counts.total():,} | {good} | {counts['silent']} | {other} |")
    return "\n".join(lines)


def main() -> None:
    """Run a part of a campaign, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=(*CAMPAIGNS, "table"))
    parser.add_argument("--cases", type=int, help="cases in all, of all parts together; by default those of a full campaign")
    parser.add_argument("--seconds", type=float, default=280, help="of this part")
    parser.add_argument("--seed", type=int, help="try this case alone")
    parser.add_argument("--faults", action="store_true", help="try the cases again that were faults")
    parser.add_argument("--results", type=Path, default=Path("build/chaos.csv"))
    options = parser.parse_args()
    if options.campaign == "table":
        print(table(options.results))
    elif options.seed is not None:
        with _scratch(options.results, options.campaign) as scratch, open_campaign(options.campaign, scratch) as attempt:
            print(attempt(options.seed))
    elif options.faults:
        raise SystemExit(1 if retry_faults(options.campaign, options.results) else 0)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        cases = options.cases or CAMPAIGNS[options.campaign][1]
        faults = run_part(options.campaign, cases, options.seconds, options.results.absolute())
        raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
