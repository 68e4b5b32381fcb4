"""Published weights of the networks under their tags, as timm describes them; recorded in tags.json by tests/golden/make_tags.py."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

RESTRICTED: Mapping[str, str] = {
    "cc-by-nc-4.0": "CC BY-NC 4.0, which excludes commercial use",
    "dinov3-license": "Meta's DINOv3 License, which has conditions on use and redistribution",
    "fair-noncommercial-research-license": "Meta's FAIR Noncommercial Research License, which allows noncommercial research alone",
    "apple-ascl": "Apple's Sample Code Licence, which has terms of its own",
    "apple-amlr": "Apple's AMLR licence, which allows research alone",
    "unknown": "an unknown licence",
    "": "a licence that timm does not name",
}
"""Licences that do more than ask for their text to be kept, in words. Weights do not fall under the licence of this package."""

UNUSABLE: Mapping[str, str] = {
    "fcmae": "it is the encoder of a masked autoencoder, without the network's last normalisation; fcmae_ft_in1k is fine-tuned from it",
}
"""Tags of timm that are no weights of the whole network, and why."""


class Tag(NamedTuple):
    """Published weights of an architecture.

    Attributes:
        license: short name of their licence, as the Hugging Face hub has it; "" if timm does not name it.
        classes: number of classes of their classifier; 0 for weights without one.
        size: side in pixels of the images that they were trained with.
        interpolation: how timm resizes images for them.
        crop: share of the shorter side that timm evaluates.
        mean, std: of the channels, of pixels 0…1.
        top1: share of the 50,000 validation images of ImageNet-1k that timm found classified right, in percent; None if not published.
        top1_size: side in pixels at which it was measured.
        repository: on the hub, where it is not timm/ARCHITECTURE.TAG; "" elsewhere.
    """

    license: str
    classes: int
    size: int
    interpolation: str
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1: float | None = None
    top1_size: int | None = None
    repository: str = ""


@functools.cache
def _record() -> Mapping[str, object]:
    return json.loads(Path(__file__).with_name("tags.json").read_text(encoding="utf-8"))


def sources() -> Mapping[str, str]:
    """Return where the facts come from: "facts" and "accuracies"."""
    recorded = _record()["sources"]
    assert isinstance(recorded, dict)
    return recorded


@functools.cache
def all_tags() -> Mapping[str, Mapping[str, Tag]]:
    """Return the recorded weights: architecture in timm to tag to facts."""
    architectures = _record()["architectures"]
    assert isinstance(architectures, dict)
    return {name: {tag: _tag(row) for tag, row in tags.items()} for name, tags in architectures.items()}


def _tag(row: Mapping[str, object]) -> Tag:
    return Tag(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})  # pyright: ignore[reportArgumentType]


def tags(architecture: str) -> Mapping[str, Tag]:
    """Return the recorded weights of an architecture by tag.

    >>> tags("convnext_tiny")["dinov3_lvd1689m"].license
    'dinov3-license'
    """
    return all_tags().get(architecture, {})


def repository(architecture: str, tag: str) -> str:
    """Return the repository of a tag, recorded or not, on the Hugging Face hub.

    >>> repository("resnet18", "a1_in1k")
    'timm/resnet18.a1_in1k'
    """
    known = tags(architecture).get(tag)
    return (known.repository if known else "") or f"timm/{architecture}.{tag}"


def of_repository(repository: str) -> Tag | None:
    """Return the weights of a repository of the hub, "timm/ARCHITECTURE.TAG"; None for unrecorded ones.

    >>> of_repository("timm/resnet18.a1_in1k").size
    224
    """
    owner, _, name = repository.partition("/")
    architecture, _, tag = name.partition(".")
    return tags(architecture).get(tag) if owner == "timm" else None
