"""`sgdr-jax models`: lists of networks and of blocks."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main

Fails = Callable[..., str]


def test_models_lists_the_networks_and_the_blocks_of_one(capsys: pytest.CaptureFixture[str], tmp_path: Path, fails: Fails) -> None:
    main(["models", "ResNet18", "--csv", str(tmp_path / "blocks.csv")])
    out = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "blocks.csv").read_text().splitlines()))
    assert [row["name"] for row in rows][:3] == ["stem", "layer1.block0", "layer1.block1"] and rows[-1]["output"] == "(1000,)"
    assert "layer4.block1" in out and "GMACs" in out
    main(["models", "NetLITE", "--size", "64", "--csv", str(tmp_path / "lite.csv")])
    rows = list(csv.DictReader((tmp_path / "lite.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == [f"EfficientNetLite{i}" for i in range(5)]
    assert rows[0]["groups"] == "early: stem–block4, late: block5–top" and rows[0]["size"] == "64"
    assert "did you mean ResNet50" in fails("models", "resnet55")
    assert "--size is 8" in fails("models", "--size", "8")
