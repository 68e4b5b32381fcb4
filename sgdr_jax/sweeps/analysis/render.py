"""A comparison in words: table for the terminal, Markdown, one HTML file that needs nothing else, CSV, and its section of RESULTS.md."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ...core.validation import require
from .. import trial_records
from . import plots
from .compare import Arm, Comparison, Spread
from .significance import most_coverage
from .tables import trials_table

# ---- the table ----


def header(found: Comparison) -> list[str]:
    """Titles of the columns of `rows`."""
    views = ["TTA %"] if any(arm.tta_accuracy.n for arm in found.arms) else []
    unit = "points" if found.measure == "accuracy" else "log-loss"
    tests = [f"difference ({unit})", f"{_percent(1 - found.alpha)} interval", "p", "gained / lost", "p, examples", "", "to settle"]
    return ["arm", "n", "accuracy %", *views, "log-loss", *tests, *([] if found.networks else ["seconds", "images"])]


def rows(found: Comparison) -> list[list[str]]:
    """The comparison as text, one row for each arm; what is not known stays empty."""
    views = any(arm.tta_accuracy.n for arm in found.arms)
    return [
        [
            arm.name,
            str(len(arm.runs)),
            _spread(arm.accuracy, 100, 2),
            *([_spread(arm.tta_accuracy, 100, 2)] if views else []),
            _spread(arm.loss, 1, 4),
            *_paired(arm, found),
            *([] if found.networks else [_mean(arm.seconds, ".0f"), _mean(arm.images, ",.0f")]),
        ]
        for arm in found.arms
    ]


def _paired(arm: Arm, found: Comparison) -> list[str]:
    """Difference, interval, p, answers, their p, verdict, and what would settle it."""
    paired = arm.paired
    if paired is None:
        return ["", "", "", "", "", "baseline" if arm.name == found.baseline else "no pairs", ""]
    scale, digits = (100, 2) if found.measure == "accuracy" else (1, 4)
    change = paired.change
    interval = "" if math.isnan(paired.low) else f"{scale * paired.low:+.{digits}f} … {scale * paired.high:+.{digits}f}"
    settle = ""
    if paired.verdict == "undecided" and not math.isnan(paired.detectable):
        seeds = "> 10,000 seeds" if paired.needed is None else f"{paired.needed:,} seeds"
        settle = f"{seeds} (now ±{scale * paired.detectable:.{digits}f})" if paired.detectable > 0 else ""
    return [
        f"{scale * paired.mean:+.{digits}f}",
        interval,
        _p(paired.p_holm),
        f"{change.gained:,} / {change.lost:,}" if change else "",
        _p(paired.change_holm),
        paired.verdict,
        settle,
    ]


def _spread(spread: Spread, scale: float, digits: int) -> str:
    if not spread.n:
        return ""
    return f"{scale * spread.mean:.{digits}f}" + ("" if math.isnan(spread.sd) else f" ± {scale * spread.sd:.{digits}f}")


def _mean(spread: Spread, form: str) -> str:
    return format(spread.mean, form) if spread.n else ""


def _p(p: float) -> str:
    return "" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def notes(found: Comparison) -> list[str]:
    """What the columns mean, and how the figures were reached, one sentence or two a line."""
    n = min((len(arm.paired.seeds) for arm in found.arms if arm.paired), default=0)
    level, alpha = _percent(1 - found.alpha), f"{found.alpha:g}"
    held = (
        f" With {n} seeds it holds the true mean {_percent(most_coverage(n))[:4].strip(' %')} % of the time at most." if 2 <= n < 6 else ""
    )
    return [
        f"Mean ± standard deviation over n seeds, on the {found.split} images. Differences are to {found.baseline!r}, seed by seed.",
        f"Interval of the mean difference: {level}, expanded-percentile bootstrap over seeds (Hesterberg 2015).{held}",
        "p: paired t test over seeds (would other seeds show it?), corrected for all arms by Holm's method; an arm is better or worse "
        f"where it is at most {alpha}.",
        "gained / lost: answers that only the arm, or only the baseline, has right, over all seeds. p, examples: exact McNemar test, an "
        "example counting once for all seeds (would other images show it?), corrected alike.",
        f"to settle: seeds with which that t test (uncorrected, level {alpha}) would find the difference seen, with the spread seen, four "
        "times out of five; in brackets the difference that it finds so with the present seeds.",
        _NETWORKS if found.networks else "seconds: of training with validation, the mean; images: shown in training, the mean.",
        *([_TRIALS] if found.trials else []),
    ]


_NETWORKS = (
    "The arms of a seed are networks of one run, trained once: final network, the best cycle end on the validation images where those may "
    "choose; last, that of the last update; the others are made of several cycle ends, or of all updates (moving average). 'chosen': by "
    "the loss on the validation images. An ensemble of k networks takes k times as long to predict."
)

_TRIALS = (
    "The trials of the search are no arms: they were run to choose among, by their validation images, with one seed. The arm 'best trial' "
    "is the chosen one with the other seeds, which had no part in the choice."
)


_TO_PRINT = ("arm", "n", "accuracy %", "TTA %", "log-loss", "p", "", "to settle", "seconds")
"""Titles of the columns, besides the difference and its interval, that a terminal has room for; the files have all."""


def terminal(found: Comparison) -> list[Any]:
    """The comparison to print: the table, what was left out, and the notes."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{found.name}: {len(found.arms)} arms", title_justify="left", title_style="bold")
    titles = header(found)
    kept = [i for i, t in enumerate(titles) if t in _TO_PRINT or t.startswith("difference") or t.endswith("interval")]
    kept = [i for i in kept if titles[i] != ("log-loss" if found.measure == "accuracy" else "accuracy %")]
    for i in kept:
        left, width = titles[i] in ("arm", "", "to settle"), 14 if titles[i] == "arm" else None
        table.add_column(titles[i], justify="left" if left else "right", min_width=width, no_wrap=not titles[i])
    colours = {"better": "green", "worse": "red"}
    for row, arm in zip(rows(found), found.arms, strict=True):
        style = colours.get(arm.paired.verdict, "") if arm.paired else "bold" * (arm.name == found.baseline)
        table.add_row(*(row[i].partition(" (")[0] if titles[i] == "to settle" else row[i] for i in kept), style=style)
    return [table, *([trials_table(found.trials, found.objective)] if found.trials else []), *_left_out(found), *notes(found)]


