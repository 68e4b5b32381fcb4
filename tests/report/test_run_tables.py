"""Tables of runs and plans as they are printed."""

import io
from typing import Any

import numpy as np
from rich.console import Console

from sgdr_jax.data.summary import DatasetSummary
from sgdr_jax.evaluation.calibration import class_results
from sgdr_jax.evaluation.intervals import share_interval
from sgdr_jax.report import run_tables


def printed(*parts: Any, width: int = 80) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


STAGES = [
    {"name": "head", "size": 96, "epochs": 1.0, "seconds": 10.4, "valid_loss": 0.5, "valid_accuracy": 0.8, "kept": True},
    {"name": "all", "size": 128, "epochs": 2.5, "seconds": 60.0, "valid_loss": 0.61234, "valid_accuracy": 0.75, "kept": False},
]


def test_the_table_of_the_stages_says_how_sure_each_figure_is() -> None:
    lines = printed(run_tables.stages_table({"stages": STAGES, "images": {"valid": 20}}))
    assert lines[0] == ["stage", "size", "epochs", "seconds", "loss", "accuracy"]
    low, high = share_interval(0.75, 20)
    assert lines[2] == ["head", "96", "1", "10", "0.5000", "0.8000", "(0.584–0.919)"]
    assert lines[3] == ["all", "128", "2.5", "60", "0.6123", "0.7500", f"({low:.3f}–{high:.3f})", "undone"]
    assert printed(run_tables.stages_table({"stages": STAGES}))[2][-1] == "0.8000"  # a run of before the number was kept
    several = printed(run_tables.stages_table({"stages": STAGES, "images": {"valid": 20}, "valid": {"map": 0.9}}))
    assert several[0][-1] == "mAP" and several[2][-1] == "0.8000"


def test_the_table_of_the_final_network() -> None:
    test = {"loss": 0.4, "accuracy": 0.81, "ece": 0.1, "tta_loss": 0.3, "tta_accuracy": 0.82}
    scaled = {"test": {"plain": {"temperature": 1.5, "ece": 0.05}}}
    summary = {"valid": {"loss": 0.5, "accuracy": 0.8}, "test": test, "images": {"test": 10_000}, "calibration": scaled}
    lines = printed(run_tables.figures_table(summary))
    assert lines[0] == ["network", "loss", "accuracy", "ECE", "scaled", "T"]
    assert lines[2:4] == [
        ["validation", "0.5000", "0.8000"],
        ["test", "0.4000", "0.8100", "(0.802–0.818)", "0.100", "0.050", "1.50"],
    ]
    assert lines[4] == ["test,", "TTA", "0.3000", "0.8200", "(0.812–0.827)"]
    scaled["test"]["plain"] = {"temperature": float("nan"), "ece": float("nan")}
    assert printed(run_tables.figures_table(summary))[3][-3:] == ["0.100", "none", "fitted"]


def test_lines_say_what_the_run_took() -> None:
    threshold = {"value": 0.31, "beta": 2.0, "f_beta": {"valid": 0.9, "test": 0.8}}
    lines = run_tables.run_lines({"refit": True, "seconds": 71.4, "threshold": threshold})
    assert lines[1:] == ["threshold 0.3100, F2: valid 0.9000, test 0.8000", "in all 71 s"]
    with_plain = run_tables.run_lines({"threshold": threshold | {"plain": 0.25}})
    assert with_plain == ["threshold 0.3100, F2: valid 0.9000, test 0.8000; for the plain view alone 0.2500"]
    assert run_tables.run_lines({"seconds": 71.4, "resumed": True}) == ["71 s since the run was resumed"]
    assert lines[0].startswith("validation: before the refit") and run_tables.run_lines({"refit": False}) == []


def test_views_of_several_labels_have_the_thresholds_of_their_measures() -> None:
    several, single = {"loss": 0.5, "accuracy": 0.8, "f2": 0.7}, {"loss": 0.5, "accuracy": 0.8, "top5": 0.9}
    heads = [" ".join(printed(run_tables.views_table("test", [row] * 2))[0]) for row in (several, single)]
    assert heads == ["views of test loss accuracy at 0.5 f2 at 0.2", "views of test loss accuracy top5"]


def test_the_tables_of_little() -> None:
    assert len(printed(run_tables.stages_table({"stages": [{"name": "head"}], "test": {}}))) == 3
    assert len(printed(*run_tables.result_tables({}))) == 2  # a head with its rule: a table of figures without a row is none


def test_the_table_of_a_plan() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(run_tables.plan_table([{"stage": "head", "steps": "20"}, {"stage": "all", "steps": "1,000"}]))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert [lines[0], lines[2]] == [["stage", "head", "all"], ["steps", "20", "1,000"]]
    assert run_tables.plan_table([]).row_count == 0


def test_the_table_of_snapshots_fits_into_eighty_columns() -> None:
    """Its numbers were cut to "0…" in pipes and log files."""
    figures = {"accuracy": 0.91235, "map": 0.71235, "loss": 11.1234, "ece": 0.1}
    figures |= {f"tta_{name}": value + 0.01 for name, value in figures.items()}
    rows = [
        {"name": name, "members": ["a"] * n, "valid": figures, "test": figures} for name, n in (("final network", 0), ("ensemble of 3", 3))
    ]
    lines = printed(run_tables.snapshots_table(rows))
    assert lines[0] == ["network,", "all", "views", "of", "valid", "mAP", "valid", "loss", "test", "mAP", "test", "loss"]
    assert lines[-1] == ["ensemble", "of", "3", "3", "0.7224", "11.1334", "0.7224", "11.1334"]
    text = io.StringIO()
    Console(file=text, width=80).print(run_tables.snapshots_table(rows))
    assert "…" not in text.getvalue() and text.getvalue().count("11.1334") == 4


def test_tables_of_eighty_columns_cut_no_class_name() -> None:
    names = ["Staffordshire_bullterrier_and_other_dogs_of_its_kind", "Pembroke", "soft-coated wheaten terrier of Ireland"]
    rng = np.random.default_rng(0)
    rows = class_results(rng.dirichlet(np.ones(3), 3000), rng.integers(0, 3, 3000))
    summary = DatasetSummary(
        {s: np.array([12345, 2, 3]) for s in ("train", "valid", "test")},
        ((1, 1),) * 3,
        (),
        0,
        (),
        (),
        dict.fromkeys(("train", "valid", "test"), 12350),
    )
    for table in (run_tables.classes_table(names, rows), run_tables.dataset_tables(summary, names)[0]):
        text = io.StringIO()
        Console(file=text, width=80).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        assert max(map(len, lines)) <= 80 and "…" not in text.getvalue()
        first = "".join(line[1:].partition("  ")[0].strip() for line in lines[2:])
        assert names[0] in first.replace(" ", "")
