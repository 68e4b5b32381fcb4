"""Output of a comparison: table for the terminal, Markdown, a self-contained HTML page, CSV, and its section of RESULTS.md."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich import box
from rich.table import Table

from ...core.errors import InputError
from ...core.files import write_output
from ...core.text import csv_text
from ...core.text import markdown as as_markdown
from ...core.validation import require
from ...report import html
from ...report.charts import covering
from . import plots
from .by_class import ClassEffect
from .compare import Arm, Comparison
from .significance import most_coverage
from .tables import class_cells, comparison_header, comparison_rows, interval_text, measure_of, percent, trial_cells, trials_table


def notes(comparison: Comparison) -> list[str]:
    """Explain the columns and the methods, one or two sentences a line."""
    n = min((len(arm.paired.seeds) for arm in comparison.arms if arm.paired), default=0)
    level, alpha, scale = percent(1 - comparison.alpha), f"{comparison.alpha:g}", comparison.scale
    digits = 2 if comparison.metric.measure == "accuracy" else 4
    differing = [
        f"{arm.name} {interval_text(scale * arm.paired.t_low, scale * arm.paired.t_high, digits)}"
        for arm in comparison.arms
        if arm.paired and arm.paired.intervals_differ
    ]
    narrow = n >= 2 and most_coverage(n) < 1 - comparison.alpha
    few = f" With {n} seeds its coverage is at most {percent(most_coverage(n))[:4].strip(' %')} %." if narrow else ""
    return [
        f"Mean ± standard deviation over n seeds, on the {comparison.metric.split} images. Differences are to {comparison.baseline!r}, "
        "seed by seed.",
        f"Interval of the mean difference: {level}, expanded-percentile bootstrap over seeds (Hesterberg 2015).{few}",
        *([f"{_DIFFERING}: {'; '.join(differing)}."] if differing else []),
        "p: paired t test over seeds (would other seeds agree?), corrected for the number of arms by Holm's method; an arm is better or "
        f"worse where it is at most {alpha}.",
        "gained / lost: answers that only the arm, or only the baseline, has right, over all seeds. p, examples: exact McNemar test in "
        "which an example counts once for all seeds (would other images agree?), corrected in the same way.",
        "to settle: seeds with which the t test (at the strictest level of Holm's method) would detect the observed difference, given the "
        "observed spread, with a power of 0.8; in brackets the difference that it detects with the present seeds.",
        _NETWORKS if comparison.networks else "seconds: duration of training with validation, mean; images: shown in training, mean.",
        *([_TRIALS + (_UNBIASED if comparison.metric.split == "test" else _REUSED)] if comparison.trials else []),
        *([_CLASSES.format(level)] if _by_class(comparison) else []),
    ]


def _by_class(comparison: Comparison) -> bool:
    """Return whether effects on classes are known."""
    return any(arm.paired and arm.paired.classes for arm in comparison.arms)


_DIFFERING = (
    "Student's interval, in brackets, disagrees with the bootstrap's on zero or by over a tenth of its length, "
    "a sign of skewed differences, or of few"
)

_CLASSES = (
    "By class (answer.html, classes.csv): share of the images of a class that are predicted right, of multi-label data the F1 score of the "
    "class; mean over seeds, difference with its {} t interval, paired t test corrected for the number of classes."
)


_NETWORKS = (
    "The arms of a seed are networks of one run, trained once: final network, the best cycle end by the validation images where those may "
    "select; last, that of the last update; the others are made of several cycle ends, or of all updates (moving average). 'chosen': by "
    "the loss on the validation images. An ensemble of k networks takes k times as long to predict."
)

_TRIALS = (
    "The trials of the search are not arms: they were run with one seed, to select among them by the validation images. The arm 'best "
    "trial' is the selected one with the other seeds, which took no part in the selection"
)
_UNBIASED = ", so the estimate is unbiased."
_REUSED = "; these images did, so the estimate is too high: compare on test images."


_TO_PRINT = ("arm", "n", "accuracy %", "mAP %", "F2 %", "TTA %", "log-loss", "p", "", "to settle", "seconds")
"""Titles of the columns, besides the difference and its interval, that fit into a terminal; the files have all."""


def terminal(comparison: Comparison) -> list[Table | str]:
    """Return the parts to print: the table, the trials, what was left out, and the notes."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{comparison.name}: {len(comparison.arms)} arms", title_justify="left", title_style="bold")
    titles = comparison_header(comparison)
    columns = [i for i, t in enumerate(titles) if t in _TO_PRINT or t.startswith("difference") or t.endswith("interval")]
    columns = [i for i in columns if titles[i] != ("log-loss" if comparison.metric.measure == "accuracy" else f"{comparison.score} %")]
    for i in columns:
        left = titles[i] in ("arm", "", "to settle")
        table.add_column(titles[i], justify="left" if left else "right", no_wrap=titles[i] in ("", "to settle"))
    colours = {"better": "green", "worse": "red"}
    for row, arm in zip(comparison_rows(comparison), comparison.arms, strict=True):
        style = colours.get(arm.paired.verdict, "") if arm.paired else "bold" * (arm.name == comparison.baseline)
        short = (row[i].partition(" (")[0] if titles[i] == "to settle" or titles[i].endswith("interval") else row[i] for i in columns)
        table.add_row(*short, style=style)
    return [
        table,
        *([trials_table(comparison.trials)] if comparison.trials else []),
        *_left_out(comparison),
        *notes(comparison),
    ]


