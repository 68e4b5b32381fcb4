"""`sgdr-jax find-lr`: rules, curves, pictures."""

import re
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main


def test_find_lr_prints_all_rules_and_draws(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = place / "curve.png"
    main(
        ["find-lr", str(place / "photos.py"), "--data.root", str(place / "data"), "--stage", "2", "--rule", "steep", "--out", str(picture)]
    )
    out = capsys.readouterr().out
    assert all(rule in out for rule in ("combined", "valley", "steep", "minimum", "slide")) and picture.stat().st_size > 5000
    assert re.search(r"steep .* ← chosen", out) and "orders agree within a factor of 3" in out and "early alone" not in out


def test_find_lr_of_each_group_has_a_column_and_a_picture_for_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = place / "each.png"
    words = ["find-lr", str(place / "photos.py"), "--data.root", str(place / "data"), "--stage", "2", "--each", "--out", str(picture)]
    main([*words, "--stages.2.lr", "0.1"])
    out = capsys.readouterr().out
    assert "all has given rates, 0.1: train uses those" in " ".join(out.split())
    for group in ("early", "late", "head"):
        assert f"{group} alone" in out and (place / f"each-{group}.png").is_file()