def _left_out(found: Comparison) -> list[str]:
    return [f"left out: {line}" for line in found.left_out]


# ---- files ----


def write(found: Comparison, folder: str | Path, drawn: Sequence[Path]) -> list[Path]:
    """Writes answer.md, answer.csv and answer.html into a folder; `drawn` are the pictures, already there. Returns what was written."""
    folder = Path(folder)
    made = {"answer.md": markdown(found, [path.name for path in drawn]), "answer.csv": table_csv(found), "answer.html": page(found, drawn)}
    if found.trials:
        made["trials.csv"] = trials_csv(found)
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in made]


def publish(found: Comparison, folder: str | Path, results: Path | None = None) -> list[Path]:
    """Draws and writes everything into a folder and, where asked for, the sweep's section of a RESULTS.md, whose pictures go into the
    folder of the same name beside it, in lower case. Returns what was written."""
    made = plots.pictures(found, folder)
    made += write(found, folder, made)
    if results is not None:
        beside = results.with_suffix("").name.lower()
        drawn = plots.pictures(found, results.parent / beside, f"{found.name}-")
        old = results.read_text(encoding="utf-8") if results.exists() else ""
        results.write_text(put(old, found, [f"{beside}/{path.name}" for path in drawn]), encoding="utf-8")
        made += [*drawn, results]
    return made


