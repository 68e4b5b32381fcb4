"""What runs keep of each example: it comes back, it is small, and it adds up to the run's own measures."""

from pathlib import Path

import numpy as np
import pytest

from sgdr_jax.core.errors import InputError
from sgdr_jax.evaluation import metrics
from sgdr_jax.evaluation.predictions import ExamplePredictions, load, path_of, save


def answers(n: int, classes: int, seed: int) -> tuple[np.ndarray, ExamplePredictions]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return labels, metrics.example_predictions(rng.normal(size=(n, classes)), labels)


@pytest.mark.parametrize("classes", [10, 1000])
def test_they_come_back(tmp_path: Path, classes: int) -> None:
    labels, plain = answers(200, classes, 0)
    _, tta = answers(200, classes, 1)
    names = [f"image {i}" for i in range(200)]
    save(tmp_path, "test", names, labels, (plain, tta))
    found = load(tmp_path, "test")
    assert found is not None and found.tta is not None
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.plain.loss, plain.loss)
    np.testing.assert_array_equal(found.correct(), plain.predicted == labels)
    np.testing.assert_array_equal(found.correct(tta=True), tta.predicted == labels)
    np.testing.assert_allclose(found.plain.probability, np.exp(-plain.loss), rtol=1e-6)
    assert found.plain.confidence is not None
    np.testing.assert_allclose(found.plain.confidence, plain.confidence, rtol=1e-3)  # half precision
    right = plain.predicted == labels
    np.testing.assert_allclose(found.plain.confidence[right], found.plain.probability[right], rtol=1e-3)
    first = path_of(tmp_path, "test").read_bytes()
    save(tmp_path, "test", names, labels, (plain, tta))
    assert path_of(tmp_path, "test").read_bytes() == first
    save(tmp_path, "test", [*names[1:], names[0]], labels, (plain,))
    other = load(tmp_path, "test")
    assert other is not None and other.names != found.names and other.tta is None
    np.testing.assert_array_equal(other.correct(tta=True), other.correct())


def test_several_labels_are_right_together(tmp_path: Path) -> None:
    labels = np.array([[1.0, 0.0], [1.0, 1.0]])
    save(tmp_path, "valid", ["a", "b"], labels, (metrics.example_predictions(np.array([[2.0, -2.0], [2.0, -2.0]]), labels),))
    found = load(tmp_path, "valid")
    assert found is not None
    assert found.correct().tolist() == [True, False]
    sure = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(found.plain.confidence, [sure, sure], rtol=1e-3)


def test_ten_thousand_images_take_little(tmp_path: Path) -> None:
    labels, plain = answers(10_000, 10, 0)
    path = save(tmp_path, "test", [str(i) for i in range(10_000)], labels, (plain, plain))
    assert path.stat().st_size < 120_000
    # A sweep of 1,000 tiny runs (a hundred images in each of two splits) stays far below the 50 MB of the whole store.
    labels, plain = answers(100, 10, 0)
    assert save(tmp_path, "small", [str(i) for i in range(100)], labels, (plain, plain)).stat().st_size < 5_000


def test_answers_alone_are_loaded_without_measures(tmp_path: Path) -> None:
    labels, plain = answers(50, 3, 0)
    save(tmp_path, "test", list(map(str, range(50))), labels, (plain, answers(50, 3, 1)[1]))
    whole, alone = load(tmp_path, "test"), load(tmp_path, "test", measures=False)
    assert whole is not None and alone is not None and alone.tta is not None and alone.names == whole.names
    for tta in (False, True):
        np.testing.assert_array_equal(alone.correct(tta), whole.correct(tta))
    assert alone.plain.loss.size == alone.tta.loss.size == 0 and alone.plain.confidence is None


def test_missing_is_none_and_damaged_is_said(tmp_path: Path) -> None:
    assert load(tmp_path, "test") is None
    labels, plain = answers(50, 3, 0)
    whole = save(tmp_path, "test", list(map(str, range(50))), labels, (plain,)).read_bytes()
    for damaged in (b"", whole[:100], whole[:300] + b"\0\0\0\0" + whole[304:], b"no archive"):
        path_of(tmp_path, "test").write_bytes(damaged)
        with pytest.raises(InputError, match=r"examples-test\.npz is damaged .*; run its experiment again"):
            load(tmp_path, "test")


def test_a_changed_byte_anywhere_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    kind = ExamplePredictions(np.array([0, 1, 2, 1]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.8, 0.7, 0.6]))
    path = save(tmp_path, "test", ["a", "b", "c", "d"], np.array([0, 1, 1, 1]), (kind, kind))
    data, wanted, refused = path.read_bytes(), str(load(tmp_path, "test")), 0
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        try:
            assert str(load(tmp_path, "test")) == wanted, at
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(data) / 6
