"""An experiment on photos of three colours, and a finished run of it, for the tests of the commands."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.cli.main import main

EXPERIMENT = '''
from dataclasses import dataclass
from typing import Any, ClassVar

from sgdr_jax import AdamW, Eval, Experiment, Find, lesson2
from sgdr_jax.augment import side_on
from sgdr_jax.datasets import ImageFolder
from sgdr_jax.models.base import ChainModel
from sgdr_jax.schedules import Sgdr


@dataclass(frozen=True)
class Small(ChainModel):
    """A network of the experiment's own."""

    weights: str | None = None
    cuts: tuple[str, ...] = ("second",)
    hidden: int = 0

    imagenet: ClassVar = "package:none"
    classifier: ClassVar = ("fc",)
    features: ClassVar = 8
    mean: ClassVar = (0.5, 0.5, 0.5)
    std: ClassVar = (0.25, 0.25, 0.25)

    @property
    def blocks(self):
        return ("first", "second")

    def modules(self, channels: int) -> dict[str, Any]:
        from jax.nn import relu

        from sgdr_jax.models.blocks import ConvBN

        first = ConvBN(3, channels, 6, eps=1e-5, stride=2, padding=1, activation=relu)
        return {"first": first, "second": ConvBN(3, 6, 8, eps=1e-5, padding=1)}


experiment = Experiment(
    name="photos",
    data=ImageFolder("data"),
    model=Small(),
    augment=side_on(),
    stages=lesson2(
        size=16,
        cached=Sgdr(2),
        head_cycles=1,
        cycle_len=1,
        lr=Find(steps=8, lowest=1e-2, highest=1e-2, epochs=8, orders=2),
        ratio=10,
        bn="train",
        warmup=0,
    ),
    optimizer=AdamW(),
    batch_size=8,
    epoch_steps=10,
    evaluate=Eval(batch_size=8, tta_views=1),
)
'''


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment file and photos of three colours in train/ and valid/."""
    root = tmp_path_factory.mktemp("cli")
    (root / "photos.py").write_text(textwrap.dedent(EXPERIMENT))
    rng = np.random.default_rng(0)
    for split, n in (("train", 9), ("valid", 5)):
        for c, name in enumerate(("blue", "green", "red")):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(n + c):
                pixels = rng.integers(0, 80, (20, 24, 3)) + 150 * np.eye(3, dtype=int)[2 - c]
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def run_folder(place: Path) -> Path:
    """The run folder of the experiment."""
    words = ["train", str(place / "photos.py"), "--data.root", str(place / "data"), "--run", str(place / "run")]
    main([*words, "--track", "tensorboard"])
    return place / "run"


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must exit with 2, and return the one line that it prints."""

    def fails(*argv: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in argv])
        error = capsys.readouterr().err
        assert exit_.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
        return error

    return fails
