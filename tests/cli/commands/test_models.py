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


def test_published_weights_are_listed_with_their_licences_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    main(["models", "convnext_tiny", "--weights", "--csv", str(tmp_path / "tags.csv")])
    out = capsys.readouterr().out
    rows = {row["tag"]: row for row in csv.DictReader((tmp_path / "tags.csv").read_text().splitlines())}
    assert rows["in12k_ft_in1k_384"]["top1"] == "85.122" == max(row["top1"] for row in rows.values())
    assert rows["dinov3_lvd1689m"]["top1"] == "" and rows["fb_in1k"]["default"] == "True" and rows["fb_in1k"]["crop"] == "0.875"
    # 28,589,128 parameters (timm's results), four bytes each
    assert rows["fb_in1k"]["megabytes"] == "114.4" and float(rows["dinov3_lvd1689m"]["megabytes"]) == pytest.approx(111.3, abs=0.1)
    assert out.count("which has conditions on use") == 1 and "dinov3:" in out and "fb_in1k *" in out and "82.7 @288" in out
    assert "images imagenet: mean 0.485 0.456 0.406, sd 0.229 0.224 0.225" in out and "results-imagenet.csv at commit" in out
    main(["models", "convnextv2_", "--weights"])
    out = capsys.readouterr().out
    assert out.count("excludes commercial use") == 1 and "ConvNeXtV2Tiny" in out and "ConvNeXtTiny" not in out
    assert "no weights of WideResNet are recorded" in fails("models", "WideResNet", "--weights")
    assert "did you mean ConvNeXtTiny" in fails("models", "convnext_tinny", "--weights")
