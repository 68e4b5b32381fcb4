"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path

Fails = Callable[..., str]


def test_outputs_that_cannot_be_written_are_refused_first(place: Path, run_folder: Path, tmp_path: Path, fails: Fails) -> None:
    nowhere = tmp_path / "nowhere" / "x.png"
    assert str(nowhere) in fails("find-lr", place / "photos.py", "--out", nowhere)
    assert str(nowhere) in fails("predict", place / "data", "--run", run_folder, "--out", nowhere)
    assert str(nowhere) in fails("plan", place / "photos.py", "--csv", nowhere)
    assert "--run" in fails("train", place / "photos.py", "--resume")
    assert not nowhere.parent.exists()
