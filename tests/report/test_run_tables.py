"""Tables of runs and plans as they are printed."""

import io
from typing import Any

import numpy as np
from rich.console import Console

from sgdr_jax.data.summary import DatasetSummary
from sgdr_jax.evaluation.calibration import class_results
from sgdr_jax.report import run_tables


def printed(summary: dict[str, Any]) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=100)
    console.print(run_tables.summary_table(summary))
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_table_of_a_summary() -> None:
    stages = [
        {"name": "head", "size": 96, "epochs": 1.0, "seconds": 10.4, "valid_loss": 0.5, "valid_accuracy": 0.8, "kept": True},
        {"name": "all", "size": 128, "epochs": 2.5, "seconds": 60.0, "valid_loss": 0.61234, "valid_accuracy": 0.75, "kept": False},
    ]
    test = {"loss": 0.4, "accuracy": 0.81, "tta_loss": 0.3, "tta_accuracy": 0.82}
    lines = printed({"stages": stages, "valid": {"loss": 0.5, "accuracy": 0.8}, "test": test, "seconds": 71.0})
    assert lines[0] == ["stage", "size", "epochs", "seconds", "loss", "accuracy"]
    assert lines[2:4] == [["head", "96", "1", "10", "0.5000", "0.8000"], ["all", "128", "2.5", "60", "0.6123", "0.7500", "undone"]]
    rest = [["validation", "0.5000", "0.8000"], ["test", "0.4000", "0.8100"], ["test,", "TTA", "0.3000", "0.8200"], ["in", "all", "71"]]
    assert lines[4:] == rest


def test_the_table_of_little() -> None:
    assert len(printed({"stages": [{"name": "head"}], "test": {}})) == 3
    assert len(printed({})) == 2


def test_the_table_of_a_plan() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(run_tables.plan_table([{"stage": "head", "steps": "20"}, {"stage": "all", "steps": "1,000"}]))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert [lines[0], lines[2]] == [["stage", "head", "all"], ["steps", "20", "1,000"]]
    assert run_tables.plan_table([]).row_count == 0


def test_tables_of_eighty_columns_cut_no_class_name() -> None:
    names = ["Staffordshire_bullterrier_and_other_dogs_of_its_kind", "Pembroke", "soft-coated wheaten terrier of Ireland"]
    rng = np.random.default_rng(0)
    rows = class_results(rng.dirichlet(np.ones(3), 3000), rng.integers(0, 3, 3000))
    summary = DatasetSummary({s: np.array([12345, 2, 3]) for s in ("train", "valid", "test")}, ((1, 1),) * 3, (), 0, (), ())
    for table in (run_tables.classes_table(names, rows), run_tables.dataset_tables(summary, names)[0]):
        text = io.StringIO()
        Console(file=text, width=80).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        assert max(map(len, lines)) <= 80 and "…" not in text.getvalue()
        first = "".join(line[1:].partition("  ")[0].strip() for line in lines[2:])
        assert names[0] in first.replace(" ", "")
