"""Whole sets predicted from all views: in blocks or at once, resident or from the host, the same numbers."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest

from sgdr_jax.augment import side_on
from sgdr_jax.core.console import NullConsole
from sgdr_jax.core.experiment import Eval, Parallel
from sgdr_jax.core.rng import key_for
from sgdr_jax.core.state import NetworkState
from sgdr_jax.data.loader import image_loader
from sgdr_jax.data.sampler import eval_batches
from sgdr_jax.evaluation import metrics, tta
from sgdr_jax.evaluation.calibration import BINS, Reliability, reliability
from sgdr_jax.evaluation.evaluate import EvalExamples, calibration_results, logit_metrics, predict_views, view_logits, view_predictions
from sgdr_jax.train.programs import build_programs

from ..helpers import CLASSES, experiment, host_state, network

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, CLASSES, 100).astype(np.int32)
DIGESTS = np.arange(100, dtype=np.uint64) << np.uint64(32)
HOW = Eval(batch_size=8, tta_views=2)


@pytest.fixture(scope="module")
def run():
    return build_programs(experiment(evaluate=HOW, parallel=Parallel(devices=1)), network())


def seen(run, how=HOW, resident=False, classes=CLASSES, labels=None):
    asked = experiment(evaluate=how, augment=side_on(), parallel=Parallel(devices=1))
    network_state = NetworkState(*run.devices.replicate(host_state()), 8)
    feed = image_loader(IMAGES, run.devices, resident)
    return predict_views(run, asked, network_state, EvalExamples(feed, classes, DIGESTS, labels), NullConsole(), "")


@pytest.mark.parametrize("kind", ["random", "five"])
def test_the_logits_of_a_view_are_those_of_its_pixels(run, kind):
    asked = experiment(evaluate=dataclasses.replace(HOW, tta_kind=kind), augment=side_on(), parallel=Parallel(devices=1))
    state = NetworkState(*run.devices.replicate(host_state()), 8)
    ids, (batch,) = np.arange(40, 140, dtype=np.uint32), eval_batches(8, 8)
    logits = [np.asarray(view_logits(run, asked, state, ids, v)(batch, IMAGES[:8])) for v in (0, 1, 2)]
    for v, found in enumerate(logits):
        key = key_for(asked.seed, "tta")
        pixels = tta.view(IMAGES[:8], ids[:8], key, v, augmentations=asked.augment, size=8, kind=kind)
        np.testing.assert_allclose(found, run.predict(*state[:2], pixels), atol=1e-5)
    assert np.abs(logits[1] - logits[2]).max() > 1e-3 < np.abs(logits[0] - logits[1]).max()


def test_blocks_change_nothing(run):
    whole = seen(run, labels=LABELS)
    # With this many classes one MiB holds what is said of two images, so a block is one batch.
    blocks = seen(run, dataclasses.replace(HOW, tta_memory=1), classes=5000, labels=LABELS)
    for other in (blocks, seen(run, resident=True, labels=LABELS)):
        np.testing.assert_allclose(other.probabilities, whole.probabilities, atol=1e-6)
        np.testing.assert_array_equal(other.disagreement, whole.disagreement)
        assert other.measures == pytest.approx(whole.measures, abs=1e-6)
    assert whole.views == 3 and len(whole.by_count) == 3
    assert whole.probabilities.shape == (100, CLASSES)
    assert whole.measures["accuracy"] == whole.by_count[0]["accuracy"]
    assert whole.measures["tta_accuracy"] == whole.by_count[-1]["accuracy"] == (whole.probabilities.argmax(1) == LABELS).mean()
    said = whole.probabilities[np.arange(100), LABELS]
    assert whole.measures["tta_loss"] == pytest.approx(-np.log(said).mean(), abs=1e-6)
    assert whole.disagreement.shape == (100,)
    for found in (whole, blocks):
        plain, tta = view_predictions(found, LABELS)
        assert (plain.predicted == LABELS).mean() == whole.measures["accuracy"]
        assert (tta.predicted == LABELS).mean() == whole.measures["tta_accuracy"]
        assert plain.loss.mean() == pytest.approx(whole.measures["loss"], abs=1e-6)
        assert tta.loss.mean() == pytest.approx(whole.measures["tta_loss"], abs=1e-6)
        assert plain.reliability is not None and plain.reliability.shape == (1, 3, BINS)
        fitted = calibration_results(found, LABELS)
        kinds = view_predictions(found, LABELS, {kind: each["temperature"] for kind, each in fitted.items()})
        for (kind, z), each in zip(found.kinds.items(), kinds, strict=True):
            p = metrics.squash(z, False)
            before, *after = (Reliability(*diagram).error for diagram in each.reliability)
            assert before == reliability(p, LABELS).error
            assert after == [fitted[kind]["ece"]] or (np.isnan(fitted[kind]["temperature"]) and not after)
            np.testing.assert_allclose(each.confidence, p.max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_figures_of_a_sure_network_are_those_of_its_logits(run, monkeypatch, multi_label):
    """Some were of clipped probabilities: the run page had 11.7 for the loss that the summary had as 20.2."""
    rng, labels = np.random.default_rng(2), LABELS
    logits = rng.normal(-10 * multi_label, 60, (3, 100, CLASSES)).astype(np.float32)
    if multi_label:
        labels = (rng.random((100, CLASSES)) < metrics.squash(logits[0] / 50, True)).astype(np.float32)
    views = iter(logits)
    monkeypatch.setattr(type(run), "map", lambda *rest: next(views))
    asked = experiment(evaluate=HOW, augment=side_on(), parallel=Parallel(devices=1))
    state, examples = NetworkState({}, {}, 8), EvalExamples(image_loader(IMAGES, run.devices, False), CLASSES, DIGESTS, labels, multi_label)
    found = predict_views(run, asked, state, examples, NullConsole(), "")
    plain, mixed = view_predictions(found, labels)
    validation = logit_metrics(logits[0], labels)
    assert {name: found.measures[name] for name in validation} == pytest.approx(validation, rel=1e-12)
    assert found.measures["loss"] > 10 and plain.loss.mean() == pytest.approx(found.measures["loss"], rel=1e-6)
    for name in ("loss", "accuracy"):
        assert found.by_count[0][name] == pytest.approx(found.measures[name], rel=1e-12)
        assert found.by_count[-1][name] == pytest.approx(found.measures[f"tta_{name}"], rel=1e-12)
    assert mixed.loss.mean() == pytest.approx(found.measures["tta_loss"], rel=1e-6)
    one = calibration_results(found, labels, {"plain": 1.0, "tta": 1.0})
    for kind, prefix in (("plain", ""), ("tta", "tta_")):
        assert {name: one[kind][name] for name in ("loss", "ece")} == pytest.approx(
            {name: found.measures[prefix + name] for name in ("loss", "ece")}, rel=1e-12
        )
    weights = [1 / 4, 3 / 8, 3 / 8]
    said = np.einsum("v,vnk->nk", weights, [metrics.squash(z, multi_label) for z in logits])
    np.testing.assert_allclose(found.probabilities, said, atol=1e-6)


def test_where_all_images_are_right_no_temperature_is_applied(run):
    """It was 1, and everything said that the probabilities were calibrated."""
    found = seen(run, labels=LABELS)
    right = found.plain.argmax(1)
    assert all(np.isnan(x) for x in calibration_results(found, right)["plain"].values())
    temperatures = {"plain": np.nan, "tta": 2.0}
    assert np.isnan([each["ece"] for each in calibration_results(found, LABELS, temperatures).values()]).tolist() == [True, False]
    plain, tta = view_predictions(found, LABELS, temperatures)
    assert plain.reliability is not None and tta.reliability is not None and (len(plain.reliability), len(tta.reliability)) == (1, 2)


def test_the_bar_is_full_in_the_end(run):
    """It stopped at two thirds where the plain logits were known: they take no work."""
    asked, state = (
        experiment(evaluate=HOW, augment=side_on(), parallel=Parallel(devices=1)),
        NetworkState(*run.devices.replicate(host_state()), 8),
    )
    examples = EvalExamples(image_loader(IMAGES, run.devices, False), CLASSES, DIGESTS, LABELS)

    class Counting(NullConsole):
        @contextmanager
        def bar(self, title, total):
            ticks = []
            yield lambda n, note="": ticks.append(n)
            assert sum(ticks) == total

    whole = predict_views(run, asked, state, examples, Counting(), "")
    assert predict_views(run, asked, state, examples, Counting(), "", whole.plain_logits).views == 3


def test_images_without_labels_have_no_measures(run):
    plain = seen(run, dataclasses.replace(HOW, tta_views=0))
    assert plain.measures == {} and plain.by_count == [] and plain.views == 1
    assert not plain.disagreement.any()
    logits = np.log(plain.probabilities)
    assert logit_metrics(logits, LABELS)["accuracy"] == (plain.probabilities.argmax(1) == LABELS).mean()
    np.testing.assert_allclose(tta.mix_views(logits[None]), plain.probabilities, atol=1e-6)
