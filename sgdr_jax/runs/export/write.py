"""Exports a network: writes it, compares the written files with the run's network, and only then gives them out."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ...core.errors import InputError
from ...core.text import markdown
from ...core.validation import require
from ...data import square
from ...evaluation.metrics import SCORE_NAMES, EvalMetrics, judged_by
from ..folder import read_summary
from ..predictor import Predictor
from ..records import snapshot_row
from . import hub, onnx, stablehlo, timm
from .network import IMAGES, READER, TOLERANCE, difference, expected, sample

ExportFormat = Literal["stablehlo", "safetensors", "onnx"]
"""Formats of an export."""
_FORMATS = {"stablehlo": stablehlo, "safetensors": timm, "onnx": onnx}
CARD, CLASSES = "README.md", "classes.json"


class Exported(NamedTuple):
    """A finished export.

    Attributes:
        folder: where it is.
        files: names of its files.
        images: number of images that it was compared on.
        difference: largest difference of a logit, see `network.TOLERANCE`.
        address: of the repository that it was pushed to; "" for none.
    """

    folder: Path
    files: tuple[str, ...]
    images: int
    difference: float
    address: str = ""

    def lines(self) -> tuple[str, ...]:
        """Return what there is to tell, one line each."""
        compared = f"on {self.images} images the logits differ by at most {self.difference:.1e}"
        pushed = (f"pushed: {self.address}",) * bool(self.address)
        return (compared, f"exported: {self.folder} ({', '.join(self.files)})", *pushed)


def export_network(
    net: Predictor, run: str | Path | None, to: ExportFormat, out: str | Path | None = None, push: str | None = None
) -> Exported:
    """Export a network with its class names and a model card, and upload them to the Hugging Face hub if asked to.

    Args:
        net: the network.
        run: its run folder; None for a network that no run has recorded.
        to: format of the files.
        out: folder for the files, which must not exist; None for RUN/export/FORMAT, or export/FORMAT without a run.
        push: repository OWNER/NAME to upload the folder to; None for none.

    Raises:
        InputError: the folder exists, a package is missing, the format cannot hold the network, or the written files give other logits;
            nothing is left behind then. Or the upload fails; the folder stays then.
    """
    if push is not None:
        hub.check(push)
    require(to in _FORMATS, "to", to, f"use one of {', '.join(_FORMATS)}")
    form, folder = _FORMATS[to], Path(out or Path(run or "") / "export" / to)
    taken = "it is there already; give another folder, or remove it"
    require(not os.path.lexists(folder), "out", str(folder), taken)
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    require(above.is_dir(), "out", str(folder), f"{above} is a file; give another folder")
    images = sample(net)
    with _made(folder.parent), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        part = Path(place) / folder.name
        part.mkdir()
        form.write(net, part)
        apart = difference(form.read(net, part, images), expected(net, images))
        if apart > TOLERANCE:
            raise InputError(f"the logits of the {to} file differ by {apart:.1e}, above {TOLERANCE:.0e}; it was not given out")
        (part / CLASSES).write_text(json.dumps(list(net.classes), ensure_ascii=False) + "\n", encoding="utf-8", errors="surrogateescape")
        (part / READER).write_text(inspect.getsource(square), encoding="utf-8")
        text = model_card(net, _figures(net, run), to, form.example(net), len(images), apart)
        (part / CARD).write_text(text, encoding="utf-8", errors="surrogateescape")
        try:
            part.rename(folder)
        except OSError:
            require(not os.path.lexists(folder), "out", str(folder), taken)  # since the look above
            raise
    files = tuple(sorted(path.name for path in folder.iterdir()))
    return Exported(folder, files, len(images), apart, hub.push(folder, push) if push else "")


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; remove those that are new when the block fails."""
    new = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):  # another export has put something there
                path.rmdir()
        raise


def _figures(net: Predictor, run: str | Path | None) -> dict[str, EvalMetrics]:
    """Return the figures that a run has recorded of a network, by the names of their images; {} for none."""
    summary = (read_summary(run) if run else None) or {}
    if net.name:
        summary = snapshot_row(summary, net.name)
    names = {"valid": "valid, before the refit" if net.experiment.refit and not net.name else "valid", "test": "test"}
    return {name: figures for split, name in names.items() if (figures := summary.get(split)) and "accuracy" in figures}


def model_card(net: Predictor, figures: Mapping[str, EvalMetrics], to: ExportFormat, example: str, images: int, apart: float) -> str:
    """Return the model card: what the network is, its figures, how to use the files, and how they were checked."""
    model, size = type(net.experiment.model).__name__, net.size
    library = "library_name: timm\n" if to == "safetensors" else ""
    score = judged_by(next(iter(figures.values()), {}))
    rows = [f"| {name} | {metrics[score]:.4f} | {metrics.get('loss', math.nan):.4f} |" for name, metrics in figures.items()]
    head = [f"| images | {SCORE_NAMES[score]} | loss |", "| --- | --- | --- |"]
    table = "\n".join([*head, *rows]) if rows else "The run has recorded no figures of this network."
    names = ", ".join(markdown(json.dumps(name, ensure_ascii=False)) for name in net.classes[:20])
    more = f" and {len(net.classes) - 20} more" if len(net.classes) > 20 else ""
    probabilities = "sigmoid" if net.multi_label else "softmax"
    temperature = net.temperatures.get("plain")
    decision = f" A class is predicted where its probability is above {net.threshold(1)!r}." if net.multi_label else ""
    scaled = f" Divided by the temperature {temperature:.4f} before, they are calibrated on the validation images." if temperature else ""
    pads = to == "safetensors" and net.experiment.resize == "pad"
    note = "timm pads with the mean colour, the run with black.\n\n" if pads else ""
    return f"""---
tags:
- image-classification
{library}---

# {markdown(net.experiment.name)}

{model}, trained with sgdr_jax on images of {size} px, of {len(net.classes)} classes: {names}{more}; all are in `{CLASSES}`, in order.
The {probabilities} of the logits are probabilities.{decision}{scaled}

## Results

{table}

## Use

```python
{example}
```

{note}On {images} images the logits of these files differ from those of the run's network by at most {apart:.1e}
(relative to the largest logit where that exceeds 1; at most {TOLERANCE:.0e} is accepted, of {IMAGES} images).
"""