def markdown(found: Comparison, pictures: Sequence[str] = ()) -> str:
    """The comparison as Markdown; `pictures` are their addresses."""
    titles = header(found)
    lines = [_row(titles), _row(["---" if name in ("arm", "", "to settle") else "--:" for name in titles]), *map(_row, rows(found)), ""]
    for name in pictures:
        lines += [f"![{_alt(name)}]({name})", ""]
    if found.trials:
        heads, cells = trial_records.table(found.trials, found.objective)
        lines += [_row(heads), _row(["--:"] * len(heads)), *map(_row, cells), ""]
    if found.left_out:
        lines += ["Left out:", "", *(f"* {_plain(line)}" for line in found.left_out), ""]
    lines += [*(f"* {_plain(line)}" for line in notes(found)), ""]
    lines += [f"* {name}: {_plain('; '.join(values))}" for name, values in provenance(found)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|*_<>`\[\]])", r"\\\1", text).replace("\n", " ") if text not in ("---", "--:") else text


def _alt(name: str) -> str:
    kinds = {
        "arms": "every seed of every arm, and the differences with their intervals",
        "curves": "validation accuracy over epochs and seconds",
        "time": "accuracy over training time",
        "map": "means over two axes",
    }
    return next((text for kind, text in kinds.items() if Path(name).stem.endswith(kind)), Path(name).stem)


def provenance(found: Comparison) -> list[tuple[str, tuple[str, ...]]]:
    """Command, hardware, versions, commit and dates of the runs, with what they are called; where they differ the commonest first."""
    origin = found.origin
    date = (" to ".join(origin["date"]),) if origin.get("date") else ()
    found_ = [
        ("command", origin["command"]),
        ("hardware", origin["machine"]),
        ("versions", origin["versions"]),
        ("commit", origin["commit"]),
    ]
    return [(name, values[:3]) for name, values in (*found_, ("date", date)) if values]


def table_csv(found: Comparison) -> str:
    """The comparison as CSV with plain numbers, one row for each arm; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    spreads = ("accuracy", "loss", "tta_accuracy", "tta_loss", "seconds", "images")
    paired = ["pairs", "difference", "low", "high", "p", "p_holm", "gained", "lost", "p_examples", "p_examples_holm", "verdict"]
    paired += ["seeds_needed", "detectable"]
    writer.writerow(["arm", "runs", *(f"{name}{end}" for name in spreads for end in ("", "_sd")), *paired])
    for arm in found.arms:
        cells: list[Any] = [arm.name, len(arm.runs)]
        for name in spreads:
            cells += list(getattr(arm, name)[:2])
        if p := arm.paired:
            change = list(p.change) if p.change else [None] * 3
            cells += [len(p.seeds), p.mean, p.low, p.high, p.p, p.p_holm, *change, p.change_holm, p.verdict, p.needed, p.detectable]
        else:
            cells += [""] * len(paired)
        writer.writerow(["" if x is None or (isinstance(x, float) and math.isnan(x)) else x for x in cells])
    return text.getvalue()


def trials_csv(found: Comparison) -> str:
    """The trials of the sweep's search as CSV with plain numbers, in the order in which they were drawn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = list(dict.fromkeys(field for trial in found.trials for field in trial.values))
    writer.writerow(["trial", *fields, found.objective, "state", "cycle_ends", "seconds", "hash"])
    for t in found.trials:
        told = (t.values.get(field, "") for field in fields)
        values = (value if isinstance(value, int | float | str) else json.dumps(value) for value in told)
        cells = [t.number, *values, t.value, t.state, t.cycle_ends or None, t.seconds, t.hash]
        writer.writerow(["" if x is None else x for x in cells])
    return text.getvalue()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1150px; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; font-weight: 600; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid #e6e6e6; } th { font-weight: 600; color: #444; }
th:first-child, td:first-child { text-align: left; } tr.baseline { font-weight: 600; }
tr.better .verdict { color: #0072B2; font-weight: 600; } tr.worse .verdict { color: #D55E00; font-weight: 600; }
img { max-width: 100%; margin: 1.2rem 0; } ul { color: #444; font-size: 13.5px; padding-left: 1.2rem; }
"""


def page(found: Comparison, drawn: Sequence[Path]) -> str:
    """The comparison as one HTML page with its pictures inside it."""
    titles = header(found)
    verdict = titles.index("")
    parts = []
    for row, arm in zip(rows(found), found.arms, strict=True):
        kind = "baseline" if arm.name == found.baseline else arm.paired.verdict if arm.paired else ""
        cells = (f"<td{' class=verdict' if i == verdict else ''}>{html.escape(cell)}</td>" for i, cell in enumerate(row))
        parts.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    head = "".join(f"<th>{html.escape(name)}</th>" for name in titles)
    images = (
        f'<img alt="{html.escape(_alt(path.name))}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in drawn
    )
    left = "".join(f"<li>left out: {html.escape(line)}</li>" for line in found.left_out)
    said = "".join(f"<li>{html.escape(line)}</li>" for line in notes(found))
    tried = ""
    if found.trials:
        heads, cells = trial_records.table(found.trials, found.objective)
        lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        headings = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
        tried = f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>{lines}</tbody></table></div>\n'
    origin = "".join(f"<li>{name}: {html.escape('; '.join(values))}</li>" for name, values in provenance(found))
    title = html.escape(found.name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f'<body><h1>{title}</h1>\n<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(parts)}\n'
        f"</tbody></table></div>\n{chr(10).join(images)}\n{tried}<ul>{left}{said}</ul>\n<ul>{origin}</ul></body></html>\n"
    )


# ---- RESULTS.md ----

_TOP = """# Results

Made by `sgdr-jax compare DIR --results FILE` from the run folders of each sweep; edit the experiments, not this file.
"""


def put(text: str, found: Comparison, pictures: Sequence[str]) -> str:
    """RESULTS.md with the section of this sweep in it: in place of its earlier one, or after the others.

    Args:
        text: of the file as it was; "" for a new one.
        pictures: their addresses, as the file sees them.
    """
    begin, end = f"<!-- begin {found.name} -->", f"<!-- end {found.name} -->"
    asked = [_plain(" ".join(paragraph.split())) + "\n" for paragraph in found.question.split("\n\n") if paragraph.strip()]
    section = "\n".join([begin, f"## {found.name}\n", *asked, markdown(found, pictures) + end])
    text = text or _TOP
    if begin not in text:
        return text.rstrip("\n") + "\n\n" + section + "\n"
    before, _, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    require(bool(closed), "--results", f"a file without {end}", "restore that line, or remove the section")
    return before + section + after
