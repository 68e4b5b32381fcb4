"""Effects on classes: by hand, with classes that seeds lack, and of multi-label data."""

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

from sgdr_jax.evaluation.predictions import ExamplePredictions, SplitPredictions
from sgdr_jax.sweeps.analysis.by_class import class_scores, effects
from sgdr_jax.sweeps.analysis.significance import holm


def answers(labels, predicted, tta=None) -> SplitPredictions:
    kinds = [ExamplePredictions(np.array(each), np.zeros(len(labels))) if each is not None else None for each in (predicted, tta)]
    return SplitPredictions("", np.array(labels), *kinds)


def test_a_share_of_each_class_is_compared_seed_by_seed():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1, 3], 40)

    def drawn(share):
        return np.where(rng.random(120) < share, labels, 2)

    pairs = [(answers(labels, drawn(0.5 + 0.4 * (labels == 3))), answers(labels, drawn(0.7))) for _ in range(5)]
    found = effects({"arm": pairs}, tta=False, level=0.9)["arm"]
    assert sorted(effect.index for effect in found) == [0, 1, 3] and [e.mean for e in found] == sorted(e.mean for e in found)
    assert found[-1].index == 3 and found[-1].mean > 0 > found[0].mean and {e.examples for e in found} == {40}
    p = []
    for effect in sorted(found, key=lambda e: e.index):
        own = labels == effect.index
        arm, base = ([float((pair[i].plain.predicted[own] == effect.index).mean()) for pair in pairs] for i in range(2))
        test = stats.ttest_rel(arm, base)
        p.append(test.pvalue)
        wanted = (np.mean(base), np.mean(arm) - np.mean(base), *test.confidence_interval(0.9))
        np.testing.assert_allclose((effect.baseline, effect.mean, effect.low, effect.high), wanted, rtol=1e-12)
    np.testing.assert_allclose([e.p_holm for e in sorted(found, key=lambda e: e.index)], holm(np.array(p)), rtol=1e-9)


def test_a_class_counts_in_the_seeds_that_have_it():
    pairs = [
        (answers([0, 0, 1], [0, 1, 1]), answers([0, 0, 1], [0, 0, 1])),
        (answers([0, 0, 0], [0, 0, 1]), answers([0, 0, 0], [0, 1, 1])),
    ]
    first, second = sorted(effects({"arm": pairs}, tta=False, level=0.95)["arm"], key=lambda e: e.index)
    assert (first.examples, second.examples) == (2.5, 0.5)
    assert np.isclose(first.mean, (-1 / 2 + 1 / 3) / 2) and not np.isnan(first.low)
    assert second.mean == 0 and np.isnan(second.low) and np.isnan(second.p_holm)
    alone = effects({"none": [], "one": pairs[:1], "arm": pairs}, tta=False, level=0.95)
    assert alone["none"] == () and [e.mean for e in alone["arm"]] == sorted((first.mean, second.mean))
    assert [e.index for e in alone["one"]] == [0, 1] and all(np.isnan(e.low) for e in alone["one"])


def test_classes_of_multi_label_data_have_an_f1_score():
    rng = np.random.default_rng(1)
    labels, predicted = rng.random((50, 4)) < 0.4, rng.random((50, 4)) < 0.5
    labels[:, 3] = False
    scores = class_scores(answers(labels, predicted), 4, tta=False)
    np.testing.assert_allclose(scores[:3], f1_score(labels, predicted, average=None)[:3])
    assert np.isnan(scores[3])
    (_, one, *_) = effects({"arm": [(answers(labels, labels), answers(labels, predicted))]}, tta=False, level=0.95)["arm"]
    assert np.isclose(one.mean, 1 - scores[one.index]) and np.isnan(one.low)


def test_all_views_are_mixed_where_asked_for():
    plain, mixed = (class_scores(answers([0, 1], [0, 0], [0, 1]), 2, tta).tolist() for tta in (False, True))
    assert plain == [1, 0] and mixed == [1, 1]
