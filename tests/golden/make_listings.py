"""Makes tests/golden/listings.json, what lies in the published weight files of timm's networks.

    python tests/golden/make_listings.py NAME…

with the architectures' names, where torch and timm are installed (made with timm 1.0.31). Files are not fetched: timm loads them strictly
into the network that is built here. Of each tag: classes, number of tensors with at least one dimension, number of their values, and a hash
of their names and shapes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("listings.json")


def listing(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, str]:
    """Number of tensors, number of values, and a hash that any other name or shape changes."""
    lines = sorted(f"{name} {' '.join(map(str, shape))}" for name, shape in shapes.items())
    values = 0
    for shape in shapes.values():
        count = 1
        for side in shape:
            count *= side
        values += count
    return len(lines), values, hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def main(names: list[str]) -> None:
    import timm
    import torch

    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in names:
        listings, found[name] = {}, {}
        for full in timm.list_pretrained(name):
            if full.endswith(".fcmae"):
                continue  # an encoder without the last normalisation, which timm leaves as it was drawn
            classes = timm.models.get_pretrained_cfg(full).num_classes
            if classes not in listings:
                with torch.device("meta"):
                    net = timm.create_model(name, num_classes=classes)
                listings[classes] = listing({key: tuple(value.shape) for key, value in net.state_dict().items() if value.ndim})
            found[name][full.partition(".")[2]] = [classes, *listings[classes]]
    rows = ",\n".join(
        f"  {json.dumps(name)}: {{\n" + ",\n".join(f"    {json.dumps(tag)}: {json.dumps(row)}" for tag, row in tags.items()) + "\n  }"
        for name, tags in sorted(found.items())
    )
    FILE.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
