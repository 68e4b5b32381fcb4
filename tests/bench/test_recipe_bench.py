"""The comparison of whole recipes: its sets are made of what they say, its table says what its rows hold."""

import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgdr_jax.datasets import ImageFolder

BENCH = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of experiments/bench as the scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name in ("harness", "sets", "recipe_vs_fastai"):
        sys.modules.pop(name, None)


def test_digits_are_a_folder_of_classes(bench, tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    sets = bench("sets")
    said = sets.make("digits", tmp_path, tmp_path)
    assert said == sets.make("digits", tmp_path / "again", tmp_path)  # the same bytes each time
    assert "10 classes, 500 training and 1297 test images" in said
    source = ImageFolder(str(tmp_path / "digits")).open()
    assert source.sizes == {"train": 400, "valid": 100, "test": 1297}
    names = [path.stem for path in sorted((tmp_path / "digits").glob("*/*/*.png"))]
    assert sorted(names) == [f"{i:04d}" for i in range(1797)]  # every image once, in one split
    path = next((tmp_path / "digits" / "test").glob("*/0000.png"), None) or next((tmp_path / "digits").glob("*/*/0000.png"))
    assert np.abs(np.asarray(Image.open(path)) / 255 - datasets.load_digits().images[0] / 16).max() <= 0.5 / 255


def test_the_same_icon_is_never_on_both_sides(bench, tmp_path: Path) -> None:
    sets = bench("sets")
    assert not set(sets.TRAIN_THEMES) & set(sets.TEST_THEMES)
    shared = np.zeros((48, 48, 4), np.uint8)
    draw = np.random.default_rng(0)
    for package, theme in (sets.TRAIN_THEMES | sets.TEST_THEMES).items():
        folder = tmp_path / package / "usr/share/icons" / theme / "48x48" / "apps"
        folder.mkdir(parents=True)
        for name in ("computer", "printer"):  # printers are the same picture in all themes
            pixels = shared if name == "printer" else draw.integers(0, 256, (48, 48, 4), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
    found = list(sets.icons(tmp_path))
    assert {label for _, label, _, _ in found} == {"computer"}
    assert sum(split == "test" for split, *_ in found) == len(sets.TEST_THEMES)


def test_the_interval_of_a_difference_is_welchs(bench) -> None:
    stats = pytest.importorskip("scipy.stats")
    script = bench("recipe_vs_fastai")
    a, b = [0.71, 0.74, 0.70, 0.73, 0.75], [0.66, 0.69, 0.70, 0.65, 0.68]
    exact = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    middle, half = (float(part) / 100 for part in script.difference(a, b).split(" ± "))
    assert middle == pytest.approx((exact.low + exact.high) / 2, abs=6e-4)
    # Degrees of freedom are rounded down: the interval is no narrower.
    assert 0 <= half - (exact.high - exact.low) / 2 + 6e-4 < 0.003
    for freedom, quantile in script.T.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, freedom), abs=5e-4)


def test_the_table_takes_its_section_and_leaves_the_rest(bench, tmp_path: Path) -> None:
    script, harness = bench("recipe_vs_fastai"), bench("harness")
    for seed, accuracy in (("0", 0.5), ("1", 0.7), ("1", 0.6)):  # the second row of seed 1 replaces the first
        harness.save(script.NAME, {"sgdr_jax": [{"set": "digits", "seed": seed, "accuracy": accuracy}]}, tmp_path)
    harness.save(script.NAME, {"fastai": [{"set": "digits", "seed": "0", "accuracy": 0.4, "tta_accuracy": ""}]}, tmp_path)
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\nbefore\n")
    script.write_table(path, tmp_path)
    once = path.read_text()
    assert "| digits | 0.550 ± 0.635 (2 seeds) |  | 0.400 (1 seed) |  |  | fastai +15.0 |" in once and once.startswith(
        "# Results\n\nbefore\n"
    )
    path.write_text(once + "\nafter\n")
    script.write_table(path, tmp_path)
    assert path.read_text() == once + "\nafter\n"


def test_fastai_gets_no_fewer_epochs_than_the_recipe_takes(bench) -> None:
    from sgdr_jax.cli.experiment_file import load_experiment
    from sgdr_jax.core.plan import plan

    script, base = bench("recipe_vs_fastai"), load_experiment(BENCH.parent / "folder.py")
    for images in (100, 230, 500, 624, 5000):
        held_in = math.floor(0.8 * images)
        longest = plan(replace(base, refit=False), held_in)  # the training before a refit is shorter
        shown = sum(p.images for p in longest.stages if p.trained == p.groups)
        assert shown <= script.epochs(images) * held_in < shown + held_in
