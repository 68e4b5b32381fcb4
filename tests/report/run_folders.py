"""Run folders as `runs.run` writes them, with random figures, and pages read by the standard library's parser."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from sgdr_jax.core.serialization import config_hash, to_json
from sgdr_jax.evaluation import predictions
from sgdr_jax.evaluation.calibration import BINS
from sgdr_jax.evaluation.predictions import ExamplePredictions
from sgdr_jax.runs.folder import open_run

from ..helpers import experiment

NASTY = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "[red]", "🦊 fox", "שועל", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "a&b")
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts. Fails for a tag that is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.texts.append(data.strip())

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def count(self, tag: str) -> int:
        return len([name for name, _ in self.elements if name == tag])


def check_self_contained(text: str, page: Page) -> None:
    """The page refers to nothing outside of it, runs only its own script, and its links lead to something."""
    ids = page.ids()
    assert len(ids) == len(set(ids))
    scripts = 0
    for tag, attributes in page.elements:
        scripts += tag == "script"
        assert tag not in ("iframe", "object", "embed", "form", "base")
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href", "srcset", "action"):
                assert value.startswith(("data:", "#")), f"{tag} refers to {value[:60]}"
                assert not value.startswith("#") or value[1:] in ids, f"no element {value}"
    assert scripts == 1 and "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def write_run(
    path: Path,
    names: tuple[str, ...] = ("cat", "dog"),
    n: int = 60,
    *,
    multi_label: bool = False,
    finished: bool = True,
    split: str = "test",
) -> Path:
    """Write the folder of a run with two stages on `n` images of a split, finished or cut off in its second stage."""
    rng, k = np.random.default_rng(0), len(names)
    config = experiment()
    config = dataclasses.replace(config, stages=tuple(dataclasses.replace(config.stages[0], name=name) for name in ("head", "all")))
    with open_run(path, to_json(config), config_hash(config)) as folder:
        for i, stage in enumerate(("head", "all")):
            for step in range(20):
                place: dict[str, Any] = {"stage": stage, "stage_index": i, "step": step, "epoch": step / 10, "seconds": float(step)}
                rate = 0.01 * (1 - step % 10 / 10)
                groups = {"head": rate} if stage == "head" else {"early": rate / 9, "late": rate / 3, "head": rate}
                folder.append({"kind": "train", "loss": 2 / (1 + step), "lr": groups, "momentum": 0.9, **place})
                if step % 10 == 9 and (finished or stage == "head"):
                    ends = {"step": step + 1, "epoch": (step + 1) / 10, "cycle": step // 10, "split": "valid"}
                    folder.append({"kind": "eval", "loss": 0.6, "accuracy": 0.5 + 0.2 * i, **place, **ends})  # type: ignore[typeddict-item]
        counts = np.arange(k, 0, -1)
        folder.write_data(
            {
                "classes": list(names),
                "multi_label": multi_label,
                "counts": {"train": counts.tolist(), "valid": [1] * k},
                "images": {"train": int(counts.sum()), "valid": 25},
                "across_splits": 1,
                "across_splits_names": [["train: <b>.png", "valid: a.png"]],
                "within_split": 2,
                "conflicting": 0,
                "conflicting_names": [],
                "unreadable": 1,
            }
        )
        folder.write_rejected([("bad\x1b<i>.png", "not an image")])
        lrs = np.geomspace(1e-5, 1, 30).tolist()
        curve = {"lrs": lrs, "losses": [2.0] * 29 + [None], "smoothed": [2 - i / 30 for i in range(29)] + [None], "chosen": 0.01}
        folder.write_finder("all", curve | {"rule": "valley", "verdict": "clear", "suggestions": {"steep": 0.02, "minimum": 0.1}})
        if not finished:
            return path
        kinds = tuple(random_predictions(rng, n, k, multi_label) for _ in range(2))
        labels = (rng.random((n, k)) < 0.3).astype(np.float32) if multi_label else rng.integers(0, k, n)
        predictions.save(path, split, [f"{split}/{i}" for i in range(n)], labels, kinds)
        stages: list[Any] = [
            {"name": name, "size": 8, "epochs": 2.0, "steps": 20, "seconds": 70.0, "train_loss": 0.5, "valid_loss": 0.6, "lr": [0.1]}
            | {"valid_accuracy": 0.5 + 0.2 * i, "kept": bool(i), "cycles": 1, "stopped": ""}
            for i, name in enumerate(("head", "all"))
        ]
        figures: Any = {"loss": 0.5, "accuracy": 0.8, "ece": 0.05, "tta_ece": 0.04}
        fitted = {"temperature": 1.5, "ece": 0.02, "loss": 0.4}
        by_count = [{"loss": 0.5, "accuracy": 0.8}, {"loss": 0.45, "accuracy": 0.82}]
        folder.write_summary(
            {
                "stages": stages,
                "size": 8,
                "refit": False,
                "valid": figures,
                "test": figures,
                "tta": {split: by_count},
                "calibration": {split: {"plain": fitted, "tta": fitted}},
                "times": {f"plain_{split}": 1.0, f"tta_{split}": 2.0},
                "seconds": 150.0,
            }
        )
    return path


def random_predictions(rng: np.random.Generator, n: int, k: int, multi_label: bool) -> ExamplePredictions:
    predicted = rng.random((n, k)) < 0.3 if multi_label else rng.integers(0, k, n)
    count = rng.integers(0, 5, BINS).astype(float)
    diagram = np.stack([count, (np.arange(BINS) + 0.5) / BINS, np.where(count, rng.random(BINS), np.nan)])
    return ExamplePredictions(predicted, rng.exponential(size=n), rng.uniform(1 / k, 1, n), np.stack([diagram, diagram]))