def _left_out(comparison: Comparison) -> list[str]:
    return [f"left out: {line}" for line in comparison.left_out]


# ---- files ----


def write(comparison: Comparison, folder: str | Path, drawn: Sequence[Path]) -> list[Path]:
    """Write answer.md, answer.csv, answer.html, classes.csv and, of a search, trials.csv beside the pictures `drawn`; return the paths."""
    folder = Path(folder)
    texts = {"answer.md": markdown(comparison, [path.name for path in drawn]), "answer.csv": table_csv(comparison)}
    texts["answer.html"] = page(comparison, drawn)
    if comparison.trials:
        texts["trials.csv"] = trials_csv(comparison)
    if _by_class(comparison):
        texts["classes.csv"] = classes_csv(comparison)
    for name, text in texts.items():
        write_output(folder / name, text)
    return [folder / name for name in texts]


def publish(comparison: Comparison, folder: str | Path, results: Path | None = None) -> list[Path]:
    """Draw and write everything into a folder, and return the paths.

    Args:
        comparison: comparison to publish.
        folder: folder for all files.
        results: a RESULTS.md whose section of the sweep is also written; its pictures go into the folder of the same name beside it, in
            lower case.
    """
    old = _read(results) if results and results.exists() else ""
    put(old, comparison, ())  # A file that cannot take the section is refused before anything is written.
    written = plots.draw_all(comparison, folder)
    written += write(comparison, folder, written)
    if results is not None:
        beside = results.with_suffix("").name.lower()
        drawn = plots.draw_all(comparison, results.parent / beside, f"{comparison.name}-")
        write_output(results, put(old, comparison, [f"{beside}/{path.name}" for path in drawn]))
        written += [*drawn, results]
    return written


def _read(results: Path) -> str:
    try:
        return results.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"--results is {results}, which is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def markdown(comparison: Comparison, pictures: Sequence[str] = ()) -> str:
    """Format the comparison as Markdown; `pictures` are their addresses."""
    titles = comparison_header(comparison)
    lines = [
        _row(titles),
        _row(["---" if name in ("arm", "", "to settle") else "--:" for name in titles]),
        *map(_row, comparison_rows(comparison)),
        "",
    ]
    for name in pictures:
        lines += [f"![{_alt(name)}]({quote(name)})", ""]
    if comparison.trials:
        heads, cells = trial_cells(comparison.trials)
        lines += [_row(heads), _row(["--:"] * len(heads)), *map(_row, cells), ""]
    if comparison.left_out:
        lines += ["Left out:", "", *(f"* {as_markdown(line)}" for line in comparison.left_out), ""]
    lines += [*(f"* {as_markdown(line)}" for line in notes(comparison)), ""]
    lines += [f"* {name}: {as_markdown('; '.join(values))}" for name, values in provenance(comparison)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell if cell in ("---", "--:") else as_markdown(cell) for cell in cells) + " |"


