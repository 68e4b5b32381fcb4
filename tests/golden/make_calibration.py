"""Makes calibration.json: `python tests/golden/make_calibration.py`, where scikit-learn ≥ 1.8 is installed (made with scikit-learn 1.9.1).

Logits that are too sure of themselves, and what scikit-learn says of them: the temperature that its calibrator fits, the bins of its
calibration curve, and precision, recall and F1 of each class.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import precision_recall_fscore_support


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose decision is what it is given."""

    def __init__(self, classes=3):
        self.classes = classes
        self.classes_ = np.arange(classes)

    def fit(self, X, y):
        return self

    def decision_function(self, X):
        return X[:, 0] if self.classes == 2 else X

    def predict(self, X):
        return X.argmax(1)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def main() -> None:
    rng = np.random.default_rng(0)
    n, k = 400, 4
    labels = rng.integers(0, k, n)
    logits = np.round(3.0 * (1.2 * np.eye(k)[labels] + rng.normal(size=(n, k))), 3)
    fitted = CalibratedClassifierCV(FrozenEstimator(Given(k)), method="temperature", cv=None).fit(logits, labels)
    (calibrated,) = fitted.calibrated_classifiers_
    probabilities = softmax(logits)
    top, hit = probabilities.max(1), probabilities.argmax(1) == labels
    happened, promised = calibration_curve(hit, top, n_bins=15, strategy="uniform")
    precision, recall, f1, support = precision_recall_fscore_support(labels, probabilities.argmax(1))
    found = {
        "logits": logits.tolist(),
        "labels": labels.tolist(),
        "temperature": 1 / float(calibrated.calibrators[0].beta_),
        "happened": happened.tolist(),
        "promised": promised.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
    }
    (Path(__file__).parent / "calibration.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
