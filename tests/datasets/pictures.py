"""Image files for the tests of datasets."""

from pathlib import Path

from PIL import Image


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def tree(root: Path, counts: dict[str, int]) -> Path:
    for folder, count in counts.items():
        for i in range(count):
            picture(root / folder / f"{i:02}.png", i)
    return root
