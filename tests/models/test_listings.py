"""The published weight files of timm's networks against ours: names, shapes and counts, as golden/make_listings.py recorded them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sgdr_jax import models
from sgdr_jax.models.pretrained import load
from sgdr_jax.models.pretrained.save import timm_names

GOLDEN = Path(__file__).parents[1] / "golden"
LISTINGS: dict[str, dict[str, list[Any]]] = json.loads((GOLDEN / "listings.json").read_text())


def listing(shapes: dict[str, tuple[int, ...]]) -> tuple[int, int, str]:
    spec = importlib.util.spec_from_file_location("make_listings", GOLDEN / "make_listings.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.listing(shapes)


@pytest.mark.parametrize("name", [name for name in models.__all__ if getattr(models, name).architecture() in LISTINGS])
def test_every_published_file_has_our_tensors(name: str) -> None:
    """Of weights without classifier, such as DINOv3's, all others."""
    kind = getattr(models, name)
    model = kind(weights=None)
    places = timm_names(model)
    for classes, *recorded in {tuple(row) for row in LISTINGS[kind.architecture()].values()}:
        ours = load._shapes(model.build(classes or 1, reference=True), head=classes > 0)
        shapes = {theirs: load._torch(ours[place]) for theirs, place in places.items() if place in ours}
        assert len(shapes) == len(ours) and list(listing(shapes)) == recorded, f"{classes} classes"


def test_every_network_of_timm_is_recorded() -> None:
    of_timm = {getattr(models, name).architecture() for name in models.__all__} - {""}
    assert not of_timm - LISTINGS.keys(), "add them: python tests/golden/make_listings.py NAME…"
    assert "dinov3_lvd1689m" in LISTINGS["convnext_tiny"] and LISTINGS["convnext_tiny"]["dinov3_lvd1689m"][0] == 0