def _alt(name: str) -> str:
    kinds = {
        "arms": "every seed of every arm, and the differences with their intervals",
        "curves": "validation accuracy over epochs and seconds",
        "time": "accuracy over training time",
        "map": "means over two axes",
    }
    return next((text for kind, text in kinds.items() if Path(name).stem.endswith(kind)), Path(name).stem)


def provenance(comparison: Comparison) -> list[tuple[str, tuple[str, ...]]]:
    """List command, hardware, versions, commit and dates of the runs, with their titles; of different values the three commonest."""
    origin = comparison.origin
    dates = (" to ".join(origin.dates),) if origin.dates else ()
    facts = {"command": origin.command, "hardware": origin.machine, "versions": origin.versions, "commit": origin.commit, "date": dates}
    return [(name, values[:3]) for name, values in facts.items() if values]


def table_csv(comparison: Comparison) -> str:
    """Format the comparison as CSV with plain numbers, one row per arm; unknown figures stay empty."""
    spreads = ("accuracy", "loss", "tta_accuracy", "tta_loss", "seconds", "images")
    paired = ["pairs", "difference", "low", "high", "t_low", "t_high", "p", "p_holm"]
    paired += ["gained", "lost", "p_examples", "p_examples_holm", "verdict"]
    paired += ["seeds_needed", "detectable"]
    rows: list[list[object]] = []
    rows.append(
        ["arm", "runs", *(f"{name.replace('accuracy', comparison.score)}{end}" for name in spreads for end in ("", "_sd")), *paired]
    )
    for arm in comparison.arms:
        cells: list[object] = [arm.name, len(arm.runs)]
        for name in spreads:
            cells += list(getattr(arm, name)[:2])
        if p := arm.paired:
            change = list(p.change) if p.change else [None] * 3
            cells += [len(p.seeds), p.mean, p.low, p.high, p.t_low, p.t_high, p.p, p.p_holm, *change, p.change_holm, p.verdict]
            cells += [p.needed, p.detectable]
        else:
            cells += [""] * len(paired)
        rows.append(["" if x is None or (isinstance(x, float) and math.isnan(x)) else x for x in cells])
    return csv_text(rows)


def classes_csv(comparison: Comparison) -> str:
    """Format the effects on classes as CSV with plain numbers, one row per arm and class; unknown figures stay empty."""
    rows: list[list[object]] = [["arm", "class", *ClassEffect._fields]]
    for arm in comparison.arms:
        for effect in arm.paired.classes if arm.paired else ():
            name = comparison.classes[effect.index] if effect.index < len(comparison.classes) else ""
            rows.append([arm.name, name, *("" if isinstance(x, float) and math.isnan(x) else x for x in effect)])
    return csv_text(rows)


def trials_csv(comparison: Comparison) -> str:
    """Format the trials of the search as CSV with plain numbers, in the order in which they were drawn."""
    fields = list(dict.fromkeys(field for trial in comparison.trials for field in trial.values))
    rows: list[list[object]] = []
    rows.append(["trial", *fields, measure_of(comparison.trials), "state", "cycle_ends", "seconds", "hash"])
    for t in comparison.trials:
        given = (t.values.get(field, "") for field in fields)
        values = (value if isinstance(value, int | float | str) else json.dumps(value) for value in given)
        cells = [t.number, *values, t.value, t.state, t.cycle_ends or None, t.seconds, t.hash]
        rows.append(["" if x is None else x for x in cells])
    return csv_text(rows)


