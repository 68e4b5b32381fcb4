"""Folders of images to predict: what is in them is predicted, or one line says that it is not."""

import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.runs.predictor import expand

from ..datasets.pictures import picture


def test_hidden_copies_and_other_formats_are_left_out_with_a_line(tmp_path, monkeypatch):
    for name in ("a.png", "b/c.jpg", ".thumbnails/a.png", "b/.ipynb_checkpoints/c-checkpoint.png", "__MACOSX/a.png", "b/._c.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/b/c.jpg").rename(tmp_path / "in/b/c.JPG")
    said: list[str] = []
    assert expand([str(tmp_path / "in")], said.append) == [str(tmp_path / "in/a.png"), str(tmp_path / "in/b/c.JPG")]
    assert said == [f"{tmp_path}/in: not predicted: 4 hidden images"]
    (tmp_path / "in/scan.tif").write_bytes(b"")
    said.clear()
    expand([str(tmp_path / "in")], said.append)
    assert said == [f"{tmp_path}/in: not predicted: 4 hidden images, 1 file (1 .tif)"]
    monkeypatch.chdir(tmp_path / "in")
    said.clear()
    assert expand([".", ".thumbnails"], said.append) == ["a.png", "b/c.JPG", ".thumbnails/a.png"]
    assert expand([".thumbnails/a.png", "b/._c.png"], said.append) == [".thumbnails/a.png", "b/._c.png"]
    assert said == [".: not predicted: 4 hidden images, 1 file (1 .tif)"]


def test_folders_without_images_are_refused(tmp_path):
    picture(tmp_path / "in" / ".hidden" / "a.png")
    with pytest.raises(InputError, match="name a folder that holds image files"):
        expand([str(tmp_path / "in")])
    with pytest.raises(InputError, match="no such file or folder"):
        expand([str(tmp_path / "nowhere")])
