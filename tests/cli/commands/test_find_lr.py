"""`sgdr-jax find-lr`: rules, curves, pictures."""

import re
from collections.abc import Callable
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
    assert 'stage "all" has given rates, 0.1: train uses those' in " ".join(out.split())
    assert "all trained layer groups: " in out
    for group in ("early", "late", "head"):
        assert f"{group} alone" in out and (place / f"each-{group}.png").is_file()


def test_a_solved_head_is_passed_over_and_refused_by_name(
    place: Path, capsys: pytest.CaptureFixture[str], fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default stage of every file that `new` writes was refused, once its activations had been computed."""
    file = place / "solved.py"
    file.write_text((place / "photos.py").read_text().replace("cached=Sgdr(2)", "cached=None"))
    words = [str(file), "--data.root", str(place / "data"), "--out", str(place / "solved.png")]
    main(["find-lr", *words])
    assert 'stage 1, "head":' in capsys.readouterr().out
    monkeypatch.setattr("sgdr_jax.train.context.prepare", None)
    assert "stage is 'cached head'; it has a solved head, which has no learning rate to find; use one of" in fails(
        "find-lr", *words[:-1], place / "other.png", "--stage", "0"
    )