_MOST_CLASSES = 10
"""Classes of each arm that the page shows, those with the largest differences; classes.csv has all."""


def page(comparison: Comparison, drawn: Sequence[Path]) -> str:
    """Format the comparison as one HTML page that contains its pictures; that of the arms is drawn in the table."""
    arms = [_arm_track(comparison, arm) for arm in comparison.arms]
    ends = [x for arm in arms if arm["difference"] is not None for x in (arm["difference"], arm["low"], arm["high"])]
    heads, cells = trial_cells(comparison.trials) if comparison.trials else ([], [])
    base = next((arm["mean"] for arm in arms if arm["name"] == comparison.baseline), math.nan)
    seeds = covering("", [value for arm in arms for value in arm["seeds"]])
    return html.page(
        "sweep.html",
        title=comparison.name,
        folder=str(comparison.folder),
        question=[" ".join(paragraph.split()) for paragraph in comparison.question.split("\n\n") if paragraph.strip()],
        split=comparison.metric.split,
        baseline=comparison.baseline,
        dates=" to ".join(comparison.origin.dates),
        figure=plots.title(comparison),
        level=percent(1 - comparison.alpha),
        digits=".2f" if comparison.metric.measure == "accuracy" else ".4f",
        arms=arms,
        seeds={"low": seeds.low, "high": seeds.high, "middle": None if math.isnan(base) else base},
        gaps=covering("", [*ends, 0.0]),
        titles=comparison_header(comparison),
        rows=comparison_rows(comparison),
        left_out=comparison.left_out,
        pictures=[(_alt(path.name), html.data_uri(path.read_bytes())) for path in drawn if not path.stem.endswith("arms")],
        trials={"titles": heads, "rows": cells} if cells else None,
        classes=dict(zip(("titles", "rows"), class_cells(comparison, _MOST_CLASSES), strict=True)) if _by_class(comparison) else None,
        notes=notes(comparison),
        origin=provenance(comparison),
    )


def _arm_track(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    """Return what the page draws of an arm: its seeds, their mean, the difference and its interval, as displayed."""
    values, paired, scale = plots.figures(comparison, arm).tolist(), arm.paired, comparison.scale
    verdict = paired.verdict if paired else ""
    return {
        "name": arm.name,
        "kind": "baseline" if arm.name == comparison.baseline else verdict,
        "verdict": verdict or ("baseline" if arm.name == comparison.baseline else "no pairs"),
        "seeds": values,
        "mean": sum(values) / len(values) if values else math.nan,
        "difference": None if paired is None else scale * paired.mean,
        "low": scale * paired.low if paired else math.nan,
        "high": scale * paired.high if paired else math.nan,
    }


# ---- RESULTS.md ----

_TOP = """# Results

Made by `sgdr-jax compare DIR --results FILE` from the run folders of each sweep; edit the experiments, not this file.
"""


def put(text: str, comparison: Comparison, pictures: Sequence[str]) -> str:
    """Insert the section of a sweep into RESULTS.md: in place of its earlier one, or after the others.

    Args:
        text: content of the file; "" for a new one.
        comparison: comparison of the sweep.
        pictures: addresses of its pictures, relative to the file.
    """
    begin, end = f"<!-- begin {comparison.name} -->", f"<!-- end {comparison.name} -->"
    question = [as_markdown(" ".join(paragraph.split())) + "\n" for paragraph in comparison.question.split("\n\n") if paragraph.strip()]
    section = "\n".join([begin, f"## {as_markdown(comparison.name)}\n", *question, markdown(comparison, pictures) + end])
    text = text or _TOP
    if begin not in text:
        return text.rstrip("\n") + "\n\n" + section + "\n"
    before, _, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    require(bool(closed), "--results", f"a file without {end}", "restore that line, or remove the section")
    return before + section + after
