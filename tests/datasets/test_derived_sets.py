"""Parts that nest, folds that divide, mixtures in proportion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdr_jax.core.errors import InputError
from sgdr_jax.core.types import Dataset
from sgdr_jax.data.load import load
from sgdr_jax.data.sampler import Sampler, example_weights, expected_draws
from sgdr_jax.datasets import Arrays, Fold, ImageFolder, Mix, Part, Synthetic, TrainAndValid
from sgdr_jax.datasets.examples import Joined

from ..data.test_load import folder
from ..helpers import expected_counts, seeded


def numbers(n: int, several: bool = False) -> Arrays:
    """Image i is i grey levels bright; its class goes round with unequal shares."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 4)).copy()
    label = np.array([0, 1, 0, 2, 0, 1, 0])[np.arange(n) % 7]
    if not several:
        return Arrays.of((images, label), (images[:6], label[:6]), classes=["a", "b", "c"])
    table = np.eye(3)[label] + np.eye(3)[(label + np.arange(n) // 9) % 3]
    return Arrays.of((images, table.clip(0, 1)), (images[:6], table.clip(0, 1)[:6]), classes=["a", "b", "c"])


def levels(source, split: str = "train") -> list[int]:
    return [int(image[0, 0]) for image in source.items[split]]


@seeded
@given(st.integers(12, 120), st.booleans(), st.floats(0.02, 1), st.floats(0.02, 1), st.integers(0, 3))
def test_smaller_shares_are_inside_larger_ones(n, several, a, b, seed):
    whole = numbers(n, several)
    small, large = (Part(whole, share=share, seed=seed).open() for share in sorted((a, b)))
    assert set(levels(small)) <= set(levels(large)) <= set(range(n))
    assert levels(small, "valid") == list(range(6))
    assert abs(len(levels(small)) - min(a, b) * n) <= 4  # one for each class, and one for images of none


@seeded
@given(st.integers(20, 120), st.booleans(), st.integers(1, 9), st.integers(1, 9))
def test_few_shot_sets_nest_and_hold_so_many_of_each_class(n, several, a, b):
    few, more = (Part(numbers(n, several), per_class=k).open() for k in sorted((a, b)))
    assert set(levels(few)) <= set(levels(more))
    if not several:
        whole = np.bincount(numbers(n).open().labels["train"])
        assert np.bincount(few.labels["train"]).tolist() == np.minimum(whole, min(a, b)).tolist()


@pytest.mark.parametrize("shape", [(24, 12, 3), (36, 24), (24, 36), (12, 72)])
@pytest.mark.parametrize("other", ["files", "arrays"])
def test_arrays_of_the_same_bytes_and_another_shape_are_other_images(tmp_path, monkeypatch, other, shape):
    """With images in files the pixels decoded for an array of a wrong shape were used for the corrected one."""
    raw = np.random.default_rng(0).integers(0, 256, (8, 12, 24, 3), np.uint8)
    first = folder(tmp_path / "files") if other == "files" else numbers(12)

    def loaded(images: np.ndarray, cache: str):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        names = first.open().classes
        data = Arrays.of((images, np.arange(8) % len(names)), (images[:4], np.arange(4) % len(names)), classes=names)
        source = Mix((first, Mix((data,)))).open()
        return source.fingerprint, load(source, canvas=12).images["train"][:]

    before, wrong = loaded(raw.reshape(8, *shape), "one")
    after, right = loaded(raw, "one")
    assert before != after and not np.array_equal(wrong, right)
    np.testing.assert_array_equal(right, loaded(raw, "two")[1])


def test_part_keeps_labels_with_images_and_changes_with_the_seed():
    source = Part(numbers(70), share=0.3, seed=1).open()
    assert source.labels["train"].tolist() == [[0, 1, 0, 2, 0, 1, 0][i % 7] for i in levels(source)]
    assert levels(source) != levels(Part(numbers(70), share=0.3, seed=2).open())
    assert Part(numbers(70)).open().fingerprint == numbers(70).open().fingerprint
    for wrong, words in (({"share": 0.0}, "data.share is 0.0"), ({"per_class": 0}, "data.per_class is 0")):
        with pytest.raises(InputError, match=words):
            Part(numbers(9), **wrong)


@seeded
@given(st.integers(20, 100), st.integers(2, 6), st.booleans())
def test_folds_divide_all_images_evenly(n, folds, several):
    sources = [Fold(numbers(n, several), folds, fold).open() for fold in range(folds)]
    pool = sorted([*range(n), *range(6)])
    assert sorted(level for source in sources for level in levels(source, "valid")) == pool
    sizes = [source.sizes["valid"] for source in sources]
    assert max(sizes) - min(sizes) <= 1
    for source in sources:
        assert sorted(levels(source) + levels(source, "valid")) == pool
        if not several:
            wanted = np.bincount(np.concatenate([x.labels["valid"] for x in sources]), minlength=3) / folds
            assert (np.abs(np.bincount(source.labels["valid"], minlength=3) - wanted) < 1).all()


def test_folds_of_files_share_one_canvas(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = folder(tmp_path / "photos")
    first = load(Fold(photos, 3, 0).open(), canvas=8)
    second = load(Fold(photos, 3, 1).open(), canvas=8)
    assert "earlier run" in second.storage_reason and "earlier run" not in first.storage_reason
    for data in (first, second):
        for split in ("train", "valid"):
            assert data.images[split][:][:, 0, 0, 0].tolist() == [int(name.split("/")[-1][:2]) for name in data.names[split]]


@pytest.mark.parametrize("several", [False, True])
def test_train_and_valid_holds_nothing_out_and_leaves_the_test_images(several):
    of = numbers(40, several).open()
    whole = TrainAndValid(numbers(40, several)).open()
    assert set(whole.labels) == set(of.labels) - {"valid"}
    assert sorted(levels(whole)) == sorted([*levels(of), *levels(of, "valid")])
    assert whole.fingerprint != of.fingerprint
    again = TrainAndValid(TrainAndValid(numbers(40, several))).open()
    assert again.fingerprint == whole.fingerprint
    # Sets made of it do not hold images out by themselves, unless that is what they are for.
    inner = TrainAndValid(numbers(40, several))
    assert "valid" not in Part(inner, 0.5).open().labels and "valid" not in Mix((inner, inner)).open().labels
    assert Fold(inner, 2).open().sizes["valid"] == Fold(numbers(40, several), 2).open().sizes["valid"]
    with pytest.raises(InputError, match=r"its validation images have no share of an epoch"):
        TrainAndValid(Part(Mix((Synthetic(), Synthetic(seed=1)), (1.0, 2.0)), 0.5)).open()


def test_fold_errors():
    with pytest.raises(InputError, match=r"data\.fold is 3; use 0…2"):
        Fold(numbers(9), 3, 3)
    with pytest.raises(InputError, match=r"data\.folds is 1"):
        Fold(numbers(9), 1)
    labels = np.array([[1, 0, 0]] * 3 + [[0, 1, 0]] * 3 + [[1, 1, 1]], np.float32)  # class 2 has one image
    of = Arrays.of((np.zeros((7, 6, 6), np.uint8), labels), multi_label=True)
    refused = [fold for fold in range(3) if _refusal(Fold(of, 3, fold))]
    assert len(refused) == 1
    assert _refusal(Fold(of, 3, refused[0])) == (
        f"data.folds is 3; without fold {refused[0]} no image is left to learn '2' from; give each another"
    )


def _refusal(data: Dataset) -> str:
    try:
        data.open()
    except InputError as error:
        return str(error)
    return ""


def test_a_mixture_joins_classes_by_name_and_keeps_kinds_of_items(tmp_path):
    (tmp_path / "p").mkdir()
    arrays = Arrays.of((np.full((4, 6, 6, 3), 200, np.uint8), [0, 1, 0, 1]), (np.zeros((2, 6, 6, 3), np.uint8), [0, 1]), classes=["b", "x"])
    source = Mix((folder(tmp_path / "p"), arrays)).open()
    assert source.classes == ("a", "b", "x") and source.rates is None
    assert source.sizes == {"train": 22, "valid": 8}
    assert isinstance(source.items["train"], Joined)
    data = load(source, canvas=8)
    assert data.images["train"].shape == (22, 8, 8, 3)
    for split in ("train", "valid"):
        for name, label, image in zip(data.names[split], data.labels[split], data.images[split][:], strict=True):
            if name.startswith("0/"):
                assert (int(name[-6:-4]), "ab".index(name.split("/")[2])) == (image[0, 0, 0], label)
            else:
                assert label == 1 + int(name.split("/")[-1]) % 2 and image[0, 0, 0] in (0, 200)


def test_a_mixture_is_drawn_in_proportion_to_its_weights():
    many, few = Synthetic(train=90, classes=3), Synthetic(train=10, classes=2, seed=1)
    source = Mix((many, few), (1.0, 3.0)).open()
    assert source.rates is not None and source.rates.sum() == pytest.approx(100)
    drawn = np.zeros(100)
    for epoch in range(40):
        chosen = Sampler(0, 0, source.labels["train"], rates=source.rates).order(epoch)
        assert len(chosen) == 100
        drawn += np.bincount(chosen, minlength=100)
    assert drawn[90:].sum() / 40 == pytest.approx(75, abs=0.5)
    assert drawn.min() > 0  # nobody is forgotten
    plain = Mix((many, few)).open()
    assert sorted(Sampler(0, 0, plain.labels["train"], rates=plain.rates).order(0).tolist()) == list(range(100))


@seeded
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40).map(np.array), st.floats(0, 1), st.floats(0.2, 5))
def test_weights_in_the_loss_do_what_balance_does_by_drawing(labels, evenness, factor):
    for rates in (None, np.where(np.arange(len(labels)) % 2, factor, 1.0)):
        rates = None if rates is None else rates * len(labels) / rates.sum()
        weights = example_weights(labels, evenness, rates)
        mass = np.bincount(labels, weights * (1 if rates is None else rates))
        np.testing.assert_allclose(mass, expected_counts(labels, evenness, rates), rtol=1e-5, atol=1e-6)
        assert (weights * (1 if rates is None else rates)).mean() == pytest.approx(1, rel=1e-5)
        drawn = np.mean([np.bincount(Sampler(0, 0, labels, evenness, rates).order(e), minlength=len(mass)).sum() for e in range(3)])
        assert drawn == len(labels)


@seeded
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40).map(np.array), st.floats(0, 1), st.floats(0, 1), st.floats(0.2, 5))
def test_weights_in_the_loss_make_up_for_what_balance_leaves(labels, evenness, balance, factor):
    """Both were applied in full: of 48 images of a class and one of another the one had 94 % of the loss."""
    for rates in (None, np.where(np.arange(len(labels)) % 2, factor, 1.0)):
        rates = None if rates is None else rates * len(labels) / rates.sum()
        drawn, present = expected_draws(labels, balance, rates), np.bincount(labels) > 0
        mass = np.bincount(labels, drawn * example_weights(labels, evenness, rates, balance))
        even = len(labels) / present.sum() * present
        np.testing.assert_allclose(mass, (1 - evenness) * np.bincount(labels, drawn) + evenness * even, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_a_weighted_mixture_with_its_validation_images_keeps_the_shares_of_its_sets(several):
    """A run trained whole before it refused to train again on all images of it."""
    mix = Mix((numbers(20, several), numbers(40, several)), (1.0, 3.0))
    source, joined = mix.open(), TrainAndValid(mix).open()
    assert joined.sizes == {"train": source.sizes["train"] + source.sizes["valid"]}
    for made in (source, joined):
        first = np.array([name.startswith("0/") for name in made.names["train"]])
        assert made.rates is not None and made.rates.sum() == pytest.approx(len(first))
        assert made.rates[first].sum() == pytest.approx(len(first) / 4)


def test_a_set_in_a_mixture_may_have_two_classes_of_one_name():
    images = np.zeros((3, 6, 6, 3), np.uint8)
    twice = Arrays.of((images, np.eye(3)), (images, np.eye(3)), classes=["crane", "gull", "crane"], multi_label=True)
    source = Mix((twice,)).open()
    assert source.classes == ("crane", "gull") and source.labels["train"].tolist() == [[1, 0], [0, 1], [1, 0]]


@seeded
@given(st.integers(0, 500), st.integers(4, 30), st.integers(2, 6), st.booleans(), st.integers(1, 3))
def test_a_part_keeps_every_class_of_images_with_several(seed, n, classes, few, count):
    """The only image of a class may be counted with a rarer one."""
    table = np.random.default_rng(seed).random((n, classes)) < 0.4
    table = table[:, table.any(0)]
    if table.shape[1] < 2:
        return
    images = np.arange(n, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    whole = Arrays.of((images, table.astype(float)), (images, table.astype(float)), multi_label=True)
    sizes = ({"per_class": count}, {"per_class": count + 1}) if few else ({"share": count / 10}, {"share": count / 8})
    small, large = (Part(whole, seed=seed, **size).open() for size in sizes)
    assert small.labels["train"].any(0).all() and set(levels(small)) <= set(levels(large))


def test_mixture_errors():
    with pytest.raises(InputError, match=r"data\.weights is"):
        Mix((Synthetic(), Synthetic()), (1.0,))
    with pytest.raises(InputError, match="some have one label for each image, others several"):
        Mix((Synthetic(), Synthetic(multi_label=True))).open()
    with pytest.raises(InputError, match="folds of a mixture"):
        Fold(Mix((Synthetic(), Synthetic(seed=1)), (1.0, 2.0))).open()


def test_they_survive_json_and_command_line():
    from sgdr_jax.core.serialization import from_json, to_json

    data = Mix((Part(ImageFolder("x"), 0.5), Fold(Synthetic(), 4, 2), TrainAndValid(Synthetic())), (1.0, 2.0, 1.0))
    assert from_json(to_json(data)) == data


def test_notes_of_the_sets_inside_are_kept(tmp_path):
    photos = folder(tmp_path / "photos")
    (tmp_path / "photos" / "stray.png").write_bytes(b"")
    notes = photos.open().notes
    assert len(notes) == 1
    for data in (Part(photos, 0.9), Fold(photos, 2), TrainAndValid(photos), Mix((photos, photos)), Part(Fold(photos, 2))):
        assert data.open().notes == notes


def test_a_mixture_joins_names_in_two_unicode_forms():
    images = np.zeros((4, 6, 6, 3), np.uint8)
    sets = [Arrays.of((images, [0, 1, 0, 1]), classes=[name, "x"]) for name in ("caf\u00e9", "cafe\u0301")]
    source = Mix(tuple(sets)).open()
    assert source.classes == ("caf\u00e9", "x")
