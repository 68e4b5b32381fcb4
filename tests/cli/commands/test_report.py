"""`sgdr-jax report`: the page of a real run, with its images, maps, and what it says when the data are gone."""

import json
import os
import shutil
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdr_jax.cli.main import main

from ...report.run_folders import Page, check_self_contained


def images(text: str) -> list[str]:
    page = Page(text)
    check_self_contained(text, page)
    return [attributes["alt"] for tag, attributes in page.elements if tag == "img"]


def test_the_page_of_a_run(place: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(place)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    out = tmp_path / "page.html"
    main(["report", str(run_folder), "--experiment", str(place / "photos.py"), "--maps", "2", "--open", "--out", str(out)])
    assert opened == [out.as_uri()] and f"page: {out}" in capsys.readouterr().out
    alts = images(out.read_text("utf-8"))
    shown = [alt for alt in alts if "," not in alt]
    assert len(shown) == 36  # all 18 validation images by loss and by confidence
    assert [alt for alt in alts if alt.endswith(", image")] == [f"{alt}, image" for alt in shown[:2]]
    main(["report", str(run_folder), "--experiment", str(place / "photos.py")])
    assert len(images((run_folder / "report.html").read_text("utf-8"))) == 36
    assert "have changed" not in capsys.readouterr().out
    file = place / "data/valid/red/0.png"
    status = file.stat()
    os.utime(file)
    try:
        main(["report", str(run_folder), "--experiment", str(place / "photos.py"), "--out", str(out)])
    finally:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "pictures may be of other images than it has seen" in capsys.readouterr().out.replace("\n", " ")


def test_without_the_run_s_data_images_have_numbers(
    place: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out, photos = tmp_path / "page.html", str(place / "photos.py")
    folder = shutil.copytree(run_folder, tmp_path / "run")
    config = (folder / "config.json").read_text()
    for root, words in ((tmp_path / "gone", "the data cannot be opened: data.root"), (tmp_path / "data", "The data have changed")):
        if "changed" in words:
            shutil.copytree(place / "data", root)
            (root / "valid" / "red" / "0.png").unlink()
        (folder / "config.json").write_text(config.replace(str(place / "data"), str(root)))
        main(["report", str(folder), "--experiment", photos, "--out", str(out)])
        assert words in capsys.readouterr().out and images(out.read_text("utf-8")) == []


def test_a_refitted_network_has_no_maps_of_images_that_it_trained_on(run_folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    """Its maps were drawn as explanations of mistakes that the first network had made."""
    folder = shutil.copytree(run_folder, tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"refit": True}))
    said = fails("report", folder, "--maps", "1", "--split", "valid")
    assert "maps is 1; after a refit the network has trained on the validation images" in said and "leave it out" in said


def test_bad_input_is_one_line(run_folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "no config.json" in fails("report", tmp_path)
    assert "split is 'test'" in fails("report", run_folder, "--split", "test")
    assert "maps is 65" in fails("report", run_folder, "--maps", "65")
    assert "--out is" in fails("report", run_folder, "--out", tmp_path / "no" / "page.html")
