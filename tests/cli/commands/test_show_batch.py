"""`sgdr-jax show-batch`: the picture, and images that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sgdr_jax.cli.main import main

Fails = Callable[..., str]


def test_show_batch_draws_the_stage(place: Path, capsys: pytest.CaptureFixture[str], fails: Fails) -> None:
    main(["show-batch", str(place / "photos.py"), "--data.root", str(place / "data"), "--count", "3", "--out", str(place / "b.png")])
    with Image.open(place / "b.png") as picture:
        assert picture.width > 600 and picture.height > 600
    broken = place / "data/train/red/broken.png"
    broken.write_bytes(b"no image")
    main(["show-batch", str(place / "photos.py"), "--data.root", str(place / "data"), "--count", "64", "--out", str(place / "b.png")])
    assert "red/broken.png" in capsys.readouterr().out
    broken.unlink()
    assert "stage is 9; the stages are 0 (cached head), 1 (head), 2 (all)" in fails("show-batch", place / "photos.py", "--stage", "9")
    assert "b.txt" in fails("show-batch", place / "photos.py", "--out", place / "b.txt")
