"""Makes sgdr_jax/models/pretrained/tags.json, what timm says about the published weights of the networks of `sgdr_jax.models`.

Run where timm is installed, with the architectures as arguments (made with timm 1.0.31):

    python tests/golden/make_tags.py $(PYTHON_OF_SGDR_JAX tests/golden/make_tags.py --architectures)

Facts come from timm's own `pretrained_cfg`. Accuracies come from imagenet_accuracies.csv beside this file: the rows of timm's
results/results-imagenet.csv (columns model, top1, img_size) for these and related architectures.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "sgdr_jax" / "models" / "pretrained" / "tags.json"
HALF = "fcmae"
"""Tag of masked autoencoders' encoders, which have no last normalisation; the package refuses it by name."""
ACCURACIES = "timm's results/results-imagenet.csv at commit 0173a139a2c66db3a41ebfe1d8ac4fb02483642e"


def architectures() -> list[str]:
    from sgdr_jax import models  # noqa: F401  # defines the networks
    from sgdr_jax.models.base import networks

    return sorted({kind.architecture() for kind in networks().values()} - {""})


def row(key: str, config: Any, accuracy: dict[str, str] | None) -> dict[str, Any]:
    """Return the fields of `models.pretrained.tags.Tag`."""
    facts = {
        "license": config.license or "",
        "classes": config.num_classes,
        "size": config.input_size[1],
        "interpolation": config.interpolation,
        "crop": config.crop_pct,
        "mean": list(config.mean),
        "std": list(config.std),
    }
    facts |= {"repository": config.hf_hub_id} if config.hf_hub_id != f"timm/{key}" else {}
    return facts | ({"top1": float(accuracy["top1"]), "top1_size": int(accuracy["img_size"])} if accuracy else {})


def main(names: list[str]) -> None:
    import timm
    from timm.models._registry import get_arch_pretrained_cfgs

    with (HERE / "imagenet_accuracies.csv").open(encoding="utf-8") as file:
        accuracies = {line["model"]: line for line in csv.DictReader(file)}
    sources = {"facts": f"timm {timm.__version__}", "accuracies": ACCURACIES}
    found = {}
    for name in names:
        configs = get_arch_pretrained_cfgs(name)
        # A custom_load of True is of the .npz file at `url`; the file on the hub has timm's own names.
        here = {
            key: config for key, config in configs.items() if config.hf_hub_id and not config.hf_hub_filename and config.custom_load != "hf"
        }
        here = {key: config for key, config in here.items() if not key.endswith(f".{HALF}")}
        known = {key.partition(".")[2]: row(key, config, accuracies.get(key)) for key, config in here.items()}
        found[name] = {tag: known[tag] for tag in sorted(known) if tag}
    blocks = []
    for name, known in found.items():
        lines = ",\n".join(f"   {json.dumps(tag)}: {json.dumps(facts)}" for tag, facts in known.items())
        blocks.append(f"  {json.dumps(name)}: {{\n{lines}\n  }}")
    text = f'{{\n "sources": {json.dumps(sources)},\n "architectures": {{\n' + ",\n".join(blocks) + "\n }\n}\n"
    json.loads(text)
    OUT.write_text(text, encoding="utf-8")
    print(f"{OUT}: {sum(map(len, found.values()))} weights of {len(found)} architectures")


if __name__ == "__main__":
    if sys.argv[1:] == ["--architectures"]:
        print(*architectures())
    else:
        main(sys.argv[1:])
